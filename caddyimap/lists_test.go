package caddyimap

import (
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// TestLists pins that the options about lists and missing messages reach the session.
func TestLists(t *testing.T) {
	w := newWorld(t)
	p := w.profile()
	p.Session = func(c *imaptest.Conn, _ imaptest.Login) {
		for {
			line, ok := c.ReadLine()
			if !ok {
				return
			}
			tag, name, rest := imaptest.SplitCommand(line)
			switch {
			case name == "CAPABILITY":
				c.Sendf("* CAPABILITY IMAP4rev1 IMAP4 CHILDREN NAMESPACE MOVE")
			case name == "LIST":
				for _, name := range []string{"INBOX", "Sent Items", "Drafts", "Calendar", "Contacts", "&APY-x"} {
					c.Sendf("* LIST (\\HasNoChildren) \"/\" %q", name)
				}
			case strings.HasPrefix(rest, "FETCH 8 "):
				c.Sendf("* 1 FETCH (UID 8 BODY[] {1}\r\nx)")
			case name == "MOVE":
				c.Sendf("[COPYUID 1 8 9]")
			}
			c.Sendf("%s OK done", tag)
		}
	}
	b := w.backend(w.start(p).Addr())
	b.Extensions, b.HideFolders, b.SpecialUse = []string{"auto"}, "on", map[string][]string{`\Sent`: {"öx"}}
	b.ReportMissing, b.MendCopyUID = "on", "on"
	c := w.load(w.app(b))
	cl := serve(t, c.handler(&Handler{InsecureAuth: true}))
	cl.expect("* OK")
	cl.logIn()
	cl.ask(`a LIST "" *`, `* LIST (\HasNoChildren) "/" INBOX`, `* LIST (\HasNoChildren) "/" "Sent Items"`, `* LIST (\HasNoChildren \Drafts) "/" Drafts`,
		`* LIST (\HasNoChildren \Sent) "/" &APY-x`, "a OK")
	cl.ask(`b SELECT x`, "b OK")
	cl.ask(`c UID FETCH 8 (BODY[])`, "* 1 FETCH", "x)", "c OK")
	cl.ask(`d MOVE 1 y`, "* OK [COPYUID 1 8 9] Moved.", "d OK")
	cl.ask(`e UID FETCH 9 (BODY[])`, "e OK")
	got := c.log.soon("warn", "the backend has not given a message: it cannot be converted, or is gone")
	if got.text("mailbox") != "x" || got["uid"] != 9.0 || got.text("user") != testUser || got.text("session") == "" {
		t.Errorf("logged %v", got)
	}
}
