package imapext

import "github.com/caddy-imap/caddy-imap/internal/relay"

// enabling is ENABLE (RFC 5161). None of the extensions that are answered here, or
// by a backend without ENABLE, has to be enabled.
var enabling = &feature{
	name:     "ENABLE",
	commands: map[string]handler{"ENABLE": {relay.Whole, enable}},
}

func enable(_ *Session, c *command) func(*relay.Turn) error {
	args := c.args
	for named := false; ; named = true {
		if named && args.end() {
			break
		}
		if _, err := args.atom(); err != nil {
			return c.bad()
		}
		args.take(' ')
	}
	return func(t *relay.Turn) error {
		return t.Tellf("* ENABLED\r\n%s OK ENABLE completed.", c.tag)
	}
}
