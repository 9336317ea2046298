package imapext

import (
	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// maxHeld is how much is held of what a backend says too early, in bytes.
const maxHeld = 64 << 10

// aside says to the client what the backend says besides an answer. numbers says that
// the client's command is one of those during which numbers of messages must keep (RFC 3501
// section 7.4.1): if the backend breaks that rule, an EXPUNGE and all behind it is held.
func (s *Session) aside(t *relay.Turn, r []byte, numbers bool) error {
	if numbers && len(s.held) == 0 {
		if _, name, _ := untagged(r); name != "EXPUNGE" && name != "VANISHED" {
			return t.Pass(r)
		}
	}
	if !numbers {
		if err := s.release(t); err != nil {
			return err
		}
		return t.Pass(r)
	}
	if len(s.held)+len(r) > maxHeld {
		return relay.ErrResponse
	}
	s.held = append(s.held, r...)
	return nil
}

// numbered is called for data about a message, by number. If something is held, it may be
// about another one than was asked for.
func (s *Session) numbered(byNumber bool) {
	s.shifted = s.shifted || byNumber && len(s.held) > 0
}

// release says what was held.
func (s *Session) release(t *relay.Turn) error {
	held := s.held
	s.held, s.shifted = nil, false
	return t.Pass(held)
}

// expunged refuses a command (RFC 5530 section 3).
var expunged = relay.Status{Text: "[EXPUNGEISSUED] Messages have gone meanwhile."}

// byNumber are the commands that name messages by number: they mean other messages
// than the client thinks as long as something is held.
var byNumber = map[string]bool{"FETCH": true, "STORE": true, "COPY": true, "MOVE": true, "SEARCH": true, "SORT": true, "THREAD": true}

// planHeld is how a command is carried out while something is held.
func (s *Session) planHeld(c *command) func(*relay.Turn) error {
	return func(t *relay.Turn) error {
		if err := s.release(t); err != nil {
			return err
		}
		if c.name == "REPLACE" { // with a mail behind it
			return refuseUpload(t, c, c.args, expunged.String())
		}
		if byNumber[c.name] {
			return t.Tellf("%s %s", c.tag, expunged)
		}
		return s.goOn(t, c)
	}
}
