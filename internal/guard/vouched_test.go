package guard

import (
	"context"
	"crypto/x509"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// vouch tries to get in with a certificate.
func (w *world) vouch(want, user, from string, answer login.Verdict) {
	w.Helper()
	a := attempt(user, "", from)
	a.Certificate = new(x509.Certificate)
	got := word(w.Open(context.Background(), w.cfg, a, func(_ context.Context, right bool) login.Verdict {
		if !right {
			w.Errorf("%s is taken for somebody who guesses", user)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.asked++
		return answer
	}))
	if got != want {
		w.Errorf("%s with a certificate from %s after %s: %s, want %s", user, from, sinceStart(), got, want)
	}
}

// TestVouched pins that a certificate is no guess, in whatever way it ends, and that
// it opens nothing for passwords.
func TestVouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		granted := login.Verdict{Result: login.Granted}
		denied := login.DeniedWith(imap.ResponseCodeAuthorizationFailed)
		suspect := login.ThrottledFor(imap.ResponseCodeUnavailable, 0, ErrHeldOff)
		suspect.Suspect, suspect.Err = true, context.Canceled
		unanswered := login.UnavailableFor(context.Canceled)
		unanswered.Unanswered = true

		// Nothing counts, against nobody.
		for range 30 {
			w.vouch("denied", "alice", home, denied)
			w.vouch("throttled", "alice", home, suspect)
			w.vouch("unavailable", "alice", home, unanswered)
			w.vouch("granted", "alice", home, granted)
		}
		w.expectAsked(120)
		if w.isBanned(home) || w.bans+w.held > 0 {
			t.Error("something was counted")
		}
		w.expect("granted", "alice", "right", home)

		// A hold of the account is for those who guess.
		for _, secret := range []string{"a", "b", "c"} {
			w.expect("denied", "bob", secret, thief)
		}
		w.expect("held", "bob", "d", thief)
		w.vouch("granted", "bob", phoneIP, granted)
		// And stays, for who has no certificate: it makes no source known.
		w.expect("held", "bob", "d", phoneIP)
		w.expect("held", "bob", "", phoneIP)

		// Who is banned stays so.
		w.guess(17, thief)
		w.vouch("banned", "alice", thief, granted)
		w.vouch("granted", "alice", "", granted)
		w.cfg.Exempt = []netip.Prefix{netip.MustParsePrefix(thief + "/32")}
		w.vouch("granted", "alice", thief, granted)

		// A backend that wants to be left alone with somebody is.
		asked := w.asked
		w.vouch("throttled", "carol", home, login.ThrottledFor(imap.ResponseCodeLimit, time.Minute, context.Canceled))
		w.vouch("held off", "Carol@example.org", phoneIP, granted)
		w.expect("held off", "carol", "x", home)
		w.expectAsked(asked + 1)
		time.Sleep(time.Minute)
		w.vouch("granted", "carol", home, granted)
		w.vouch("throttled", "carol", home, login.ThrottledFor(imap.ResponseCodeLimit, 24*time.Hour, context.Canceled))
		time.Sleep(maxBackoff)
		w.vouch("granted", "carol", home, granted)
		w.expectNothingPending(w.Guard)
	})
}
