package caddyimap

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// strict is a guard that does not hold refusals back.
func strict() *Guard { return &Guard{FailureDelay: 1} }

// guarded is an app with the guard, and no other delays.
func (w *world) guarded(g *Guard, addrs ...string) *App {
	app := w.app(w.backend(addrs...))
	app.Guard = g
	return app
}

// anyAlice is a backend that knows alice in all her spellings, and counts.
func (w *world) anyAlice() *imaptest.Fake {
	p := w.profile()
	p.Login = func(l imaptest.Login) string {
		if l.Secret == testSecret && strings.Contains(strings.ToLower(l.User), "alice") {
			return "OK Logged in."
		}
		return "NO [AUTHENTICATIONFAILED] Authentication failed."
	}
	return w.start(p)
}

// wrong counts the wrong passwords that a backend was asked about.
func wrong(fake *imaptest.Fake) (n int) {
	for _, l := range fake.Logins() {
		if l.Secret != testSecret {
			n++
		}
	}
	return n
}

// from is an attempt with a password from an address.
func from(addr, user, secret string) *login.Attempt {
	a := attempt()
	a.User, a.Secret, a.Remote = user, login.Secret(secret), netip.MustParseAddr(addr)
	return a
}

// check asks and wants a result.
func check(t *testing.T, r *BackendRef, a *login.Attempt, want login.Result) login.Verdict {
	t.Helper()
	v := r.Check(t.Context(), a)
	if v.Result != want {
		t.Errorf("%s from %s: %v (%v), want %v", a.User, a.Remote, v.Result, v.Err, want)
	}
	return v
}

// webmail is a handler whose clients say for whom they speak.
func webmail(c *config) *Handler {
	return c.handler(&Handler{InsecureAuth: true, TrustedClients: []string{"127.0.0.0/8"}})
}

// logInFrom has somebody at an address log in through a handler, and returns the
// answer.
func logInFrom(t *testing.T, h *Handler, addr, user, secret string) string {
	t.Helper()
	cl := serve(t, h)
	cl.expect("* OK")
	cl.ask(`i ID ("x-originating-ip" "`+addr+`")`, "* ID NIL", "i OK")
	cl.send(`a LOGIN "` + strings.ReplaceAll(user, `\`, `\\`) + `" "` + secret + "\"\r\n")
	for {
		line, err := cl.line()
		if err != nil {
			t.Fatal(err)
		}
		if text, tagged := strings.CutPrefix(line, "a "); tagged {
			_ = cl.conn.Close()
			cl.wait()
			return text
		}
	}
}

// TestGuessing has 100 addresses guess the password of one account, in all of its
// spellings, through both handlers at once.
func TestGuessing(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	g := strict()
	g.Domains = []GuardDomain{{"CORP", "example.org"}}
	c := w.load(w.guarded(g, fake.Addr()))
	c.start()
	defer c.stop()
	ref, h := c.ref(""), webmail(c)

	// The owner's telephone has been here before.
	check(t, ref, from("192.0.2.1", "alice", testSecret), login.Granted)

	spellings := []string{"alice", "ALICE", "alice@example.org", `CORP\alice`, "alice/shared", "Alice@Example.ORG", `corp\ALICE\shared`}
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			addr, user, secret := fmt.Sprintf("198.51.100.%d", i+1), spellings[i%len(spellings)], fmt.Sprintf("guess-%d", i)
			if i%2 == 0 {
				if v := ref.Check(t.Context(), from(addr, user, secret)); v.Result != login.Denied && v.Result != login.Throttled {
					t.Errorf("%s from %s: %v, %v", user, addr, v.Result, v.Err)
				}
			} else if got := logInFrom(t, h, addr, user, secret); !strings.HasPrefix(got, "NO [") {
				t.Errorf("%s from %s: %s", user, addr, got)
			}
		})
	}
	all.Wait()
	// One of the four is kept for whom the account knows.
	if n := wrong(fake); n != 3 {
		t.Errorf("the backend was asked about %d wrong passwords, want 3", n)
	}

	// The owner gets in all the same, and may even mistype.
	for _, addr := range []string{"192.0.2.1", "203.0.113.77"} {
		check(t, ref, from(addr, `CORP\alice`, testSecret), login.Granted)
		if got := logInFrom(t, h, addr, "alice@example.org", testSecret); got != "OK Logged in" {
			t.Errorf("the owner, from %s: %s", addr, got)
		}
	}
	check(t, ref, from("192.0.2.1", "alice", "mistyped"), login.Denied)
	check(t, ref, from("192.0.2.1", "alice", "mistyped again"), login.Throttled)
	if n := wrong(fake); n != 4 {
		t.Errorf("the backend was asked about %d wrong passwords, want 4", n)
	}
	// What was guessed has no name, so nobody's password shows as one.
	if n := len(c.log.lines("info", "login")); n != 1+100+4+2 {
		t.Errorf("%d lines about logins, want one for each of 107 attempts", n)
	}
}

// TestHeld pins what people are told while an account is held: the same by both
// handlers, and the same about users that there are not.
func TestHeld(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	c := w.load(w.guarded(strict(), fake.Addr()))
	c.start()
	defer c.stop()
	ref, h := c.ref(""), webmail(c)
	for _, user := range []string{"alice@example.org", "nobody@example.org"} {
		for i := range 3 {
			check(t, ref, from("198.51.100.1", user, fmt.Sprintf("guess-%d", i)), login.Denied)
		}
		v := check(t, ref, from("198.51.100.2", user, "guess-3"), login.Throttled)
		if v.Code != "UNAVAILABLE" || v.Upstream != "" {
			t.Errorf("code %s, upstream %s", v.Code, v.Upstream)
		}
		if got := logInFrom(t, h, "198.51.100.3", user, "guess-4"); got != "NO [UNAVAILABLE] Too many logins, try again later." {
			t.Errorf("%s is told %q", user, got)
		}
		// Nor does a right password get in that was not right before.
		check(t, ref, from("198.51.100.4", user, testSecret), login.Throttled)
	}
	held := c.log.lines("warn", "no more wrong passwords for this account reach the backend for a while")
	if len(held) != 2 || held[0].text("user") != "alice@example.org" || held[0]["failures"] != 3.0 || held[0].text("remote_ip") != "198.51.100.1" {
		t.Errorf("logged %v", held)
	}
	for _, l := range c.log.lines("info", "login") {
		if l.text("result") == "throttled" && !strings.Contains(l.text("error"), "too many wrong passwords for this account") {
			t.Errorf("logged %v", l)
		}
	}
	if n := len(fake.Logins()); n != 6 {
		t.Errorf("the backend was asked %d times, want 6", n)
	}
}

// TestRemembered pins that a wrong password is asked about once, whichever handler
// it comes by.
func TestRemembered(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	c := w.load(w.guarded(strict(), fake.Addr()))
	c.start()
	defer c.stop()
	ref, h := c.ref(""), webmail(c)
	check(t, ref, from("192.0.2.1", "alice@example.org", "old-password"), login.Denied)
	for _, user := range []string{"alice@example.org", "ALICE@Example.Org"} {
		v := check(t, ref, from("192.0.2.1", user, "old-password"), login.Denied)
		if v.Code != "AUTHENTICATIONFAILED" {
			t.Errorf("code %s", v.Code)
		}
		if got := logInFrom(t, h, "192.0.2.9", user, "old-password"); got != "NO [AUTHENTICATIONFAILED] Authentication failed" {
			t.Errorf("%s is told %q", user, got)
		}
	}
	if n := len(fake.Logins()); n != 1 {
		t.Errorf("the backend was asked %d times, want once", n)
	}
	lines := c.log.lines("info", "login")
	if len(lines) != 5 || lines[0].text("error") != "" || !strings.Contains(lines[4].text("error"), "has refused this password before") {
		t.Errorf("logged %v", lines)
	}
}

// TestTwoBackends pins that what one backend has refused says nothing about another,
// and that the budget is one.
func TestTwoBackends(t *testing.T) {
	w := newWorld(t)
	one := w.anyAlice()
	p := w.profile()
	p.Login = func(l imaptest.Login) string {
		if l.Secret == "old-password" {
			return "OK"
		}
		return "NO"
	}
	two := w.start(p)
	app := w.guarded(strict(), one.Addr())
	app.Backends["archive"] = w.backend(two.Addr())
	c := w.load(app)
	c.start()
	defer c.stop()
	check(t, c.ref("exchange"), from("192.0.2.1", "alice", "old-password"), login.Denied)
	check(t, c.ref("archive"), from("192.0.2.1", "alice", "old-password"), login.Granted)
	for i := range 3 {
		check(t, c.ref("archive"), from("198.51.100.1", "alice", fmt.Sprintf("guess-%d", i)), login.Denied)
	}
	check(t, c.ref("exchange"), from("198.51.100.1", "alice", "guess-3"), login.Throttled)
	check(t, c.ref("archive"), from("198.51.100.1", "alice", "guess-4"), login.Throttled)
}

// TestSourceBan pins that a source that tries too many passwords is not even
// greeted, that the others behind a trusted client are, and that exempt networks
// stay open.
func TestSourceBan(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	g := strict()
	g.SourceFailures, g.Exempt = 3, []string{"203.0.113.0/24"}
	c := w.load(w.guarded(g, fake.Addr()))
	c.start()
	defer c.stop()
	ref, h, plainHandler := c.ref(""), webmail(c), c.handler(&Handler{InsecureAuth: true})
	for i := range 4 {
		want := login.Denied
		if i == 3 {
			want = login.Throttled
		}
		// The wrapped address is the same as the plain one.
		for _, addr := range []string{"::ffff:127.0.0.1", "203.0.113.5"} {
			if addr == "203.0.113.5" {
				want = login.Denied
			}
			check(t, ref, from(addr, fmt.Sprintf("user%d-%s", i, addr), "guess"), want)
		}
	}
	banned := c.log.one("warn", "this source has tried too many different passwords and is banned")
	if banned.text("remote_ip") != "127.0.0.1" {
		t.Errorf("logged %v", banned)
	}
	cl := serve(t, plainHandler)
	cl.expect("* BYE Too many failed logins from your address, try again later.")
	cl.closed()
	cl = serve(t, c.handler(&Handler{ImplicitTLS: true}))
	cl.closed()
	// Webmail is on the same machine, and its users are elsewhere.
	if got := logInFrom(t, h, "192.0.2.1", "alice", testSecret); got != "OK Logged in" {
		t.Errorf("behind a trusted client: %s", got)
	}
	if got := logInFrom(t, h, "127.0.0.1", "alice", testSecret); got != "NO [UNAVAILABLE] Too many logins, try again later." {
		t.Errorf("a banned one behind a trusted client: %s", got)
	}
	check(t, ref, from("127.0.0.1", "alice", testSecret), login.Throttled)
}

// TestGuardOff pins that everybody is asked about without a guard, and that
// refusals are still held back.
func TestGuardOff(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	g := strict()
	g.Off, g.AccountFailures, g.SourceFailures = true, 1, 1
	c := w.load(w.guarded(g, fake.Addr()))
	c.start()
	defer c.stop()
	for range 3 {
		check(t, c.ref(""), from("192.0.2.1", "alice", "old-password"), login.Denied)
	}
	if n := wrong(fake); n != 3 {
		t.Errorf("the backend was asked %d times, want 3", n)
	}
	if uses := c.storage.uses(); len(uses) != 0 {
		t.Errorf("the storage was used: %q", uses)
	}
}

// TestUnsafeLogins pins that credentials which no backend may see are refused, logged and
// held back like others.
func TestUnsafeLogins(t *testing.T) {
	w := newWorld(t)
	fake := w.fake()
	c := w.load(w.app(w.backend(fake.Addr())))
	c.start()
	defer c.stop()
	cl := serve(t, c.handler(&Handler{InsecureAuth: true}))
	cl.expect("* OK")
	cl.ask(`a LOGIN alice ""`, "a NO [AUTHENTICATIONFAILED] Authentication failed")
	cl.ask("b LOGIN {25+}\r\nalice\r\nb LOGOUT\r\nb NOOP\r\n pw", "b NO [AUTHENTICATIONFAILED] Authentication failed")
	lines := c.log.lines("info", "login")
	if len(lines) != 2 || lines[0].text("result") != "denied" || lines[1].text("error") != login.ErrUnsafe.Error() {
		t.Errorf("logged %v", lines)
	}
	if n := len(fake.Logins()); n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// TestPositiveCache pins that only mail servers are answered from it, and only if
// that is wanted.
func TestPositiveCache(t *testing.T) {
	for _, d := range []caddy.Duration{0, caddy.Duration(patience)} {
		w := newWorld(t)
		fake := w.anyAlice()
		g := strict()
		g.PositiveCache = d
		c := w.load(w.guarded(g, fake.Addr()))
		c.start()
		h := webmail(c)
		for range 3 {
			check(t, c.ref(""), from("192.0.2.1", "alice", testSecret), login.Granted)
		}
		want := 3
		if d > 0 {
			want = 1
		}
		if n := len(fake.Logins()); n != want {
			t.Errorf("%v: %d logins, want %d", d, n, want)
		}
		if got := logInFrom(t, h, "192.0.2.1", "alice", testSecret); got != "OK Logged in" || len(fake.Logins()) != want+1 {
			t.Errorf("%v: a client is told %q after %d logins", d, got, len(fake.Logins()))
		}
		c.stop()
	}
}
