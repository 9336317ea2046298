package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

func TestHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		start := time.Now()
		expect := func(accounts, sources int) {
			t.Helper()
			// Counted first: what is listed is looked through.
			if a, s := w.CountHolds(); a != accounts || s != sources {
				t.Errorf("after %s: %d and %d are counted as held, want %d and %d", sinceStart(), a, s, accounts, sources)
			}
			a, s := w.Holds()
			if len(a) != accounts || len(s) != sources {
				t.Errorf("after %s: %v and %v are held", sinceStart(), a, s)
			}
		}
		expect(0, 0)
		w.expect("granted", "bob", "bobs", addr(2))
		for i, name := range []string{"Zoe@d", "alice", "bob"} {
			for j := range 3 {
				w.expect("denied", name, fmt.Sprint("x", j), addr(i))
				time.Sleep(time.Minute)
			}
		}
		w.expect("held", "ZOE", "y", home)
		accounts, _ := w.Holds()
		if len(accounts) != 3 || accounts[0].User != "Zoe@d" || accounts[1].User != "alice" || accounts[2].User != "bob" {
			t.Fatalf("%v are held", accounts)
		}
		if got := accounts[0]; got.Since != start.Add(2*time.Minute) || got.Until != start.Add(30*time.Minute) {
			t.Errorf("%s is held from %s to %s", got.User, got.Since.Sub(start), got.Until.Sub(start))
		}
		if w.held != 3 {
			t.Errorf("told %d times", w.held)
		}
		w.guess(20, thief)
		banned := time.Now()
		if _, s := w.Holds(); len(s) != 1 || s[0].Source.String() != thief || s[0].Since != banned || s[0].Until != banned.Add(w.cfg.SourceBan) {
			t.Errorf("%v are banned", s)
		}
		// Who has only mistyped is not held when he gets in.
		w.expect("granted", "bob", "bobs", addr(2))
		expect(2, 1)
		time.Sleep(w.cfg.SourceBan)
		expect(2, 0)
		time.Sleep(30*time.Minute - time.Since(start))
		expect(1, 0)
		// And again, if it goes on.
		w.expect("denied", "zoe", "one more", home)
		expect(2, 0)
		if w.held != 4 {
			t.Errorf("told %d times", w.held)
		}
		time.Sleep(time.Hour)
		expect(0, 0)
		if n := len(w.holds.accounts) + len(w.holds.sources); n != 0 {
			t.Errorf("%d are kept", n)
		}
	})
}

// TestHoldsBound pins that a list has an end.
func TestHoldsBound(t *testing.T) {
	m := make(map[int]int)
	for i := range maxHolds + 100 {
		put(m, i, i)
		put(m, i, i)
	}
	if len(m) != maxHolds || m[maxHolds+99] == 0 {
		t.Errorf("%d are kept", len(m))
	}
}

func TestLift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		lift := func(want bool, user string) {
			t.Helper()
			if got, err := w.LiftAccount(t.Context(), w.cfg, user); got != want || err != nil {
				t.Errorf("lifting %s: %v, %v", user, got, err)
			}
		}
		lift(false, "alice")
		w.expect("granted", "alice", "right", office)
		lift(false, "alice")
		for i := range 3 {
			w.expect("denied", "alice", fmt.Sprint(i), home)
		}
		w.expect("held", "alice", "x", home)
		lift(true, `D\ALICE`)
		lift(false, "alice")
		if a, _ := w.Holds(); len(a) > 0 {
			t.Errorf("%v are held", a)
		}
		w.expect("denied", "alice", "0", home)
		w.expect("denied", "alice", "x", home)

		// A password that was right is asked about at once.
		w.right["alice"] = "new"
		w.expect("denied", "alice", "right", home)
		w.right["alice"] = "right"
		w.expect("remembered", "alice", "right", home)
		lift(true, "alice")
		w.expect("granted", "alice", "right", home)

		w.answer = func(*login.Attempt) login.Verdict { return login.ThrottledFor("LIMIT", time.Minute, errPanic) }
		w.expect("throttled", "alice", "right", home)
		w.answer = nil
		w.expect("held off", "alice", "right", home)
		lift(true, "alice")
		w.expect("granted", "alice", "right", home)

		liftSource := func(want bool, addr string) {
			t.Helper()
			if got, err := w.LiftSource(t.Context(), netip.MustParseAddr(addr)); got != want || err != nil {
				t.Errorf("lifting %s: %v, %v", addr, got, err)
			}
		}
		liftSource(false, "2001:db8::1")
		w.guess(20, "2001:db8::1")
		w.expect("banned", "alice", "right", "2001:db8::2")
		liftSource(true, "2001:db8::3")
		liftSource(false, "2001:db8::3")
		w.expect("granted", "alice", "right", "2001:db8::2")
		if _, s := w.Holds(); len(s) > 0 {
			t.Errorf("%v are banned", s)
		}
		w.guess(19, thief)
		liftSource(true, thief)
		w.expect("denied", "bob", "x", thief)
		if w.isBanned(thief) {
			t.Error("banned")
		}
	})
}

// TestLiftWhileAsking pins that who waits for a held account goes on when it is
// lifted, and that what is under way still counts.
func TestLiftWhileAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = time.Second
		for i := range 4 {
			go w.open("alice", fmt.Sprint(i), home)
		}
		synctest.Wait()
		if _, err := w.LiftAccount(t.Context(), w.cfg, "alice"); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		w.expectAsked(3)
		w.expectNothingPending(w.Guard)
	})
}

func TestKnows(t *testing.T) {
	w := newWorld(t)
	w.expect("granted", "alice", "right", "")
	w.expect("granted", "bob", "bobs", home)
	w.expect("denied", "carol", "x", home)
	for name, want := range map[string]bool{
		"alice": true, "ALICE": true, "alice@d": true, `D\alice`: true, "bob": true,
		"carol": false, "alice/Summer2026": false, `D\alice\Summer`: false, "": false,
	} {
		if got := w.Knows(w.cfg, name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestEventPanic pins that a listener that panics leaves nothing behind.
func TestEventPanic(t *testing.T) {
	w := newWorld(t)
	w.events.AccountHeld = func(*login.Attempt, int) { panic("no good") }
	var panics int
	for i := range 5 {
		func() {
			defer func() {
				if recover() != nil {
					panics++
				}
			}()
			w.open("alice", fmt.Sprint(i), home)
		}()
	}
	if panics != 1 {
		t.Errorf("%d panics", panics)
	}
	w.expectNothingPending(w.Guard)
	w.expectAsked(3)
}

// TestLiftInStore pins that an operator is told if a store could not forget.
func TestLiftInStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWorld(t), newFakeStore()
		defer w.Attach(s, func(bool, error) {})()
		synctest.Wait()
		for i := range 3 {
			w.expect("denied", "alice", fmt.Sprint(i), home)
		}
		w.guess(20, thief)
		s.set(func(context.Context) error { return errStore })
		if lifted, err := w.LiftAccount(t.Context(), w.cfg, "alice"); !lifted || !errors.Is(err, errStore) {
			t.Error(lifted, err)
		}
		s.set(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		if _, err := w.LiftSource(t.Context(), netip.MustParseAddr(thief)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		s.set(nil)
		if _, err := w.LiftAccount(t.Context(), w.cfg, "alice"); err != nil {
			t.Error(err)
		}
		if _, err := w.LiftSource(t.Context(), netip.MustParseAddr(thief)); err != nil {
			t.Error(err)
		}
		w.expect("denied", "alice", "x", thief)
	})
}
