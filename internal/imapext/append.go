package imapext

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// appendingMany is MULTIAPPEND (RFC 3502). Each message is appended by itself; if one
// cannot be, those before it are taken back by their UIDs (RFC 4315).
var appendingMany = &feature{
	name:     "MULTIAPPEND",
	needs:    []string{"UIDPLUS"},
	commands: withMailbox(map[string]handler{"APPEND": {relay.Head, appendMany}}),
}

// clientPatience is how long a client may take for a line in the middle of a command.
const clientPatience = 10 * time.Minute

// upload is a message that the client sends.
type upload struct {
	// attributes are its flags and its date, with a space behind each.
	attributes string
	size       int64
	// waits says that the client is to be invited.
	waits bool
}

// readUpload reads what is in front of a message, which is announced at the end of a line.
func readUpload(s *scanner) (u upload, ok bool) {
	for {
		switch s.spaces(); s.next() {
		case '(', '"':
			before := s.rest
			if s.skip() != nil {
				return upload{}, false
			}
			u.attributes += string(before[:len(before)-len(s.rest)]) + " "
		case '{':
			return u, u.announced(s.rest)
		default:
			return upload{}, false
		}
	}
}

// announced reads the announcement of a literal at a line's end (RFC 7888).
func (u *upload) announced(text []byte) bool {
	digits, closed := strings.CutSuffix(strings.TrimPrefix(string(text), "{"), "}")
	digits, plus := strings.CutSuffix(digits, "+")
	size, err := strconv.ParseUint(digits, 10, 31)
	u.size, u.waits = int64(size), !plus
	return closed && err == nil
}

func appendMany(s *Session, c *command) func(*relay.Turn) error {
	args := c.args
	// A mailbox's name that is a literal is still to come.
	name := ""
	var late upload
	isLate := args.next() == '{' && late.announced(args.rest)
	if !isLate {
		var err error
		if name, err = args.astring(); err != nil {
			return nil
		}
		if _, ok := readUpload(new(args)); !ok {
			return nil // the backend knows what is wrong with it
		}
	}
	return func(t *relay.Turn) error {
		line := args
		if isLate {
			var err error
			if name, line, err = lateName(t, late); err != nil {
				return err
			}
		}
		return s.appendTo(t, c, name, line)
	}
}

// lateName reads a mailbox's name that is a literal, and the line that goes on behind it.
func lateName(t *relay.Turn, u upload) (name string, line scanner, err error) {
	if u.size > relay.MaxCommand {
		return "", line, fmt.Errorf("%w: the name of a mailbox is too long", relay.ErrClient)
	}
	if u.waits {
		_ = t.Tellf("+ OK")
	}
	var text []byte
	err = t.ClientLiteral(u.size, func(p []byte) error {
		text = append(text, p...)
		return nil
	})
	if err == nil {
		line, err = clientLine(t)
	}
	return string(text), line, err
}

// clientLine reads the line that a command goes on with.
func clientLine(t *relay.Turn) (scanner, error) {
	line, err := t.ClientLine(clientPatience)
	return scanner{rest: []byte(string(withoutEnd(line)))}, err
}

// appendTo appends messages until there are no more, or one of them cannot be.
func (s *Session) appendTo(t *relay.Turn, c *command, name string, line scanner) error {
	var (
		status relay.Status
		st     stored
	)
	fail := func(over bool, why relay.Status) error {
		t.Finish(false)
		if err := discard(t, line, over); err != nil {
			return s.abandon(t, name, &st, err)
		}
		t.Finish(true)
		return s.takeBack(t, c, name, &st, why)
	}
	for count := 0; count == 0 || !line.end(); count++ {
		u, ok := readUpload(new(line))
		switch {
		case !ok:
			return fail(false, relay.Status{Bad: true, Text: "Invalid arguments."})
		case s.tooBig(u):
			return fail(false, relay.Status{Text: s.tooBigText()})
		}
		var over bool
		var err error
		if status, line, over, err = s.store(t, name, u, &st); err != nil {
			return s.abandon(t, name, &st, err)
		}
		validity, uid, known := appended(status.Text)
		if status.OK && known {
			st.add(validity, uid)
		}
		switch more := !over && !line.end(); {
		case status.OK && (known || count == 0 && !more):
		case status.OK:
			// It could not be taken back.
			return fail(over, relay.Status{Text: "[CANNOT] The mail server does not say what it has stored."})
		default:
			return fail(over, status)
		}
	}
	if len(st.uids) > 1 {
		status.Text = "Append completed."
		if st.validity > 0 {
			status.Text = fmt.Sprintf("[APPENDUID %d %s] Append completed.", st.validity, inRanges(st.uids))
		}
	}
	return t.Tellf("%s %s", c.tag, status)
}

// inRanges writes UIDs as a set, in their order.
func inRanges(uids []string) string {
	var set strings.Builder
	for i := 0; i < len(uids); {
		last, n := i, uidOf(uids[i])
		for last+1 < len(uids) && uidOf(uids[last+1]) == n+uint64(last+1-i) {
			last++
		}
		if i > 0 {
			set.WriteByte(',')
		}
		set.WriteString(uids[i])
		if last > i {
			set.WriteString(":" + uids[last])
		}
		i = last + 1
	}
	return set.String()
}

// uidOf reads a UID, which is known to be one.
func uidOf(text string) uint64 {
	uid, _ := strconv.ParseUint(text, 10, 32)
	return uid
}

// store appends one message. It returns the line that follows, or that nothing does
// because the client was not invited. If the client fails in the middle of it while there is
// something to be taken back, the backend is brought to complete the command.
func (s *Session) store(t *relay.Turn, name string, u upload, st *stored) (status relay.Status, line scanner, over bool, err error) {
	// A backend that is waited for is heard to the end, so that it is known what to take back.
	begun := len(st.uids) > 0
	st.open = true
	defer func() { st.open = st.open && err != nil }()
	t.Finish(begun)
	tag := t.Begin("APPEND ")
	invited := true
	if quotable(name) {
		t.Write(quote(name))
	} else if invited, status, err = t.Offer(tag, int64(len(name)), nil); invited {
		t.Write(name)
	}
	if err == nil && invited {
		t.Write(" ", u.attributes)
		invited, status, err = t.Offer(tag, u.size, nil)
	}
	if err != nil || !invited && u.waits {
		return status, line, err == nil, err
	}
	left := u.size
	st.open = invited
	t.Finish(false)
	if invited {
		if u.waits {
			_ = t.Tellf("+ OK")
		}
		if err = t.Flush(); err == nil {
			left, err = t.CopyLiteral(u.size)
		}
	} else {
		err = t.ClientLiteral(u.size, ignore)
	}
	if err == nil {
		line, err = clientLine(t)
	}
	switch {
	case err != nil && invited:
		s.breakOff(t, tag, left, st)
	case err == nil && invited:
		t.Finish(begun)
		t.Write("\r\n")
		status, err = t.Complete(tag, nil)
	}
	return status, line, false, err
}

// discard reads what is left of a command that has failed. Whatever else a line has, a
// literal that it announces is none of the next command.
func discard(t *relay.Turn, line scanner, over bool) error {
	for !over {
		var u upload
		open := bytes.LastIndexByte(line.rest, '{')
		if open < 0 || !u.announced(line.rest[open:]) || u.waits {
			return nil
		}
		err := t.ClientLiteral(u.size, ignore)
		if err == nil {
			line, err = clientLine(t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refuseUpload discards what is left of a command, and completes it.
func refuseUpload(t *relay.Turn, c *command, line scanner, text string) error {
	if err := discard(t, line, false); err != nil {
		return err
	}
	return t.Tellf("%s %s", c.tag, text)
}

// appended reads an APPENDUID (RFC 4315 section 3) of one message.
func appended(text string) (validity uint64, uid string, ok bool) {
	code, _, closed := strings.Cut(text, "]")
	words := strings.Fields(code)
	if !closed || len(words) != 3 || !strings.EqualFold(words[0], "[APPENDUID") {
		return 0, "", false
	}
	validity, err := strconv.ParseUint(words[1], 10, 32)
	if _, bad := strconv.ParseUint(words[2], 10, 32); err != nil || bad != nil {
		return 0, "", false
	}
	return validity, words[2], true
}
