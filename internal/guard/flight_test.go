package guard

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestSingleFlight pins that of identical attempts at the same time one is asked
// about, and that the others take over nothing but a refusal.
func TestSingleFlight(t *testing.T) {
	unavailable, throttled := login.UnavailableFor(errPanic), login.ThrottledFor("LIMIT", 0, errPanic)
	for _, tc := range []struct {
		name      string
		v         login.Verdict
		followers string
		asked     int
		// after is when all have their answer.
		after time.Duration
	}{
		{"denied", login.DeniedWith("EXPIRED"), "remembered", 1, time.Second},
		{"granted", login.Verdict{Result: login.Granted}, "granted", 10, 2 * time.Second},
		// As long as nobody knows, a wrong password is asked about no more often
		// at a time than the budget allows.
		{"unavailable", unavailable, "unavailable", 10, 4 * time.Second},
		{"throttled", throttled, "throttled", 10, 4 * time.Second},
		{"throttled for a while", login.ThrottledFor("LIMIT", time.Minute, errPanic), "held off", 1, time.Second},
	} {
		for _, checkOnly := range []bool{false, true} {
			t.Run(tc.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.takes, w.answer = time.Second, func(*login.Attempt) login.Verdict { return tc.v }
					var all sync.WaitGroup
					words := make(map[string]int)
					for range 10 {
						all.Go(func() {
							try := w.open
							if checkOnly {
								try = w.check
							}
							got := try("alice", "x", home)
							w.mu.Lock()
							words[got]++
							w.mu.Unlock()
						})
					}
					all.Wait()
					w.expectAsked(tc.asked)
					want := map[string]int{tc.v.Result.String(): 1}
					want[tc.followers] += 9
					if len(words) != len(want) || words[tc.followers] != want[tc.followers] {
						t.Errorf("answers: %v, want %v", words, want)
					}
					if got := sinceStart(); got != tc.after {
						t.Errorf("answered after %s", got)
					}
					w.expectNothingPending(w.Guard)
				})
			})
		}
	}
}

// TestOthersFly pins that attempts that differ do not wait for each other.
func TestOthersFly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = time.Second
		var all sync.WaitGroup
		for _, try := range [][2]string{{"alice", "x"}, {"alice", "y"}, {"bob", "x"}, {"alice@d", "x"}} {
			all.Go(func() { w.expect("denied", try[0], try[1], home) })
		}
		all.Wait()
		w.expectAsked(4)
		if got := sinceStart(); got != time.Second {
			t.Errorf("answered after %s", got)
		}
	})
}

// TestLeaderGone pins that who leads a flight can go without hurting those who
// follow: one of them leads then.
func TestLeaderGone(t *testing.T) {
	for _, how := range []string{"cancelled", "panic", "exit"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.takes = time.Second
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				led := make(chan struct{})
				go lead(ctx, w, how, led)
				synctest.Wait()
				var all sync.WaitGroup
				words := make(map[string]int)
				for range 9 {
					all.Go(func() {
						got := w.open("alice", "x", home)
						w.mu.Lock()
						words[got]++
						w.mu.Unlock()
					})
				}
				time.Sleep(500 * time.Millisecond)
				cancel()
				all.Wait()
				<-led
				w.expectAsked(1)
				if words["denied"] != 1 || words["remembered"] != 8 {
					t.Errorf("answers: %v", words)
				}
				if got := sinceStart(); got != 1500*time.Millisecond {
					t.Errorf("answered after %s", got)
				}
				w.expectNothingPending(w.Guard)
			})
		})
	}
}

// lead makes an attempt that ends when ctx does, in one way or another.
func lead(ctx context.Context, w *world, how string, led chan<- struct{}) {
	defer close(led)
	defer func() {
		if p := recover(); (p != nil) != (how == "panic") {
			w.Errorf("recovered: %v", p)
		}
	}()
	a := attempt("alice", "x", home)
	v := w.Open(ctx, w.cfg, a, func(ctx context.Context, _ bool) login.Verdict {
		<-ctx.Done()
		switch how {
		case "panic":
			panic("no good")
		case "exit":
			// As t.FailNow does.
			runtime.Goexit()
		}
		return login.UnavailableFor(ctx.Err())
	})
	if v.Result != login.Unavailable {
		w.Errorf("the leader is told %s", word(v))
	}
}

// TestFollowerGone pins that who follows can go, and does not follow for ever.
func TestFollowerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = time.Hour
		leader, stop := context.WithCancel(t.Context())
		go func() {
			a := attempt("alice", "x", home)
			w.Open(leader, w.cfg, a, w.backend(a))
		}()
		synctest.Wait()
		for _, tc := range []struct {
			after time.Duration
			why   error
		}{{time.Second, errShort}, {patience, errPatience}} {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errShort)
			if tc.why == errShort {
				ctx, cancel = context.WithTimeoutCause(t.Context(), tc.after, errShort)
			}
			start := time.Now()
			a := attempt("alice", "x", home)
			v := w.Open(ctx, w.cfg, a, w.backend(a))
			cancel()
			if v.Result != login.Unavailable || !errors.Is(v.Err, tc.why) || time.Since(start) != tc.after {
				t.Errorf("%s after %s: %v", v.Result, time.Since(start), v.Err)
			}
		}
		stop()
		synctest.Wait()
		w.expectAsked(0)
		w.expectNothingPending(w.Guard)
	})
}

var errShort = errors.New("the client has gone")

// TestReservations pins that whatever an attempt ends in, others may go on.
func TestReservations(t *testing.T) {
	for _, how := range []string{"cancelled", "panic", "exit"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			for range 10 {
				led := make(chan struct{})
				go lead(ctx, w, how, led)
				<-led
			}
			w.expectNothingPending(w.Guard)
			w.expect("denied", "alice", "y", home)
			w.expect("denied", "alice", "z", home)
		})
	}
}

func TestPositiveCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		check := func(want string, user, secret string, asked int) {
			t.Helper()
			if got := w.check(user, secret, home); got != want {
				t.Errorf("after %s: %s, want %s", sinceStart(), got, want)
			}
			w.expectAsked(asked)
		}
		// It is off unless somebody wants it.
		check("granted", "alice", "right", 1)
		check("granted", "alice", "right", 2)
		w.cfg.PositiveCache = time.Minute
		check("granted", "alice", "right", 3)
		check("granted", "alice", "right", 3)
		// It is for the very same name and password.
		check("denied", "alice", "Right", 4)
		check("granted", "ALICE", "right", 5)
		check("granted", "alice@d", "right", 6)
		check("granted", "alice@d", "right", 6)
		// A session needs the backend, and is as good as a check.
		w.expect("granted", "alice", "right", home)
		w.expectAsked(7)
		time.Sleep(time.Minute - time.Millisecond)
		check("granted", "alice", "right", 7)
		// It ends, however often it was used.
		time.Sleep(time.Millisecond)
		check("granted", "alice", "right", 8)
		check("granted", "alice", "right", 8)
		// A refusal ends it, for longer than it is remembered itself.
		w.cfg.PositiveCache = 5 * time.Minute
		w.right["alice"] = "new"
		w.expect("denied", "alice", "right", home)
		check("remembered", "alice", "right", 9)
		time.Sleep(time.Minute)
		check("denied", "alice", "right", 10)
		check("granted", "alice", "new", 11)
		check("granted", "alice", "new", 11)
		check("remembered", "alice", "right", 11)
		// So does what may have been one.
		w.answer = func(*login.Attempt) login.Verdict {
			v := login.ThrottledFor("UNAVAILABLE", 0, errPanic)
			v.Suspect = true
			return v
		}
		w.expect("throttled", "alice", "new", home)
		check("throttled", "alice", "new", 13)
		// An outage does not.
		w.answer = nil
		time.Sleep(time.Minute)
		check("granted", "alice", "new", 14)
		w.answer = func(*login.Attempt) login.Verdict { return login.UnavailableFor(errPanic) }
		w.expect("unavailable", "alice", "new", home)
		check("granted", "alice", "new", 15)
	})
}

// TestCacheOfOthers pins that nobody is let in as somebody else with the same
// account and another name.
func TestCacheOfOthers(t *testing.T) {
	w := newWorld(t)
	w.cfg.PositiveCache = time.Minute
	w.answer = func(a *login.Attempt) login.Verdict {
		if a.User == "alice@a.org" && a.AuthzID == "" {
			return login.Verdict{Result: login.Granted}
		}
		return login.DeniedWith("")
	}
	if got := w.check("alice@a.org", "mine", home); got != "granted" {
		t.Fatal(got)
	}
	for _, a := range []login.Attempt{{User: "alice@b.org"}, {User: "alice"}, {User: "alice@a.org", AuthzID: "bob"}, {User: "alice@a.org/bob"}, {User: " alice@a.org"}} {
		a.Secret = "mine"
		if v := w.Check(t.Context(), w.cfg, &a, w.backend(&a)); v.Result == login.Granted {
			t.Errorf("%q for %q is let in", a.User, a.AuthzID)
		}
	}
}

func TestHold(t *testing.T) {
	const delay = 2 * time.Second
	for _, tc := range []struct {
		name     string
		result   login.Result
		began    time.Duration // before now
		deadline time.Duration // from now; 0 is none
		cancel   time.Duration
		want     time.Duration
	}{
		{"denied at once", login.Denied, 0, 0, 0, delay},
		{"throttled at once", login.Throttled, 0, 0, 0, delay},
		{"denied by a slow backend", login.Denied, 1500 * time.Millisecond, 0, 0, 500 * time.Millisecond},
		{"denied later", login.Denied, 3 * time.Second, 0, 0, 0},
		{"granted", login.Granted, 0, 0, 0, 0},
		{"unavailable", login.Unavailable, 0, 0, 0, delay},
		{"not beyond a deadline", login.Denied, 0, time.Second, 0, 750 * time.Millisecond},
		{"a deadline soon after", login.Denied, 0, 2100 * time.Millisecond, 0, 1850 * time.Millisecond},
		{"a deadline that does not matter", login.Denied, 0, 3 * time.Second, 0, delay},
		{"a deadline that has nearly passed", login.Denied, 0, 100 * time.Millisecond, 0, 0},
		{"a client that goes", login.Denied, 0, 0, time.Second, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tc.deadline > 0 {
					ctx, cancel = context.WithTimeout(ctx, tc.deadline)
					defer cancel()
				}
				if tc.cancel > 0 {
					defer time.AfterFunc(tc.cancel, cancel).Stop()
				}
				a := &login.Attempt{Start: time.Now().Add(-tc.began)}
				Hold(ctx, a, login.Verdict{Result: tc.result}, delay)
				if got := sinceStart(); got != tc.want {
					t.Errorf("held for %s, want %s", got, tc.want)
				}
			})
		})
	}
}
