package imapext

import (
	"fmt"
	"strconv"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// replacing is REPLACE (RFC 8508). The new message is appended, and then the old one
// removed by its UID (RFC 4315).
var replacing = &feature{
	name:     "REPLACE",
	needs:    []string{"UIDPLUS"},
	commands: withMailbox(map[string]handler{"REPLACE": {relay.Head, replace}, "UID REPLACE": {relay.Head, replace}}),
}

func replace(s *Session, c *command) func(*relay.Turn) error {
	args := c.args
	number := args.word()
	var late upload
	if isLate := args.next() == '{' && late.announced(args.rest); isLate {
		return func(t *relay.Turn) error {
			name, line, err := lateName(t, late)
			if err != nil {
				return err
			}
			return s.replace(t, c, number, name, line)
		}
	}
	name, err := args.astring()
	return func(t *relay.Turn) error {
		if err != nil {
			return refuseUpload(t, c, args, "BAD Invalid arguments.")
		}
		return s.replace(t, c, number, name, args)
	}
}

func (s *Session) replace(t *relay.Turn, c *command, number, name string, line scanner) error {
	u, ok := readUpload(new(line))
	switch {
	case !ok || !isNumber(number):
		return refuseUpload(t, c, line, "BAD Invalid arguments.")
	case s.tooBig(u):
		return refuseUpload(t, c, line, "NO "+s.tooBigText())
	case s.mailbox == nil:
		return refuseUpload(t, c, line, "BAD No mailbox selected.")
	case s.mailbox.readOnly:
		return refuseUpload(t, c, line, "NO [READ-ONLY] The mailbox is open for reading only.")
	}
	uid, err := theUID(t, c, number)
	if err != nil {
		return err
	}
	if uid == 0 {
		return refuseUpload(t, c, line, "NO There is no such message.")
	}
	status, line, over, err := s.store(t, name, u)
	if err != nil {
		return err
	}
	_, stored, known := appended(status.Text)
	var back []string
	if known {
		back = append(back, stored)
	}
	switch {
	case !status.OK:
		if err := discard(t, line, over); err != nil {
			return err
		}
		return t.Tellf("%s %s", c.tag, status)
	case !line.end():
		if err := discard(t, line, false); err != nil {
			return err
		}
		return s.takeBack(t, c, name, back, relay.Status{Bad: true, Text: "Invalid arguments."})
	}
	if known {
		_ = t.Tellf("* OK %s", status.Text)
	}
	status, err = s.remove(t, fmt.Sprint(uid), "")
	switch {
	case err != nil:
		return err
	case status.OK:
		return t.Tellf("%s OK Replace completed.", c.tag)
	case known:
		return s.takeBack(t, c, name, back, status)
	}
	return c.failed(t, status)
}

// theUID returns the UID of a message, or 0 if it is not there.
func theUID(t *relay.Turn, c *command, number string) (uid uint64, err error) {
	command := "FETCH "
	if c.uid {
		command = "UID FETCH "
	}
	_, err = t.Ask(func(r []byte) error {
		n, name, s := untagged(r)
		found, ok := fetchedUID(&s)
		if c.uid {
			n = found
		}
		if name == "FETCH" && ok && (number == "*" || number == fmt.Sprint(n)) {
			uid = found
			return nil
		}
		return t.Pass(r)
	}, command+number+" (UID)")
	return uid, err
}

// isNumber says whether a word is the number of one message.
func isNumber(word string) bool {
	n, err := strconv.ParseUint(word, 10, 32)
	return word == "*" || err == nil && word == fmt.Sprint(n) && n > 0
}
