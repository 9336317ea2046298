package imapext

import (
	"bytes"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// replacement stands for bytes that are no text.
const replacement = "\uFFFD"

// appendCasemap appends a text in the form in which i;unicode-casemap compares it, byte
// by byte (RFC 5051 section 2): in title case, and decomposed. Bytes that are no UTF-8
// become one replacement character, however many they are, as in Dovecot.
func appendCasemap(dst, text []byte) []byte {
	begin := len(dst)
	for len(text) > 0 {
		if b := text[0]; b < utf8.RuneSelf {
			if 'a' <= b && b <= 'z' {
				b -= 'a' - 'A'
			}
			dst, text = append(dst, b), text[1:]
			continue
		}
		r, n := utf8.DecodeRune(text)
		text = text[n:]
		if r == utf8.RuneError && n == 1 {
			if !bytes.HasSuffix(dst[begin:], []byte(replacement)) {
				dst = append(dst, replacement...)
			}
			continue
		}
		dst = appendDecomposed(dst, unicode.ToTitle(r))
	}
	return dst
}

// casemap returns what appendCasemap appends.
func casemap(text string) string { return string(appendCasemap(nil, []byte(text))) }

// What Hangul syllables are made of, which is computed (The Unicode Standard, section
// 3.12).
const (
	hangulFirst, hangulLast = 0xAC00, 0xD7A3
	hangulL, hangulV        = 0x1100, 0x1161
	hangulT                 = 0x11A7
	hangulVs, hangulTs      = 21, 28
)

func appendDecomposed(dst []byte, r rune) []byte {
	if hangulFirst <= r && r <= hangulLast {
		i := r - hangulFirst
		dst = utf8.AppendRune(dst, hangulL+i/(hangulVs*hangulTs))
		dst = utf8.AppendRune(dst, hangulV+i/hangulTs%hangulVs)
		if t := i % hangulTs; t > 0 {
			dst = utf8.AppendRune(dst, hangulT+t)
		}
		return dst
	}
	var buf [utf8.UTFMax]byte
	one := utf8.AppendRune(buf[:0], r)
	if parts := norm.NFKD.Properties(one).Decomposition(); parts != nil {
		return append(dst, parts...)
	}
	return append(dst, one...)
}
