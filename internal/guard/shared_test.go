package guard

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// shared runs a test with two instances and their store.
func shared(t *testing.T, f func(t *testing.T, w *world, other *Guard, s *fakeStore, m *messages)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, s := newWorld(t), newFakeStore()
		var m messages
		other := w.instance()
		defer w.Attach(s, m.changed)()
		defer other.Attach(s, func(bool, error) {})()
		synctest.Wait()
		f(t, w, other, s, &m)
		w.expectNothingPending(w.Guard)
		w.expectNothingPending(other)
		s.set(nil)
	})
}

// at runs a step at another instance.
func (w *world) at(g *Guard, step func()) {
	mine := w.Guard
	w.Guard = g
	step()
	w.Guard = mine
}

// rotate guesses at all instances in turn, and returns how many were denied.
func (w *world) rotate(n int, instances ...*Guard) int {
	before := len(w.denied)
	for i := range n {
		w.at(instances[i%len(instances)], func() { w.open("alice", fmt.Sprint(i, before), addr(i)) })
	}
	return len(w.denied) - before
}

func TestSharedBudget(t *testing.T) {
	shared(t, func(t *testing.T, w *world, other *Guard, s *fakeStore, m *messages) {
		w.expect("granted", "alice", "right", office)
		if n := w.rotate(50, w.Guard, other); n != 3 {
			t.Errorf("%d were denied", n)
		}
		for _, g := range []*Guard{w.Guard, other} {
			w.at(g, func() {
				if a, _ := w.Holds(); len(a) != 1 || a[0].User != "alice" {
					t.Errorf("%v are held", a)
				}
			})
		}
		// The reserve is there where the source is known.
		w.at(other, func() { w.expect("held", "alice", "mistyped", office) })
		w.expect("denied", "alice", "mistyped", office)
		w.expect("granted", "alice", "right", home)
		// A grant at one instance forgets at all what the source got wrong.
		w.expect("granted", "alice", "right", office)
		w.at(other, func() { w.expect("held", "alice", "mistyped too", office) })
		w.expect("denied", "alice", "mistyped too", office)

		time.Sleep(w.cfg.Window)
		if n := w.rotate(50, w.Guard, other); n != 3 {
			t.Errorf("%d were denied in the next window", n)
		}
		if _, err := other.LiftAccount(t.Context(), w.cfg, "alice"); err != nil {
			t.Error(err)
		}
		if n := w.rotate(50, w.Guard, other); n != 3 {
			t.Errorf("%d were denied after the hold was lifted", n)
		}
		if !m.are("up") || s.pending() != 0 {
			t.Errorf("told %v; %d are pending", m.told, s.pending())
		}
	})
}

// TestSharedHold pins that an account that a store holds is listed for as long as
// it does, though this instance has counted next to nothing of it.
func TestSharedHold(t *testing.T) {
	shared(t, func(t *testing.T, w *world, other *Guard, _ *fakeStore, _ *messages) {
		w.expect("granted", "alice", "right", office)
		listed := func(want int) {
			t.Helper()
			if a, _ := w.Holds(); len(a) != want {
				t.Errorf("%v are held, want %d", a, want)
			}
		}
		if n := w.rotate(10, other); n != 3 {
			t.Fatalf("%d were denied", n)
		}
		w.expect("held", "alice", "guess", home)
		listed(1)
		w.expect("granted", "alice", "right", home)
		listed(1)
		w.expect("denied", "alice", "mistyped", office)
		listed(1)
		if _, err := w.LiftAccount(t.Context(), w.cfg, "alice"); err != nil {
			t.Error(err)
		}
		listed(0)
		if n := w.rotate(10, other); n != 3 {
			t.Fatalf("%d were denied", n)
		}
		w.expect("held", "alice", "guess", thief)
		time.Sleep(w.cfg.Window)
		listed(0)
	})
}

// TestSharedPhone pins that a device with an old password does not gain by a
// store, which forgets with each login from the same address what it has tried.
func TestSharedPhone(t *testing.T) {
	shared(t, func(t *testing.T, w *world, _ *Guard, _ *fakeStore, _ *messages) {
		w.expect("granted", "alice", "right", phoneIP)
		w.right["alice"] = "new"
		w.phone("alice", "right", func(i int) {
			if i%20 == 1 {
				w.expect("granted", "alice", "new", phoneIP)
			}
		})
		if n := len(w.denied); n > 50 {
			t.Errorf("%d logins were denied", n)
		}
		w.expectBudget(4)
	})
}

// TestStoreRefuses pins that who waits for an attempt that a store does not allow
// is told soon, too.
func TestStoreRefuses(t *testing.T) {
	shared(t, func(t *testing.T, w *world, other *Guard, s *fakeStore, _ *messages) {
		if n := w.rotate(10, other); n != 3 {
			t.Fatalf("%d were denied", n)
		}
		s.set(func(context.Context) error { time.Sleep(storeTimeout / 2); return nil })
		start := time.Now()
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() { w.expect("held", "alice", fmt.Sprint("x", i), home) })
		}
		all.Wait()
		if took := time.Since(start); took > 4*storeTimeout {
			t.Errorf("they were told after %s", took)
		}
		w.expectAsked(3)
	})
}

// TestSharedOutage pins that a failure stays one if the same password meets an
// outage after it.
func TestSharedOutage(t *testing.T) {
	shared(t, func(t *testing.T, w *world, other *Guard, _ *fakeStore, _ *messages) {
		w.expect("granted", "alice", "right", office)
		for _, v := range []login.Verdict{login.DeniedWith(""), login.UnavailableFor(errPanic)} {
			w.answer = func(*login.Attempt) login.Verdict { return v }
			w.expect(v.Result.String(), "alice", "right", office)
			time.Sleep(time.Minute)
		}
		w.answer = nil
		if n := w.rotate(10, other); n != 2 {
			t.Errorf("%d more were denied", n)
		}
	})
}

// TestStoreExaggerates pins that what a store says holds and bans nobody for ever.
func TestStoreExaggerates(t *testing.T) {
	shared(t, func(t *testing.T, w *world, _ *Guard, s *fakeStore, _ *messages) {
		far := time.Now().Add(100 * 365 * 24 * time.Hour)
		s.heldOff[fakePause{w.keys.account("alice"), w.keys.ticket(w.cfg, attempt("alice", "", ""), false).backend}] = far
		s.banned[w.keys.source(attempt("", "", thief).Remote)] = far
		w.expect("held off", "alice", "right", home)
		w.expect("banned", "bob", "bobs", thief)
		clear(s.heldOff)
		clear(s.banned)
		time.Sleep(maxBackoff - time.Millisecond)
		w.expect("held off", "alice", "right", home)
		w.expect("banned", "bob", "bobs", thief)
		time.Sleep(time.Millisecond)
		w.expect("granted", "alice", "right", home)
		w.expect("granted", "bob", "bobs", thief)
	})
}

// TestSharedBan pins that a source that is banned by one instance is by all, and
// that a user is left alone by all.
func TestSharedBan(t *testing.T) {
	shared(t, func(t *testing.T, w *world, other *Guard, s *fakeStore, _ *messages) {
		w.guess(20, thief)
		w.at(other, func() {
			w.expect("banned", "alice", "x", thief)
			if !w.isBanned(thief) {
				t.Error("not banned")
			}
			if _, sources := w.Holds(); len(sources) != 1 {
				t.Errorf("%v are banned", sources)
			}
			w.cfg.Exempt = append(w.cfg.Exempt, netip.MustParsePrefix(thief+"/32"))
			w.expect("denied", "alice", "x", thief)
		})
		w.answer = func(*login.Attempt) login.Verdict { return login.ThrottledFor("LIMIT", time.Minute, errPanic) }
		w.expect("throttled", "bob", "bobs", home)
		w.answer = nil
		w.at(other, func() {
			w.expect("held off", "bob", "bobs", home)
			time.Sleep(time.Minute)
			w.expect("granted", "bob", "bobs", home)
		})
		if s.pending() != 0 {
			t.Errorf("%d are pending", s.pending())
		}
	})
}
