package guard

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// step is a login after some time.
type step struct {
	after  time.Duration
	user   string
	secret string
	from   string
	want   string
}

func (w *world) run(steps []step) {
	w.Helper()
	for _, s := range steps {
		time.Sleep(s.after - sinceStart())
		w.expect(s.want, s.user, s.secret, s.from)
	}
}

func TestRememberedRefusals(t *testing.T) {
	const ms, m = time.Millisecond, time.Minute
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"asked about again after 1, 5, 15, 30, 30 minutes", []step{
			{0, "alice", "old", office, "denied"},
			{m - ms, "alice", "old", office, "remembered"},
			{m, "alice", "old", office, "denied"},
			{6*m - ms, "alice", "old", office, "remembered"},
			{6 * m, "alice", "old", office, "denied"},
			{21*m - ms, "alice", "old", office, "remembered"},
			{31 * m, "alice", "old", office, "denied"}, // the budget was used up at 21
			{61*m - ms, "alice", "old", office, "remembered"},
			{61 * m, "alice", "old", office, "denied"},
			{91*m - ms, "alice", "old", office, "remembered"},
			{91 * m, "alice", "old", office, "denied"},
		}},
		{"within the budget", []step{
			{0, "alice", "old", office, "denied"},
			{0, "alice", "x", thief, "denied"},
			{0, "alice", "y", thief, "denied"},
			{0, "alice", "old", office, "remembered"},
			{m, "alice", "old", office, "held"},
		}},
		{"whatever the source", []step{
			{0, "alice", "old", office, "denied"},
			{0, "alice", "old", home, "remembered"},
			{0, "alice", "old", "", "remembered"},
		}},
		{"right in the meantime", []step{
			{0, "alice", "soon", office, "denied"},
			{30 * time.Second, "alice", "soon", office, "remembered"},
			{m, "alice", "soon", office, "granted"},
			{2 * m, "alice", "soon", home, "granted"},
		}},
		{"right before: 60 seconds at most", []step{
			{0, "alice", "right", office, "granted"},
			{2 * m, "alice", "right", office, "denied"}, // the account is locked
			{3*m - ms, "alice", "right", office, "remembered"},
			{3 * m, "alice", "right", home, "denied"},
			{4 * m, "alice", "right", office, "denied"},
			{5*m - ms, "alice", "right", office, "remembered"},
			{5 * m, "alice", "right", home, "granted"},
			{5 * m, "alice", "right", office, "granted"},
		}},
		{"right before, and another since: as any other", []step{
			{0, "alice", "right", phoneIP, "granted"},
			{2 * m, "alice", "right", phoneIP, "denied"},
			{150 * time.Second, "alice", "new", office, "granted"},
			{3 * m, "alice", "right", phoneIP, "denied"},
			{8*m - ms, "alice", "right", phoneIP, "remembered"},
			{8 * m, "alice", "right", phoneIP, "denied"},
			{23*m - ms, "alice", "right", phoneIP, "remembered"},
		}},
		{"right before in another spelling, within a minute: by the budget", []step{
			{0, "alice", "right", office, "granted"},
			{2 * m, "alice", "right", office, "denied"},
			{2 * m, "alice/d", "right", office, "denied"},
			{2 * m, "alice/e", "right", office, "denied"},
			{2 * m, "alice/f", "right", office, "denied"},
			{2 * m, "alice/g", "right", office, "held"},
			{2 * m, "alice/f", "right", office, "remembered"},
			{3 * m, "alice/g", "right", office, "denied"},
			{3 * m, "alice/h", "right", office, "held"},
		}},
		{"right before for a namesake: by the budget", []step{
			{0, "alice", "right", office, "granted"},
			{2 * m, "alice@d", "right", office, "denied"},
			{2 * m, "alice@e", "right", office, "denied"},
			{2 * m, "alice@f", "right", office, "denied"},
			{2 * m, "alice@g", "right", office, "held"},
			{2 * m, "alice", "new", office, "granted"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.answer = func(a *login.Attempt) login.Verdict {
					now := sinceStart()
					if a.Secret == "new" || a.Secret == "soon" && now >= m || a.Secret == "right" && (now < m || now >= 5*m && tc.name == "right before: 60 seconds at most") {
						return login.Verdict{Result: login.Granted}
					}
					return login.DeniedWith("")
				}
				w.run(tc.steps)
				w.expectNothingPending(w.Guard)
			})
		})
	}
}

// TestRememberedCode pins that a refusal from memory says the same as the one that
// it repeats.
func TestRememberedCode(t *testing.T) {
	for _, code := range []imap.ResponseCode{"", imap.ResponseCodeExpired, imap.ResponseCodeContactAdmin} {
		w := newWorld(t)
		w.answer = func(*login.Attempt) login.Verdict { return login.DeniedWith(code) }
		a := attempt("alice", "x", office)
		first := w.Open(t.Context(), w.cfg, a, w.backend(a))
		again := w.Open(t.Context(), w.cfg, a, w.backend(a))
		if again.Result != first.Result || again.Code != first.Code || again.Err != ErrRemembered {
			t.Errorf("%v, then %v", first, again)
		}
		w.expectAsked(1)
	}
}

// TestManyRefusals pins how many passwords are remembered.
func TestManyRefusals(t *testing.T) {
	w := newWorld(t)
	w.cfg.AccountFailures = 100
	for i := range maxRefused + 1 {
		w.expect("denied", "alice", fmt.Sprint(i), office)
	}
	for i := range maxRefused {
		w.expect("remembered", "alice", fmt.Sprint(i+1), office)
	}
	w.expect("denied", "alice", "0", office)
	for i := range maxGranted + 1 {
		w.right["alice"] = fmt.Sprint("right", i)
		w.expect("granted", "alice", w.right["alice"], office)
	}
	// One of the passwords that were right is forgotten, too.
	w.cfg.AccountFailures = 4
	for i := range 3 {
		w.expect("denied", "alice", fmt.Sprint("guess", i), thief)
	}
	w.expect("held", "alice", "right0", thief)
	w.expect("denied", "alice", "right1", thief)
}

// phone retries a password every 30 seconds for a day.
func (w *world) phone(user, secret string, also func(i int)) {
	for i := range 2 * 60 * 24 {
		if also != nil {
			also(i)
		}
		if got := w.open(user, secret, phoneIP); got == "granted" || got == "banned" {
			w.Fatalf("after %s: %s", sinceStart(), got)
		}
		time.Sleep(30 * time.Second)
	}
}

func TestPhone(t *testing.T) {
	for _, tc := range []struct {
		name string
		most int
		run  func(w *world)
	}{
		{"wrong from the start", 50, func(w *world) { w.phone("alice", "wrong", nil) }},
		{"wrong from the start, in two spellings", 100, func(w *world) {
			w.phone("alice", "wrong", func(int) { w.open("alice@d", "wrong", phoneIP) })
		}},
		{"old, and the new one is used elsewhere", 50, func(w *world) {
			w.expect("granted", "alice", "right", phoneIP)
			w.right["alice"] = "new"
			w.expect("granted", "alice", "new", office)
			w.phone("alice", "right", func(i int) {
				if i%20 == 7 {
					w.expect("granted", "alice", "new", office)
				}
			})
		}},
		{"old, and the new one is used soon, behind the same address", 50, func(w *world) {
			w.expect("granted", "alice", "right", phoneIP)
			w.right["alice"] = "new"
			w.phone("alice", "right", func(i int) {
				if i%20 == 1 {
					w.expect("granted", "alice", "new", phoneIP)
				}
			})
		}},
		{"behind the address of a company", 100, func(w *world) {
			w.phone("alice", "wrong", func(i int) {
				w.expect("granted", "bob", "bobs", phoneIP)
				if i%60 == 59 { // a colleague mistypes twice an hour
					w.expect("denied", fmt.Sprint("colleague", i), "mistyped", phoneIP)
				}
				if w.Banned(w.cfg, attempt("", "", phoneIP).Remote) {
					w.Fatal("banned")
				}
			})
			w.denied = nil // they are of many accounts
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				tc.run(w)
				if n := len(w.denied); n > tc.most {
					t.Errorf("%d logins were denied", n)
				}
				w.expectBudget(4)
				if w.bans > 0 {
					t.Error("somebody was banned")
				}
			})
		})
	}
}

// TestPhoneAlone pins what a device with an old password costs if nobody uses the
// new one: it may be that the account is locked, and will work again.
func TestPhoneAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.expect("granted", "alice", "right", phoneIP)
		w.right["alice"] = ""
		w.phone("alice", "right", nil)
		if n := len(w.denied); n != 24*60 {
			t.Errorf("%d logins were denied in a day", n)
		}
		w.right["alice"] = "right"
		w.expect("granted", "alice", "right", phoneIP)
	})
}

// TestSuspect pins that a login that may have been a wrong password counts, and is
// not remembered as one.
func TestSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.SourceFailures = 4
		suspect := login.ThrottledFor(imap.ResponseCodeUnavailable, 0, context.Canceled)
		suspect.Suspect = true
		w.expect("granted", "alice", "right", home)
		w.answer = func(*login.Attempt) login.Verdict { return suspect }
		for i := range 3 {
			w.expect("throttled", "alice", fmt.Sprint(i%2), thief)
		}
		w.expect("held", "alice", "0", thief)
		if w.held != 1 || w.bans != 0 {
			t.Errorf("%d held, %d banned", w.held, w.bans)
		}
		w.expect("throttled", "bob", "x", thief)
		w.expect("throttled", "bob", "y", thief)
		if w.bans != 1 {
			t.Error("not banned")
		}
		// What was right before is asked about once a minute, but for the budget.
		w.expect("throttled", "alice", "right", home)
		w.expect("held", "alice", "right", home)
		time.Sleep(time.Minute)
		w.expect("throttled", "alice", "right", home)
		w.answer = nil
		time.Sleep(time.Minute)
		w.expect("granted", "alice", "right", home)
	})
}
