package imapext

import (
	"fmt"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// appendLimit is APPENDLIMIT (RFC 7889): how large a message may be, which is told by the
// operator. Larger ones are refused before they are sent, unless the client does not wait.
var appendLimit = &feature{
	name: AppendLimit,
	commands: map[string]handler{
		"APPEND": {relay.Head, appendLimited},
		"STATUS": {relay.Whole, statusCommand}, "LIST": {relay.Whole, listMailboxes},
	},
}

// AppendLimit is the name of the extension that needs Config.AppendLimit.
const AppendLimit = "APPENDLIMIT"

// limited says whether a limit is to be told to clients of a backend that tells none.
func (cfg *Config) limited(native map[string]bool) bool {
	for name := range native {
		if strings.HasPrefix(name, AppendLimit) {
			return false
		}
	}
	return cfg.AppendLimit > 0 && cfg.wants(appendLimit)
}

func appendLimited(s *Session, c *command) func(*relay.Turn) error {
	args := c.args
	var late upload
	if args.next() == '{' && late.announced(args.rest) {
		return func(t *relay.Turn) error {
			name, line, err := lateName(t, late)
			if err != nil {
				return err
			}
			return s.appendTo(t, c, name, line)
		}
	}
	if _, err := args.astring(); err != nil {
		return nil
	}
	if u, ok := readUpload(new(args)); !ok || !s.tooBig(u) {
		return nil
	}
	return func(t *relay.Turn) error { return refuseUpload(t, c, args, "NO "+s.tooBigText()) }
}

// tooBig says whether a message is larger than it may be.
func (s *Session) tooBig(u upload) bool {
	return s.offer.appendLimit > 0 && u.size > s.offer.appendLimit
}

func (s *Session) tooBigText() string {
	return fmt.Sprintf("[TOOBIG] A message can have %d bytes at most.", s.offer.appendLimit)
}
