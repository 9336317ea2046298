package imapext

import (
	"bytes"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
)

// header has the fields of a message that order it. Of a field that is there more than
// once the first one counts.
type header struct {
	date, from, to, cc, subject, messageID, inReplyTo, references []byte
}

// headerFields are those that are fetched for it.
const headerFields = "DATE FROM TO CC SUBJECT MESSAGE-ID IN-REPLY-TO REFERENCES"

// field returns where the value of a field is kept; nil if it is not.
func (h *header) field(name []byte) *[]byte {
	switch strings.ToUpper(string(name)) {
	case "DATE":
		return &h.date
	case "FROM":
		return &h.from
	case "TO":
		return &h.to
	case "CC":
		return &h.cc
	case "SUBJECT":
		return &h.subject
	case "MESSAGE-ID":
		return &h.messageID
	case "IN-REPLY-TO":
		return &h.inReplyTo
	case "REFERENCES":
		return &h.references
	}
	return nil
}

// maxField is how much of a field is looked at, in bytes.
const maxField = 64 << 10

// parseHeader reads fields (RFC 5322 section 2.2), unfolded. Values may be parts of the
// text.
func parseHeader(text []byte) header {
	var h header
	for len(text) > 0 {
		end, folded := 0, false
		for end < len(text) {
			line := bytes.IndexByte(text[end:], '\n') + 1
			if line == 0 {
				line = len(text) - end
			}
			end += line
			if end == len(text) || text[end] != ' ' && text[end] != '\t' {
				break
			}
			folded = true
		}
		field := bytes.TrimRight(text[:end], "\r\n")
		text = text[end:]
		name, value, found := bytes.Cut(field, []byte{':'})
		kept := h.field(bytes.TrimRight(name, " \t"))
		if !found || kept == nil || *kept != nil {
			continue
		}
		if folded {
			value = unfold(value)
		}
		if value = bytes.TrimLeft(value, " \t"); value == nil {
			value = []byte{} // it is the first one even so
		}
		*kept = value[:min(len(value), maxField):len(value)]
	}
	return h
}

// unfold makes one space of a line end and the space behind it.
func unfold(value []byte) []byte {
	out := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		switch b := value[i]; {
		case b == '\r' && i+1 < len(value) && value[i+1] == '\n':
		case b == '\n':
			out = append(out, ' ')
			i++
		default:
			out = append(out, b)
		}
	}
	return out
}

// appendDecoded appends a value with its encoded words (RFC 2047) in UTF-8. Words are
// found wherever they are, also where no space is around them; what is between two of
// them, or one that is broken, is left out if it is nothing but space.
func appendDecoded(dst, value []byte) []byte {
	begin, at := 0, 0 // of what is not appended yet, and of what is looked at
	for {
		i := bytes.Index(value[at:], []byte("=?"))
		if i < 0 {
			return append(dst, value[begin:]...)
		}
		at += i
		if before := value[begin:at]; len(bytes.TrimLeft(before, " \t\r\n")) > 0 {
			dst = append(dst, before...)
		}
		word, size := encodedWord(value[at+2:])
		begin, at = at, at+2
		if size > 0 {
			dst, at = append(dst, word...), at+size
			begin = at
		}
	}
}

// encodedWord decodes what begins behind =? and returns how much that was; nothing if it
// is no encoded word.
func encodedWord(text []byte) (word []byte, size int) {
	charset, rest, _ := bytes.Cut(text, []byte{'?'})
	form, rest, _ := bytes.Cut(rest, []byte{'?'})
	encoded, rest, found := bytes.Cut(rest, []byte{'?'})
	if !found || len(rest) == 0 || rest[0] != '=' || len(form) == 0 {
		return nil, 0
	}
	switch form[0] {
	case 'q', 'Q':
		word = decodeQ(encoded)
	case 'b', 'B':
		word = decodeB(encoded)
	default:
		return nil, 0
	}
	// RFC 2231 section 5 puts the language behind the charset.
	charset, _, _ = bytes.Cut(charset, []byte{'*'})
	if e := charsetNamed(string(charset)); e != nil {
		if decoded, err := e.NewDecoder().Bytes(word); err == nil {
			word = decoded
		}
	}
	return word, len(text) - len(rest) + 1
}

// charsetNamed returns how a charset is decoded; nil for UTF-8 and what is unknown, where
// at least ASCII can be read.
func charsetNamed(name string) encoding.Encoding {
	switch strings.ToUpper(name) {
	case "UTF-8", "UTF8", "US-ASCII", "ASCII":
		return nil
	}
	if e, err := ianaindex.MIME.Encoding(name); err == nil && e != nil {
		return e
	}
	e, _ := htmlindex.Get(name)
	return e
}

// decodeQ decodes the form Q. What is broken stays as it is.
func decodeQ(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch b := text[i]; {
		case b == '_':
			out = append(out, ' ')
		case b == '=' && i+2 < len(text) && unhex[text[i+1]] >= 0 && unhex[text[i+2]] >= 0:
			out = append(out, byte(unhex[text[i+1]]<<4|unhex[text[i+2]]))
			i += 2
		default:
			out = append(out, b)
		}
	}
	return out
}

// unhex has the values of hexadecimal digits, and -1 for all else.
var unhex = digits("0123456789ABCDEF", "0123456789abcdef")

// unbase64 is likewise that of base64.
var unbase64 = digits("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")

func digits(alphabets ...string) *[256]int {
	var table [256]int
	for i := range table {
		table[i] = -1
	}
	for _, alphabet := range alphabets {
		for value, digit := range []byte(alphabet) {
			table[digit] = value
		}
	}
	return &table
}

// decodeB decodes the form B as far as it can be. Padding may be missing.
func decodeB(text []byte) []byte {
	out := make([]byte, 0, len(text)*3/4)
	var bits, have int
	for _, b := range text {
		value := unbase64[b]
		if value < 0 {
			if b == ' ' || b == '\t' || b == '\r' || b == '\n' {
				continue
			}
			break
		}
		bits, have = bits<<6|value, have+6
		if have >= 8 {
			have -= 8
			out = append(out, byte(bits>>have))
			bits &= 1<<have - 1
		}
	}
	return out
}
