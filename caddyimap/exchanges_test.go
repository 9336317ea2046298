package caddyimap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestExchanges pins how many exchanges may wait, and who makes room.
func TestExchanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := exchangeTable{backends: make(map[string][]*exchange)}
		type waiting struct {
			ctx context.Context
			end func()
		}
		var all []*waiting
		begins := func(backend, addr string, want error) {
			t.Helper()
			var source netip.Addr
			if addr != "" {
				source = netip.MustParseAddr(addr)
			}
			if err := table.hasRoom(backend, source); !errors.Is(err, want) {
				t.Errorf("%s, %s: %v, want %v", backend, addr, err, want)
			}
			ctx, end, err := table.begin(t.Context(), backend, source)
			w := &waiting{ctx, end}
			if !errors.Is(err, want) {
				t.Errorf("%s, %s: %v, want %v", backend, addr, err, want)
			}
			if err == nil {
				all = append(all, w)
			}
		}
		// left are those that have made room, by their numbers.
		left := func(want ...int) {
			t.Helper()
			var got []int
			for i, w := range all {
				if errors.Is(context.Cause(w.ctx), errDawdled) {
					got = append(got, i)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v have made room, want %v", got, want)
			}
		}
		for range maxExchangesOfSource {
			begins("a", "192.0.2.1", nil)
		}
		begins("a", "192.0.2.1", errCrowded)
		begins("b", "192.0.2.1", nil)
		all[len(all)-1].end()
		time.Sleep(dawdling - 1)
		all[3].end()
		begins("a", "192.0.2.1", nil)
		for range maxExchangesApart {
			begins("a", "", nil)
		}
		begins("a", "", errCrowded)
		left()
		time.Sleep(time.Nanosecond)
		begins("a", "192.0.2.1", nil)
		left(0)
		for _, w := range all {
			w.end()
			w.end()
		}
		if len(table.backends) != 0 {
			t.Errorf("left are %v", table.backends)
		}

		// Who has the most makes room at once, and others in their turn.
		all = nil
		for i := range maxExchanges {
			begins("a", fmt.Sprintf("192.0.2.%d", i/8), nil)
		}
		for i := range 6 {
			begins("a", fmt.Sprintf("198.51.100.%d", i), nil)
		}
		left(0, 8, 16, 24, 32, 40)
		for range 5 {
			begins("a", "198.51.100.0", nil)
		}
		left(0, 1, 8, 9, 16, 17, 24, 32, 40, 48, 56)
		begins("a", "198.51.100.0", errCrowded)
		time.Sleep(dawdling)
		begins("a", "198.51.100.0", nil)
		left(0, 1, 2, 8, 9, 16, 17, 24, 32, 40, 48, 56)
		for _, w := range all {
			w.end()
			w.end()
		}
		if len(table.backends) != 0 {
			t.Errorf("left are %v", table.backends)
		}
	})
}

// TestExchangesCrowded pins what becomes of an exchange for which there is no place, and of
// one that makes room: the backend is told, and nobody is accused of a wrong password.
func TestExchangesCrowded(t *testing.T) {
	s := exchangeOf(login.ScramSHA256)
	for _, exempt := range []string{"203.0.113.1", "192.0.2.1"} {
		t.Run("exempt is "+exempt, func(t *testing.T) {
			w := newWorld(t)
			rest := make(chan string, 1)
			srv, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) {
				c.Play("", beforeProof(s)...)
				rest <- string(c.Rest())
			})
			app.Guard.Exempt = []string{exempt}
			c := w.running(app)
			for range maxExchangesOfSource {
				_, end, err := exchanges.begin(t.Context(), "exchange", netip.MustParseAddr("192.0.2.1"))
				if err != nil {
					t.Fatal(err)
				}
				defer end()
			}
			a := exchanging(t, s, "192.0.2.1", func(context.Context) error { return login.ErrCancelled })
			if exempt == "192.0.2.1" {
				check(t, c.ref(""), a, login.Unavailable)
				<-rest
				return
			}
			v := check(t, c.ref(""), a, login.Throttled)
			if srv.Conns() != 0 || !errors.Is(v.Err, errCrowded) || v.Code != "UNAVAILABLE" {
				t.Errorf("verdict %+v after %d connections", v, srv.Conns())
			}
			if l := c.log.one("info", "login"); l.text("result") != "throttled" || l.text("user") != testUser {
				t.Errorf("logged %v", l)
			}
			if n := len(c.log.lines("error", "")); n != 0 {
				t.Errorf("%d errors", n)
			}
		})
	}
	t.Run("who waits makes room", func(t *testing.T) {
		w := newWorld(t)
		rest := make(chan string, 1)
		_, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) {
			c.Play("", beforeProof(s)...)
			rest <- string(c.Rest())
		})
		app.Guard.SourceFailures = 1
		c := w.running(app)
		a := exchanging(t, s, "192.0.2.1", func(ctx context.Context) error {
			exchanges.mu.Lock()
			waiting := exchanges.backends["exchange"]
			exchanges.mu.Unlock()
			if len(waiting) != 1 {
				t.Fatalf("%d wait", len(waiting))
			}
			waiting[0].giveUp(errDawdled)
			<-ctx.Done()
			return ctx.Err()
		})
		v := check(t, c.ref(""), a, login.Throttled)
		if got := <-rest; got != "*\r\n" || !errors.Is(v.Err, errDawdled) {
			t.Errorf("verdict %+v, and the backend was told %q", v, got)
		}
		if !c.ref("").banned(netip.MustParseAddr("192.0.2.1")) {
			t.Error("it is not counted")
		}
		if len(exchanges.backends) != 0 {
			t.Errorf("left are %v", exchanges.backends)
		}
	})
}

// TestExchangeSource pins whose exchanges are counted together.
func TestExchangeSource(t *testing.T) {
	w := newWorld(t)
	app := w.app(w.backend("127.0.0.1:1"))
	app.Guard.Exempt = []string{"203.0.113.0/24"}
	c := w.load(app)
	for addr, want := range map[string]string{
		"192.0.2.1":            "192.0.2.1",
		"::ffff:192.0.2.1":     "192.0.2.1",
		"2001:db8:1:2::3":      "2001:db8:1::",
		"2001:db8:1:ffff::%e0": "2001:db8:1::",
		"203.0.113.7":          "invalid IP",
		"::ffff:203.0.113.7":   "invalid IP",
	} {
		if got := c.app.exchangeSource(&login.Attempt{Remote: netip.MustParseAddr(addr)}); got.String() != want {
			t.Errorf("%s counts as %s, want %s", addr, got, want)
		}
	}
	if got := c.app.exchangeSource(new(login.Attempt)); got.IsValid() {
		t.Errorf("nobody counts as %s", got)
	}
}
