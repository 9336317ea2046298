package relay

// lineScanner follows one line of a command, to know at its end whether it
// announces a literal. A line that goes on behind a literal is a new one for it.
type lineScanner struct {
	// before holds the last two bytes, the last one first.
	before [2]byte
	// quoted says that the scan is in a quoted string, escaped that a backslash
	// came before, cr that a CR did.
	quoted, escaped, cr bool
	// odd is set by what no client should send and servers understand
	// differently. It matters only if a literal follows.
	odd bool

	// What stands in braces, last in the line.
	brace braceState
	size  int64
	// canonical: digits, and a '+' at most; plus: a '+' anywhere; placed: where a
	// string can begin; stripped: the '+' was taken out.
	canonical, plus, placed, stripped, digits bool
}

type braceState uint8

const (
	braceNone braceState = iota
	braceOpen
	braceClosed
)

// found is what a scan of a line has stopped at.
type found uint8

const (
	lineGoesOn found = iota
	// lineEnds: at the LF.
	lineEnds
	// linePlus: at the '+' of an announcement, which is to be dropped.
	linePlus
	// lineUndecided: more bytes are needed to tell.
	lineUndecided
	lineLoneCR
)

// scan returns how many bytes of the line there are before what was found. With
// strip set it finds the '+' of an announcement.
func (l *lineScanner) scan(p []byte, strip bool) (int, found) {
	for i, b := range p {
		switch {
		case b == '\n':
			return i, lineEnds
		case l.cr && b != '\r':
			return i, lineLoneCR
		case b == '+' && strip && l.brace == braceOpen && l.canonical && l.digits && !l.plus:
			switch isEnd, whole := announcementEnd(p[i:]); {
			case isEnd && !whole:
				return i, lineUndecided
			case isEnd:
				l.plus, l.stripped = true, true
				return i, linePlus
			}
		}
		l.byte(b)
	}
	return len(p), lineGoesOn
}

// announcementEnd reports whether p can be the end of an announcement, and
// whether it is there as a whole.
func announcementEnd(p []byte) (isEnd, whole bool) {
	for _, end := range [...]string{"+}\r\n", "+}\n"} {
		n := min(len(p), len(end))
		if string(p[:n]) == end[:n] {
			return true, n == len(end)
		}
	}
	return false, false
}

func (l *lineScanner) byte(b byte) {
	if b == '\r' {
		l.odd = l.odd || l.cr
		l.cr = true
		return
	}
	l.odd = l.odd || b == 0
	switch {
	case b == '{':
		l.open()
	case l.brace == braceOpen:
		l.inBrace(b)
	case l.brace == braceClosed && b != ' ' && b != '\t':
		l.brace = braceNone
	case l.brace == braceClosed:
		l.canonical = false
	}
	l.quote(b)
	l.before[0], l.before[1] = b, l.before[0]
}

func (l *lineScanner) open() {
	before := l.before[0]
	if before == '~' {
		before = l.before[1]
	}
	l.brace, l.size = braceOpen, 0
	l.placed = !l.quoted && (before == ' ' || before == '(')
	l.canonical, l.plus, l.stripped, l.digits = true, false, false, false
}

// inBrace looks at a byte behind an opening brace.
func (l *lineScanner) inBrace(b byte) {
	switch {
	case b == '}':
		l.brace = braceClosed
		l.canonical = l.canonical && l.digits
	case l.plus:
		l.canonical = false
	case b == '+':
		l.plus = true
		l.canonical = l.canonical && l.digits
	case '0' <= b && b <= '9':
		l.digits = true
		l.size = min(l.size*10+int64(b-'0'), maxLiteral+1)
	default:
		l.canonical = false
	}
}

// quote follows quoted strings.
func (l *lineScanner) quote(b byte) {
	switch {
	case l.escaped:
		l.escaped = false
		l.odd = l.odd || b != '"' && b != '\\'
	case l.quoted && b == '\\':
		l.escaped = true
	case b == '"':
		l.quoted = !l.quoted
		if l.quoted {
			l.odd = l.odd || l.before[0] != ' ' && l.before[0] != '('
		}
	case l.before[0] == '"' && !l.quoted:
		// Behind a closing quote.
		l.odd = l.odd || b != ' ' && b != ')' && b != ']' && b != '>'
	}
}
