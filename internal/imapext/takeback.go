package imapext

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// errLost says that the mailbox that the client has selected cannot be opened again.
var errLost = fmt.Errorf("%w: the mailbox cannot be selected again", relay.ErrResponse)

// stored are messages that were appended to a mailbox, by what APPENDUID has said.
type stored struct {
	// validity is the mailbox's UIDVALIDITY; 0 if it has changed meanwhile.
	validity uint64
	uids     []string
	// open says that the backend waits for the rest of an APPEND.
	open bool
}

// add adds a message.
func (st *stored) add(validity uint64, uid string) {
	if len(st.uids) == 0 {
		st.validity = validity
	}
	if st.validity != validity {
		st.validity = 0
	}
	st.uids = append(st.uids, uid)
}

// takeBack removes messages that were stored, and tells the client why.
func (s *Session) takeBack(t *relay.Turn, c *command, name string, st *stored, why relay.Status) error {
	if len(st.uids) > 0 {
		done, err := s.removeFrom(t, name, st)
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
// selected. That one is selected again then. In a mailbox that has got another UIDVALIDITY,
// as one that was made anew, these UIDs are those of other messages.
func (s *Session) removeFrom(t *relay.Turn, name string, st *stored) (done bool, err error) {
	if st.validity == 0 {
		return false, nil
	}
	here := s.mailbox
	if here != nil && !here.readOnly && here.validity == st.validity && sameMailbox(here.name, name) {
		status, err := s.remove(t, inRanges(st.uids), "")
		return status.OK, err
	}
	var before []uint64
	if here != nil {
		var known bool
		if before, known, err = numbering(t); err != nil || !known {
			return false, err
		}
	}
	there := &mailbox{name: name}
	status, err := t.Ask(func(r []byte) error {
		there.note(r)
		return nil
	}, withStrings("SELECT", name)...)
	if err != nil {
		return false, err
	}
	done = status.OK && there.validity == st.validity
	for _, set := range cutSet(inRanges(st.uids)) {
		for _, command := range []string{"UID STORE " + set + ` +FLAGS (\Deleted)`, "UID EXPUNGE " + set} {
			if !done {
				break
			}
			if status, err = t.Ask(ignore, command); err != nil {
				return false, err
			}
			done = status.OK
		}
	}
	if here == nil {
		s.mailbox = there
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
	now, exists := &mailbox{}, uint64(0)
	status, err := t.Ask(func(r []byte) error {
		now.note(r)
		if n, name, _ := untagged(r); name == "EXISTS" {
			exists = n
		}
		return nil
	}, withStrings(command, m.name)...)
	if err != nil {
		return err
	}
	if !status.OK || now.validity != m.validity {
		return errLost
	}
	after, known, err := numbering(t)
	switch {
	case err != nil:
		return err
	case !known || uint64(len(after)) < exists:
		return errLost // the client would be told that messages have gone
	}
	for i := len(before) - 1; i >= 0; i-- {
		if _, found := slices.BinarySearch(after, before[i]); !found {
			_ = t.Tellf("* %d EXPUNGE", i+1)
		}
	}
	return t.Tellf("* %d EXISTS", len(after))
}

// numbering returns the UIDs of all messages, in order, if they can be known. Where there are
// none, a backend may not understand the question (RFC 3501 section 9, seq-number).
func numbering(t *relay.Turn) (uids []uint64, known bool, err error) {
	status, err := t.Ask(func(r []byte) error {
		n, name, s := untagged(r)
		if name != "FETCH" {
			return t.Pass(r)
		}
		if uid, ok := fetchedUID(&s); ok && n == uint64(len(uids))+1 && n <= maxHits {
			uids = append(uids, uid)
		}
		return nil
	}, "FETCH 1:* (UID)")
	return uids, status.OK || status.Bad && len(uids) == 0, err
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
