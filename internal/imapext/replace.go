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
	uid, moved, err := theUID(t, c, number)
	if err != nil {
		return err
	}
	if moved {
		return refuseUpload(t, c, line, expunged.String())
	}
	if uid == 0 {
		return refuseUpload(t, c, line, "NO There is no such message.")
	}
	var back stored
	status, line, over, err := s.store(t, name, u, &back)
	if err != nil {
		return err
	}
	validity, stored, known := appended(status.Text)
	if known {
		back.add(validity, stored)
	}
	t.Finish(true)
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
		return s.takeBack(t, c, name, &back, relay.Status{Bad: true, Text: "Invalid arguments."})
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
		return s.takeBack(t, c, name, &back, status)
	}
	return c.failed(t, status)
}

// theUID returns the UID of a message, or 0 if it is not there. If a message goes meanwhile, it
// is not certain which one a number means: moved says so.
func theUID(t *relay.Turn, c *command, number string) (uid uint64, moved bool, err error) {
	command := "FETCH "
	if c.uid {
		command = "UID FETCH "
	}
	last := uint64(0)
	_, err = t.Ask(func(r []byte) error {
		n, name, s := untagged(r)
		if name == "EXPUNGE" || name == "VANISHED" {
			moved = !c.uid || number == "*"
		}
		found, ok := fetchedUID(&s)
		if c.uid {
			n = found
		}
		// Servers tell news of other messages at any time: the last one is the highest.
		if name == "FETCH" && ok && (number == "*" && n > last || number == fmt.Sprint(n)) {
			uid, last = found, n
			return nil
		}
		return t.Pass(r)
	}, command+number+" (UID)")
	return uid, moved, err
}

// isNumber says whether a word is the number of one message.
func isNumber(word string) bool {
	n, err := strconv.ParseUint(word, 10, 32)
	return word == "*" || err == nil && word == fmt.Sprint(n) && n > 0
}
