package caddyimap

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// What those could do who know the guard, and what stands around it.

// TestBudgetWithTemplate pins that what counts is the name that the backend is asked
// about, of which users may type any number.
func TestBudgetWithTemplate(t *testing.T) {
	for _, tc := range []struct{ template, user, asked string }{
		{`CORP\{imap.user.local}`, `z%d@x\alice`, `CORP\alice`},
		{`CORP\{imap.user.local}`, `q/z%d\alice`, `CORP\alice`},
		{`CORP\{imap.user.local}`, "z%d\uff20x\\alice", `CORP\alice`},
		{`{imap.user.local}`, `alice@z%d.example`, `alice`},
		{`CORP\{imap.user}`, `alice\z%d`, `CORP\alice\z`},
		{`{imap.user}@corp.example.org`, `alice/z%d`, `alice/z`},
	} {
		t.Run(tc.template+" "+tc.user, func(t *testing.T) {
			w := newWorld(t)
			fake := w.anyAlice()
			b := w.backend(fake.Addr())
			b.Username = tc.template
			app := w.app(b)
			app.Guard = strict()
			app.Guard.Domains = []GuardDomain{{"CORP", "corp.example.org"}, {"Z1.EXAMPLE", "z1.example"}}
			c := w.load(app)
			c.start()
			defer c.stop()
			for i := range 12 {
				c.ref("").Check(t.Context(), from(fmt.Sprintf("198.51.100.%d", i+1), fmt.Sprintf(tc.user, i), fmt.Sprint("guess-", i)))
			}
			n := 0
			for _, l := range fake.Logins() {
				if strings.HasPrefix(l.User, tc.asked) {
					n++
				}
			}
			if n != 3 {
				t.Errorf("the backend was asked about %s %d times, want 3", tc.asked, n)
			}
		})
	}
}

// TestSessionsTellNothing pins that a wrong password is wrong, whether or not the
// user has as many sessions as he may have.
func TestSessionsTellNothing(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	c := w.load(w.limited(1, fake.Addr()))
	c.start()
	defer c.stop()
	cl := serve(t, c.handler(&Handler{InsecureAuth: true}))
	cl.expect("* OK")
	cl.send(`in LOGIN "alice@example.org" ` + testSecret + "\r\n")
	cl.expect("* CAPABILITY")
	cl.expect(loggedIn)
	h := webmail(c)
	exists := logInFrom(t, h, "198.51.100.1", "alice@example.org", "guess")
	nobody := logInFrom(t, h, "198.51.100.1", "nobody@example.org", "guess")
	if exists != nobody {
		t.Errorf("alice is told %q, nobody %q", exists, nobody)
	}
	if got := logInFrom(t, h, "198.51.100.1", "alice@example.org", testSecret); !strings.HasPrefix(got, "NO [LIMIT]") {
		t.Errorf("one session too many: %q", got)
	}
	cl.ask("z LOGOUT", "* BYE", "z OK")
	cl.closed()
}

// TestSessionsOfGuesses pins that who guesses takes no place of the owner.
func TestSessionsOfGuesses(t *testing.T) {
	w := newWorld(t)
	release, began := make(chan struct{}), make(chan struct{}, 10)
	p := w.profile()
	p.Login = func(l imaptest.Login) string {
		if l.Secret == testSecret {
			return "OK Logged in."
		}
		began <- struct{}{}
		<-release
		return "NO [AUTHENTICATIONFAILED] Authentication failed."
	}
	c := w.load(w.limited(2, w.start(p).Addr()))
	c.start()
	defer c.stop()
	h := webmail(c)
	if got := logInFrom(t, h, "192.0.2.1", "alice@example.org", testSecret); got != "OK Logged in" {
		t.Fatal(got)
	}
	done := make(chan struct{})
	for i := range 2 {
		go func() {
			logInFrom(t, h, "198.51.100.1", "alice@example.org", fmt.Sprint("guess-", i))
			done <- struct{}{}
		}()
		<-began
	}
	if got := logInFrom(t, h, "192.0.2.1", "alice@example.org", testSecret); got != "OK Logged in" {
		t.Errorf("the owner with no session at all is told %s", got)
	}
	close(release)
	<-done
	<-done
}

// TestSessionOfNewPassword pins that one session too many is told of and given back,
// if only the backend could know that the password is right.
func TestSessionOfNewPassword(t *testing.T) {
	w := newWorld(t)
	p := w.profile()
	p.Login = func(imaptest.Login) string { return "OK Logged in." }
	c := w.load(w.limited(1, w.start(p).Addr()))
	c.start()
	defer c.stop()
	cl := serve(t, c.handler(&Handler{InsecureAuth: true}))
	cl.expect("* OK")
	cl.send(`in LOGIN "alice@example.org" ` + testSecret + "\r\n")
	cl.expect("* CAPABILITY")
	cl.expect(loggedIn)
	h := webmail(c)
	if got := logInFrom(t, h, "198.51.100.1", "alice@example.org", "of another device"); !strings.HasPrefix(got, "NO [LIMIT]") {
		t.Errorf("one session too many: %q", got)
	}
	cl.ask("z LOGOUT", "* BYE", "z OK")
	cl.closed()
	noSessions(t)
	if got := logInFrom(t, h, "198.51.100.1", "alice@example.org", "of another device"); got != "OK Logged in" {
		t.Errorf("with no session: %q", got)
	}
}

// TestAlmostName pins that what only counts as a known account is not its name.
func TestAlmostName(t *testing.T) {
	w := newWorld(t)
	c := w.load(w.guarded(strict(), w.anyAlice().Addr()))
	c.start()
	defer c.stop()
	ref := c.ref("")
	check(t, ref, from("192.0.2.1", "alice", testSecret), login.Granted)
	check(t, ref, from("192.0.2.1", "ALICE", "x"), login.Denied)
	if lines := c.log.lines("info", "login"); lines[len(lines)-1].text("user") != "ALICE" {
		t.Error("a known name is not shown")
	}
	for i, name := range []string{"alice%2026", "alice\uff202026", "aL\u00efCE", "2026*alice"} {
		ref.Check(t.Context(), from(fmt.Sprintf("192.0.2.%d", i+2), name, "y"))
		if lines := c.log.lines("info", "login"); lines[len(lines)-1].text("user") != "?" {
			t.Errorf("%s is shown", name)
		}
	}
}

// TestThrottledGuesses pins that a backend which says that it is too busy, and has
// the password, is not asked about any number of them while it answers others.
func TestThrottledGuesses(t *testing.T) {
	w := newWorld(t)
	p := w.profile()
	p.Login = func(l imaptest.Login) string {
		if strings.HasPrefix(l.User, "bob") {
			return "OK Logged in."
		}
		return "NO [LIMIT] Too many connections."
	}
	fake := w.start(p)
	c := w.load(w.guarded(strict(), fake.Addr()))
	c.start()
	defer c.stop()
	ref := c.ref("")
	check(t, ref, from("192.0.2.1", "bob", testSecret), login.Granted)
	for i := range 30 {
		check(t, ref, from("198.51.100.1", "alice", fmt.Sprint("guess-", i)), login.Throttled)
	}
	if n := len(fake.Logins()) - 1; n != 3 {
		t.Errorf("%d different passwords were sent for alice, want 3", n)
	}
}

// TestLongPassword pins that nobody is asked about what nobody has.
func TestLongPassword(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	c := w.load(w.guarded(strict(), fake.Addr()))
	c.start()
	defer c.stop()
	for range 10 {
		check(t, c.ref(""), from("198.51.100.1", "alice", strings.Repeat("x", 20000)), login.Denied)
		check(t, c.ref(""), from("198.51.100.1", strings.Repeat("x", 2000), "guess"), login.Denied)
	}
	if n := len(fake.Logins()); n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
	check(t, c.ref(""), from("192.0.2.1", "alice", testSecret), login.Granted)
}
