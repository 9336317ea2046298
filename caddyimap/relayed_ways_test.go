package caddyimap

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestRelayedTokens pins that a token is known again like a password: a wrong one is asked
// about once, and a right one each time. Nobody is connected for one that is not.
func TestRelayedTokens(t *testing.T) {
	for _, mechanism := range []string{login.XOAuth2, login.OAuthBearer} {
		t.Run(mechanism, func(t *testing.T) {
			w := newWorld(t)
			right := exchangeOf(mechanism)
			wrong := right
			wrong.Client = []string{strings.Replace(right.Client[0], "Bearer ", "Bearer x", 1)}
			dismissal := "C: " + imaptest.Base64(string(login.Dismissal(mechanism)))
			srv, app := w.saslBackend("AUTH="+mechanism, func(c *imaptest.Conn) {
				tag, args := c.Command("AUTHENTICATE")
				if args == mechanism+" "+right.Proof() {
					c.Sendf("%s OK in", tag)
					goOn(c)
					return
				}
				c.Play(tag, "S: + "+imaptest.Base64(wrong.Trouble), dismissal, "S: TAG NO [AUTHENTICATIONFAILED] no")
			})
			c := w.running(app)
			for n := range 3 {
				v := check(t, c.ref(""), exchanging(t, wrong, "192.0.2.1", nil), login.Denied)
				if (string(v.Final) == wrong.Trouble) != (n == 0) || errors.Is(v.Err, guard.ErrRemembered) != (n > 0) {
					t.Errorf("verdict %+v", v)
				}
			}
			for range 2 {
				check(t, c.ref(""), exchanging(t, right, "192.0.2.1", nil), login.Granted)
			}
			if n := srv.Conns(); n != 3 {
				t.Errorf("%s: %d connections, want 3", mechanism, n)
			}
			noSecrets(t, c, right)
		})
	}
}

// TestRelayedProofs pins that proofs of one secret are each asked about, right or wrong.
func TestRelayedProofs(t *testing.T) {
	w := newWorld(t)
	s := exchangeOf(login.CramMD5)
	srv, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) {
		answer := "S: TAG NO no"
		if c.N%2 == 0 {
			answer = "S: TAG OK in"
		}
		c.Play("", append(s.Steps(true), answer)...)
		goOn(c)
	})
	c := w.running(app)
	for n := range 8 {
		check(t, c.ref(""), exchanging(t, s, "192.0.2.1", nil), []login.Result{login.Denied, login.Granted}[n%2])
	}
	if n := srv.Conns(); n != 8 {
		t.Errorf("%d connections, want 8", n)
	}
}

// TestRelayedEarly pins what else a backend may say before the proof: nothing of it is
// granted, and what is no refusal of the user counts against nobody.
func TestRelayedEarly(t *testing.T) {
	s := exchangeOf(login.ScramSHA256)
	for answer, want := range map[string]login.Result{
		"TAG OK in": login.Unavailable, "TAG BAD no": login.Unavailable, "* BYE no": login.Unavailable,
		"TAG NO [UNAVAILABLE] no": login.Unavailable, "TAG NO [LIMIT] no": login.Throttled,
	} {
		t.Run(answer, func(t *testing.T) {
			w := newWorld(t)
			_, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) { c.Play("", s.Steps(true)[0], "S: "+answer) })
			c := w.running(app)
			for range 5 {
				check(t, c.ref(""), exchanging(t, s, "192.0.2.1", nil), want)
			}
			if lines := c.log.lines("info", "login"); len(lines) != 5 || lines[4].text("user") != testUser {
				t.Errorf("logged %v", lines)
			}
		})
	}
}

// TestRelayedRounds pins that an exchange comes to an end.
func TestRelayedRounds(t *testing.T) {
	w := newWorld(t)
	s := exchangeOf(login.GSSAPI)
	proof := s.Client[2]
	s.Client = append(slices.Repeat([]string{"\x60 a ticket"}, maxRounds+1), proof)
	s.Backend = slices.Repeat([]string{"\x60 a reply"}, len(s.Client))
	rest := make(chan string, 1)
	_, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) {
		steps := beforeProof(s)
		c.Play("", steps[:2*maxRounds]...)
		rest <- string(c.Rest())
	})
	c := w.running(app)
	v := check(t, c.ref(""), exchanging(t, s, "192.0.2.1", nil), login.Unavailable)
	if got := <-rest; got != "*\r\n" || !errors.Is(v.Err, errRounds) {
		t.Errorf("%+v; the backend was told %q", v, got)
	}
}

// TestRelayedNames pins that names which the backend would want otherwise, and those that
// may not be asked for, keep a proof from going out.
func TestRelayedNames(t *testing.T) {
	w := newWorld(t)
	s := imaptest.Exchanges("alice/shared")[2]
	rest := make(chan string, 1)
	srv, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) {
		c.Play("", beforeProof(s)...)
		rest <- string(c.Rest())
	})
	c := w.running(app)
	a := exchanging(t, s, "192.0.2.1", nil)
	a.NoDelegates = true
	if v := check(t, c.ref(""), a, login.Denied); v.Code != "AUTHORIZATIONFAILED" {
		t.Errorf("code %s", v.Code)
	}
	if got := <-rest; got != "*\r\n" {
		t.Errorf("the backend was told %q", got)
	}
	other := w.guarded(strict(), srv.Addr())
	other.Backends["exchange"].Username = `{imap.user.local}`
	c = w.running(other)
	if v := check(t, c.ref(""), exchanging(t, s, "192.0.2.1", nil), login.Unavailable); !errors.Is(v.Err, errRelayedName) || srv.Conns() != 1 {
		t.Errorf("%+v after %d connections", v, srv.Conns())
	}
}

// TestRelayedDelegate pins that who asks for the mailbox of another is refused before a
// backend is bothered, where that takes a name that we would have to make. It is his fault,
// and no guess.
func TestRelayedDelegate(t *testing.T) {
	w := newWorld(t)
	s := exchangeOf(login.ScramSHA256)
	srv, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) { c.Rest() })
	app.Backends["exchange"].Delegate = exchangeDelegate
	app.Guard.AccountFailures, app.Guard.SourceFailures = 1, 1
	none := 0
	app.Guard.KnownReserve = &none
	s.Client = []string{"n,a=bob,n=" + testUser + ",r=x", ""}
	c := w.running(app)
	for range 2 {
		v := check(t, c.ref(""), exchanging(t, s, "192.0.2.1", nil), login.Denied)
		if v.Code != "AUTHORIZATIONFAILED" || !errors.Is(v.Err, errDelegateRelay) || srv.Conns() != 0 {
			t.Errorf("%+v after %d connections", v, srv.Conns())
		}
	}
	if lines := c.log.lines("info", "login"); len(lines) != 2 || lines[1].text("result") != "denied" {
		t.Errorf("logged %v", lines)
	}
	if lines := c.log.lines("error", ""); len(lines) != 0 {
		t.Errorf("logged %v", lines)
	}
}

// TestRelayedSessions pins that sessions of all mechanisms are counted together.
func TestRelayedSessions(t *testing.T) {
	w := newWorld(t)
	s := exchangeOf(login.ScramSHA256)
	_, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) {
		c.Play("", append(s.Steps(true), "S: TAG OK in")...)
		goOn(c)
	})
	app.Backends["exchange"].MaxSessionsPerUser = 1
	c := w.running(app)
	session, v := c.ref("").open(t.Context(), exchanging(t, s, "192.0.2.1", nil))
	if session == nil {
		t.Fatalf("verdict %+v", v)
	}
	if again, v := c.ref("").open(t.Context(), exchanging(t, s, "192.0.2.1", nil)); again != nil || v.Code != "LIMIT" || !errors.Is(v.Err, errTooManySessions) {
		t.Errorf("verdict %+v", v)
	}
	session.Close()
	if session, v = c.ref("").open(t.Context(), exchanging(t, s, "192.0.2.1", nil)); session == nil {
		t.Fatalf("verdict %+v", v)
	}
	session.Close()
}

// TestRelayedSideBySide pins that many who ask side by side whether a user exists are
// counted who would have got past the budget of the account.
func TestRelayedSideBySide(t *testing.T) {
	w := newWorld(t)
	s := exchangeOf(login.ScramSHA256)
	const most, all = 2, 5
	begun, answer := make(chan struct{}, all), make(chan struct{})
	srv, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) {
		tag := c.Play("", s.Steps(true)[0])
		begun <- struct{}{}
		<-answer
		c.Play(tag, "S: TAG NO [AUTHENTICATIONFAILED] no")
	})
	app.Guard.AccountFailures, app.Guard.KnownReserve, app.Guard.SourceFailures = most, new(int), all
	c := w.running(app)
	verdicts := make(chan login.Verdict, all)
	for range all {
		go func() { verdicts <- c.ref("").Check(t.Context(), exchanging(t, s, "192.0.2.1", nil)) }()
	}
	for range all {
		<-begun
	}
	close(answer)
	results := make(map[login.Result]int)
	for range all {
		v := <-verdicts
		results[v.Result]++
	}
	if results[login.Denied] != most || results[login.Throttled] != all-most {
		t.Errorf("results %v", results)
	}
	if v := check(t, c.ref(""), exchanging(t, s, "192.0.2.1", nil), login.Throttled); !errors.Is(v.Err, guard.ErrBanned) || srv.Conns() != all {
		t.Errorf("verdict %+v after %d connections", v, srv.Conns())
	}
}
