package demo

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

// User and Password open the one account of the demo backend.
const (
	User     = "demo"
	Password = "demo"
)

// Listen serves one account, User with Password, that holds a few messages and
// the usual folders. The address has to be of the loopback, because passwords
// arrive in the clear.
func Listen(addr string) (*Server, error) {
	user := imapmemserver.NewUser(User, Password)
	if err := furnish(user, time.Now()); err != nil {
		return nil, fmt.Errorf("filling the demo mailbox: %w", err)
	}
	return Start(addr, Config{Users: []*imapmemserver.User{user}})
}

// message is one that is there from the start.
type message struct {
	from, subject string
	age           time.Duration
	flags         []imap.Flag
	body          string
}

var inbox = []message{
	{
		from: "Postmaster <postmaster@demo.example>", subject: "Welcome", age: 26 * time.Hour,
		flags: []imap.Flag{imap.FlagSeen},
		body: `You have come through the proxy: it has taken your password under TLS, asked
this backend whether it is right, and now passes on what the two of you say.

Nothing here is kept. Delete, move and append as you like; the next start
brings it all back.
`,
	},
	{
		from: "Alice Example <alice@demo.example>", subject: "Lunch on Thursday?", age: 3 * time.Hour,
		flags: []imap.Flag{imap.FlagFlagged},
		body: `Hi,

the place by the river has opened again. Half past twelve?

Alice
`,
	},
	{
		from: "=?utf-8?q?B=C3=A4rbel_Muster?= <baerbel@demo.example>", subject: "=?utf-8?q?Gr=C3=BC=C3=9Fe_aus_K=C3=B6ln?=", age: 20 * time.Minute,
		body: `Umlauts, the euro sign (€) and a character of four bytes (🦉) have travelled
through the proxy untouched, for it does not read messages.
`,
	},
}

var folders = []struct {
	name string
	use  imap.MailboxAttr
}{
	{"INBOX", ""},
	{"Drafts", imap.MailboxAttrDrafts},
	{"Sent", imap.MailboxAttrSent},
	{"Trash", imap.MailboxAttrTrash},
	{"Projects", ""},
	{"Projects/Migration", ""},
}

func furnish(user *imapmemserver.User, now time.Time) error {
	for _, f := range folders {
		var options imap.CreateOptions
		if f.use != "" {
			options.SpecialUse = []imap.MailboxAttr{f.use}
		}
		if err := user.Create(f.name, &options); err != nil {
			return err
		}
		if err := user.Subscribe(f.name); err != nil {
			return err
		}
	}
	for i, m := range inbox {
		date := now.Add(-m.age)
		text := m.text(i+1, date)
		options := &imap.AppendOptions{Flags: m.flags, Time: date}
		if _, err := user.Append("INBOX", bytes.NewReader(text), options); err != nil {
			return err
		}
	}
	return nil
}

func (m message) text(n int, date time.Time) []byte {
	var b bytes.Buffer
	for _, header := range [][2]string{
		{"From", m.from},
		{"To", "demo@demo.example"},
		{"Subject", m.subject},
		{"Date", date.Format(time.RFC1123Z)},
		{"Message-ID", fmt.Sprintf("<%d.%d@demo.example>", date.Unix(), n)},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "8bit"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", header[0], header[1])
	}
	b.WriteString("\r\n" + strings.ReplaceAll(m.body, "\n", "\r\n"))
	return b.Bytes()
}
