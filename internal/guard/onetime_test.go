package guard

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// prove tries to get in with what is proved only once, rightly or not.
func (w *world) prove(user, from string, v login.Verdict) string {
	w.Helper()
	w.mu.Lock()
	w.proofs++
	a := attempt(user, fmt.Sprint("proof", w.proofs), from)
	w.mu.Unlock()
	a.OneTime = true
	// What would be refused whatever it is, is known before.
	why := w.Refuses(w.cfg, a)
	got := w.Check(context.Background(), w.cfg, a, func(context.Context, bool) login.Verdict {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.asked++
		return v
	})
	if errors.Is(got.Err, ErrHeld) || errors.Is(got.Err, ErrHeldOff) || errors.Is(got.Err, ErrUnanswered) || why != nil {
		if got.Err != why {
			w.Errorf("a proof of %s from %s would be refused since %v, and is since %v", user, from, why, got.Err)
		}
	}
	return word(got)
}

func (w *world) expectProof(want, user, from string, v login.Verdict) {
	w.Helper()
	if got := w.prove(user, from, v); got != want {
		w.Errorf("a proof of %s from %s after %s: %s, want %s", user, from, sinceStart(), got, want)
	}
}

// TestOneTimeFails pins that proofs which fail count like wrong passwords, each as a new
// one: against the account, for which a part is kept for known sources, and against the
// source.
func TestOneTimeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		right, wrong := login.Verdict{Result: login.Granted}, login.DeniedWith("")
		w.expectProof("granted", "alice", office, right)
		for range w.cfg.AccountFailures - w.cfg.KnownReserve {
			w.expectProof("denied", "alice", thief, wrong)
		}
		w.expectProof("held", "alice", thief, wrong)
		w.expectProof("held", "alice", home, right)
		w.expect("held", "alice", "right", home)
		// The owner's source is known by what it has proved.
		w.expectProof("granted", "alice", office, right)
		w.expectProof("denied", "alice", office, wrong)
		w.expectProof("held", "alice", office, right)
		time.Sleep(w.cfg.Window)
		w.expectProof("granted", "alice", home, right)

		for i := range w.cfg.SourceFailures {
			w.expectProof("denied", fmt.Sprint("user", i), thief, wrong)
		}
		w.expectProof("banned", "bob", thief, right)
		if w.bans != 1 || w.held == 0 {
			t.Errorf("%d bans and %d holds were told of", w.bans, w.held)
		}
		w.expectNothingPending(w.Guard)
	})
}

// TestOneTimeForgotten pins that nothing is kept of what nobody will ever try again: a
// password that was right stays so, and one that was wrong is still known.
func TestOneTimeForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.AccountFailures = 1000
		w.cfg.PositiveCache = time.Hour
		w.expect("granted", "alice", "right", office)
		w.expect("denied", "alice", "wrong", thief)
		for range 2 * max(maxGranted, maxRefused) {
			w.expectProof("granted", "alice", home, login.Verdict{Result: login.Granted})
			w.expectProof("denied", "alice", "", login.DeniedWith(""))
		}
		w.expect("remembered", "alice", "wrong", thief)
		before := w.asked
		if got := w.check("alice", "right", office); got != "granted" {
			t.Error(got)
		}
		w.expectAsked(before)
		a := w.Guard.memory.lockAccount(w.Guard.keys.account("alice"))
		defer a.mu.Unlock()
		if got := a.peek(w.Guard.keys.account("alice")); len(got.granted) != 1 || len(got.refused) != 1 {
			t.Errorf("remembered are %d right and %d wrong passwords", len(got.granted), len(got.refused))
		}
	})
}

// TestOneTimeForgives pins that who proves himself is forgiven what his source got wrong.
func TestOneTimeForgives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for range 5 {
			w.expectProof("denied", "alice", home, login.DeniedWith(""))
			w.expectProof("denied", "alice", home, login.DeniedWith(""))
			w.expectProof("granted", "alice", home, login.Verdict{Result: login.Granted})
			time.Sleep(w.cfg.Window)
		}
		w.expectAsked(15)
	})
}

// TestRefuses pins that it is known before a proof whether the backend wants to be left
// alone, or owes answers, and that asking for that changes nothing.
func TestRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.expectProof("throttled", "alice", home, login.ThrottledFor("", time.Minute, nil))
		w.expectProof("held off", "alice", home, login.DeniedWith(""))
		time.Sleep(time.Minute)
		w.expectProof("granted", "alice", home, login.Verdict{Result: login.Granted})
		w.cfg.Answers = new(Answers)
		for range w.cfg.AccountFailures - w.cfg.KnownReserve {
			w.cfg.Answers.note(time.Now())
			v := login.UnavailableFor(nil)
			v.Unanswered = true
			w.expectProof("unavailable", "bob", thief, v)
		}
		a := attempt("bob", "x", thief)
		a.OneTime = true
		for range 3 {
			if err := w.Refuses(w.cfg, a); err != ErrUnanswered {
				t.Errorf("refused since %v", err)
			}
		}
		if got := w.Check(context.Background(), w.cfg, a, w.backend(a)); got.Err != ErrUnanswered {
			t.Errorf("verdict %+v", got)
		}
		w.expectNothingPending(w.Guard)
	})
}
