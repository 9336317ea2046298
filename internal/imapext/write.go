package imapext

import (
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// quote writes a quoted string (RFC 3501 section 9).
func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// quotable says whether a text can be a quoted string: all others have to be literals.
func quotable(text string) bool {
	return len(text) <= maxQuoted && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// maxQuoted is the length of the longest text that is quoted.
const maxQuoted = 200

// withString returns the parts of a command with a string in it.
func withString(before, text, after string) []string {
	if quotable(text) {
		return []string{before + quote(text) + after}
	}
	return []string{before, text, after}
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
