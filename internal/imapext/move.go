package imapext

import (
	"bytes"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// moving is MOVE (RFC 6851). Messages are copied, marked as deleted and expunged by their
// UIDs (RFC 4315): those of which the backend says that it has copied them, so that none
// is lost that came or went meanwhile.
var moving = &feature{
	name:     "MOVE",
	needs:    []string{"UIDPLUS"},
	commands: withMailbox(map[string]handler{"MOVE": {relay.Whole, move}, "UID MOVE": {relay.Whole, move}}),
}

func move(s *Session, c *command) func(*relay.Turn) error {
	args := c.args
	set := args.word()
	to, err := args.astring()
	if set != savedResult && !validSet(set) || err != nil || !args.end() {
		return c.bad()
	}
	return func(t *relay.Turn) error {
		switch {
		case s.mailbox == nil:
			return t.Tellf("%s BAD No mailbox selected.", c.tag)
		case s.mailbox.readOnly:
			return t.Tellf("%s NO [READ-ONLY] The mailbox is open for reading only.", c.tag)
		}
		// What is copied and not removed would be there twice.
		t.Finish(true)
		uids, code, status, err := copyMessages(t, c.uid, set, to)
		switch {
		case err != nil:
			return err
		case status.Bad:
			return t.Tellf("%s BAD Invalid arguments.", c.tag)
		case !status.OK:
			return c.failed(t, status)
		case uids == "":
			return notMoved(t, c, set)
		}
		status, err = s.remove(t, uids, code)
		if err != nil {
			return err
		}
		if !status.OK {
			return c.failed(t, status)
		}
		return t.Tellf("%s OK Move completed.", c.tag)
	}
}

// copyMessages copies messages and returns the UIDs of those that were, and the response
// code that says so. There is none if there was nothing to copy, or if messages of the
// other mailbox have no lasting UIDs.
func copyMessages(t *relay.Turn, byUID bool, set, to string) (uids, code string, _ relay.Status, _ error) {
	note := func(text string) bool {
		from, to, is := copied(text)
		if is && countOf(from) == countOf(to) {
			uids, code = from, text[:strings.IndexByte(text, ']')+1]
		} else if is {
			uids = "" // who knows which they are
		}
		return is
	}
	name := "COPY"
	if byUID {
		name = "UID COPY"
	}
	status, err := t.Ask(func(r []byte) error {
		// Exchange has a line of nothing else.
		if line := bytes.TrimPrefix(bytes.TrimRight(r, "\r\n"), []byte("* OK ")); note(string(line)) {
			return nil
		}
		return t.Pass(r)
	}, withStrings(name+" "+set, to)...)
	if err == nil && status.OK {
		note(status.Text)
	}
	return uids, code, status, err
}

// copied reads a COPYUID (RFC 4315 section 3) and returns the UIDs of what was copied and
// those of the copies.
func copied(text string) (from, to string, ok bool) {
	code, _, closed := strings.Cut(text, "]")
	words := strings.Fields(code)
	if !closed || len(words) != 4 || !strings.EqualFold(words[0], "[COPYUID") {
		return "", "", false
	}
	for _, set := range words[1:] {
		if !validSet(set) || strings.Contains(set, "*") {
			return "", "", false
		}
	}
	return words[2], words[3], true
}

// countOf returns how many numbers a set has, which is a valid one without *.
func countOf(set string) (count uint64) {
	for part := range strings.SplitSeq(set, ",") {
		from, to, ranged := strings.Cut(part, ":")
		if count++; ranged {
			first, last := uidOf(from), uidOf(to)
			count += max(first, last) - min(first, last)
		}
	}
	return count
}

// notMoved is for a move after which it is not known what was copied.
func notMoved(t *relay.Turn, c *command, set string) error {
	found := false
	if !c.uid {
		found = true // numbers of messages that are not there would have been refused
	} else {
		_, err := t.Ask(func(r []byte) error {
			_, name, list := untagged(r)
			if name != "SEARCH" {
				return t.Pass(r)
			}
			found = found || !list.end()
			return nil
		}, "UID SEARCH UID "+set)
		if err != nil {
			return err
		}
	}
	if found {
		return t.Tellf("%s NO [CANNOT] The messages were copied and not removed, because the mail server does not say which.", c.tag)
	}
	return t.Tellf("%s OK Move completed.", c.tag)
}

// remove marks messages as deleted and expunges them. Between the two the client is told
// a response code, if there is one. What cannot be expunged is not left marked.
func (s *Session) remove(t *relay.Turn, uids, code string) (relay.Status, error) {
	pieces := cutSet(uids)
	for i, set := range pieces {
		status, err := mark(t, set, "+")
		if err != nil || !status.OK {
			return s.unmark(t, pieces[:i], status, err)
		}
	}
	if code != "" {
		_ = t.Tellf("* OK %s Done.", code)
	}
	for i, set := range pieces {
		status, err := t.Ask(nil, "UID EXPUNGE "+set)
		if err != nil || !status.OK {
			return s.unmark(t, pieces[i:], status, err)
		}
	}
	return relay.Status{OK: true}, nil
}

// unmark takes marks off again after a failure, which it returns.
func (*Session) unmark(t *relay.Turn, pieces []string, s relay.Status, err error) (relay.Status, error) {
	for _, set := range pieces {
		if err == nil {
			_, err = mark(t, set, "-")
		}
	}
	return s, err
}

// mark marks messages as deleted, or as not. Exchange 2010 does not know FLAGS.SILENT.
func mark(t *relay.Turn, uids, sign string) (relay.Status, error) {
	status, err := t.Ask(nil, "UID STORE "+uids+" "+sign+`FLAGS.SILENT (\Deleted)`)
	if err == nil && status.Bad {
		status, err = t.Ask(nil, "UID STORE "+uids+" "+sign+`FLAGS (\Deleted)`)
	}
	return status, err
}
