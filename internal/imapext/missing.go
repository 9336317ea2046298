package imapext

import (
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// maxMissing is how many messages a session reports as missing.
const maxMissing = 100

// reportingCommands are those that have to be looked at to notice a message that the
// backend does not give.
var reportingCommands = withMailbox(map[string]handler{"UID FETCH": {interest: relay.Whole}})

// Watch implements relay.Watcher. Exchange completes the FETCH of a message that it cannot
// convert with OK, and without the message. A UID that there is none of is answered in
// the same way (RFC 3501 section 6.4.8), so that clients go on; but nobody learns that
// there is mail which cannot be read. Only what asks for the text of one message is
// looked at.
func (s *Session) Watch(text []byte) func(answered bool) {
	if !s.offer.report || s.Missing == nil || s.mailbox == nil {
		return nil
	}
	c := parseCommand(text)
	if c.name != "UID FETCH" {
		return nil
	}
	uid, err := c.args.number()
	if err != nil || !c.args.take(' ') || !asksForText(string(c.args.rest)) {
		return nil
	}
	mailbox := s.mailbox.name
	return func(answered bool) {
		if !answered && s.missing.Add(1) <= maxMissing {
			s.Missing(mailbox, uid)
		}
	}
}

// asksForText says whether FETCH items have text of a message among them.
func asksForText(items string) bool {
	items = strings.ToUpper(items)
	for _, item := range [...]string{"BODY[", "BODY.PEEK[", "BINARY[", "BINARY.PEEK["} {
		if strings.Contains(items, item) {
			return true
		}
	}
	for item := range strings.FieldsFuncSeq(items, func(r rune) bool { return strings.ContainsRune("() ", r) }) {
		if item == "RFC822" || item == "RFC822.TEXT" || item == "RFC822.HEADER" {
			return true
		}
	}
	return false
}

// Interface guard.
var _ relay.Watcher = (*Session)(nil)
