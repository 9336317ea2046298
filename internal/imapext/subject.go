package imapext

import "bytes"

// baseSubject returns the base subject (RFC 5256 section 2.1), and whether what was left
// out says that this is a reply or that it was forwarded. The subject is given decoded
// and in the form that is compared (see appendCasemap), in upper case therefore; it is
// changed.
func baseSubject(subject []byte) (base []byte, reply bool) {
	s := packSpaces(subject)
	for {
		var more bool
		s, more = withoutTrailers(s)
		reply = reply || more
		for {
			before := len(s)
			s, more = withoutLeader(s)
			reply = reply || more
			// A blob goes if something is left then. All of them go at once, since a
			// leader that could not be found behind them is not there without them.
			for rest, ok := withoutBlob(s); !more && ok && len(rest) > 0; rest, ok = withoutBlob(s) {
				s = rest
			}
			if len(s) == before {
				break
			}
		}
		rest, ok := bytes.CutPrefix(s, []byte("[FWD:"))
		if !ok || !bytes.HasSuffix(rest, []byte{']'}) {
			return s, reply
		}
		s, reply = rest[:len(rest)-1], true
	}
}

// packSpaces makes one space of all space in a row, in place.
func packSpaces(s []byte) []byte {
	out := s[:0]
	for _, b := range s {
		if b == '\t' || b == '\r' || b == '\n' {
			b = ' '
		}
		if b != ' ' || len(out) == 0 || out[len(out)-1] != ' ' {
			out = append(out, b)
		}
	}
	return out
}

// withoutTrailers cuts subj-trailers off.
func withoutTrailers(s []byte) (rest []byte, reply bool) {
	for {
		s = bytes.TrimRight(s, " ")
		rest, ok := bytes.CutSuffix(s, []byte("(FWD)"))
		if !ok {
			return s, reply
		}
		s, reply = rest, true
	}
}

// withoutLeader cuts a subj-leader off.
func withoutLeader(s []byte) (rest []byte, reply bool) {
	s = bytes.TrimPrefix(s, []byte{' '})
	rest = s
	for {
		after, ok := withoutBlob(rest)
		if !ok {
			break
		}
		rest = after
	}
	found := false
	for _, word := range [...]string{"RE", "FWD", "FW"} {
		if after, ok := bytes.CutPrefix(rest, []byte(word)); ok {
			rest, found = after, true
			break
		}
	}
	if !found {
		return s, false
	}
	rest = bytes.TrimPrefix(rest, []byte{' '})
	rest, _ = withoutBlob(rest)
	if rest, found = bytes.CutPrefix(rest, []byte{':'}); !found {
		return s, false
	}
	return rest, true
}

// withoutBlob cuts a subj-blob off, and the space behind it.
func withoutBlob(s []byte) (rest []byte, ok bool) {
	if len(s) == 0 || s[0] != '[' {
		return s, false
	}
	end := bytes.IndexAny(s[1:], "[]") + 1
	if end == 0 || s[end] != ']' {
		return s, false
	}
	return bytes.TrimPrefix(s[end+1:], []byte{' '}), true
}
