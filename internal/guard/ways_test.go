package guard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// What those could do who know the guard, and have more than a list of passwords.

// TestBehindTheOwner pins what somebody gains who guesses from the owner's own
// address while the owner goes on logging in: the budget once more, and no more.
func TestBehindTheOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.SourceFailures = 10000
		guess := 0
		for range 3 * 30 {
			w.expect("granted", "alice", "right", office)
			for range 5 {
				w.open("alice", fmt.Sprint("guess", guess), office)
				guess++
			}
			time.Sleep(time.Minute)
		}
		w.expectBudget(2 * w.cfg.AccountFailures)
		if len(w.denied) < 3*w.cfg.AccountFailures {
			t.Errorf("only %d were denied", len(w.denied))
		}
	})
}

// TestForgivenAgain pins that who mistypes now and then is forgiven for ever.
func TestForgivenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 100 {
			w.expect("denied", "alice", fmt.Sprint("mistyped", i), office)
			w.expect("denied", "alice", fmt.Sprint("mistyped again", i), office)
			w.expect("granted", "alice", "right", office)
			time.Sleep(20 * time.Minute)
			w.expect("granted", "alice", "right", office)
			time.Sleep(20 * time.Minute)
		}
	})
}

// TestNamesake pins that the addresses of a user are not known for another, with whom
// he shares an account since their domains are not mapped.
func TestNamesake(t *testing.T) {
	w := newWorld(t)
	w.expect("granted", "alice@a.example", "right", office)
	w.expect("granted", "alice@b.example", "right", thief)
	for i := range 3 {
		w.expect("denied", "alice@a.example", fmt.Sprint("guess", i), thief)
	}
	// The reserve is not for who has logged in as somebody else, and nothing is
	// forgiven.
	w.expect("held", "alice@a.example", "guess", thief)
	w.expect("granted", "alice@b.example", "right", thief)
	w.expect("held", "alice@a.example", "guess", thief)
	w.expect("granted", "alice@a.example", "right", home)
}

// TestOldPasswordInManySpellings pins that a password that is not right any more is
// asked about once, and then within the budget, however it is spelled meanwhile.
func TestOldPasswordInManySpellings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.expect("granted", "alice", "right", office)
		w.right["alice"], w.takes = "new", time.Second
		for range 3 {
			before := len(w.denied)
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() { w.open(fmt.Sprintf("alice/%d", i), "right", addr(i)) })
			}
			all.Wait()
			if n := len(w.denied) - before; n == 0 || n > w.cfg.AccountFailures {
				t.Errorf("%d were denied", n)
			}
			time.Sleep(w.cfg.Window)
		}
		w.expectNothingPending(w.Guard)
	})
}

// TestRightInManySpellings pins that nobody with the right password is turned away
// during an attack for having it spelled in more than one way.
func TestRightInManySpellings(t *testing.T) {
	w := newWorld(t)
	w.expect("granted", "alice", "right", office)
	for i := range 3 {
		w.expect("denied", "alice", fmt.Sprint("guess", i), addr(i))
	}
	for range 3 {
		for _, spelling := range []string{"alice", "ALICE", "alice/shared"} {
			w.expect("granted", spelling, "right", home)
		}
	}
	// An outage in between makes no difference.
	w.answer = func(*login.Attempt) login.Verdict { return login.UnavailableFor(errors.New("away")) }
	w.expect("unavailable", "alice/other", "right", thief)
	w.answer = nil
	w.expect("granted", "alice/other", "right", thief)
}

// TestNoTrace pins that names about which nothing is known take no room.
func TestNoTrace(t *testing.T) {
	w := newWorld(t)
	w.answer = func(*login.Attempt) login.Verdict { return login.UnavailableFor(errors.New("away")) }
	for i := range 1000 {
		w.expect("unavailable", fmt.Sprint("user", i), "x", thief)
	}
	for i := range w.memory.accounts {
		if n := len(w.memory.accounts[i].entries); n != 0 {
			t.Fatalf("%d accounts are remembered", n)
		}
	}
}

// TestNamesakesPassword pins that a namesake's own password, with which he logs in
// again and again, is asked about for the other within the budget.
func TestNamesakesPassword(t *testing.T) {
	for _, pause := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			victim := 0
			w.answer = func(a *login.Attempt) login.Verdict {
				if a.User == "alice@evil" {
					return login.Verdict{Result: login.Granted}
				}
				victim++
				return login.DeniedWith("")
			}
			for i := range 25 {
				w.expect("granted", "alice@evil", "his own", thief)
				w.open(fmt.Sprint("alice@victim/", i), "his own", thief)
				w.open("alice@victim", "his own", thief)
				time.Sleep(pause)
			}
			if victim > w.cfg.AccountFailures {
				t.Errorf("%d wrong passwords for the victim", victim)
			}
		})
	}
}

// TestSpellingsAtOnce pins that an owner may have his name spelled in many ways at
// once, with the password that was right, during an attack.
func TestSpellingsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.expect("granted", "alice", "right", office)
		for i := range 3 {
			w.expect("denied", "alice", fmt.Sprint("guess", i), addr(i))
		}
		w.takes = 100 * time.Millisecond
		var all sync.WaitGroup
		for _, spelling := range []string{"alice", "alice/a", "alice/b", "alice/c", `CORP\alice`} {
			all.Go(func() { w.expect("granted", spelling, "right", home) })
		}
		all.Wait()
		w.expectNothingPending(w.Guard)
	})
}

// TestTwoForms pins that a client which tries both commands with a name of which the
// backend takes it by one only gets in during an attack.
func TestTwoForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = func(a *login.Attempt) login.Verdict {
			if a.Secret == "right" && a.Form == login.FormAuthenticate {
				return login.Verdict{Result: login.Granted}
			}
			return login.DeniedWith("")
		}
		both := func() (got string) {
			for _, form := range []login.Form{login.FormLogin, login.FormAuthenticate} {
				a := attempt("alice@d/shared", "right", home)
				a.Form = form
				got = word(w.Open(t.Context(), w.cfg, a, w.backend(a)))
			}
			return got
		}
		for i := range 30 {
			if got := both(); got != "granted" {
				t.Errorf("the owner is told %s", got)
			}
			if i > 5 {
				w.open("alice", fmt.Sprint("guess", i), addr(i))
			}
			time.Sleep(5 * time.Minute)
		}
	})
}

// TestSuspectBefore pins that a password that was right and is not the latest is
// asked about again after the backend has let it in and then knew nothing of it.
func TestSuspectBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hiccup := false
		w.answer = func(a *login.Attempt) login.Verdict {
			switch {
			case a.Secret == "one" && hiccup:
				v := login.ThrottledFor("", 0, errors.New("not connected"))
				v.Suspect = true
				return v
			case a.Secret == "one" || a.Secret == "two":
				return login.Verdict{Result: login.Granted}
			}
			return login.DeniedWith("")
		}
		w.expect("granted", "alice", "one", office)
		w.expect("granted", "alice", "two", home)
		for i := range 3 {
			w.expect("denied", "alice", fmt.Sprint("guess", i), thief)
		}
		hiccup = true
		w.expect("throttled", "alice", "one", phoneIP)
		hiccup = false
		w.expect("held", "alice", "one", phoneIP)
		time.Sleep(time.Minute)
		w.expect("granted", "alice", "one", phoneIP)
	})
}

// TestEverythingAtOnce has all there is happen at the same time, with room for few
// accounts: no reservation is lost.
func TestEverythingAtOnce(t *testing.T) {
	w := newWorld(t)
	w.cfg.Window = 50 * time.Millisecond
	w.cfg.SourceBan = 5 * time.Millisecond
	w.cfg.PositiveCache = time.Millisecond
	for i := range w.memory.accounts {
		w.memory.accounts[i].max = 2 // eviction all the time
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for ctx.Err() == nil {
				user := fmt.Sprint("u", rand.IntN(300))
				if rand.IntN(3) > 0 {
					user = fmt.Sprint("alice/", rand.IntN(4))
				}
				a := attempt(user, fmt.Sprint("p", rand.IntN(6)), fmt.Sprintf("192.0.2.%d", rand.IntN(5)+1))
				if rand.IntN(2) == 0 {
					a.Form = login.FormLogin
				}
				ask := func(context.Context, bool) login.Verdict {
					time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
					switch rand.IntN(6) {
					case 0:
						return login.Verdict{Result: login.Granted}
					case 1:
						v := login.ThrottledFor(imap.ResponseCodeLimit, time.Duration(rand.IntN(2))*time.Millisecond, errors.New("x"))
						v.Suspect = true
						return v
					case 2:
						return silent(a)
					default:
						return login.DeniedWith("")
					}
				}
				if rand.IntN(2) == 0 {
					w.Open(ctx, w.cfg, a, ask)
				} else {
					w.Check(ctx, w.cfg, a, ask)
				}
			}
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			s := w.Snapshot()
			w.Restore(s)
			_, _ = w.LiftAccount(ctx, w.cfg, "alice")
			_, _ = w.LiftSource(ctx, netip.MustParseAddr("192.0.2.1"))
			w.Holds()
			w.Knows(w.cfg, "alice")
			time.Sleep(time.Millisecond)
		}
	})
	all.Wait()
	w.expectNothingPending(w.Guard)
}
