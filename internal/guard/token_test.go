package guard

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// bear tries to get in with a token.
func (w *world) bear(want, user, token, from string) {
	w.Helper()
	a := attempt(user, token, from)
	a.Mechanism = login.XOAuth2
	if got := word(w.Open(context.Background(), w.cfg, a, w.backend(a))); got != want {
		w.Errorf("%s with the token %s from %s after %s: %s, want %s", user, token, from, sinceStart(), got, want)
	}
}

// issue makes a token the one that is right.
func (w *world) issue(user, token string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.right[user] = token
}

// TestExpiredTokens pins that clients may present their tokens until they have expired,
// as all of them do: one after the other on the devices of a user, and all at once at the
// address of a company.
func TestExpiredTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Exempt = []netip.Prefix{netip.MustParsePrefix(home + "/32")}
		for _, from := range []string{office, home} {
			token := func(hour, device int) string { return fmt.Sprintf("token %d of %d at %s", hour, device, from) }
			for device := range 8 {
				w.issue("alice", token(0, device))
				w.bear("granted", "alice", token(0, device), from)
			}
			for hour := range 3 {
				time.Sleep(time.Hour)
				for device := range 8 {
					w.issue("alice", token(hour+1, device))
					w.bear("denied", "alice", token(hour, device), from)
					w.bear("remembered", "alice", token(hour, device), from)
					w.bear("granted", "alice", token(hour+1, device), from)
				}
			}
		}
		staff := func(f func(user string)) {
			for i := range 2 * w.cfg.SourceFailures {
				f(fmt.Sprint("user", i))
			}
		}
		staff(func(user string) {
			w.issue(user, user+" in the morning")
			w.bear("granted", user, user+" in the morning", office)
		})
		staff(func(user string) {
			w.issue(user, user+" at noon")
			w.bear("denied", user, user+" in the morning", office)
		})
		staff(func(user string) { w.bear("granted", user, user+" at noon", office) })
		if w.bans != 0 || w.held != 0 {
			t.Errorf("%d bans, %d accounts held", w.bans, w.held)
		}
		w.expectNothingPending(w.Guard)
	})
}

// TestExpiredTokensUnknown pins that clients do so as well when the guard does not know
// that the tokens were right, as after a restart: what they get wrong is taken back when
// they have a new one. It is so with a store.
func TestExpiredTokensUnknown(t *testing.T) {
	steps := func(w *world) {
		for i := range 2 * w.cfg.SourceFailures {
			user := fmt.Sprint("user", i)
			w.issue(user, user+" new")
			w.bear("denied", user, user+" old", office)
			w.bear("granted", user, user+" new", office)
		}
		if w.bans != 0 {
			w.Errorf("%d bans", w.bans)
		}
		w.guess(w.cfg.SourceFailures-1, office)
		w.expect("granted", "bob", "bobs", office) // which takes nothing of others back
		w.expect("denied", "carol", "x", office)
		if w.bans != 1 {
			w.Errorf("%d bans, want 1", w.bans)
		}
	}
	synctest.Test(t, func(t *testing.T) { steps(newWorld(t)) })
	shared(t, func(t *testing.T, w *world, _ *Guard, _ *fakeStore, _ *messages) { steps(w) })
}

// TestWrongTokens pins that tokens which were never right count like passwords, as do
// passwords that were.
func TestWrongTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.bear("granted", "alice", "right", office)
		for i := range 3 {
			w.bear("denied", "alice", fmt.Sprint("token", i), thief)
		}
		w.bear("held", "alice", "another", thief)
		w.expect("granted", "bob", "bobs", office)
		w.issue("bob", "new")
		w.expect("denied", "bob", "bobs", thief)
		w.expect("denied", "bob", "x", thief)
		w.expect("denied", "bob", "y", thief)
		w.expect("held", "bob", "z", thief)
	})
}

// TestTokensLeaveRoom pins that tokens do not take the place of passwords that are known
// to be right, nor the other way round, and that of each only so many are known.
func TestTokensLeaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.AccountFailures, w.cfg.KnownReserve = 1, 0
		w.expect("granted", "alice", "right", office)
		for i := range maxGranted + 1 {
			w.issue("alice", fmt.Sprint("token", i))
			w.bear("granted", "alice", fmt.Sprint("token", i), office)
		}
		w.issue("alice", "right")
		w.expect("denied", "alice", "x", thief)
		w.expect("granted", "alice", "right", home)
		for i := range maxGranted {
			w.bear("denied", "alice", fmt.Sprint("token", i+1), home)
		}
		w.bear("held", "alice", "token0", home)
		id := w.keys.account("alice")
		a := w.memory.lockAccount(id).peek(id)
		defer w.memory.accounts[id[0]%shardCount].mu.Unlock()
		if len(a.granted) != maxGranted+1 || len(a.failures) != 1 {
			t.Errorf("%d are known to be right, and %d failures", len(a.granted), len(a.failures))
		}
	})
}

// TestTokenIsNoPassword pins that a password that is shown as a token, as by a mail program
// that tries one mechanism after the other, is none: neither is the password wrong for
// that, nor a token right as a password.
func TestTokenIsNoPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.PositiveCache = time.Hour
		w.answer = func(a *login.Attempt) login.Verdict {
			if (a.Mechanism == login.XOAuth2) == (a.Secret == "token") {
				return login.Verdict{Result: login.Granted}
			}
			return login.DeniedWith("")
		}
		for range 3 {
			w.bear("denied", "alice", "right", home)
			w.expect("granted", "alice", "right", home)
			w.bear("granted", "alice", "token", home)
			time.Sleep(w.cfg.Window)
		}
		if got := w.check("alice", "token", thief); got != "denied" {
			t.Errorf("the token is %s as a password", got)
		}
		w.expect("granted", "alice", "right", home)
	})
}
