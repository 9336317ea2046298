package caddyimap

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// TestExtensions pins that clients are told what holds: with the login and when they
// ask, whether the backend has told its capabilities by itself or not.
func TestExtensions(t *testing.T) {
	for name, tc := range map[string]struct {
		names       []string
		after, told string
		announce    bool
	}{
		"off":       {nil, "IMAP4rev1 UIDPLUS", "IMAP4rev1 UIDPLUS", false},
		"named":     {[]string{"unselect", "IDLE"}, "IMAP4rev1 UIDPLUS", "IMAP4rev1 UIDPLUS UNSELECT IDLE", false},
		"announced": {[]string{"UNSELECT", "IDLE"}, "IMAP4rev1 UIDPLUS", "IMAP4rev1 UIDPLUS UNSELECT IDLE", true},
		"native":    {[]string{"UNSELECT", "IDLE"}, "IMAP4rev1 idle unselect", "IMAP4rev1 idle unselect", false},
		"one of it": {[]string{"UNSELECT", "IDLE"}, "IMAP4rev1 IDLE", "IMAP4rev1 IDLE UNSELECT", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.profile()
			p.After, p.Announce = tc.after, tc.announce
			b := w.backend(w.start(p).Addr())
			b.Extensions = tc.names
			c := w.load(w.app(b))
			cl := serve(t, c.handler(&Handler{InsecureAuth: true}))
			cl.expect("* OK")
			cl.send(loginGood + "\r\n")
			for range 2 {
				line, _ := cl.line()
				if got := strings.TrimPrefix(line, "* CAPABILITY "); !sameWords(got, tc.told) {
					t.Errorf("told %q, want %q", got, tc.told)
				}
				_, _ = cl.line()
				cl.send("a CAPABILITY\r\n")
			}
			cl.expect("* CAPABILITY", "a OK")
		})
	}
}

func sameWords(a, b string) bool {
	count := make(map[string]int)
	for _, w := range strings.Fields(a) {
		count[w]++
	}
	for _, w := range strings.Fields(b) {
		count[w]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// TestIdleInterval pins that the option reaches the session.
func TestIdleInterval(t *testing.T) {
	w := newWorld(t)
	p := w.profile()
	p.Session = func(c *imaptest.Conn, _ imaptest.Login) {
		for n := 1; ; n++ {
			line, ok := c.ReadLine()
			if !ok {
				return
			}
			tag, name, _ := imaptest.SplitCommand(line)
			if name == "CAPABILITY" {
				c.Sendf("* CAPABILITY IMAP4rev1")
			} else {
				c.Sendf("* %d EXISTS", n)
			}
			c.Sendf("%s OK done", tag)
		}
	}
	b := w.backend(w.start(p).Addr())
	b.Extensions, b.IdleInterval = []string{"auto"}, caddy.Duration(time.Second)
	c := w.load(w.app(b))
	cl := serve(t, c.handler(&Handler{InsecureAuth: true}))
	cl.expect("* OK")
	cl.logIn()
	cl.ask("a IDLE", "+ idling", "* ", "* ")
	cl.ask("DONE", "a OK Idle completed.")
}
