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
		w.expectAsked(1 + w.cfg.AccountFailures - w.cfg.KnownReserve)
		a := attempt("alice", "guess", thief)
		if v := w.Open(t.Context(), w.cfg, a, w.backend(a)); !errors.Is(v.Err, ErrUnanswered) || v.Result != login.Throttled {
			t.Errorf("verdict %v", v)
		}
		if holds, _ := w.Holds(); len(holds) != 1 || time.Until(holds[0].Until) != w.cfg.Window {
			t.Errorf("holds: %v", holds)
		}
		// The owner is not concerned, nor is a known source by a few.
		w.expect("granted", "alice", "right", home)
		w.expect("unavailable", "alice", "from the office", office)
		w.expect("throttled", "alice", "from the office too", office)
		w.expect("granted", "bob", "new here", home)
		if _, err := w.LiftAccount(t.Context(), w.cfg, "alice"); err != nil {
			t.Error(err)
		}
		// The same one may be asked about again, a minute later.
		w.expect("unavailable", "alice", "once more", thief)
		w.expect("throttled", "alice", "once more", thief)
		time.Sleep(unansweredAgain)
		w.expect("granted", "bob", "bobs", home)
		w.expect("unavailable", "alice", "once more", thief)
		for i := range 2 {
			w.expect("unavailable", "alice", fmt.Sprint("once more", i), thief)
		}
		w.expect("throttled", "alice", "and again", thief)
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

// TestUnansweredAtOnce pins that no more are under way at once than may be.
func TestUnansweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = time.Second
		w.answer = func(a *login.Attempt) login.Verdict {
			if a.User == "bob" {
				return login.Verdict{Result: login.Granted}
			}
			return silent(a)
		}
		w.expect("granted", "bob", "x", office)
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() { w.open("alice", fmt.Sprint("guess", i), addr(i)) })
		}
		all.Wait()
		w.expectAsked(1 + w.cfg.AccountFailures - w.cfg.KnownReserve)
		w.expectNothingPending(w.Guard)
	})
}

// TestUnansweredKnown pins that the reserve is kept for who is known, even if all
// passwords are new, as after a restart.
func TestUnansweredKnown(t *testing.T) {
	w := newWorld(t)
	w.expect("granted", "alice", "right", home)
	s := w.Snapshot()
	w.Guard = w.instance()
	w.Restore(s)
	w.answer = func(a *login.Attempt) login.Verdict {
		if a.Secret == "right" {
			return login.Verdict{Result: login.Granted}
		}
		return silent(a)
	}
	w.expect("granted", "bob", "right", thief)
	for i := range 10 {
		w.open("alice", fmt.Sprint("guess", i), thief)
	}
	w.expect("throttled", "alice", "right", thief)
	w.expect("granted", "alice", "right", home)
}
