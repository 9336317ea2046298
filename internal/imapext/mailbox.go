package imapext

import (
	"maps"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// mailbox is the one that is selected.
type mailbox struct {
	name     string
	validity uint64
	readOnly bool
	// uidNotSticky says that numbers of messages mean nothing in another session.
	uidNotSticky bool
	// saved are the UIDs that $ stands for (RFC 5182).
	saved numbers
}

// selecting are the commands that select a mailbox or leave it (RFC 3501 section 6.3).
// They are carried out here, so that the mailbox is known; all answers pass.
var selecting = map[string]handler{
	"SELECT":   {relay.Whole, selectMailbox},
	"EXAMINE":  {relay.Whole, selectMailbox},
	"CLOSE":    {relay.Whole, leaveMailbox},
	"UNSELECT": {relay.Whole, leaveMailbox},
}

// withMailbox returns commands together with those by which the mailbox is known.
func withMailbox(commands ...map[string]handler) map[string]handler {
	all := maps.Clone(selecting)
	for _, more := range commands {
		maps.Copy(all, more)
	}
	return all
}

// selectMailbox carries out SELECT and EXAMINE. Whatever the answer is, the mailbox from
// before is selected no more.
func selectMailbox(s *Session, c *command) func(*relay.Turn) error {
	args := c.args
	args.spaces()
	name, err := args.astring()
	if err != nil {
		// Who knows which mailbox a backend would take for this.
		return c.bad()
	}
	return func(t *relay.Turn) error {
		m := &mailbox{name: name}
		s.mailbox = nil
		status, err := s.repeat(t, c, func(r []byte) error {
			m.note(r)
			return t.Pass(r)
		})
		if err != nil {
			return err
		}
		if status.OK {
			m.readOnly = c.name == "EXAMINE" || hasCode(status.Text, "READ-ONLY")
			s.mailbox = m
		}
		return t.Tellf("%s %s", c.tag, status)
	}
}

// note learns from a response to SELECT.
func (m *mailbox) note(r []byte) {
	_, name, s := untagged(r)
	if name != "OK" || !s.take('[') {
		return
	}
	switch code, _ := s.atom(); strings.ToUpper(strings.TrimRight(code, "]")) {
	case "UIDVALIDITY":
		s.spaces()
		m.validity, _ = s.number()
	case "UIDNOTSTICKY":
		m.uidNotSticky = true
	}
}

// hasCode says whether a status text begins with a response code.
func hasCode(text, code string) bool {
	rest, found := strings.CutPrefix(text, "[")
	return found && len(rest) > len(code) && strings.EqualFold(rest[:len(code)], code) && (rest[len(code)] == ']' || rest[len(code)] == ' ')
}

// leaveMailbox carries out CLOSE and UNSELECT.
func leaveMailbox(s *Session, c *command) func(*relay.Turn) error {
	if c.name == "UNSELECT" && s.offer.answers("UNSELECT") {
		return unselect(s, c)
	}
	return func(t *relay.Turn) error {
		status, err := s.repeat(t, c, nil)
		if err != nil {
			return err
		}
		if status.OK {
			s.mailbox = nil
		}
		return t.Tellf("%s %s", c.tag, status)
	}
}
