package caddyimap

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

// TestDrains runs on the fake clock of a bubble.
func TestDrains(t *testing.T) {
	all, one := target{backend: "x"}, target{backend: "x", upstream: "b:143"}
	type set map[target]time.Duration
	const minute = time.Minute
	for _, tc := range []struct {
		name string
		// sets are made 10 minutes one after the other.
		sets []set
		// a and b are when the sessions at these upstreams are ended; 0 is for never.
		a, b time.Duration
	}{
		{"once", []set{{all: 5 * minute}}, 5 * minute, 5 * minute},
		{"one upstream", []set{{one: 5 * minute}}, 0, 5 * minute},
		{"both", []set{{one: 5 * minute, all: 7 * minute}}, 7 * minute, 5 * minute},
		{"the time goes on", []set{{all: 25 * minute}, {all: 25 * minute, one: 12 * minute}, {all: 25 * minute}}, 25 * minute, 25 * minute},
		{"more time", []set{{all: 15 * minute}, {all: 25 * minute}}, 25 * minute, 25 * minute},
		{"less time", []set{{all: 25 * minute}, {all: 15 * minute}}, 15 * minute, 15 * minute},
		{"less than has passed", []set{{all: 25 * minute}, {all: 5 * minute}}, 10 * minute, 10 * minute},
		{"given up", []set{{all: 15 * minute}, {}}, 0, 0},
		{"given up and begun anew", []set{{all: 15 * minute}, {}, {all: 15 * minute}}, 35 * minute, 35 * minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				a, b, other := &clocked{begin: begin}, &clocked{begin: begin}, &clocked{begin: begin}
				for _, e := range []*sessions.Entry{
					live.Add(sessions.Info{Kind: sessions.IMAP, Backend: "x", Upstream: "a:143"}, a),
					live.Add(sessions.Info{Kind: sessions.IMAP, Backend: "x", Upstream: "b:143"}, b),
					live.Add(sessions.Info{Kind: sessions.IMAP, Backend: "y", Upstream: "b:143"}, other),
					live.Add(sessions.Info{Kind: sessions.Auth, Backend: "x"}, other),
				} {
					defer live.Remove(e)
				}
				var table drainTable
				for _, s := range tc.sets {
					table.set(s)
					time.Sleep(10 * minute)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				if a.after != tc.a || b.after != tc.b || other.after != 0 {
					t.Errorf("ended after %v, %v and %v; want %v, %v and never", a.after, b.after, other.after, tc.a, tc.b)
				}
				table.set(nil)
			})
		})
	}
}

// clocked notes when it is ended, the first time.
type clocked struct {
	fixed
	begin time.Time

	mu    sync.Mutex
	after time.Duration
}

func (c *clocked) Kick(string, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.after == 0 {
		c.after = time.Since(c.begin)
	}
}
