package guard

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// addr returns one of many addresses.
func addr(i int) string { return fmt.Sprintf("203.0.%d.%d", 100+i/250, 1+i%250) }

// TestSpellings pins that whoever guesses gains nothing by other spellings.
func TestSpellings(t *testing.T) {
	spellings := []string{"alice", "ALICE", "alice@d", `D\alice`, "alice/shared", "D/alice/alias", `alice@d\shared`, "Älice", "ａlice", "ali\u00adce"}
	for _, domain := range []string{"", "CORP"} {
		t.Run("domain "+domain, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if domain != "" {
					w.cfg.Domains = *mapped(t)
					spellings = append(spellings, `CORP\alice`, "alice@corp.example.org")
				}
				for i := range 50 {
					for j, name := range spellings {
						secret, from := fmt.Sprint("guess", i, j), addr(i*len(spellings)+j)
						if j%2 == 0 {
							w.open(name, secret, from)
						} else {
							w.check(name, secret, from)
						}
					}
				}
				w.expectAsked(3)
				if w.held != 1 || w.bans != 0 {
					t.Errorf("%d accounts held, %d sources banned", w.held, w.bans)
				}
			})
		})
	}
}

// TestSpelledOtherwise pins that a refusal is of the spelling that was refused,
// and that a right password is right however it is spelled.
func TestSpelledOtherwise(t *testing.T) {
	delegate := login.Attempt{User: `alice@d\shared`, Secret: "right", Form: login.FormAuthenticate}
	for _, tc := range []struct {
		name       string
		first      login.Attempt
		second     login.Attempt
		remembered bool
	}{
		{"another case", login.Attempt{User: "alice", Secret: "x"}, login.Attempt{User: " ALICE ", Secret: "x"}, true},
		{"the other command", login.Attempt{User: "alice", Secret: "x"}, login.Attempt{User: "alice", Secret: "x", Form: login.FormLogin}, true},
		{"another domain", login.Attempt{User: "alice@a.org", Secret: "x"}, login.Attempt{User: "alice@b.org", Secret: "x"}, false},
		{"with a domain", login.Attempt{User: "alice", Secret: "x"}, login.Attempt{User: `CORP\alice`, Secret: "x"}, false},
		{"without a mailbox", login.Attempt{User: "alice/shared", Secret: "x"}, login.Attempt{User: "alice", Secret: "x"}, false},
		{"without another user", login.Attempt{User: "alice", AuthzID: "bob", Secret: "x"}, login.Attempt{User: "alice", Secret: "x"}, false},
		{"a mailbox with the same command", delegate, delegate, true},
		{"a mailbox with the other command", delegate, login.Attempt{User: delegate.User, Secret: "right", Form: login.FormLogin}, false},
		{"parts put together otherwise", login.Attempt{User: "a", AuthzID: "bc", Secret: "x"}, login.Attempt{User: "a", AuthzID: "b", Secret: "cx"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			for i, a := range []login.Attempt{tc.first, tc.second} {
				v := w.Open(t.Context(), w.cfg, &a, func(context.Context, bool) login.Verdict { w.asked++; return login.DeniedWith("") })
				if got, want := word(v), i == 1 && tc.remembered; (got == "remembered") != want || v.Result != login.Denied {
					t.Errorf("attempt %d: %s", i, got)
				}
			}
			// What was right before is asked about in any spelling.
			w = newWorld(t)
			w.expect("granted", "alice", "right", office)
			for i := range 5 {
				w.open("alice", fmt.Sprint(i), thief)
			}
			w.expect("held", "alice", "new", home)
			w.expect("granted", "ALICE/shared", "right", home)
		})
	}
}

// TestBackends pins that what one backend has said is not taken for another's
// word, and that the budget is one.
func TestBackends(t *testing.T) {
	w := newWorld(t)
	w.cfg.PositiveCache = time.Minute
	other := *w.cfg
	other.Backend = "other"
	w.expect("denied", "alice", "x", office)
	w.expect("remembered", "alice", "x", office)
	w.expect("granted", "bob", "bobs", office)
	w.cfg = &other
	w.expect("denied", "alice", "x", office)
	w.expectAsked(3)
	if got := w.check("bob", "bobs", office); got != "granted" {
		t.Error(got)
	}
	w.expectAsked(4) // and not from the cache
	w.expect("denied", "alice", "y", office)
	w.expect("held", "alice", "z", office)
}

func TestBudget(t *testing.T) {
	for _, tc := range []struct {
		budget, reserve int
		// How many are denied to a source that is not known, and to one that is
		// then, and the other way round.
		unknown, thenKnown, known, thenUnknown int
	}{
		{4, 1, 3, 1, 4, 0},
		{4, 0, 4, 0, 4, 0},
		{4, 3, 1, 3, 4, 0},
		{1, 0, 1, 0, 1, 0},
		{10, 2, 8, 2, 10, 0},
	} {
		t.Run(fmt.Sprint(tc.budget, tc.reserve), func(t *testing.T) {
			spend := func(w *world, from string) (n int) {
				for i := range 15 {
					switch got := w.open("alice", fmt.Sprint(from, i), from); got {
					case "denied":
						n++
					case "held":
					default:
						t.Error(got)
					}
				}
				return n
			}
			for _, first := range []string{home, office} {
				w := newWorld(t)
				w.cfg.AccountFailures, w.cfg.KnownReserve = tc.budget, tc.reserve
				w.expect("granted", "alice", "right", office)
				second, want := office, [2]int{tc.unknown, tc.thenKnown}
				if first == office {
					second, want = home, [2]int{tc.known, tc.thenUnknown}
				}
				if got := [2]int{spend(w, first), spend(w, second)}; got != want {
					t.Errorf("%d denied to %s and %s, want %d", got, first, second, want)
				}
				if w.held != 1 {
					t.Errorf("told %d times", w.held)
				}
				// The same for a user that does not exist, and others are free.
				w.expect("denied", "nobody", "x", "")
				w.expect("granted", "bob", "bobs", first)
				w.expectNothingPending(w.Guard)
			}
		})
	}
}

// TestWindow pins that failures cease to count one by one.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i, minute := range []time.Duration{0, 10, 20} {
			synctest.Wait()
			time.Sleep(minute*time.Minute - sinceStart())
			w.expect("denied", "alice", fmt.Sprint(i), thief)
		}
		for i, step := range []struct {
			at   time.Duration
			want string
		}{
			{30*time.Minute - time.Millisecond, "held"},
			{30 * time.Minute, "denied"},
			{40*time.Minute - time.Millisecond, "held"},
			{40 * time.Minute, "denied"},
			{45 * time.Minute, "held"},
			{50 * time.Minute, "denied"},
			{5 * time.Hour, "denied"},
			{5 * time.Hour, "denied"},
			{5 * time.Hour, "denied"},
			{5 * time.Hour, "held"},
		} {
			time.Sleep(step.at - sinceStart())
			w.expect(step.want, "alice", fmt.Sprint("later", i), thief)
		}
		w.expectBudget(3)
	})
}

// TestReserve pins that what is kept for known sources is for what was not tried
// before, and for those who have logged in lately.
func TestReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const day, m = 24 * time.Hour, time.Minute
		w.run([]step{
			{0, "alice", "right", office, "granted"},
			{0, "alice", "wrong", office, "denied"},
			{m, "alice", "wrong", office, "denied"},
			{6 * m, "alice", "wrong", office, "denied"},
			{21 * m, "alice", "wrong", office, "held"},
			{21 * m, "alice", "another", home, "held"},
			{21 * m, "alice", "another", office, "denied"},
			{21 * m, "alice", "one more", office, "held"},
			{22 * m, "alice", "another", office, "held"},
			{90*day - m, "alice", "a", thief, "denied"},
			{90*day - m, "alice", "b", thief, "denied"},
			{90*day - m, "alice", "c", thief, "denied"},
			{90*day - m, "alice", "d", office, "denied"},
			{100 * day, "alice", "a", thief, "denied"},
			{100 * day, "alice", "b", thief, "denied"},
			{100 * day, "alice", "c", thief, "denied"},
			{100 * day, "alice", "e", office, "held"},
		})
	})
}

// TestOwnersGrant pins that a login forgets what its own source got wrong, and
// that those who guess elsewhere gain nothing by it.
func TestOwnersGrant(t *testing.T) {
	w := newWorld(t)
	w.expect("granted", "alice", "right", office)
	for i := range 3 {
		w.expect("denied", "alice", fmt.Sprint("mistyped", i), office)
	}
	w.expect("granted", "alice", "right", office)
	for i := range 3 {
		w.expect("denied", "alice", fmt.Sprint("guess", i), thief)
	}
	for range 3 {
		w.expect("granted", "alice", "right", office)
		w.expect("held", "alice", "guess", thief)
	}
	w.expect("denied", "alice", "mistyped", office)
	w.expect("held", "alice", "mistyped too", office)
	w.expect("granted", "alice", "right", home)
	w.expect("held", "alice", "mistyped too", office)
	w.expect("granted", "alice", "right", office)
	w.expect("denied", "alice", "mistyped too", office)
	// Who comes from nowhere forgets nobody's failures.
	w.expect("granted", "alice", "right", "")
	w.expect("held", "alice", "mistyped once more", office)
}

// TestFailuresElsewhere pins that an old password that is tried for ever does not
// keep out its owner, who comes with the new one.
func TestFailuresElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.expect("granted", "alice", "right", phoneIP)
		w.right["alice"] = "new"
		for range 30 {
			w.expect("denied", "alice", "right", phoneIP)
			time.Sleep(time.Minute)
		}
		w.expect("denied", "alice", "nwe", home)
		w.expect("granted", "alice", "new", home)
	})
}

// TestGuessing is the attack: a hundred addresses at once, and the owner between
// them.
func TestGuessing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.expect("granted", "alice", "right", office)
		w.takes = 100 * time.Millisecond
		spellings := []string{"alice", "ALICE", "alice@d", `D\alice`, "alice/shared"}
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				for j := range 20 {
					time.Sleep(time.Duration(i) * time.Millisecond)
					w.open(spellings[(i+j)%len(spellings)], fmt.Sprint(i, j), addr(i))
				}
			})
		}
		for i := range 20 {
			time.Sleep(37 * time.Millisecond)
			start := time.Now()
			w.expect("granted", "alice", "right", []string{office, addr(1000 + i)}[i%2])
			if took := time.Since(start); took > w.takes {
				t.Errorf("the owner has waited %s", took)
			}
		}
		all.Wait()
		if n := len(w.denied); n != 3 {
			t.Errorf("%d wrong passwords were denied", n)
		}
		w.expectNothingPending(w.Guard)
		if w.held != 1 {
			t.Errorf("told %d times", w.held)
		}
	})
}

// TestGuessingForReal is the same without a clock of its own, for the race
// detector.
func TestGuessingForReal(t *testing.T) {
	w := newWorld(t)
	w.expect("granted", "alice", "right", office)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			for j := range 10 {
				w.open("alice", fmt.Sprint(i, j), addr(i))
				if i%10 == 0 {
					w.expect("granted", "alice", "right", addr(1000+i))
					w.Holds()
					w.Snapshot()
				}
			}
		})
	}
	all.Wait()
	if n := len(w.denied); n != 3 {
		t.Errorf("%d wrong passwords were denied", n)
	}
	w.expectNothingPending(w.Guard)
}

// TestWaiting pins that an attempt waits while it is not known whether the budget
// is used up, but not for ever.
func TestWaiting(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer login.Verdict
		takes  time.Duration
		want   string
		after  time.Duration
	}{
		{"the budget is used up", login.DeniedWith(""), time.Second, "held", time.Second},
		{"it is not", login.UnavailableFor(errPanic), time.Second, "unavailable", 2 * time.Second},
		{"too long", login.DeniedWith(""), time.Hour, "unavailable", patience},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.takes, w.answer = tc.takes, func(*login.Attempt) login.Verdict { return tc.answer }
				var all sync.WaitGroup
				for i := range 3 {
					all.Go(func() { w.open("alice", fmt.Sprint(i), thief) })
				}
				synctest.Wait()
				w.expect(tc.want, "alice", "x", home)
				if got := sinceStart(); got != tc.after {
					t.Errorf("answered after %s", got)
				}
				all.Wait()
				w.expectNothingPending(w.Guard)
			})
		})
	}
}

// TestHugeAttempt pins that no attempt is too large or too odd.
func TestHugeAttempt(t *testing.T) {
	w := newWorld(t)
	huge := strings.Repeat("ſ\xff/", 1<<16)
	for _, user := range []string{"", huge, "\x00", "@", `\`} {
		for _, secret := range []string{"", huge, "\x00"} {
			a := &login.Attempt{User: user, AuthzID: secret, Secret: login.Secret(secret)}
			if got := word(w.Check(t.Context(), w.cfg, a, w.backend(a))); got != "denied" && got != "held" {
				t.Errorf("%.10q with %.10q: %s", user, secret, got)
			}
		}
	}
	if w.asked != 9 {
		t.Errorf("asked %d times, about three accounts", w.asked)
	}
	for range 3 {
		w.open(huge, fmt.Sprint(w.asked), netip.IPv6Unspecified().String())
	}
	accounts, _ := w.Holds()
	for _, a := range accounts {
		if len(a.User) > maxHoldName+3 {
			t.Errorf("a name of %d bytes is kept", len(a.User))
		}
	}
}
