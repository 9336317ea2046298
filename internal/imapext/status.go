package imapext

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// listStatus is LIST-STATUS (RFC 5819): a STATUS for each mailbox in a LIST.
var listStatus = &feature{name: "LIST-STATUS", needs: []string{"LIST-EXTENDED"}, commands: listCommands}

// statusSize is STATUS=SIZE (RFC 8438). The size of a mailbox is the sum of the sizes of its
// messages, and they can be asked for only in the mailbox that is selected. Another one
// could be selected only by leaving that, with which its \Recent and the numbers of its
// messages would be lost. So it is answered where it does no harm, and has to be named:
// "auto" must not promise what is refused half of the time.
var statusSize = &feature{name: "STATUS=SIZE", byName: true, commands: withMailbox(map[string]handler{
	"STATUS": {relay.Whole, statusCommand}, "LIST": {relay.Whole, listMailboxes},
})}

const sizeItem = "SIZE"

// statusItems returns the items of STATUS that are known (RFC 3501 section 6.3.10), with
// those of extensions of the backend.
func (o *Offer) statusItems() []string {
	items := []string{"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN"}
	for _, more := range [...]struct{ capability, item string }{
		{"CONDSTORE", "HIGHESTMODSEQ"}, {"QRESYNC", "HIGHESTMODSEQ"}, {"OBJECTID", "MAILBOXID"},
		{"IMAP4REV2", "DELETED"}, {"IMAP4REV2", sizeItem}, {"STATUS=SIZE", sizeItem},
	} {
		if o.native[more.capability] {
			items = append(items, more.item)
		}
	}
	for c := range o.native {
		if c == AppendLimit || strings.HasPrefix(c, AppendLimit+"=") {
			items = append(items, AppendLimit)
		}
	}
	for _, item := range [...]string{sizeItem, AppendLimit} {
		if o.tells(item) {
			items = append(items, item)
		}
	}
	return items
}

// tells says whether an item of STATUS is found out here.
func (o *Offer) tells(item string) bool {
	return item == sizeItem && o.answers("STATUS=SIZE") || item == AppendLimit && o.appendLimit > 0
}

// statusCommand plans STATUS, if it asks for something that is found out here.
func statusCommand(s *Session, c *command) func(*relay.Turn) error {
	in := c.args
	name, err := in.astring()
	if err != nil || !in.take(' ') {
		return nil
	}
	in.spaces()
	items, err := statusItems(&in, s.offer.allowed())
	if err != nil || !in.end() || !slices.ContainsFunc(items, s.offer.tells) {
		return nil
	}
	return func(t *relay.Turn) error {
		status, err := s.tellStatus(t, name, items)
		switch {
		case err != nil:
			return err
		case !status.OK:
			return t.Tellf("%s %s", c.tag, refused(status))
		}
		return t.Tellf("%s OK STATUS completed.", c.tag)
	}
}

// tellStatus asks for the status of a mailbox and tells the client.
func (s *Session) tellStatus(t *relay.Turn, name string, items []string) (relay.Status, error) {
	theirs := slices.DeleteFunc(slices.Clone(items), s.offer.tells)
	size := slices.Contains(items, sizeItem) && s.offer.tells(sizeItem)
	limit := slices.Contains(items, AppendLimit) && s.offer.tells(AppendLimit)
	data, answered := "", true
	if ask := strings.Join(theirs, " "); ask != "" || !size {
		if ask == "" {
			ask = "UIDVALIDITY" // to learn whether there is such a mailbox
		}
		answered = false
		parts := withStrings("STATUS", name)
		parts[len(parts)-1] += " (" + ask + ")"
		status, err := t.Ask(func(r []byte) error {
			_, got, _ := untagged(r)
			told, ok := lastList(r)
			if got != "STATUS" || !ok {
				return t.Pass(r)
			}
			data, answered = told, true
			return nil
		}, parts...)
		if err != nil || !status.OK {
			return status, err
		}
	}
	if len(theirs) == 0 {
		data = ""
	}
	if size {
		sum, status, err := s.mailboxSize(t, name)
		if err != nil || !status.OK {
			return status, err
		}
		data += " " + sizeItem + " " + strconv.FormatUint(sum, 10)
	}
	if limit {
		data += " " + AppendLimit + " " + strconv.FormatInt(s.offer.appendLimit, 10)
	}
	if !answered {
		return listed, nil
	}
	line := append(appendName([]byte("* STATUS "), name), " ("...)
	return listed, t.Tell(append(append(line, strings.TrimLeft(data, " ")...), ")\r\n"...))
}

// lastList returns what is in the list that a response ends with. In front of it the name of
// a mailbox may be written in a way that only this backend understands.
func lastList(r []byte) (string, bool) {
	r = bytes.TrimRight(r, " \r\n")
	depth := 0
	for i := len(r) - 1; i >= 0; i-- {
		switch r[i] {
		case ')':
			depth++
		case '(':
			if depth--; depth == 0 {
				return string(r[i+1 : len(r)-1]), true
			}
		}
		if depth == 0 {
			break
		}
	}
	return "", false
}

// mailboxSize adds up the sizes of all messages in a mailbox.
func (s *Session) mailboxSize(t *relay.Turn, name string) (sum uint64, _ relay.Status, _ error) {
	here := s.mailbox != nil && sameMailbox(s.mailbox.name, name)
	if !here && s.mailbox != nil {
		return 0, relay.Status{Text: "[CANNOT]"}, nil
	}
	exists := here
	note := func(r []byte) error {
		number, got, rest := untagged(r)
		if got == "FETCH" {
			size, ok := fetchedSize(&rest)
			if ok {
				sum += size
				return nil
			}
		}
		if got == "EXISTS" && !here {
			exists = number > 0
		}
		if here {
			return t.Pass(r)
		}
		return nil
	}
	if !here {
		// EXAMINE changes nothing in the mailbox, and none is left by it.
		status, err := t.Ask(note, withStrings("EXAMINE", name)...)
		if err != nil || !status.OK {
			return 0, status, err
		}
	}
	status := listed
	var err error
	if exists {
		status, err = t.Ask(note, "FETCH 1:* (RFC822.SIZE)")
	}
	if err == nil && !here {
		_, err = t.Ask(func([]byte) error { return nil }, "CLOSE")
	}
	if here && status.Bad {
		// There are no messages, where a sequence needs one (RFC 3501 section 9).
		status = listed
	}
	return sum, status, err
}

// fetchedSize reads a FETCH response that has nothing but a size, or a UID besides.
func fetchedSize(s *scanner) (size uint64, ok bool) {
	err := s.list(func() error {
		item, err := s.atom()
		if err != nil {
			return err
		}
		s.spaces()
		switch strings.ToUpper(item) {
		case "RFC822.SIZE":
			size, err = s.number()
			ok = err == nil
		case "UID":
			_, err = s.number()
		default:
			return errSyntax
		}
		return err
	})
	return size, ok && err == nil
}
