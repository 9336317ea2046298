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
	const minute = time.Minute
	for _, tc := range []struct {
		name string
		// sets are made 10 minutes one after the other.
		sets []removed
		// x and y are when the sessions at these backends are ended; 0 is for never.
		x, y time.Duration
	}{
		{"one", []removed{{"x": 5 * minute}}, 5 * minute, 0},
		{"both", []removed{{"x": 5 * minute, "y": 7 * minute}}, 5 * minute, 7 * minute},
		{"the time goes on", []removed{{"x": 25 * minute}, {"x": 25 * minute, "y": 12 * minute}, {"x": 25 * minute}}, 25 * minute, 0},
		{"more time", []removed{{"x": 15 * minute}, {"x": 25 * minute}}, 25 * minute, 0},
		{"less time", []removed{{"x": 25 * minute}, {"x": 15 * minute}}, 15 * minute, 0},
		{"less than has passed", []removed{{"x": 25 * minute}, {"x": 5 * minute}}, 10 * minute, 0},
		{"given up", []removed{{"x": 15 * minute}, {}}, 0, 0},
		{"given up and begun anew", []removed{{"x": 15 * minute}, {}, {"x": 15 * minute}}, 35 * minute, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				x, y, other := &clocked{begin: begin}, &clocked{begin: begin}, &clocked{begin: begin}
				for _, e := range []*sessions.Entry{
					live.Add(sessions.Info{Kind: sessions.IMAP, Backend: "x"}, x),
					live.Add(sessions.Info{Kind: sessions.IMAP, Backend: "y"}, y),
					live.Add(sessions.Info{Kind: sessions.IMAP, Backend: "z"}, other),
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
				if x.after != tc.x || y.after != tc.y || other.after != 0 {
					t.Errorf("ended after %v, %v and %v; want %v, %v and never", x.after, y.after, other.after, tc.x, tc.y)
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
