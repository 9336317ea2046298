package imapext

import (
	"strconv"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// quote writes a quoted string (RFC 3501 section 9).
func quote(text string) string { return `"` + escapes.Replace(text) + `"` }

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// quotable says whether a text can be a quoted string: all others have to be literals.
func quotable(text string) bool {
	return len(text) <= maxQuoted && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// maxQuoted is the length of the longest text that is quoted.
const maxQuoted = 200

// appendString appends a quoted string, or a literal for what cannot be quoted.
func appendString(out []byte, text string) []byte {
	if quotable(text) {
		return append(out, quote(text)...)
	}
	out = append(strconv.AppendInt(append(out, '{'), int64(len(text)), 10), "}\r\n"...)
	return append(out, text...)
}

// withStrings returns the parts of a command that ends with strings, as Turn.Ask has
// them. The last part is text.
func withStrings(command string, texts ...string) []string {
	parts := []string{command}
	for _, text := range texts {
		last := len(parts) - 1
		parts[last] += " "
		if quotable(text) {
			parts[last] += quote(text)
		} else {
			parts = append(parts, text, "")
		}
	}
	return parts
}

// bad returns a plan to say that a command is not what its grammar has.
func (c *command) bad() func(*relay.Turn) error {
	return func(t *relay.Turn) error { return t.Tellf("%s BAD Invalid arguments.", c.tag) }
}

// failed tells the client that a command of ours was not carried out, and so neither its
// own. That the backend does not understand ours is not the client's fault.
func (c *command) failed(t *relay.Turn, s relay.Status) error {
	if s.OK || s.Bad {
		return t.Tellf("%s NO [CANNOT] The mail server cannot do this.", c.tag)
	}
	return t.Tellf("%s %s", c.tag, s)
}
