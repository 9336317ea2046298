package caddyimap

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// openSessions is how many sessions are counted.
func openSessions() (n int) {
	sessionCounts.mu.Lock()
	defer sessionCounts.mu.Unlock()
	for _, count := range sessionCounts.counts {
		n += count
	}
	return n
}

// noSessions waits until none is counted and listed, which is soon after their end.
func noSessions(tb testing.TB) {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		sessionCounts.mu.Lock()
		entries := len(sessionCounts.counts)
		sessionCounts.mu.Unlock()
		if entries == 0 && len(live.List(nil)) == 0 && clients.count() == 0 {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%d sessions and %d connections are counted that are over", openSessions(), clients.count())
		}
	}
}

// limited is an app with a limit of sessions.
func (w *world) limited(limit int, addr string) *App {
	app := w.guarded(strict(), addr)
	app.Backends["exchange"].MaxSessionsPerUser = limit
	return app
}

// TestMaxSessions pins that a user cannot have more sessions than the limit, in
// whatever spelling; that others can; that mail servers, which leave no session
// behind, are not concerned; and that nobody is blamed for it.
func TestMaxSessions(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	c := w.load(w.limited(2, fake.Addr()))
	c.start()
	defer c.stop()
	h := c.handler(&Handler{InsecureAuth: true})
	logIn := func(user, want string) *client {
		cl := serve(t, h)
		cl.expect("* OK")
		cl.send(`in LOGIN "` + user + `" ` + testSecret + "\r\n")
		if strings.HasPrefix(want, "in OK") {
			cl.expect("* CAPABILITY")
		}
		cl.expect(want)
		return cl
	}
	one, two := logIn("alice@example.org", loggedIn), logIn("ALICE", loggedIn)
	third := logIn("alice/shared", "in NO [LIMIT] Too many logins, try again later.")
	if got := c.log.lines("info", "login")[2]; got.text("error") != errTooManySessions.Error() || got.text("result") != "throttled" || got.text("code") != "LIMIT" {
		t.Errorf("logged %v", got)
	}
	check(t, c.ref(""), from("192.0.2.1", "alice", testSecret), login.Granted)
	logIn("alice2", loggedIn)
	one.ask("z LOGOUT", "* BYE", "z OK")
	one.closed()
	// The connection that was refused is not closed, and may try again.
	third.ask(loginGood, "* CAPABILITY", loggedIn)
	two.ask("a NOOP", "a OK")
	if n := len(fake.Logins()); n != 5 {
		t.Errorf("%d logins at the backend, want 5", n)
	}
	_ = third.conn.Close()
	third.wait()
}

// TestSessionsReload pins that sessions which began under an older configuration,
// even one without a limit, are counted on.
func TestSessionsReload(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	one := w.load(w.limited(0, fake.Addr()))
	one.start()
	f := front{handler: Handler{InsecureAuth: true}}
	first := f.greeted(w, one)
	first.logIn()
	two := w.load(w.limited(1, fake.Addr()))
	two.start()
	defer two.stop()
	one.stop()
	second := f.greeted(w, two)
	second.ask(loginGood, "in NO [LIMIT]")
	first.ask("z LOGOUT", "* BYE", "z OK")
	first.closed()
	second.logIn()
	second.ask("z LOGOUT", "* BYE", "z OK")
	second.closed()
	noSessions(t)
}

// TestSessionEnds pins that a session is not counted any longer, whichever way it
// ends.
func TestSessionEnds(t *testing.T) {
	for _, tc := range []struct {
		name  string
		amend func(*imaptest.Profile)
		idle  time.Duration
		end   func(t *testing.T, cl *client)
	}{
		{"LOGOUT", nil, 0, func(_ *testing.T, cl *client) {
			cl.ask("z LOGOUT", "* BYE", "z OK")
			_ = cl.conn.Close()
		}},
		{"the client is gone", nil, 0, func(_ *testing.T, cl *client) { _ = cl.conn.Close() }},
		{"the client resets", nil, 0, func(t *testing.T, cl *client) {
			if err := cl.conn.(*net.TCPConn).SetLinger(0); err != nil {
				t.Error(err)
			}
			_ = cl.conn.Close()
		}},
		{"the client has said all", nil, 0, func(t *testing.T, cl *client) {
			if err := cl.conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Error(err)
			}
		}},
		{"the backend is gone", func(p *imaptest.Profile) {
			p.Announce = true
			p.Session = func(c *imaptest.Conn, _ imaptest.Login) { c.ReadLine() }
		}, 0, func(_ *testing.T, cl *client) {
			cl.send("a NOOP\r\n")
			if got, err := cl.line(); err == nil {
				cl.tb.Errorf("got %q", got)
			}
			_ = cl.conn.Close()
		}},
		{"idle", nil, time.Second, func(*testing.T, *client) {}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			p := w.profile()
			if tc.amend != nil {
				tc.amend(&p)
			}
			c := w.load(w.limited(1, w.start(p).Addr()))
			c.start()
			defer c.stop()
			cl := serve(t, c.handler(&Handler{InsecureAuth: true, IdleTimeout: caddy.Duration(tc.idle)}))
			cl.expect("* OK")
			cl.logIn()
			if tc.idle == 0 && openSessions() != 1 {
				t.Errorf("%d sessions are counted, want 1", openSessions())
			}
			tc.end(t, cl)
			cl.wait()
			noSessions(t)
		})
	}
}

// TestSessionNeverBegins pins that nothing is counted of logins that came to
// nothing: refused, not decided, or broken off by the end of the process, a fault
// of ours, or a client that does not wait.
func TestSessionNeverBegins(t *testing.T) {
	w := newWorld(t)
	answers := make(chan string, 1)
	p := w.profile()
	p.Login = func(imaptest.Login) string { return <-answers }
	fake := w.start(p)
	c := w.load(w.limited(1, fake.Addr()))
	c.start()
	defer c.stop()
	ref := c.ref("")
	for _, answer := range []string{"NO no", "BAD Request is throttled.", "", "OK but not now"} {
		ctx, cancel := context.WithCancel(t.Context())
		answers <- answer
		session, v := ref.open(ctx, from("192.0.2.1", "user"+answer, "x"))
		if (session != nil) != strings.HasPrefix(answer, "OK") {
			t.Errorf("%q: %v", answer, v.Result)
		}
		if session != nil {
			if openSessions() != 1 {
				t.Errorf("%d sessions are counted, want 1", openSessions())
			}
			session.Close()
			session.Close() // twice is once
		}
		cancel()
		noSessions(t)
	}
	t.Run("the client does not wait", func(t *testing.T) {
		cl := serve(t, c.handler(&Handler{InsecureAuth: true}))
		cl.expect("* OK")
		cl.send(loginGood + "\r\n")
		if err := cl.conn.(*net.TCPConn).SetLinger(0); err != nil {
			t.Error(err)
		}
		_ = cl.conn.Close()
		answers <- "OK"
		cl.wait()
		noSessions(t)
	})
	t.Run("a fault of ours", func(t *testing.T) {
		b := c.app.Backends["exchange"]
		username := b.username
		b.username = nil // renaming panics
		defer func() { b.username = username }()
		func() {
			defer func() { _ = recover() }()
			ref.open(t.Context(), from("192.0.2.1", "somebody", "x"))
			t.Error("no panic")
		}()
		noSessions(t)
	})
}

// TestSessionsRace pins that the limit holds when many come at once.
func TestSessionsRace(t *testing.T) {
	const limit, tries = 3, 20
	u := userSessions{counts: make(map[userKey]int)}
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		ends []func()
	)
	for range tries {
		all.Go(func() {
			if end, ok := u.begin(userKey{"x", "y"}, limit); ok {
				mu.Lock()
				defer mu.Unlock()
				ends = append(ends, end)
			}
		})
	}
	all.Wait()
	if len(ends) != limit {
		t.Errorf("%d sessions, want %d", len(ends), limit)
	}
	for _, end := range ends {
		all.Go(end)
		all.Go(end)
	}
	all.Wait()
	if len(u.counts) != 0 {
		t.Errorf("%v is left", u.counts)
	}
}
