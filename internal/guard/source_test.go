package guard

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

func (w *world) isBanned(from string) bool {
	return w.Banned(w.cfg, netip.MustParseAddr(from))
}

// guess spends wrong logins, each of another account.
func (w *world) guess(n int, from string) {
	w.Helper()
	for i := range n {
		w.expect("denied", fmt.Sprint("user", i, from), "Summer2026", from)
	}
}

func TestSourceBan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.expect("granted", "alice", "right", thief)
		w.guess(19, thief)
		if w.isBanned(thief) || w.bans != 0 {
			t.Fatal("banned too early")
		}
		// The same again is nothing new, whoever answers it.
		w.expect("remembered", "user3"+thief, "Summer2026", thief)
		time.Sleep(time.Minute)
		w.expect("denied", "user3"+thief, "Summer2026", thief)
		if w.isBanned(thief) {
			t.Fatal("banned for the same again")
		}
		w.expect("denied", "one more", "x", thief)
		if !w.isBanned(thief) || w.bans != 1 {
			t.Fatal("not banned")
		}
		w.expect("banned", "alice", "right", thief)
		w.expect("granted", "alice", "right", home)
		w.expect("granted", "alice", "right", "")
		time.Sleep(15*time.Minute - time.Millisecond)
		w.expect("banned", "alice", "right", thief)
		time.Sleep(time.Millisecond)
		if w.isBanned(thief) {
			t.Error("still banned")
		}
		// It begins anew.
		w.guess(1, thief)
		w.expect("granted", "alice", "right", thief)
	})
}

func TestSourceWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 100 {
			w.expect("denied", fmt.Sprint(i), "x", thief)
			time.Sleep(w.cfg.Window / 18)
		}
		if w.bans > 0 {
			t.Error("banned")
		}
	})
}

// TestSourceRefused pins that what the guard answers itself counts against nobody.
func TestSourceRefused(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		w.expect("denied", "alice", fmt.Sprint(i), thief)
	}
	for i := range 100 {
		w.expect("held", "alice", fmt.Sprint("more", i), home)
		w.expect("remembered", "alice", "1", home)
	}
	if w.isBanned(home) || w.bans > 0 {
		t.Error("banned")
	}
	w.expectAsked(3)
}

func TestSourceNetworks(t *testing.T) {
	for _, tc := range []struct {
		from, other string
		same        bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:0:ffff:ffff:ffff:ffff", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
		{"::192.0.2.1", "192.0.2.1", false},
	} {
		w := newWorld(t)
		w.guess(20, tc.from)
		if !w.isBanned(tc.from) || w.isBanned(tc.other) != tc.same {
			t.Errorf("%s is banned, and %s: %v", tc.from, tc.other, !tc.same)
		}
		// Who is known is known by the same.
		w = newWorld(t)
		w.cfg.KnownReserve = 3
		w.expect("granted", "alice", "right", tc.from)
		w.expect("denied", "alice", "x", thief)
		want := "held"
		if tc.same {
			want = "denied"
		}
		w.expect(want, "alice", "y", tc.other)
	}
}

func TestExempt(t *testing.T) {
	w := newWorld(t)
	for _, p := range []string{"192.0.2.0/24", "2001:db8::/32", "fe80::/10"} {
		w.cfg.Exempt = append(w.cfg.Exempt, netip.MustParsePrefix(p))
	}
	for _, from := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "fe80::1%eth0"} {
		w.guess(30, from)
		if w.isBanned(from) {
			t.Errorf("%s is banned", from)
		}
	}
	if w.bans > 0 {
		t.Errorf("told of %d bans", w.bans)
	}
	// One who was banned before is free at once.
	w.guess(20, thief)
	w.expect("banned", "alice", "right", thief)
	w.cfg.Exempt = append(w.cfg.Exempt, netip.MustParsePrefix(thief+"/32"))
	w.expect("granted", "alice", "right", thief)
	if w.isBanned(thief) {
		t.Error("still banned")
	}
}

// TestUnknownSource pins that an attempt whose source is not known counts against
// the account alone.
func TestUnknownSource(t *testing.T) {
	w := newWorld(t)
	w.guess(30, "")
	if w.bans > 0 || w.Banned(w.cfg, netip.Addr{}) {
		t.Error("banned")
	}
	w.expect("granted", "alice", "right", "")
	for i := range 3 {
		w.expect("denied", "alice", fmt.Sprint(i), "")
	}
	w.expect("held", "alice", "x", "") // it is not known from the login before
}

// TestStricter pins that a guard goes on when its operator changes his mind.
func TestStricter(t *testing.T) {
	w := newWorld(t)
	w.guess(19, thief)
	for i := range 3 {
		w.expect("denied", "alice", fmt.Sprint(i), home)
	}
	strict := *w.cfg
	strict.AccountFailures, strict.KnownReserve, strict.SourceFailures = 1, 0, 2
	w.cfg = &strict
	w.expect("held", "alice", "x", thief)
	w.expect("denied", "bob", "x", thief)
	if !w.isBanned(thief) {
		t.Error("not banned")
	}
	w.cfg = testConfig()
	w.expect("denied", "bob", "y", home)
}

// TestOutage pins that no trouble of the backend counts against anybody.
func TestOutage(t *testing.T) {
	for _, tc := range []struct {
		name string
		v    login.Verdict
	}{
		{"unavailable", login.UnavailableFor(errPanic)},
		{"the zero verdict", login.Verdict{}},
		{"throttled", login.ThrottledFor("LIMIT", 0, errPanic)},
		{"unavailable, and odd", login.Verdict{Result: login.Unavailable, Suspect: true, Backoff: time.Hour}},
		{"throttled, for less than no time", login.ThrottledFor("LIMIT", -time.Hour, errPanic)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.answer = func(*login.Attempt) login.Verdict { return tc.v }
			for i := range 100 {
				w.expect(tc.v.Result.String(), "alice", fmt.Sprint(i%30), thief)
			}
			w.expectAsked(100)
			if w.isBanned(thief) || w.held > 0 {
				t.Error("it counts")
			}
			w.expectNothingPending(w.Guard)
			w.answer = nil
			for i := range 3 {
				w.expect("denied", "alice", fmt.Sprint(i), thief)
			}
		})
	}
}

// TestThrottled pins that a backend is left alone with a user for the time that it
// names.
func TestThrottled(t *testing.T) {
	for _, tc := range []struct{ backoff, held time.Duration }{
		{20 * time.Second, 20 * time.Second},
		{time.Millisecond, time.Millisecond},
		{time.Hour, 15 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.PositiveCache = time.Hour
			if got := w.check("alice", "right", office); got != "granted" {
				t.Error(got)
			}
			w.answer = func(*login.Attempt) login.Verdict { return login.ThrottledFor("LIMIT", tc.backoff, errPanic) }
			w.expect("throttled", "alice", "right", office)
			w.answer = nil
			time.Sleep(tc.held - time.Millisecond)
			if tc.held > time.Millisecond {
				w.expect("held off", "alice", "right", office)
				w.expect("held off", "ALICE@d", "x", home)
				w.expectAsked(2)
			}
			w.expect("granted", "bob", "bobs", office)
			time.Sleep(time.Millisecond)
			w.expect("granted", "alice", "right", office)
			w.expectNothingPending(w.Guard)
		})
	}
}
