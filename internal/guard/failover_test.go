package guard

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestStoreAway pins what happens while a store is away: each instance counts
// alone, within its budget, nobody waits for long, and one message tells it.
func TestStoreAway(t *testing.T) {
	for _, tc := range []struct {
		name    string
		trouble func(context.Context) error
		cost    time.Duration
	}{
		{"it fails", func(context.Context) error { return errStore }, 0},
		{"it hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, storeTimeout},
		{"it panics", func(context.Context) error { panic("no good") }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			shared(t, func(t *testing.T, w *world, other *Guard, s *fakeStore, m *messages) {
				s.set(tc.trouble)
				start := time.Now()
				w.expect("denied", "alice", "0", thief)
				if took := time.Since(start); took != tc.cost {
					t.Errorf("the first login took %s", took)
				}
				w.at(other, func() { w.expect("denied", "bob", "0", thief) })
				start = time.Now()
				for i := range 50 {
					w.open("alice", fmt.Sprint(i), addr(i))
					w.at(other, func() { w.open("alice", fmt.Sprint(i), addr(i)) })
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("a hundred logins took %s", took)
				}
				if n := len(w.denied); n != 7 { // one is bob's
					t.Errorf("%d were denied", n)
				}
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				if !m.are("up", "down") {
					t.Errorf("told %v", m.told)
				}
				s.set(nil)
				time.Sleep(mergeTimeout + 2*maxPause)
				synctest.Wait()
				if !m.are("up", "down", "up") {
					t.Errorf("told %v", m.told)
				}
				// They agree again: what both have counted counts.
				third := w.instance()
				defer third.Attach(s, func(bool, error) {})()
				synctest.Wait()
				w.at(third, func() { w.expect("held", "alice", "x", home) })
				if s.pending() != 0 {
					t.Errorf("%d are pending", s.pending())
				}
				time.Sleep(w.cfg.Window)
				if n := w.rotate(50, w.Guard, other, third); n != 3 {
					t.Errorf("%d were denied in the next window", n)
				}
			})
		})
	}
}

// TestStoreHangsForMany pins that a store that hangs costs many logins at once no
// more than one, and that it is one trouble.
func TestStoreHangsForMany(t *testing.T) {
	shared(t, func(t *testing.T, w *world, _ *Guard, s *fakeStore, m *messages) {
		s.set(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		start := time.Now()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() { w.expect("denied", fmt.Sprint("user", i), "x", addr(i)) })
		}
		all.Wait()
		if took := time.Since(start); took != storeTimeout {
			t.Errorf("they took %s", took)
		}
		synctest.Wait()
		if !m.are("up", "down") {
			t.Errorf("told %v", m.told)
		}
	})
}

// TestSettleFails pins that a store that fails between question and answer costs
// nobody a verdict, and that what has come of it is not lost.
func TestSettleFails(t *testing.T) {
	shared(t, func(t *testing.T, w *world, other *Guard, s *fakeStore, m *messages) {
		w.answer = func(*login.Attempt) login.Verdict {
			s.set(func(context.Context) error { return errStore })
			return login.DeniedWith("")
		}
		w.expect("denied", "alice", "x", thief)
		synctest.Wait()
		if !m.are("up", "down") {
			t.Errorf("told %v", m.told)
		}
		w.answer = nil
		s.set(nil)
		time.Sleep(2 * minPause)
		synctest.Wait()
		if !m.are("up", "down", "up") || s.pending() != 0 {
			t.Errorf("told %v; %d are pending", m.told, s.pending())
		}
		if n := w.rotate(10, other); n != 2 {
			t.Errorf("%d more were denied", n)
		}
	})
}

// TestSettleWhileMerging pins that nothing is lost that is settled after the
// snapshot was taken and before the store is used.
func TestSettleWhileMerging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWorld(t), newFakeStore()
		var m messages
		slow := func(context.Context) error { time.Sleep(5 * time.Second); return nil }
		s.set(slow)
		defer w.Attach(s, m.changed)()
		synctest.Wait()
		s.set(nil)
		for i := range 3 {
			w.expect("denied", "alice", fmt.Sprint(i), thief)
		}
		if s.admits > 0 || !m.are() {
			t.Errorf("used before it is up; told %v", m.told)
		}
		time.Sleep(6 * time.Second)
		if !m.are("up") {
			t.Errorf("told %v", m.told)
		}
		other := w.instance()
		defer other.Attach(s, m.changed)()
		synctest.Wait()
		if n := w.rotate(10, other); n != 0 {
			t.Errorf("%d more were denied", n)
		}
	})
}

// TestMergeFails pins that a store that is never there is told of once, and that
// one that fails while it is merged with is not used.
func TestMergeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWorld(t), newFakeStore()
		var m messages
		s.set(func(context.Context) error { return errStore })
		detach := w.Attach(s, m.changed)
		time.Sleep(9500 * time.Millisecond) // between two tries
		w.expect("denied", "alice", "x", thief)
		if s.admits+s.settles > 0 || s.merges < 5 || !m.are("down") {
			t.Errorf("asked %d times, merged %d times, told %v", s.admits+s.settles, s.merges, m.told)
		}
		// The merge succeeds, and a settlement beside it fails.
		s.set(func(context.Context) error { time.Sleep(5 * time.Second); return nil })
		time.Sleep(2 * time.Second)
		s.set(func(context.Context) error { return errStore })
		w.expect("denied", "alice", "y", thief)
		time.Sleep(6 * time.Second)
		if !m.are("down") {
			t.Errorf("told %v", m.told)
		}
		s.set(nil)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if !m.are("down", "up") {
			t.Errorf("told %v", m.told)
		}
		detach()
	})
}

// TestFlapping pins that a store that fails whenever it is used is used less and
// less often, and forgiven later.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWorld(t), newFakeStore()
		var m messages
		defer w.Attach(s, m.changed)()
		fail := func(d time.Duration) int {
			s.mu.Lock()
			s.merges = 0
			s.mu.Unlock()
			for start, i := time.Now(), 0; time.Since(start) < d; i++ {
				s.set(func(context.Context) error { return errStore })
				w.open(fmt.Sprint("user", i), "x", "")
				s.set(nil)
				time.Sleep(501 * time.Millisecond) // never when the store is looked for
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.merges
		}
		synctest.Wait()
		if n := fail(10 * time.Minute); n > 50 {
			t.Errorf("merged %d times in ten minutes", n)
		}
		time.Sleep(maxPause + steady)
		if n := fail(5 * time.Second); n < 2 {
			t.Errorf("merged %d times in five seconds", n)
		}
	})
}

// TestClientGone pins that a client that goes takes no store out of use.
func TestClientGone(t *testing.T) {
	shared(t, func(t *testing.T, w *world, _ *Guard, s *fakeStore, m *messages) {
		s.set(func(ctx context.Context) error {
			select {
			case <-time.After(storeTimeout / 2):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		for i := range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*10*time.Millisecond)
			a := attempt("alice", fmt.Sprint(i), thief)
			w.Open(ctx, w.cfg, a, w.backend(a))
			cancel()
		}
		synctest.Wait()
		if !m.are("up") || s.pending() != 0 {
			t.Errorf("told %v; %d are pending", m.told, s.pending())
		}
	})
}

// TestReattach pins that the store attached last is used, and the one before if
// that is detached, whatever the order.
func TestReattach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stores := []*fakeStore{newFakeStore(), newFakeStore(), newFakeStore()}
		var detach []func()
		asked := 0
		uses := func(want int) {
			t.Helper()
			synctest.Wait()
			asked++
			w.open(fmt.Sprint("user", asked), "x", "")
			for i, s := range stores {
				if used := s.admits > 0; used != (i == want) {
					t.Errorf("store %d is used: %v", i, used)
				}
				s.admits = 0
			}
		}
		uses(-1)
		for i, s := range stores {
			detach = append(detach, w.Attach(s, func(bool, error) {}))
			uses(i)
		}
		detach[1]()
		uses(2)
		detach[2]()
		uses(0)
		detach[0]()
		uses(-1)
		detach[0]() // once more does no harm
	})
}

// TestDetach pins that detaching ends what a link does, whatever that is.
func TestDetach(t *testing.T) {
	for name, trouble := range map[string]func(context.Context) error{
		"up":    nil,
		"away":  func(context.Context) error { return errStore },
		"hangs": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, s := newWorld(t), newFakeStore()
				s.set(trouble)
				var m messages
				detach := w.Attach(s, m.changed)
				synctest.Wait()
				start := time.Now()
				detach()
				if took := time.Since(start); took != 0 {
					t.Errorf("it took %s", took)
				}
				told := len(m.told)
				time.Sleep(time.Hour)
				w.expect("denied", "alice", "x", "")
				if s.admits > 0 || len(m.told) != told {
					t.Errorf("asked %d times, told %v", s.admits, m.told)
				}
			})
		})
	}
}

// TestDetachRace detaches stores that fail while they are in use.
func TestDetachRace(t *testing.T) {
	w := newWorld(t)
	w.cfg.AccountFailures = 1000
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-stop:
					return
				default:
					w.open(fmt.Sprint(i, j%100), fmt.Sprint(j), addr(i))
				}
			}
		})
	}
	for i := range 300 {
		s := newFakeStore()
		n := 0
		var mu sync.Mutex
		s.set(func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if n++; n%(i%7+2) == 0 {
				return errStore
			}
			return nil
		})
		detach := w.Attach(s, func(bool, error) { panic("who is told must not matter") })
		if i%2 == 0 {
			time.Sleep(time.Millisecond)
		}
		detach()
	}
	close(stop)
	all.Wait()
	w.expectNothingPending(w.Guard)
}
