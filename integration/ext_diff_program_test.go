//go:build integration

package integration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// diffBoxes are mailboxes of the programs that are there, but for the last two.
var diffBoxes = []string{"INBOX", "INBOX", "INBOX", "Archive", "Drafts", `"Sent Items"`, "Gel&APY-scht", "inbox", "nowhere", `"no where"`}

// takenBox is the one to which messages are appended that are then taken back.
const takenBox = "Taken"

// diffStep is one command of a program.
type diffStep struct {
	// text is the command; key is what it searches for and stands at its end.
	text string
	key  *diffKey
	// changes says that it may change a mailbox, or select one.
	changes bool
}

func (s *diffStep) command() string {
	if s.key == nil {
		return s.text
	}
	return s.with(s.key.String())
}

// with returns the command with another search program.
func (s *diffStep) with(key string) string { return s.text + key }

// diffMaker makes messages and programs.
type diffMaker struct {
	*oddMail
	lists *listRig
	start time.Time
	// offers are the capabilities on our side.
	offers []string
	// uids are those of the messages in the mailbox, the name of which is box.
	uids []uint32
	box  string
	// readOnly says that it was selected with EXAMINE. A Dovecot moves messages out of it
	// even so (RFC 3501 section 6.3.2: "No changes to the permanent state of the mailbox,
	// including per-user state, are permitted").
	readOnly bool
}

// fill makes mailboxes and their messages.
func (m *diffMaker) fill(w *twin, messages int) {
	for _, box := range append([]string{takenBox}, diffBoxes[1:len(diffBoxes)-3]...) {
		w.do("CREATE " + box)
	}
	for i := range messages {
		box := "INBOX"
		if i%8 == 7 {
			box = "Archive"
		}
		if got := w.do(fmt.Sprintf("APPEND %s %s", box, m.upload(i))); !strings.HasPrefix(got[len(got)-1], "OK") {
			w.t.Fatalf("a message was not taken: %q", got)
		}
	}
}

// upload is a message as APPEND has it, with flags and a date.
func (m *diffMaker) upload(i int) string {
	text := m.message(i)
	if m.IntN(3) == 0 {
		head, _, _ := strings.Cut(text, "\r\n\r\n")
		text = head + "\r\n" + m.part(0)
	}
	// Half an hour from any age that is asked for.
	at := m.start.Add(-time.Duration(m.IntN(100))*time.Hour - 30*time.Minute).In(time.FixedZone("", (m.IntN(25)-12)*3600))
	return fmt.Sprintf("(%s) \"%s\" {%d+}\r\n%s", m.flags(), at.Format("02-Jan-2006 15:04:05 -0700"), len(text), text)
}

func (m *diffMaker) flags() string {
	var flags []string
	for _, flag := range []string{`\Seen`, `\Answered`, `\Flagged`, `\Draft`, "$Label1", "$Forwarded"} {
		if m.IntN(5) == 0 {
			flags = append(flags, flag)
		}
	}
	return strings.Join(flags, " ")
}

// has says whether our side offers an extension.
func (m *diffMaker) has(name string) bool { return slices.Contains(m.offers, name) }

// selecting is the first command of a program.
func (m *diffMaker) selecting() *diffStep {
	m.box = m.pick("INBOX", "INBOX", "INBOX", "INBOX", "Archive")
	m.readOnly = m.IntN(4) == 0
	if m.readOnly {
		return &diffStep{text: "EXAMINE " + m.box, changes: true}
	}
	return &diffStep{text: "SELECT " + m.box, changes: true}
}

// step is any command that is offered.
func (m *diffMaker) step() *diffStep {
	for {
		if s := m.anyStep(); s != nil {
			return s
		}
	}
}

func (m *diffMaker) anyStep() *diffStep {
	uid := m.pick("UID ", "")
	switch n := m.IntN(100); {
	case n < 22:
		return m.sort(uid)
	case n < 38:
		return m.thread(uid)
	case n < 62:
		return m.search(uid)
	case n < 72:
		return m.saved(uid)
	case n < 82:
		return &diffStep{text: m.lists.command()}
	case n < 86 && m.has("MOVE") && !m.readOnly:
		return &diffStep{text: uid + "MOVE " + m.set(uid != "") + " " + m.otherBox(), changes: true}
	case n < 89 && m.has("MULTIAPPEND"):
		return m.multiAppend()
	case n < 92:
		return &diffStep{text: uid + "STORE " + m.set(uid != "") + m.pick(" +", " -", " ") + m.pick("FLAGS", "FLAGS.SILENT") + " (" + m.pick(m.flags(), `\Deleted`) + ")", changes: true}
	case n < 93:
		if m.has("UIDPLUS") && m.IntN(2) == 0 {
			return &diffStep{text: "UID EXPUNGE " + m.set(true), changes: true}
		}
		return &diffStep{text: "EXPUNGE", changes: true}
	case n < 94:
		return &diffStep{text: uid + "COPY " + m.set(uid != "") + " " + m.otherBox(), changes: true}
	case n < 95 && m.has("UNSELECT"):
		m.box, m.uids = "", nil
		return &diffStep{text: m.pick("UNSELECT", "CLOSE")}
	case n < 97:
		return &diffStep{text: m.pick("SUBSCRIBE ", "UNSUBSCRIBE ") + m.lists.quoteName(m.pick(listNames...))}
	case n < 98 && m.has("NAMESPACE"):
		return &diffStep{text: "NAMESPACE"}
	case n < 99 && m.has("STATUS=SIZE"):
		return &diffStep{text: "STATUS " + m.pick(diffBoxes...) + " (" + m.pick("SIZE", "MESSAGES SIZE", "SIZE UNSEEN UIDNEXT") + ")"}
	case n == 99 && m.box != "":
		return m.wrong(uid) // where no mailbox is selected, there are two faults
	}
	return nil
}

// wrong is a command that is none.
func (m *diffMaker) wrong(uid string) *diffStep {
	for {
		w := diffWrong[m.IntN(len(diffWrong))]
		if m.has(w[0]) {
			return &diffStep{text: uid + w[1]}
		}
	}
}

// diffWrong are commands that are none, and the extensions that they are of.
var diffWrong = [][2]string{
	{"SORT", "SORT (FOO) UTF-8 ALL"}, {"SORT", "SORT () UTF-8 ALL"}, {"SORT", "SORT (SUBJECT) UTF-8"}, {"SORT", "SORT (REVERSE) UTF-8 ALL"},
	{"SORT", "SORT (SUBJECT) NONE-SUCH ALL"}, {"SORT", "SORT SUBJECT UTF-8 ALL"}, {"SORT", "SORT"}, {"SORT", "SORT (SUBJECT) UTF-8 FOO"},
	{"THREAD=REFERENCES", "THREAD FOO UTF-8 ALL"}, {"THREAD=REFERENCES", "THREAD REFERENCES UTF-8"}, {"THREAD=REFERENCES", "THREAD REFERENCES NONE-SUCH ALL"},
	{"ESEARCH", "SEARCH RETURN (FOO) ALL"}, {"ESEARCH", "SEARCH RETURN (MIN ALL"}, {"ESEARCH", "SEARCH RETURN () FOO"}, {"CONTEXT=SEARCH", "SEARCH RETURN (PARTIAL 0:5) ALL"},
	{"WITHIN", "SEARCH OLDER x"}, {"WITHIN", "SEARCH YOUNGER 0"}, {"I18NLEVEL=1", "SEARCH CHARSET NONE-SUCH SUBJECT {2+}\r\n\xc3\xa4"},
	{"MOVE", "MOVE 1"}, {"MOVE", "MOVE x INBOX"},
}

// number is one of a message, or of none if beyond says that it may be.
func (m *diffMaker) number(uid, beyond bool) string {
	switch n := m.IntN(20); {
	case n == 0:
		return "*"
	case n == 1 && uid:
		return strconv.Itoa(1 + m.IntN(5000))
	case n == 1 && m.IntN(5) == 0 && beyond:
		return strconv.Itoa(len(m.uids) + 1 + m.IntN(3))
	case len(m.uids) == 0:
		return "1"
	case uid:
		return strconv.Itoa(int(m.uids[m.IntN(len(m.uids))]))
	}
	return strconv.Itoa(1 + m.IntN(len(m.uids)))
}

// set is a small set of messages.
func (m *diffMaker) set(uid bool) string {
	if m.IntN(4) == 0 && m.has("SEARCHRES") {
		return "$"
	}
	var parts []string
	for range 1 + m.IntN(4) {
		parts = append(parts, m.number(uid, false)) // a Dovecot that is to move others crashes
	}
	return strings.Join(parts, ",")
}

// span is a set that may be large.
func (m *diffMaker) span(uid bool) string {
	if m.IntN(3) == 0 {
		return m.set(uid)
	}
	return m.number(uid, true) + ":" + m.number(uid, true)
}

func (m *diffMaker) sort(uid string) *diffStep {
	if !m.has("SORT") {
		return nil
	}
	keys := []string{"ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO"}
	if m.has("SORT=DISPLAY") {
		keys = append(keys, "DISPLAYFROM", "DISPLAYTO")
	}
	var order []string
	for range 1 + m.IntN(3) {
		order = append(order, m.pick("", "", "REVERSE ")+m.pick(keys...))
	}
	returns := ""
	if m.IntN(3) == 0 && m.has("ESORT") {
		returns = m.returns() + " "
	}
	return &diffStep{text: uid + "SORT " + returns + "(" + strings.Join(order, " ") + ") UTF-8 ", key: m.key(0, !strings.Contains(returns, "SAVE"))}
}

func (m *diffMaker) thread(uid string) *diffStep {
	algorithm := m.pick("REFERENCES", "REFERENCES", "REFS", "ORDEREDSUBJECT")
	if !m.has("THREAD=" + algorithm) {
		return nil
	}
	return &diffStep{text: uid + "THREAD " + algorithm + " UTF-8 ", key: m.key(0, true)}
}

// returns are the options of RETURN.
func (m *diffMaker) returns() string {
	options := []string{"MIN", "MAX", "ALL", "COUNT"}
	if m.has("CONTEXT=SEARCH") {
		options = append(options, fmt.Sprintf("PARTIAL %d:%d", 1+m.IntN(30), 1+m.IntN(30)))
	}
	if m.has("SEARCHRES") {
		options = append(options, "SAVE")
	}
	m.Shuffle(len(options), func(i, j int) { options[i], options[j] = options[j], options[i] })
	return "RETURN (" + strings.Join(options[:m.IntN(4)], " ") + ")"
}

// charset is that of what is searched for.
func (m *diffMaker) charset() string {
	if m.has("I18NLEVEL=1") {
		return "CHARSET UTF-8 "
	}
	return ""
}

func (m *diffMaker) search(uid string) *diffStep {
	text := uid + "SEARCH "
	if m.IntN(3) > 0 && m.has("ESEARCH") {
		text += m.returns() + " "
	}
	return &diffStep{text: text + m.charset(), key: m.key(0, !strings.Contains(text, "SAVE"))}
}

// saved uses the result of a search.
func (m *diffMaker) saved(uid string) *diffStep {
	if !m.has("SEARCHRES") {
		return nil
	}
	switch m.IntN(5) {
	case 0:
		return &diffStep{text: uid + "STORE $ " + m.pick("+", "-") + "FLAGS (" + m.pick(`\Flagged`, `\Seen`, "$Label1") + ")", changes: true}
	case 1:
		return &diffStep{text: uid + "SEARCH RETURN (SAVE) " + m.charset(), key: m.key(0, false)}
	case 2:
		return &diffStep{text: uid + "SEARCH RETURN (SAVE) " + m.set(false)}
	}
	return &diffStep{text: uid + "FETCH $ (" + m.pick("UID", "FLAGS", "UID FLAGS", "FLAGS RFC822.SIZE", "INTERNALDATE BODY.PEEK[HEADER.FIELDS (SUBJECT)]") + ")"}
}

// otherBox is a mailbox that is not selected: a Dovecot with maildirs gives messages that
// are moved to where they are already the names of files twice.
func (m *diffMaker) otherBox() string {
	for {
		if box := m.pick(diffBoxes...); !strings.EqualFold(box, m.box) {
			return box
		}
	}
}

// multiAppend is an APPEND of some messages, the last of which may not be taken. Dovecot
// takes what follows one that it refuses for commands.
func (m *diffMaker) multiAppend() *diffStep {
	box, end := m.pick(diffBoxes...), ""
	if m.IntN(8) == 0 {
		box, end = takenBox, " {0+}\r\n"
	}
	text := "APPEND " + box
	for range 1 + m.IntN(4) {
		text += " " + m.upload(m.IntN(1000))
	}
	return &diffStep{text: text + end, changes: true}
}
