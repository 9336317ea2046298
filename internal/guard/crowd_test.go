package guard

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// rush has many log in at the same time, each to another account, and returns how often
// each word was said, and after how long the last.
func (w *world) rush(n int, secret, from string, instances ...*Guard) (words map[string]int, took time.Duration) {
	var all sync.WaitGroup
	start := time.Now()
	words = make(map[string]int)
	for i := range n {
		g := w.Guard
		if len(instances) > 0 {
			g = instances[i%len(instances)]
		}
		all.Go(func() {
			a := attempt(fmt.Sprint("user", i), secret, from)
			got := word(g.Open(context.Background(), w.cfg, a, w.backend(a)))
			w.mu.Lock()
			defer w.mu.Unlock()
			words[got]++
		})
	}
	all.Wait()
	return words, time.Since(start)
}

func grantAll(*login.Attempt) login.Verdict { return login.Verdict{Result: login.Granted} }

// TestSpray pins that a source gains nothing by being quick: not more wrong logins reach
// the backend than if it tried one after the other.
func TestSpray(t *testing.T) {
	for _, tc := range []struct{ before, after int }{{0, 20}, {15, 5}, {19, 1}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			for i := range tc.before {
				w.expect("denied", fmt.Sprint("before", i), "Summer2026", thief)
			}
			w.takes = 500 * time.Millisecond
			words, took := w.rush(400, "Winter2026", thief)
			if want := map[string]int{"denied": tc.after, "banned": 400 - tc.after}; !maps.Equal(words, want) {
				t.Errorf("after %d: %v, want %v", tc.before, words, want)
			}
			// At first 19 - 1 are under way, then the one that bans.
			if most := time.Second; took > most {
				t.Errorf("after %d: it took %s", tc.before, took)
			}
			w.expectAsked(20)
			w.expectNothingPending(w.Guard)
			// Somebody else does not notice.
			w.expect("granted", "alice", "right", home)
		})
	}
}

// TestMorning pins how long the last of many waits who have one address and are right,
// and are new to this instance.
func TestMorning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes, w.answer = 50*time.Millisecond, grantAll
		words, took := w.rush(200, "Winter2026", office)
		if words["granted"] != 200 || took != 500*time.Millisecond {
			t.Errorf("%v after %s", words, took)
		}
		// From now on nobody waits for anybody.
		if words, took = w.rush(200, "Winter2026", office); words["granted"] != 200 || took != w.takes {
			t.Errorf("%v after %s", words, took)
		}
		w.expectNothingPending(w.Guard)
	})
}

// TestUncrowded pins for whom nobody has to wait.
func TestUncrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Exempt = []netip.Prefix{netip.MustParsePrefix(office + "/32")}
		w.expect("granted", "alice", "right", thief)
		w.expect("denied", "alice", "wrong", home)
		w.takes = time.Second
		for _, from := range []string{office, ""} {
			words, took := w.rush(100, "Winter2026", from)
			if words["denied"] != 100 || took != w.takes {
				t.Errorf("from %q: %v after %s", from, words, took)
			}
			time.Sleep(w.cfg.Window)
		}
		// Who was right before does not wait, nor does who is answered from memory, nor
		// does who comes from elsewhere.
		w.expect("denied", "alice", "wrong", home)
		go w.rush(100, "Winter2026", thief)
		synctest.Wait()
		start := time.Now()
		w.expect("remembered", "alice", "wrong", thief)
		if took := time.Since(start); took != 0 {
			t.Errorf("what is known was said after %s", took)
		}
		var all sync.WaitGroup
		all.Go(func() { w.expect("granted", "alice", "right", thief) })
		all.Go(func() { w.expect("granted", "bob", "bobs", home) })
		all.Wait()
		if took := time.Since(start); took != w.takes {
			t.Errorf("they were let in after %s", took)
		}
		time.Sleep(time.Minute)
		w.expectNothingPending(w.Guard)
	})
}

// TestCrowdWaits pins what becomes of those who wait for a backend that is slow.
func TestCrowdWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = time.Minute
		go w.rush(19, "Winter2026", thief)
		synctest.Wait()
		// The twentieth may be the one that bans; the others wait.
		go w.open("bob", "twentieth", thief)
		synctest.Wait()
		try := func(ctx context.Context) (string, time.Duration) {
			start := time.Now()
			a := attempt("alice", "x", thief)
			return word(w.Open(ctx, w.cfg, a, w.backend(a))), time.Since(start)
		}
		if got, took := try(t.Context()); got != "crowded" || took != patience {
			t.Errorf("%s after %s", got, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		if got, took := try(ctx); got != "crowded" || took != 8*time.Second {
			t.Errorf("with a deadline: %s after %s", got, took)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if got, took := try(ctx); got != "unavailable" || took != time.Second {
			t.Errorf("gone: %s after %s", got, took)
		}
		// There is not room for any number to wait.
		before := w.asked
		words, took := w.rush(maxWaiting+50, "Summer2026", thief)
		if words["crowded"] != maxWaiting+50 || took != patience || w.asked != before {
			t.Errorf("%v after %s, %d asked", words, took, w.asked-before)
		}
		time.Sleep(2 * time.Minute)
		w.expectNothingPending(w.Guard)
	})
}

// TestCrowdFull pins that the last of too many are told so at once.
func TestCrowdFull(t *testing.T) {
	cfg := testConfig()
	s := new(source)
	for i := range cfg.SourceFailures + maxWaiting {
		if _, full := s.enter(cfg, uint64(i), 0); full {
			t.Fatalf("full after %d", i)
		}
	}
	if _, full := s.enter(cfg, 1<<32, 0); !full {
		t.Error("not full")
	}
}

// TestCrowdOrder pins that who waits for longest is the next, and that each place is
// given to one.
func TestCrowdOrder(t *testing.T) {
	cfg := testConfig()
	cfg.SourceFailures = 2
	s := new(source)
	turns := make(map[uint64]<-chan struct{})
	for id := range uint64(6) {
		turns[id], _ = s.enter(cfg, id, 0)
	}
	come := func(id uint64) bool {
		select {
		case <-turns[id]:
			return true
		default:
			return false
		}
	}
	expect := func(what string, pending ...uint64) {
		t.Helper()
		for id := uint64(2); id < 6; id++ {
			want := false
			for _, p := range pending {
				want = want || p == id
			}
			if come(id) != want {
				t.Errorf("%s: %d has come: %t", what, id, !want)
			}
		}
	}
	if turns[0] != nil || turns[1] != nil {
		t.Fatal("the first ones wait")
	}
	expect("at first")
	s.leave(cfg, 3) // it does not want to wait any longer
	expect("one has gone")
	s.leave(cfg, 0)
	expect("one was right", 2)
	s.blame(cfg, &ticket{id: 1, guess: shortID{1}}, 0)
	s.leave(cfg, 1)
	expect("one was wrong", 2)
	if turn, _ := s.enter(cfg, 2, 0); turn != nil {
		t.Error("who has waited has to wait again")
	}
	s.leave(cfg, 2)
	expect("and one was right", 2, 4)
	s.blame(cfg, &ticket{id: 4, guess: shortID{4}}, 0)
	expect("banned", 2, 4, 5)
	s.leave(cfg, 4)
	if s.crowd != nil {
		t.Error("something is left")
	}
}

// TestCrowdLeft pins that whoever does not come to an answer, however that is, keeps
// nobody waiting.
func TestCrowdLeft(t *testing.T) {
	for _, how := range []string{"cancelled", "panic", "exit"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.SourceFailures = 1
			ctx, cancel := context.WithCancel(t.Context())
			led := make(chan struct{})
			go lead(ctx, w, how, led)
			synctest.Wait()
			all := make(chan struct{})
			go func() {
				defer close(all)
				w.expect("granted", "bob", "bobs", home)
			}()
			synctest.Wait()
			w.expectAsked(0)
			cancel()
			<-led
			<-all
			if got := sinceStart(); got != 0 {
				t.Errorf("%s: after %s", how, got)
			}
			w.expectNothingPending(w.Guard)
		})
	}
}

// TestCrowdLifted pins that nothing is lost of those under way if a source is lifted, or
// forgotten because of others.
func TestCrowdLifted(t *testing.T) {
	for name, lift := range map[string]func(w *world){
		"lifted": func(w *world) {
			if _, err := w.LiftSource(context.Background(), netip.MustParseAddr(thief)); err != nil {
				w.Error(err)
			}
		},
		"forgotten": func(w *world) {
			s := w.Guard.memory.lockSource(w.Guard.keys.source(netip.MustParseAddr(thief)))
			s.max = 1
			s.get(shortID{0xff})
			s.mu.Unlock()
		},
		"written down": func(w *world) {
			if s := w.Snapshot(); len(s.Sources) != 0 {
				w.Errorf("%d sources", len(s.Sources))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.takes, w.answer = time.Second, grantAll
				done := make(chan map[string]int)
				go func() {
					words, _ := w.rush(100, "Winter2026", thief)
					done <- words
				}()
				synctest.Wait()
				lift(w)
				if words := <-done; words["granted"] != 100 {
					t.Errorf("%v", words)
				}
				w.expectNothingPending(w.Guard)
			})
		})
	}
}

// TestSharedSpray pins that it helps nobody to spread his logins over instances.
func TestSharedSpray(t *testing.T) {
	shared(t, func(t *testing.T, w *world, other *Guard, s *fakeStore, _ *messages) {
		w.takes = 500 * time.Millisecond
		words, took := w.rush(400, "Winter2026", thief, w.Guard, other)
		if words["denied"] != 20 || words["banned"] != 380 || took > 2*time.Second {
			t.Errorf("%v after %s", words, took)
		}
		w.expectAsked(20)
		if s.pending() != 0 {
			t.Errorf("%d are pending", s.pending())
		}
		w.answer = grantAll
		if words, took = w.rush(200, "Summer2026", office, w.Guard, other); words["granted"] != 200 || took > patience {
			t.Errorf("%v after %s", words, took)
		}
	})
}
