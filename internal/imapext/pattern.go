package imapext

// pattern is one of LIST's, with the reference in front of it (RFC 3501 section 6.3.8).
type pattern struct {
	raw string
	// decoded is raw in UTF-8, if it is modified UTF-7.
	decoded string
}

func newPattern(ref, text string) pattern {
	p := pattern{raw: ref + text}
	p.decoded, _ = decodeName(p.raw)
	return p
}

// matches says whether it matches a name, which is given as it came.
func (p pattern) matches(name, delim string) bool {
	if glob(p.raw, name, delim) {
		return true
	}
	decoded, ok := decodeName(name)
	return ok && glob(p.decoded, decoded, delim)
}

// matchesAny says whether one of the patterns matches a name.
func matchesAny(patterns []pattern, name, delim string) bool {
	for _, p := range patterns {
		if p.matches(name, delim) {
			return true
		}
	}
	return false
}

// glob matches a name: "*" stands for anything, "%" for anything without the delimiter.
// INBOX may be in any case. It takes time that grows with the product of both lengths
// and not faster: all ways through the pattern are gone at once.
func glob(pattern, name, delim string) bool {
	fold := 0
	if isInbox(name, delim) {
		fold = len(inbox)
	}
	// at and next have the places in the pattern that can be reached.
	at, next := make([]bool, len(pattern)+1), make([]bool, len(pattern)+1)
	at[0] = true
	for i := range len(name) {
		skipWildcards(pattern, at)
		clear(next)
		b := name[i]
		any := false
		for j := range len(pattern) {
			if !at[j] {
				continue
			}
			switch c := pattern[j]; {
			case c == '*', c == '%' && (delim == "" || b != delim[0]):
				next[j], any = true, true
			case c != '%' && (c == b || i < fold && lower(c) == lower(b)):
				next[j+1], any = true, true
			}
		}
		if !any {
			return false
		}
		at, next = next, at
	}
	skipWildcards(pattern, at)
	return at[len(pattern)]
}

// skipWildcards adds the places that are reached by letting wildcards stand for nothing.
func skipWildcards(pattern string, at []bool) {
	for j := range len(pattern) {
		if at[j] && (pattern[j] == '*' || pattern[j] == '%') {
			at[j+1] = true
		}
	}
}

// lower is a letter of ASCII in lower case, and any other byte as it is.
func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		b += 'a' - 'A'
	}
	return b
}
