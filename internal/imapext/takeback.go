package imapext

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// errLost says that the mailbox that the client has selected cannot be opened again.
var errLost = fmt.Errorf("%w: the mailbox cannot be selected again", relay.ErrResponse)

// takeBack removes messages that were stored, and tells the client why.
func (s *Session) takeBack(t *relay.Turn, c *command, name string, uids []string, why relay.Status) error {
	if len(uids) > 0 {
		done, err := s.removeFrom(t, name, strings.Join(uids, ","))
		if err != nil {
			return err
		}
		if !done {
			why = relay.Status{Text: "[CANNOT] Some of the messages were stored and cannot be taken back."}
		}
	}
	return t.Tellf("%s %s", c.tag, why)
}

// removeFrom removes messages from a mailbox, which may be another than the one that is
// selected. That one is selected again then.
func (s *Session) removeFrom(t *relay.Turn, name, uids string) (done bool, err error) {
	here := s.mailbox
	if here != nil && !here.readOnly && sameMailbox(here.name, name) {
		status, err := s.remove(t, uids, "")
		return status.OK, err
	}
	var before []uint64
	if here != nil {
		if before, err = numbering(t); err != nil {
			return false, err
		}
	}
	status, err := t.Ask(ignore, withStrings("SELECT", name)...)
	if err != nil {
		return false, err
	}
	if done = status.OK; done {
		for _, command := range []string{"UID STORE " + uids + ` +FLAGS (\Deleted)`, "UID EXPUNGE " + uids} {
			if status, err = t.Ask(ignore, command); err != nil {
				return false, err
			}
			done = done && status.OK
		}
	}
	if here == nil {
		s.mailbox = &mailbox{name: name}
		return done, s.leave(t)
	}
	return done, here.again(t, before)
}

// again selects a mailbox again. The client is told what has changed since the messages
// had these UIDs.
func (m *mailbox) again(t *relay.Turn, before []uint64) error {
	command := "SELECT"
	if m.readOnly {
		command = "EXAMINE"
	}
	now := &mailbox{}
	status, err := t.Ask(func(r []byte) error {
		now.note(r)
		return nil
	}, withStrings(command, m.name)...)
	if err != nil {
		return err
	}
	if !status.OK || now.validity != m.validity {
		return errLost
	}
	after, err := numbering(t)
	if err != nil {
		return err
	}
	for i := len(before) - 1; i >= 0; i-- {
		if _, found := slices.BinarySearch(after, before[i]); !found {
			_ = t.Tellf("* %d EXPUNGE", i+1)
		}
	}
	return t.Tellf("* %d EXISTS", len(after))
}

// numbering returns the UIDs of all messages, in order.
func numbering(t *relay.Turn) (uids []uint64, err error) {
	_, err = t.Ask(func(r []byte) error {
		_, name, s := untagged(r)
		if name != "FETCH" {
			return t.Pass(r)
		}
		if uid, ok := fetchedUID(&s); ok {
			uids = append(uids, uid)
		}
		return nil
	}, "FETCH 1:* (UID)")
	return uids, err
}

// fetchedUID finds the UID in a FETCH response.
func fetchedUID(s *scanner) (uid uint64, ok bool) {
	err := s.list(func() error {
		item, err := s.atom()
		if err != nil {
			return err
		}
		s.spaces()
		if strings.EqualFold(item, "UID") {
			uid, err = s.number()
			ok = err == nil
			return err
		}
		return s.skip()
	})
	return uid, ok && err == nil
}
