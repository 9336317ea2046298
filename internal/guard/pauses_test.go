package guard

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// elsewhere runs a step with another backend.
func (w *world) elsewhere(step func()) {
	mine := w.cfg
	other := *mine
	other.Backend = "elsewhere"
	w.cfg = &other
	step()
	w.cfg = mine
}

// TestPauses pins that a backend which wants to be left alone with a user keeps nobody
// from another one, and that the longest pause of each counts.
func TestPauses(t *testing.T) {
	steps := func(t *testing.T, w *world, again func()) {
		throttle := func(d time.Duration) {
			w.answer = func(*login.Attempt) login.Verdict { return login.ThrottledFor(imap.ResponseCodeLimit, d, errPanic) }
			w.expect("throttled", "alice", "x", thief)
			w.answer = nil
		}
		throttle(2 * time.Minute)
		for range 2 {
			w.expect("held off", "alice", "right", home)
			w.vouch("held off", "alice", home, login.Verdict{Result: login.Granted})
			w.elsewhere(func() {
				w.expect("granted", "alice", "right", home)
				w.vouch("granted", "alice", home, login.Verdict{Result: login.Granted})
			})
			again()
		}
		w.elsewhere(func() { throttle(10 * time.Minute) })
		time.Sleep(2 * time.Minute)
		w.expect("granted", "alice", "right", home)
		w.elsewhere(func() { w.expect("held off", "alice", "right", home) })
		if lifted, err := w.LiftAccount(t.Context(), w.cfg, "alice"); !lifted || err != nil {
			t.Errorf("lifted %v, %v", lifted, err)
		}
		w.elsewhere(func() { w.expect("granted", "alice", "right", home) })
	}
	t.Run("alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			steps(t, w, func() { w.Guard = w.restart(w.Guard) })
		})
	})
	t.Run("store", func(t *testing.T) {
		shared(t, func(t *testing.T, w *world, other *Guard, _ *fakeStore, _ *messages) {
			mine := w.Guard
			steps(t, w, func() {
				w.Guard = other
				w.expect("held off", "alice", "right", home)
				w.Guard = mine
			})
		})
	})
}

// TestMostPauses pins that a user's pauses take no more memory than those of a few
// backends.
func TestMostPauses(t *testing.T) {
	var p pauses
	for i := range byte(100) {
		p.add(shortID{i}, 10+instant(i), instant(i))
	}
	if p.until(shortID{99}) != 109 || len(p) > maxPauses || !p.any(108) || p.any(109) {
		t.Errorf("%v", p)
	}
	p.add(shortID{1}, 1000, 109)
	if p.add(shortID{1}, 500, 110); len(p) != 1 || p.until(shortID{1}) != 1000 {
		t.Errorf("%v", p)
	}
}
