package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// ticketed tries to get in with a ticket that only the backend can read.
func (w *world) ticketed(want, from string, v login.Verdict) {
	w.Helper()
	w.mu.Lock()
	w.proofs++
	a := attempt("GSSAPI:"+from, fmt.Sprint("proof", w.proofs), from)
	w.mu.Unlock()
	a.Mechanism, a.OneTime, a.Nameless = login.GSSAPI, true, true
	if got := word(w.Open(context.Background(), w.cfg, a, func(context.Context, bool) login.Verdict { return v })); got != want {
		w.Errorf("a ticket from %s after %s: %s, want %s", from, sinceStart(), got, want)
	}
}

// TestNameless pins that somebody whose name only the backend knows counts against his
// source, and against no account: there is none that others could hold, by typing what
// he is called instead, and none that he has in common with others of his source.
func TestNameless(t *testing.T) {
	right, wrong := login.Verdict{Result: login.Granted}, login.DeniedWith("")
	steps := func(w *world) {
		w.cfg.Exempt = []netip.Prefix{netip.MustParsePrefix(office + "/32")}
		for i := range 3 {
			w.expect("denied", "GSSAPI:"+home, fmt.Sprint("guess", i), thief)
		}
		w.expect("held", "GSSAPI:"+home, "guess", thief)
		for range w.cfg.SourceFailures - 1 {
			w.ticketed("denied", home, wrong)
		}
		w.ticketed("granted", home, right) // which takes nothing back, since it may be somebody else
		w.expect("denied", "bob", "x", home)
		w.ticketed("banned", home, right)
		if w.bans != 1 {
			w.Errorf("%d bans", w.bans)
		}
		for range 2 * w.cfg.SourceFailures {
			w.ticketed("denied", office, wrong)
			w.ticketed("denied", "", wrong)
		}
		for range 4 {
			w.ticketed("denied", phoneIP, wrong)
		}
		w.expect("denied", "GSSAPI:"+phoneIP, "x", "")
		// Nobody knows whom to hold off.
		w.ticketed("throttled", office, login.ThrottledFor(imap.ResponseCodeLimit, time.Minute, errors.New("later")))
		w.ticketed("granted", office, right)
		if accounts, _ := w.Holds(); len(accounts) != 1 {
			w.Errorf("held are %v", accounts)
		}
		if w.held != 1 {
			w.Errorf("%d accounts are held", w.held)
		}
		w.expectNothingPending(w.Guard)
	}
	t.Run("alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			steps(w)
			n := 0
			for i := range w.memory.accounts {
				n += len(w.memory.accounts[i].entries)
			}
			if n != 3 {
				t.Errorf("%d accounts, want those that were typed", n)
			}
		})
	})
	t.Run("store", func(t *testing.T) {
		shared(t, func(t *testing.T, w *world, other *Guard, s *fakeStore, _ *messages) {
			steps(w)
			const from = "198.51.100.20"
			for range w.cfg.SourceFailures - 1 {
				w.ticketed("denied", from, wrong)
			}
			w.ticketed("granted", from, right)
			w.at(other, func() {
				w.ticketed("denied", from, wrong)
				w.ticketed("banned", from, wrong)
			})
			if n := s.pending(); n != 0 {
				t.Errorf("%d reservations are left", n)
			}
		})
	})
}

// TestNamelessAtOnce pins that no more of a source are under way than could be wrong.
func TestNamelessAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		asked := 0
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				a := attempt("GSSAPI:"+thief, fmt.Sprint(i), thief)
				a.OneTime, a.Nameless = true, true
				w.Open(context.Background(), w.cfg, a, func(context.Context, bool) login.Verdict {
					w.mu.Lock()
					asked++
					w.mu.Unlock()
					time.Sleep(time.Second)
					return login.DeniedWith("")
				})
			})
		}
		all.Wait()
		if asked != w.cfg.SourceFailures || !w.isBanned(thief) {
			t.Errorf("the backend was asked %d times", asked)
		}
		w.expectNothingPending(w.Guard)
	})
}
