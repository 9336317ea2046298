package imapext

import "github.com/caddy-imap/caddy-imap/internal/relay"

// identification is ID (RFC 2971). What the client says of itself is nobody's business, and
// we say nothing of ourselves.
var identification = &feature{
	name:     "ID",
	commands: map[string]handler{"ID": {relay.Whole, identify}},
}

func identify(_ *Session, c *command) func(*relay.Turn) error {
	args := c.args
	if args.skip() != nil || !args.end() {
		return c.bad()
	}
	return func(t *relay.Turn) error {
		return t.Tellf("* ID NIL\r\n%s OK ID completed.", c.tag)
	}
}
