package caddyimap

import (
	"errors"
	"fmt"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestRelayedNameless pins that a client whose name only the backend knows counts against
// its address alone, however the backend refuses it, and that what it is called instead
// is nobody's name: it can be guessed at without end, and holds no client.
func TestRelayedNameless(t *testing.T) {
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprint(early), func(t *testing.T) {
			w := newWorld(t)
			s := exchangeOf(login.GSSAPI)
			srv, app := w.saslBackend("AUTH=PLAIN AUTH="+s.Mechanism, func(c *imaptest.Conn) {
				switch {
				case c.N <= 3:
					tag, _ := c.Command("AUTHENTICATE")
					c.Sendf("%s NO no", tag)
				case early:
					c.Play("", s.Steps(true)[0], "S: TAG NO [AUTHENTICATIONFAILED] no")
				default:
					c.Play("", append(s.Steps(true), "S: TAG NO no")...)
				}
			})
			app.Guard.SourceFailures = 8
			c := w.running(app)
			for i := range 3 {
				check(t, c.ref(""), from("203.0.113.66", "GSSAPI:198.51.100.1", fmt.Sprint("guess", i)), login.Denied)
			}
			check(t, c.ref(""), from("203.0.113.66", "GSSAPI:198.51.100.1", "guess"), login.Throttled)
			for range 8 {
				check(t, c.ref(""), exchanging(t, s, "198.51.100.1", nil), login.Denied)
			}
			v := check(t, c.ref(""), exchanging(t, s, "198.51.100.1", nil), login.Throttled)
			if !errors.Is(v.Err, guard.ErrBanned) || srv.Conns() != 3+8 {
				t.Errorf("verdict %+v after %d connections", v, srv.Conns())
			}
			if n := len(c.log.lines("warn", "no more wrong passwords for this account reach the backend for a while")); n != 1 {
				t.Errorf("it was told %d times that an account is held, want that of the guesses", n)
			}
			for _, l := range c.log.lines("info", "login")[4:12] {
				if l.text("user") != "GSSAPI:198.51.100.1" {
					t.Errorf("logged %v", l)
				}
			}
		})
	}
}

// TestNamelessSessions pins that nobody is limited by the sessions of others at his
// address, of whom nobody knows who they are either.
func TestNamelessSessions(t *testing.T) {
	w := newWorld(t)
	s := exchangeOf(login.GSSAPI)
	_, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) {
		c.Play("", append(s.Steps(true), "S: TAG OK in")...)
		goOn(c)
	})
	app.Backends["exchange"].MaxSessionsPerUser = 1
	c := w.running(app)
	for range 3 {
		session, v := c.ref("").open(t.Context(), exchanging(t, s, "192.0.2.1", nil))
		if session == nil {
			t.Fatalf("verdict %+v", v)
		}
		defer session.Close()
	}
}
