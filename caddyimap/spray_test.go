package caddyimap

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// slowBackend takes its time for each answer.
func (w *world) slowBackend(takes time.Duration, answer func(imaptest.Login) string) *imaptest.Fake {
	p := w.profile()
	p.Login = func(l imaptest.Login) string {
		time.Sleep(takes)
		return answer(l)
	}
	return w.start(p)
}

// TestSpray has one address try a password on many accounts at a time, through both
// handlers, at a backend that is slow. It gets no further than one after the other.
func TestSpray(t *testing.T) {
	w := newWorld(t)
	fake := w.slowBackend(500*time.Millisecond, func(imaptest.Login) string { return "NO [AUTHENTICATIONFAILED] Authentication failed." })
	c := w.load(w.guarded(strict(), fake.Addr()))
	c.start()
	defer c.stop()
	const each = 60
	h, ref := c.handler(&Handler{InsecureAuth: true}), c.ref("")
	clients := make([]*client, each)
	for i := range clients {
		clients[i] = serve(t, h)
		clients[i].expect("* OK")
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	told := make(map[string]int)
	count := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		told[what]++
	}
	for i, cl := range clients {
		cl.send(fmt.Sprintf("a LOGIN imap%d Winter2026\r\n", i))
		all.Go(func() {
			count(ref.Check(t.Context(), from("127.0.0.1", fmt.Sprint("smtp", i), "Winter2026")).Result.String())
		})
	}
	for _, cl := range clients {
		line, err := cl.line()
		switch {
		case err == nil && strings.HasPrefix(line, "a NO [AUTHENTICATIONFAILED]"):
			count(login.Denied.String())
		case err == nil && strings.HasPrefix(line, "a NO [UNAVAILABLE] Too many logins"):
			count(login.Throttled.String())
		default:
			t.Errorf("told %q, %v", line, err)
		}
		_ = cl.conn.Close()
		cl.wait()
	}
	all.Wait()
	if n := wrong(fake); n != defaultSourceFailures {
		t.Errorf("%d passwords reached the backend, want %d", n, defaultSourceFailures)
	}
	if told["denied"] != defaultSourceFailures || told["throttled"] != 2*each-defaultSourceFailures {
		t.Errorf("told: %v", told)
	}
	c.log.one("warn", "this source has tried too many different passwords and is banned")
}

// TestMorning has many log in from one address, all of them right, and none of them
// known from before: an office after a restart. It takes a moment, and no more.
func TestMorning(t *testing.T) {
	w := newWorld(t)
	const people = 200
	fake := w.slowBackend(50*time.Millisecond, func(imaptest.Login) string { return "OK Logged in." })
	c := w.load(w.guarded(strict(), fake.Addr()))
	c.start()
	defer c.stop()
	ref := c.ref("")
	for _, when := range []string{"the first time", "again"} {
		var all sync.WaitGroup
		var mu sync.Mutex
		var slowest time.Duration
		start := time.Now()
		for i := range people {
			all.Go(func() {
				check(t, ref, from("192.0.2.1", fmt.Sprint("user", i), testSecret), login.Granted)
				mu.Lock()
				defer mu.Unlock()
				slowest = max(slowest, time.Since(start))
			})
		}
		all.Wait()
		t.Logf("%s, the slowest of %d is in after %s", when, people, slowest.Round(time.Millisecond))
	}
}
