//go:build integration && unix

package imapredis

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/redistest"
)

// ledger speaks to counts with few words. That it decides as the memory of the
// guard does is tested there.
type ledger struct {
	t *testing.T
	*counts
	now func() time.Time
}

func newLedger(t *testing.T, c *counts) *ledger { return &ledger{t, c, time.Now} }

var (
	ann = guard.ID{1}
	bob = guard.ID{2}
)

func src(n int) [8]byte { return [8]byte{byte(n), byte(n >> 8), 1} }

func (l *ledger) ask(ticket int, account guard.ID, source [8]byte, known bool) guard.Admitted {
	l.t.Helper()
	got, err := l.Admit(context.Background(), guard.Admission{
		Ticket: uint64(ticket), Account: account, Source: source, Home: source, Known: known,
		Now: l.now(), Window: 30 * time.Minute, AccountFailures: 4, KnownReserve: 1, SourceFailures: 3,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return got
}

func (l *ledger) admit(ticket int, account guard.ID, source [8]byte) bool {
	l.t.Helper()
	return l.ask(ticket, account, source, false).Allowed
}

func (l *ledger) settle(s guard.Settlement) {
	l.t.Helper()
	s.Now, s.Window, s.Home, s.Forgive = l.now(), 30*time.Minute, s.Source, 4
	s.SourceFailures, s.SourceBan = 3, 15*time.Minute
	if err := l.Settle(context.Background(), s); err != nil {
		l.t.Fatal(err)
	}
}

// fail tries wrong passwords until there is a hold, and returns how many it took.
func (l *ledger) fail(from int, account guard.ID) int {
	l.t.Helper()
	for n := range 10 {
		if !l.admit(from+n, account, src(from+n)) {
			return n
		}
		l.settle(guard.Settlement{Ticket: uint64(from + n), Account: account, Source: src(from + n), Failed: true})
	}
	return 10
}

func (l *ledger) merge(s *guard.Snapshot) {
	l.t.Helper()
	if err := l.Merge(context.Background(), s); err != nil {
		l.t.Fatal(err)
	}
}

// TestKnown pins that known sources have the reserve, whether the instance knows
// them or only the server does, and that the server knows few.
func TestKnown(t *testing.T) {
	l := newLedger(t, open(t, redistest.Start(t)))
	for n := range maxKnown + 1 {
		l.settle(guard.Settlement{Ticket: 1, Account: ann, Source: src(100 + n), Granted: true})
		time.Sleep(2 * time.Millisecond) // the time says which was first
	}
	if got := l.fail(1, ann); got != 3 {
		t.Fatalf("%d were let through, want 3", got)
	}
	if !l.ask(50, ann, src(50), true).Allowed {
		t.Error("a source that the instance knows has no reserve")
	}
	l.settle(guard.Settlement{Ticket: 50, Account: ann, Source: src(50)})
	for n, want := range map[int]bool{0: false, 1: true, maxKnown: true} {
		if got := l.admit(60+n, ann, src(100+n)); got != want {
			t.Errorf("source %d: allowed %t, want %t", n, got, want)
		}
		l.settle(guard.Settlement{Ticket: uint64(60 + n), Account: ann, Source: src(100 + n)})
	}
	if !l.admit(90, bob, src(1)) {
		t.Error("another account is held, too")
	}
}

// TestCrowd pins that a source has no more under way than could be wrong before it is
// banned, whatever the accounts, and that what an instance has under way that has died
// does not count for long.
func TestCrowd(t *testing.T) {
	server := redistest.Start(t)
	c := open(t, server)
	l := newLedger(t, c)
	account := func(n int) guard.ID { return guard.ID{0x77, byte(n)} }
	admit := func(n int, allowed bool) {
		t.Helper()
		if got := l.ask(n, account(n), src(1), false); got.Allowed != allowed || got.Crowded == allowed {
			t.Errorf("attempt %d: %+v", n, got)
		}
	}
	end := func(n int, failed bool) {
		t.Helper()
		l.settle(guard.Settlement{Ticket: uint64(n), Account: account(n), Source: src(1), Pair: [8]byte{byte(n)}, Failed: failed})
	}
	for n := range 4 {
		admit(n, n < 3)
	}
	if !l.admit(9, ann, src(2)) || !l.admit(10, ann, [8]byte{}) {
		t.Error("another source is crowded as well")
	}
	end(0, false)
	admit(4, true)
	end(1, true)
	admit(5, false)
	end(2, true)
	admit(6, false)
	end(4, false)
	admit(7, true) // the one that bans
	end(7, true)
	if got := l.ask(8, account(8), src(1), false); got.Banned.IsZero() {
		t.Errorf("not banned: %+v", got)
	}
	// What somebody else has put there is not under way.
	server.Do("HSET", c.crowd(src(3)), "1", "x", "2", "", "3", "-1")
	c.reservedFor = 300 * time.Millisecond
	for n := range 4 {
		if got := l.ask(20+n, account(20+n), src(3), false); got.Crowded != (n == 3) {
			t.Errorf("attempt %d: %+v", 20+n, got)
		}
	}
	time.Sleep(c.reservedFor + 50*time.Millisecond)
	if got := l.ask(30, account(30), src(3), false); !got.Allowed {
		t.Errorf("after they have died: %+v", got)
	}
	if n := server.Do("HLEN", c.crowd(src(3))); strings.TrimSpace(n) != "1" {
		t.Errorf("%s are left", n)
	}
}

// TestReservation pins that an attempt under way counts, until it is settled or its
// instance is believed to be dead, and that it counts after that if it was not.
func TestReservation(t *testing.T) {
	c := open(t, redistest.Start(t))
	c.reservedFor = 300 * time.Millisecond
	l := newLedger(t, c)
	for n := range 3 {
		if !l.admit(n, ann, src(n)) {
			t.Fatalf("attempt %d is not allowed", n)
		}
	}
	if l.admit(3, ann, src(3)) {
		t.Fatal("attempts under way do not count")
	}
	time.Sleep(c.reservedFor + 50*time.Millisecond)
	if !l.admit(4, ann, src(4)) {
		t.Fatal("the instance has died, and its attempts still count")
	}
	for n := range 3 {
		l.settle(guard.Settlement{Ticket: uint64(n), Account: ann, Source: src(n), Failed: true})
	}
	time.Sleep(c.reservedFor + 50*time.Millisecond)
	if l.admit(5, ann, src(5)) {
		t.Fatal("what came late does not count")
	}
}

// TestClocks pins that instances keep to one number, whatever their clocks say.
func TestClocks(t *testing.T) {
	server := redistest.Start(t)
	l := newLedger(t, open(t, server))
	for n, skew := range []time.Duration{-24 * time.Hour, 24 * time.Hour, 0} {
		l.now = func() time.Time { return time.Now().Add(skew) }
		if !l.admit(n, ann, src(n)) {
			t.Fatalf("attempt %d is not allowed", n)
		}
		l.settle(guard.Settlement{Ticket: uint64(n), Account: ann, Source: src(n), Failed: true})
	}
	for _, skew := range []time.Duration{-24 * time.Hour, 24 * time.Hour, 0} {
		l.now = func() time.Time { return time.Now().Add(skew) }
		if l.admit(9, ann, src(9)) {
			t.Errorf("an instance whose clock is off by %v lets one more through", skew)
		}
	}

	// Ends are told in the time of the one who asks.
	l.now = func() time.Time { return time.Now().Add(time.Hour) }
	l.settle(guard.Settlement{Ticket: 20, Account: bob, Source: src(20), HeldOff: l.now().Add(time.Minute)})
	for _, skew := range []time.Duration{-24 * time.Hour, 24 * time.Hour, 0} {
		l.now = func() time.Time { return time.Now().Add(skew) }
		if left := l.ask(21, bob, src(21), false).HeldOff.Sub(l.now()); left < 50*time.Second || left > time.Minute {
			t.Errorf("with a clock that is off by %v, held off for %v, want a minute", skew, left)
		}
	}
}

// TestMerge pins that what is known does not count twice, and that what was
// forgotten does not come back.
func TestMerge(t *testing.T) {
	l := newLedger(t, open(t, redistest.Start(t)))
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).UnixMilli() }
	failures := func(n int) []guard.FailureSnapshot {
		var f []guard.FailureSnapshot
		for i := range n {
			f = append(f, guard.FailureSnapshot{Ticket: uint64(i), Source: src(i), At: ago(time.Minute)})
		}
		return f
	}
	account := func(id guard.ID, a guard.AccountSnapshot) *guard.Snapshot {
		a.ID = id
		return &guard.Snapshot{Accounts: []guard.AccountSnapshot{a}}
	}

	// Twice the same is the same, and the same as what was settled here.
	if !l.admit(0, ann, src(0)) || !l.admit(1, ann, src(1)) {
		t.Fatal("not allowed")
	}
	l.settle(guard.Settlement{Ticket: 0, Account: ann, Source: src(0), Failed: true})
	for range 3 {
		l.merge(account(ann, guard.AccountSnapshot{Failures: failures(2)}))
	}
	if got := l.fail(10, ann); got != 1 {
		t.Errorf("after two failures %d were let through, want 1", got)
	}

	// A login has the failures of its source forgotten, in whatever order they come.
	l.settle(guard.Settlement{Ticket: 100, Account: bob, Source: src(0), Granted: true})
	l.merge(account(bob, guard.AccountSnapshot{Failures: failures(2)}))
	l.merge(account(bob, guard.AccountSnapshot{Known: []guard.KnownSnapshot{{Source: src(1), At: ago(0)}}}))
	if got := l.fail(10, bob); got != 3 {
		t.Errorf("after two failures that were forgiven, %d were let through, want 3", got)
	}

	// What was not just mistyped stays.
	stale := failures(2)
	stale[0].Stale, stale[1].Stale = true, true
	dan := guard.ID{4}
	l.merge(account(dan, guard.AccountSnapshot{Failures: stale, Known: []guard.KnownSnapshot{{Source: src(0), At: ago(0)}, {Source: src(1), At: ago(0)}}}))
	if got := l.fail(10, dan); got != 1 {
		t.Errorf("after two failures that are not forgiven, %d were let through, want 1", got)
	}

	// An operator has them forgotten, too.
	if err := l.LiftAccount(context.Background(), ann); err != nil {
		t.Fatal(err)
	}
	l.merge(account(ann, guard.AccountSnapshot{Failures: failures(2)}))
	if got := l.fail(20, ann); got != 3 {
		t.Errorf("after a lift, %d were let through, want 3", got)
	}

	// Bans, and being held off.
	eve := guard.ID{3}
	l.merge(&guard.Snapshot{
		Accounts: []guard.AccountSnapshot{{ID: eve, Pauses: []guard.PauseSnapshot{{Until: ago(-time.Minute)}}}},
		Sources: []guard.SourceSnapshot{
			{ID: src(1), Banned: ago(-time.Minute)},
			{ID: src(2), Pairs: []guard.KnownSnapshot{{Source: src(1), At: ago(time.Minute)}, {Source: src(2), At: ago(time.Minute)}}},
			{ID: src(3), Banned: ago(time.Minute)},
		},
	})
	if got := l.ask(1, eve, src(1), false); got.HeldOff.Before(time.Now()) || got.Banned.Before(time.Now()) {
		t.Errorf("held off %v, banned %v", got.HeldOff, got.Banned)
	}
	if got := l.ask(2, bob, src(2), false); !got.Banned.IsZero() {
		t.Errorf("two wrong logins have banned a source: %v", got.Banned)
	}
	l.settle(guard.Settlement{Ticket: 3, Account: bob, Source: src(2), Pair: src(3), Failed: true})
	if got := l.ask(2, bob, src(2), false); got.Banned.IsZero() {
		t.Error("the third wrong login has not banned the source")
	}
	if err := l.LiftSource(context.Background(), src(2)); err != nil {
		t.Fatal(err)
	}
	if got := l.ask(2, bob, src(2), false); !got.Banned.IsZero() {
		t.Error("the ban was not lifted")
	}
	if got := l.ask(2, bob, src(3), false); !got.Banned.IsZero() {
		t.Errorf("an old ban is back: %v", got.Banned)
	}
}

// TestMergeMuch merges more than fits into a run, twice.
func TestMergeMuch(t *testing.T) {
	server := redistest.Start(t)
	l := newLedger(t, open(t, server))
	s := much(20000, 20000)
	for range 2 {
		l.merge(s)
	}
	if got, want := server.Do("DBSIZE"), "40001"; got != want {
		t.Errorf("%s keys, want %s", got, want)
	}
	for _, a := range []guard.AccountSnapshot{s.Accounts[0], s.Accounts[runKeys], s.Accounts[len(s.Accounts)-1]} {
		if got := l.fail(1000, a.ID); got != 1 {
			t.Errorf("after two failures %d were let through, want 1", got)
		}
	}

	// The account with too much keeps the latest.
	var many guard.AccountSnapshot
	for n := range 3 * maxFailures {
		many.Failures = append(many.Failures, guard.FailureSnapshot{Ticket: uint64(n), Source: src(n), At: time.Now().Add(time.Duration(n-4*maxFailures) * time.Second).UnixMilli()})
	}
	for n := range 3 {
		many.ID = guard.ID{15: 1}
		l.merge(&guard.Snapshot{Accounts: []guard.AccountSnapshot{{ID: many.ID, Failures: many.Failures[n*maxFailures : (n+1)*maxFailures]}}})
	}
	if got := server.Do("HLEN", l.account(many.ID)); got != "1000" {
		t.Errorf("%s failures are kept, want 1000", got)
	}
}

// much returns a snapshot with two failures and a known source for each account,
// and two wrong logins for each source.
func much(accounts, sources int) *guard.Snapshot {
	s := new(guard.Snapshot)
	at := time.Now().Add(-time.Minute).UnixMilli()
	for n := range accounts {
		s.Accounts = append(s.Accounts, guard.AccountSnapshot{
			ID:       guard.ID{byte(n), byte(n >> 8), byte(n >> 16), 9},
			Failures: []guard.FailureSnapshot{{Ticket: 1, Source: src(1), At: at}, {Ticket: 2, Source: src(2), At: at}},
			Known:    []guard.KnownSnapshot{{Source: src(3), At: at}},
		})
	}
	for n := range sources {
		s.Sources = append(s.Sources, guard.SourceSnapshot{
			ID:    [8]byte{byte(n), byte(n >> 8), byte(n >> 16), 9},
			Pairs: []guard.KnownSnapshot{{Source: src(1), At: at}, {Source: src(2), At: at}},
		})
	}
	return s
}
