package caddyimap

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

// TestSessionMetrics pins what is told of sessions: while they live, when they have
// ended, and in the next configuration.
func TestSessionMetrics(t *testing.T) {
	w := newWorld(t)
	p := w.profile()
	p.Announce = true
	p.Session = func(c *imaptest.Conn, _ imaptest.Login) {
		for answer := "a OK done\r\n"; ; answer = "* 1 EXISTS\r\n" {
			if _, ok := c.ReadLine(); !ok {
				return
			}
			c.Send(answer)
		}
	}
	app := w.guarded(strict(), w.start(p).Addr())
	c := w.running(app)
	first := c.metrics()
	// wants compares with what was there in the beginning.
	wants := func(c *config, what string, live, idle, in, out, commands float64) {
		t.Helper()
		got := c.metrics()
		counters := got.since(first)
		wantSeries(t, what, series{
			"live": got[`caddy_imap_sessions{backend="exchange"}`], "idle": got[`caddy_imap_idle_sessions{backend="exchange"}`],
			"in":       counters[`caddy_imap_relayed_bytes_total{backend="exchange",direction="in"}`],
			"out":      counters[`caddy_imap_relayed_bytes_total{backend="exchange",direction="out"}`],
			"commands": counters[`caddy_imap_commands_total{backend="exchange"}`],
		}, series{"live": live, "idle": idle, "in": in, "out": out, "commands": commands})
	}
	if got := first.only(`caddy_imap_sessions{backend="exchange"}`); len(got) != 1 {
		t.Error("before the first session there is no 0")
	}
	wants(c, "in the beginning", 0, 0, 0, 0, 0)
	one := as(t, c.handler(&Handler{InsecureAuth: true}), testUser)
	two := as(t, c.handler(&Handler{InsecureAuth: true}), testUser)
	wants(c, "after two logins", 2, 2, 0, 0, 0)
	for _, cl := range []*client{one, two} {
		cl.ask("a NOOP", "a OK")
	}
	wants(c, "after a command each", 2, 2, 16, 22, 2)
	one.ask("b SLOW", "* 1 EXISTS")
	wants(c, "in a command", 2, 1, 24, 34, 3)

	// Sessions of a configuration that is over are the process's own.
	next := w.running(app)
	c.stopOnce()
	wants(next, "after a reload", 2, 1, 24, 34, 3)
	_ = one.conn.Close()
	one.wait()
	wants(next, "after the end of one", 1, 1, 24, 34, 3)

	// Without its backend, the other is shown until it ends; what it has done stays.
	gone := w.guarded(strict(), deadAddr(t))
	gone.Backends["another"] = gone.Backends["exchange"]
	delete(gone.Backends, "exchange")
	last := w.running(gone)
	next.stopOnce()
	wants(last, "without the backend", 1, 1, 24, 34, 3)
	_ = two.conn.Close()
	two.wait()
	got := last.metrics()
	for _, name := range []string{"caddy_imap_sessions", "caddy_imap_idle_sessions", "caddy_dovecot_auth_connections"} {
		wantSeries(t, name, got.only(name), series{`{backend="another"}`: 0})
	}
	wants(last, "without the backend", 0, 0, 24, 34, 3)
}

// silentMail is a connection of a mail server.
type silentMail struct{ requests atomic.Int64 }

func (s *silentMail) Activity() sessions.Activity {
	return sessions.Activity{Idle: true, Commands: s.requests.Load()}
}
func (*silentMail) Kick(string, time.Duration) {}

// TestConnectionMetrics pins that connections of mail servers are counted, and are
// no sessions.
func TestConnectionMetrics(t *testing.T) {
	w := newWorld(t)
	c := w.running(w.guarded(strict(), w.anyAlice().Addr()))
	check(t, c.ref(""), attempt(), login.Granted)
	before := c.metrics()
	here := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	end := c.ref("").Register("one", here, new(silentMail))
	again := c.ref("").Register("two", here, new(silentMail))
	wantSeries(t, "changed", c.metrics().since(before), series{`caddy_dovecot_auth_connections{backend="exchange"}`: 2})
	end()
	wantSeries(t, "changed", c.metrics().since(before), series{`caddy_dovecot_auth_connections{backend="exchange"}`: 1})
	again()
	wantSeries(t, "changed", c.metrics().since(before), series{})
}
