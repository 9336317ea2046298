package imapext

import (
	"bytes"
	"errors"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// Idle is the name of the extension that Config.IdleInterval belongs to.
const Idle = "IDLE"

// idling is IDLE (RFC 2177). The backend is asked for news with NOOP. A client that
// has gone without a word is found out by the session's idle timeout, which counts from
// what it has said last.
var idling = &feature{
	name:     Idle,
	commands: map[string]handler{"IDLE": {relay.Whole, idle}},
}

func idle(s *Session, c *command) func(*relay.Turn) error {
	if !c.args.end() {
		return c.bad()
	}
	return func(t *relay.Turn) error {
		_ = t.Tell([]byte("+ idling\r\n"))
		t.Rest(true)
		for {
			// What has come up to now is told at once.
			if _, err := t.Ask(nil, "NOOP"); err != nil {
				return err
			}
			if err := t.Flush(); err != nil {
				return err
			}
			line, err := t.ClientLine(s.offer.cfg.IdleInterval)
			if errors.Is(err, relay.ErrClientTimeout) {
				continue
			}
			if err != nil {
				return err
			}
			t.Rest(false)
			if !strings.EqualFold(string(bytes.TrimRight(line, " \r\n")), "DONE") {
				return t.Tellf("%s BAD Expected DONE.", c.tag)
			}
			return t.Tellf("%s OK Idle completed.", c.tag)
		}
	}
}
