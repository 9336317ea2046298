package imapext

import (
	"bytes"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// repeat puts the client's own command to the backend, under a tag of ours. If the backend
// lists its capabilities by the way, what is answered here is added.
func (s *Session) repeat(t *relay.Turn, c *command, each func([]byte) error) (relay.Status, error) {
	if each == nil {
		each = t.Pass
	}
	status, err := t.Ask(func(r []byte) error { return each(s.offer.amended(r)) }, parts(c.untagged)...)
	status.Text = s.offer.listsAll(status.Text, relay.Hidden)
	return status, err
}

// withoutEnd returns a text without its line end. Others may be the last bytes of a
// literal.
func withoutEnd(text []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(text, []byte{'\n'}), []byte{'\r'})
}

// parts takes the text of a command apart into text and literals.
func parts(text []byte) []string {
	var out []string
	for begin, rest := text, text; ; {
		line, after, found := bytes.Cut(rest, []byte{'\n'})
		if !found {
			return append(out, string(begin))
		}
		open := bytes.LastIndexByte(line, '{')
		l := scanner{rest: rest[max(open, 0):]}
		literal, err := l.literal()
		if open < 0 || err != nil {
			rest = after
			continue
		}
		out = append(out, string(begin[:len(begin)-len(rest)+open]), literal)
		begin, rest = l.rest, l.rest
	}
}
