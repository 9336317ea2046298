package caddyimap

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestHeaderCache has sessions of one user know what was asked for in another, and those of
// other users not; and a backend that answers a command twice, which is reported once.
func TestHeaderCache(t *testing.T) {
	w := newWorld(t)
	var asked atomic.Int64
	p := w.profile()
	p.Login = nil
	p.Session = func(c *imaptest.Conn, _ imaptest.Login) {
		for {
			line, ok := c.ReadLine()
			if !ok {
				return
			}
			tag, name, rest := imaptest.SplitCommand(line)
			switch {
			case name == "CAPABILITY":
				c.Sendf("* CAPABILITY IMAP4rev1")
			case name == "SELECT":
				c.Sendf("* OK [UIDVALIDITY 5] x")
			case strings.HasPrefix(rest, "SEARCH"):
				c.Sendf("* SEARCH 8 9")
			case strings.HasPrefix(rest, "FETCH"):
				asked.Add(1)
				c.Sendf("* 1 FETCH (UID 8 RFC822.SIZE 20)\r\n* 2 FETCH (UID 9 RFC822.SIZE 10)")
			}
			c.Sendf("%s OK done", tag)
			if strings.HasPrefix(rest, "SEARCH") {
				c.Sendf("%s OK done again", tag)
			}
		}
	}
	b := w.backend(w.start(p).Addr())
	b.Extensions = []string{"SORT"}
	app := w.app(b)
	app.HeaderCache = 2 << 20
	c := w.load(app)
	h := c.handler(&Handler{InsecureAuth: true})
	before := headerCache.Stats()
	for i, user := range []string{"alice", "alice", "bob", "Alice"} {
		cl := serve(t, h)
		cl.expect("* OK")
		cl.ask("in LOGIN "+user+" x", "* CAPABILITY IMAP4rev1 SORT", loggedIn)
		cl.ask("a SELECT INBOX", "* OK [UIDVALIDITY 5]", "a OK")
		cl.ask("b UID SORT (SIZE) UTF-8 ALL", "* SORT 9 8", "b OK")
		if want := []int64{1, 1, 2, 3}[i]; asked.Load() != want {
			t.Errorf("for %s, the backend was asked %d times so far; want %d", user, asked.Load(), want)
		}
		const strayed = "the backend has completed a command twice that was put to it for an extension, so that its answers may be mixed up; " +
			"see what stands between it and us, or set its option extensions to off"
		cl.ask("c SORT (SIZE) UTF-8 ALL", "* SORT", "c OK")
		becomes(t, "the line "+strayed, func() bool { return len(c.log.lines("error", strayed)) > i })
		got := c.log.lines("error", strayed)
		if last := got[i]; len(got) != i+1 || last.text("user") != user || last.text("backend") != "exchange" {
			t.Errorf("logged %v", got)
		}
	}
	after := headerCache.Stats()
	if hits, misses := after.Hits-before.Hits, after.Misses-before.Misses; hits != 2 || misses != 6 || after.Bytes <= before.Bytes {
		t.Errorf("%d hits and %d misses, from %d to %d bytes", hits, misses, before.Bytes, after.Bytes)
	}
}

// TestOwner pins whose mailboxes are told apart.
func TestOwner(t *testing.T) {
	b := &Backend{name: "exchange"}
	b.guard.Backend = "exchange\x00a:143"
	seen := make(map[string]bool)
	for _, a := range []login.Attempt{
		{User: "alice"}, {User: "alice@a.example"}, {User: "alice@b.example"}, {User: "boss", AuthzID: "alice"}, {User: "alice", AuthzID: "boss"},
	} {
		owner := b.owner(&a)
		if seen[owner] || owner == "" {
			t.Errorf("%s as %s: owner %q", a.User, a.AuthzID, owner)
		}
		seen[owner] = true
	}
	if owner := b.owner(&login.Attempt{}); owner != "" {
		t.Errorf("nobody owns %q", owner)
	}
}
