package imapwire

import "bytes"

// Literal is the announcement of a literal at the end of a line: "{size}",
// "{size+}" (RFC 7888) or "~{size}" (literal8, RFC 3516).
type Literal struct {
	// Size is the number of bytes announced; a size beyond 2^58 is given as 2^58.
	Size int64
	// NonSync says that the bytes follow without an invitation.
	NonSync bool
	// Start is where the announcement begins in its line.
	Start int
}

// maxLiteralSize keeps the arithmetic from overflowing; every real limit is far
// below it.
const maxLiteralSize = 1 << 58

// TrailingLiteral finds the literal that a line announces at its end. Whether
// the line is one in which that has a meaning is for the caller to know.
func TrailingLiteral(line []byte) (Literal, bool) {
	n := len(line)
	if n < 3 || line[n-1] != '}' {
		return Literal{}, false
	}
	open := bytes.LastIndexByte(line, '{')
	if open < 0 {
		return Literal{}, false
	}
	lit := Literal{Start: open}
	digits := line[open+1 : n-1]
	if k := len(digits); k > 0 && digits[k-1] == '+' {
		lit.NonSync, digits = true, digits[:k-1]
	}
	if len(digits) == 0 {
		return Literal{}, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return Literal{}, false
		}
		lit.Size = min(lit.Size*10+int64(c-'0'), maxLiteralSize)
	}
	if open > 0 && line[open-1] == '~' {
		lit.Start--
	}
	return lit, true
}
