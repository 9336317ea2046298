package imapext

import (
	"bytes"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// This is how strings are looked for that a backend cannot look for, because it knows no
// charset but US-ASCII. They are compared by i;unicode-casemap (RFC 5051), as
// I18NLEVEL=1 has it (RFC 5255 section 4.4).

// textLeaf returns how a key with a string is answered here. It returns other keys as they
// are.
func textLeaf(k *searchKey) *searchKey {
	if searchKeys[k.name] == "a" {
		return matchNone // no such keyword can be there
	}
	if !strings.HasPrefix(searchKeys[k.name], "s") {
		return k
	}
	needle := []byte(casemap(k.args[len(k.args)-1]))
	field := k.name
	switch k.name {
	case "BODY", "TEXT":
		m := &matcher{needs: needsTexts, needle: needle, headers: k.name == "TEXT"}
		m.matches = func(c *candidate) bool { return c.text.found[m] }
		return &searchKey{name: k.name, exact: m}
	case "HEADER":
		field = strings.ToUpper(k.args[0])
		if !isFieldName(field) {
			return matchNone
		}
	case "SUBJECT", "FROM", "TO", "CC", "BCC":
	default:
		return k
	}
	return &searchKey{name: k.name, exact: &matcher{needs: needsHeaders, fields: []string{field}, matches: func(c *candidate) bool {
		return c.header.contains(field, needle)
	}}}
}

// isFieldName says whether a text is the name of a header field (RFC 5322 section 2.2)
// that can be asked for as an atom.
func isFieldName(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] >= 0x7f || strings.IndexByte(`(){%*"\]:`, text[i]) >= 0 {
			return false
		}
	}
	return text != ""
}

// searchedHeader is the header of a message or of a part of one.
type searchedHeader struct{ fields []searchedField }

type searchedField struct {
	name  string
	value []byte
}

// parseSearchedHeader reads header fields. Their values are parts of the text, unless they
// are folded.
func parseSearchedHeader(text []byte) *searchedHeader {
	h := &searchedHeader{}
	for len(text) > 0 {
		end, folded := 0, false
		for {
			line := bytes.IndexByte(text[end:], '\n') + 1
			if line == 0 {
				line = len(text) - end
			}
			if end += line; end == len(text) || text[end] != ' ' && text[end] != '\t' {
				break
			}
			folded = true
		}
		name, value, found := bytes.Cut(bytes.TrimRight(text[:end], "\r\n"), []byte{':'})
		text = text[end:]
		if !found {
			continue
		}
		if folded {
			value = unfold(value)
		}
		h.fields = append(h.fields, searchedField{string(bytes.ToUpper(bytes.TrimRight(name, " \t"))), bytes.TrimLeft(value, " \t")})
	}
	return h
}

// contains says whether a field of that name has a text in it, which is mapped already.
func (h *searchedHeader) contains(name string, needle []byte) bool {
	for _, f := range h.fields {
		if f.name == name && bytes.Contains(appendCasemap(nil, appendDecoded(nil, f.value)), needle) {
			return true
		}
	}
	return false
}

// first returns the value of the first field of that name.
func (h *searchedHeader) first(name string) string {
	for _, f := range h.fields {
		if f.name == name {
			return string(f.value)
		}
	}
	return ""
}

const (
	// firstPiece is how much of a message is fetched at first, and nextPiece how much
	// then, in bytes: many messages are short.
	firstPiece = 32 << 10
	nextPiece  = 256 << 10
)

// messageReader reads a message from the backend, piece by piece.
type messageReader struct {
	here   *here
	number uint32
	offset int64
	// last says that no other piece follows.
	last bool
	// there says that the backend has given something.
	there  bool
	status relay.Status
	err    error
}

// more returns the next piece; nothing at the end, and after an error.
func (m *messageReader) more() []byte {
	if m.last || m.err != nil {
		return nil
	}
	size := int64(firstPiece)
	if m.offset > 0 {
		size = nextPiece
	}
	items := "(BODY.PEEK[]<" + formatOffset(m.offset) + "." + formatOffset(size) + ">)"
	var piece []byte
	m.last = true // unless it comes whole
	m.status, m.err = m.here.session.askFetch(m.here.turn, []uint32{m.number}, items, func(number uint32, name string, value *scanner) (bool, error) {
		if number != m.number || !strings.HasPrefix(name, "BODY[]") {
			return false, nil
		}
		text, ok, err := value.nstring()
		if err != nil {
			return false, err
		}
		m.there = m.there || ok
		// A server that knows no parts gives all at once.
		piece, m.last = []byte(text), name == "BODY[]" || int64(len(text)) < size
		return true, nil
	})
	m.offset += int64(len(piece))
	if m.here.searched += int64(len(piece)); m.here.searched > maxSearched && m.err == nil {
		m.err = errLimit
	}
	return piece
}
