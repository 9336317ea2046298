package imapwire

// maxQuoted is the longest string that is put between quotes. Two of them, every
// byte escaped, and a command stay below the 1,000 bytes a line that a server has
// to take (RFC 2683 section 3.2.1.5).
const maxQuoted = 240

// CanQuote reports whether s may be sent as a quoted string (RFC 3501 section
// 4.3). Eight-bit bytes may not; what some servers make of them differs.
func CanQuote(s string) bool {
	if len(s) > maxQuoted {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c == 0, c == '\r', c == '\n', c >= 0x80:
			return false
		}
	}
	return true
}

// AppendQuoted appends s as a quoted string. If s needs to be a literal, dst is
// returned as it was, and false.
func AppendQuoted(dst []byte, s string) ([]byte, bool) {
	if !CanQuote(s) {
		return dst, false
	}
	dst = append(dst, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"'), true
}
