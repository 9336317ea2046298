package imapext

import (
	"bytes"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// mendingCommands are those in the answer to which Exchange has a line "[COPYUID 1 2 3]"
// of nothing else, which mail programs take for the end of the session. It is put right, as
// RFC 6851 section 4.3 has it.
var mendingCommands = map[string]handler{
	"MOVE":     {relay.Whole, mendCopied},
	"UID MOVE": {relay.Whole, mendCopied},
}

func mendCopied(s *Session, c *command) func(*relay.Turn) error {
	return func(t *relay.Turn) error {
		status, err := s.repeat(t, c, func(r []byte) error {
			if _, _, is := copied(string(r)); is {
				// Behind a code there must be text (RFC 3501 section 9, resp-text).
				return t.Tellf("* OK %s Moved.", bytes.TrimRight(r, " \r\n"))
			}
			return t.Pass(r)
		})
		if err != nil {
			return err
		}
		return t.Tellf("%s %s", c.tag, status)
	}
}
