package imapext

// progress is how reading a token ended.
type progress int8

const (
	broken progress = iota - 1 // it is not one
	atEnd                      // nothing is behind it
	onward                     // something is
)

// tokens reads what the values of structured fields are made of (RFC 5322 section 3.2).
// Each token takes the space and comments behind it along. What was read before
// something turned out to be broken stays in out.
type tokens struct {
	rest []byte
	out  []byte
	// comment is what the last comment said.
	comment []byte
}

// next returns the next byte; 0 at the end.
func (t *tokens) next() byte {
	if len(t.rest) == 0 {
		return 0
	}
	return t.rest[0]
}

func (t *tokens) take() byte {
	b := t.next()
	t.rest = t.rest[min(1, len(t.rest)):]
	return b
}

func (t *tokens) where() progress {
	if len(t.rest) == 0 {
		return atEnd
	}
	return onward
}

// isAtext says what atoms are made of. Bytes that are not ASCII belong to it.
func isAtext(b byte) bool {
	switch b {
	case '(', ')', '<', '>', '[', ']', ':', ';', '@', '\\', ',', '.', '"', 0x7f:
		return false
	}
	return b > ' '
}

// space skips space and comments.
func (t *tokens) space() progress {
	for len(t.rest) > 0 {
		switch t.rest[0] {
		case ' ', '\t', '\r', '\n':
			t.rest = t.rest[1:]
		case '(':
			if t.skipComment() == broken {
				return broken
			}
		default:
			return onward
		}
	}
	return atEnd
}

func (t *tokens) skipComment() progress {
	t.rest, t.comment = t.rest[1:], nil
	for depth := 1; len(t.rest) > 0; {
		b := t.take()
		switch b {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return t.where()
			}
		case '\\':
			if len(t.rest) == 0 {
				return broken
			}
			b = t.take()
		case '\r', '\n':
			continue
		}
		t.comment = append(t.comment, b)
	}
	t.comment = nil
	return broken
}

// run takes as many bytes as belong.
func (t *tokens) run(belongs func(byte) bool) int {
	n := 0
	for n < len(t.rest) && belongs(t.rest[n]) {
		n++
	}
	t.out, t.rest = append(t.out, t.rest[:n]...), t.rest[n:]
	return n
}

func (t *tokens) atom() progress {
	if t.run(isAtext) == 0 {
		return broken
	}
	return t.space()
}

// dotAtom takes atoms with dots between them.
func (t *tokens) dotAtom() progress {
	for {
		if p := t.atom(); p <= atEnd || t.next() != '.' {
			return p
		}
		t.out = append(t.out, t.take())
		if t.space() <= atEnd {
			return broken
		}
	}
}

// laxDotAtom is one where dots may be anywhere.
func (t *tokens) laxDotAtom() progress {
	p := broken
	for {
		for t.next() == '.' {
			t.out = append(t.out, t.take())
			if p = t.where(); p == atEnd {
				return p
			}
		}
		if t.next() == '@' {
			return p
		}
		if p = t.atom(); p <= atEnd || t.next() != '.' {
			return p
		}
	}
}

func (t *tokens) quoted() progress {
	t.rest = t.rest[1:]
	whole := len(t.out) // what stays of a string without an end: all before its last escape
	for len(t.rest) > 0 {
		b := t.take()
		switch b {
		case '"':
			return t.space()
		case '\\':
			if len(t.rest) == 0 {
				t.out = t.out[:whole]
				return broken
			}
			whole = len(t.out)
			b = t.take()
		case '\r', '\n':
			continue
		}
		t.out = append(t.out, b)
	}
	t.out = t.out[:whole]
	return broken
}

// phrase takes words, with one space between them. There may be none.
func (t *tokens) phrase() progress {
	if t.next() == '.' {
		return broken
	}
	for len(t.rest) > 0 {
		var p progress
		if t.next() == '"' {
			p = t.quoted()
		} else {
			t.run(func(b byte) bool { return isAtext(b) || b == '.' })
			p = t.space()
		}
		if b := t.next(); p <= atEnd || !isAtext(b) && b != '"' && b != '.' {
			return p
		}
		t.out = append(t.out, ' ')
	}
	return atEnd
}

// domain takes one with the @ before it.
func (t *tokens) domain() progress {
	t.rest = t.rest[1:]
	if t.space() <= atEnd {
		return broken
	}
	if t.next() != '[' {
		return t.dotAtom()
	}
	t.out = append(t.out, t.take())
	for len(t.rest) > 0 {
		b := t.take()
		switch b {
		case '[':
			return broken
		case '\r', '\n':
			continue
		}
		if t.out = append(t.out, b); b == ']' {
			return t.space()
		}
	}
	return broken
}
