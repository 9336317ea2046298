package imapext

import "github.com/caddy-imap/caddy-imap/internal/relay"

// unselecting is UNSELECT (RFC 3691). A mailbox that is open for reading only loses
// no message by CLOSE (RFC 3501 section 6.4.2).
var unselecting = &feature{
	name:     "UNSELECT",
	commands: selecting,
}

// unselect carries out UNSELECT for a backend that does not know it.
func unselect(s *Session, c *command) func(*relay.Turn) error {
	if !c.args.end() {
		return c.bad()
	}
	return func(t *relay.Turn) error {
		if s.mailbox == nil {
			return t.Tellf("%s BAD No mailbox selected.", c.tag)
		}
		if err := s.leave(t); err != nil {
			return err
		}
		return t.Tellf("%s OK Unselect completed.", c.tag)
	}
}

// leave has no mailbox selected any more. One that cannot be opened again is not,
// either (RFC 3501 section 6.3.1).
func (s *Session) leave(t *relay.Turn) error {
	name := s.mailbox.name
	s.mailbox = nil
	status, err := t.Ask(ignore, withStrings("EXAMINE", name)...)
	if err == nil && status.OK && !hasCode(status.Text, "READ-WRITE") {
		_, err = t.Ask(ignore, "CLOSE")
	}
	return err
}

// ignore is for responses that are not for the client.
func ignore([]byte) error { return nil }
