package guard

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// silent answers as a backend does that takes credentials and says nothing.
func silent(*login.Attempt) login.Verdict {
	v := login.UnavailableFor(errors.New("the backend has closed the connection"))
	v.Unanswered = true
	return v
}

// TestUnanswered pins that only so many different passwords are sent about which the
// backend says nothing while it answers others, since it may have counted them.
func TestUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = func(a *login.Attempt) login.Verdict {
			if a.Secret == "right" || a.User == "bob" {
				return login.Verdict{Result: login.Granted}
			}
			return silent(a)
		}
		w.expect("granted", "alice", "right", office)
		for i := range 100 {
			w.open("alice", fmt.Sprint("guess", i), addr(i))
		}
		w.expectAsked(1 + w.cfg.AccountFailures)
		a := attempt("alice", "guess", thief)
		if v := w.Open(t.Context(), w.cfg, a, w.backend(a)); !errors.Is(v.Err, ErrUnanswered) || v.Result != login.Throttled {
			t.Errorf("verdict %v", v)
		}
		if holds, _ := w.Holds(); len(holds) != 1 || time.Until(holds[0].Until) != w.cfg.Window {
			t.Errorf("holds: %v", holds)
		}
		// The same one may be asked about again, and the owner is not concerned.
		w.expect("unavailable", "alice", "guess0", thief)
		w.expect("granted", "alice", "right", home)
		w.expect("granted", "bob", "new here", home)
		if _, err := w.LiftAccount(t.Context(), w.cfg, "alice"); err != nil {
			t.Error(err)
		}
		for i := range w.cfg.AccountFailures {
			w.expect("unavailable", "alice", fmt.Sprint("once more", i), thief)
		}
		time.Sleep(w.cfg.Window)
		w.expect("unavailable", "alice", "later", thief)
		w.expectNothingPending(w.Guard)
	})
}

// TestOutageWithCredentials pins that a backend that takes passwords and answers
// nobody counts against nobody.
func TestOutageWithCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.expect("granted", "bob", "bobs", office)
		time.Sleep(answering)
		w.answer = silent
		for i := range 100 {
			w.expect("unavailable", "alice", "right", office)
			w.expect("unavailable", "alice", fmt.Sprint("old", i), phoneIP)
			w.expect("unavailable", "bob", "bobs", office)
			time.Sleep(30 * time.Second)
		}
		w.answer = nil
		w.expect("granted", "alice", "right", office)
		w.expect("denied", "alice", "old", phoneIP)
		w.expect("granted", "bob", "bobs", office)
		if w.held+w.bans != 0 {
			t.Errorf("%d held, %d banned", w.held, w.bans)
		}
	})
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
