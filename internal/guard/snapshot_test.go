package guard

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"math"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// restart returns a guard that has read what another has written.
func (w *world) restart(g *Guard) *Guard {
	w.Helper()
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(g.Snapshot()); err != nil {
		w.Fatal(err)
	}
	for _, secret := range []string{"alice", "bob", "right", "bobs", office, thief} {
		if bytes.Contains(b.Bytes(), []byte(secret)) {
			w.Errorf("%q is in the snapshot", secret)
		}
	}
	s := new(Snapshot)
	if err := gob.NewDecoder(&b).Decode(s); err != nil {
		w.Fatal(err)
	}
	fresh := w.instance()
	fresh.Restore(s)
	return fresh
}

func TestSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		time.Sleep(time.Hour)
		w.expect("granted", "alice", "right", office)
		for i := range 3 {
			w.expect("denied", "alice", fmt.Sprint(i), home)
			time.Sleep(time.Minute)
		}
		w.guess(20, thief)
		w.guess(10, home)
		w.answer = func(*login.Attempt) login.Verdict { return login.ThrottledFor("LIMIT", 10*time.Minute, errPanic) }
		w.expect("throttled", "bob", "x", home)
		w.answer = nil

		for range 2 { // what was restored can be written again
			time.Sleep(time.Minute)
			before := w.Snapshot()
			w.Guard = w.restart(w.Guard)
			if after := w.Snapshot(); !reflect.DeepEqual(before, after) {
				t.Errorf("%+v\nwas restored as\n%+v", before, after)
			}
		}
		if changes := w.Changes(); changes != 0 {
			t.Errorf("%d changes", changes)
		}
		w.expect("banned", "alice", "right", thief)
		w.expect("held off", "bob", "bobs", home)
		w.expect("held", "alice", "x", home)
		// It is listed again as soon as somebody notices.
		if a, _ := w.Holds(); len(a) != 1 || a[0].User != "alice" || time.Until(a[0].Until) != 25*time.Minute {
			t.Errorf("%v are held", a)
		}
		if w.held != 1 {
			t.Errorf("told %d times", w.held)
		}
		if !w.Knows(w.cfg, "alice") {
			t.Error("alice is not known")
		}
		w.expect("denied", "alice", "x", office) // it is known from before
		w.guess(6, home)
		if w.isBanned(home) {
			t.Error("banned too early")
		}
		w.expect("denied", "one more", "x", home)
		if !w.isBanned(home) {
			t.Error("what counted before the restart is lost")
		}
		if w.Changes() == 0 {
			t.Error("no changes")
		}
		// In the end nothing is left but who is known.
		time.Sleep(24 * time.Hour)
		if s := w.Snapshot(); len(s.Accounts) != 1 || len(s.Accounts[0].Known) != 1 || len(s.Accounts[0].Failures) > 0 || len(s.Sources) > 0 {
			t.Errorf("%+v is left", s)
		}
		time.Sleep(knownFor)
		if s := w.Snapshot(); len(s.Accounts) > 0 {
			t.Errorf("%+v is left", s)
		}
	})
}

// TestForget pins that what means nothing any more takes no memory.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.guess(100, "")
		w.guess(20, thief)
		w.guess(3, home)
		w.expect("granted", "alice", "right", office)
		entries := func() (n [2]int) {
			for i := range w.memory.accounts {
				n[0] += len(w.memory.accounts[i].entries)
				n[1] += len(w.memory.sources[i].entries)
			}
			return n
		}
		w.Snapshot()
		if got := entries(); got != [2]int{124, 2} {
			t.Errorf("%d accounts and sources", got)
		}
		time.Sleep(w.cfg.Window)
		w.Snapshot()
		if got := entries(); got != [2]int{124, 0} {
			t.Errorf("%d accounts and sources, although refusals are remembered", got)
		}
		time.Sleep(refusedFor)
		w.Snapshot()
		if got := entries(); got != [2]int{1, 0} {
			t.Errorf("%d accounts and sources", got)
		}
	})
}

// TestRestoreGarbage pins that a snapshot can neither break a guard nor hold or
// ban anybody for ever, nor be too large for it.
func TestRestoreGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id := w.keys.account("alice")
		at := attempt("", "", thief).Remote
		source := w.keys.source(at)
		backend := w.keys.ticket(w.cfg, attempt("alice", "", thief), false).backend
		var s Snapshot
		times := []int64{0, -1, 1, math.MinInt64, math.MaxInt64, time.Now().UnixMilli(), time.Now().Add(1000 * time.Hour).UnixMilli()}
		for i := range 3000 {
			when := times[i%len(times)]
			s.Accounts = append(s.Accounts, AccountSnapshot{ID: id, Pauses: []PauseSnapshot{{Backend: [8]byte{byte(i), byte(i >> 8)}, Until: when}, {Backend: backend, Until: when}}, Failures: []FailureSnapshot{{Ticket: uint64(i / 2), At: when}}, Known: []KnownSnapshot{{At: when}}})
			s.Sources = append(s.Sources, SourceSnapshot{ID: source, Banned: when, Pairs: []KnownSnapshot{{At: when}}})
		}
		many := AccountSnapshot{ID: id}
		for i := range 3000 {
			many.Failures = append(many.Failures, FailureSnapshot{Ticket: uint64(i), At: times[i%len(times)]})
			many.Known = append(many.Known, KnownSnapshot{At: times[i%len(times)]})
		}
		s.Accounts = append(s.Accounts, many)
		s.Sources = append(s.Sources, SourceSnapshot{ID: source, Pairs: many.Known}, SourceSnapshot{})
		w.Restore(&s)
		w.Restore(new(Snapshot))

		a := w.memory.lockAccount(id).peek(id)
		if len(a.failures) > maxRestored || len(a.known) > maxKnown || len(a.pauses) > maxPauses {
			t.Errorf("%d failures, %d sources and %d backends of one account", len(a.failures), len(a.known), len(a.pauses))
		}
		for i, f := range a.failures {
			if f.at > w.memory.instant(time.Now()) || i > 0 && f.at < a.failures[i-1].at {
				t.Fatal("failures are not in order, or in the future")
			}
		}
		w.memory.accounts[id[0]%shardCount].mu.Unlock()
		w.Snapshot()

		w.expect("held off", "alice", "right", home)
		time.Sleep(maxBackoff)
		w.expect("held", "alice", "right", home)
		w.expect("banned", "alice", "right", thief)
		time.Sleep(w.cfg.Window)
		w.expect("granted", "alice", "right", home)
		time.Sleep(maxBan)
		w.expect("granted", "alice", "right", thief)
		w.guess(20, thief)
		if !w.isBanned(thief) {
			t.Error("not banned")
		}
		w.Snapshot()
	})
}

// TestClockSet pins that a guard goes by how much time has passed, and that what
// it stores is for whatever time it is then.
func TestClockSet(t *testing.T) {
	m := newMemory(time.Now())
	t0 := time.Now()
	cfg := testConfig()
	s := &settlement{ticket: &ticket{id: 1, hasSource: true}, result: login.Denied}
	m.settle(cfg, s, t0)
	snap := m.snapshot(t0)
	if got := snap.Accounts[0].Failures[0].At; got < t0.UnixMilli()-1 || got > t0.UnixMilli()+1 {
		t.Errorf("stored as %d, at %d", got, t0.UnixMilli())
	}
	// A clock that was an hour fast when it was stored.
	snap.Accounts[0].Failures[0].At += time.Hour.Milliseconds()
	other := newMemory(t0)
	other.restore(snap, t0)
	a := other.lockAccount(ID{}).peek(ID{})
	if got := a.failures[0].at; got != other.instant(t0) {
		t.Errorf("restored as %d", got)
	}
	other.accounts[0].mu.Unlock()
}

func FuzzRestore(f *testing.F) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(Snapshot{
		Accounts: []AccountSnapshot{{Failures: []FailureSnapshot{{1, [8]byte{}, 2, true}}, Known: []KnownSnapshot{{At: 3}}, Pauses: []PauseSnapshot{{Until: 4}}}},
		Sources:  []SourceSnapshot{{Pairs: []KnownSnapshot{{At: 5}}, Banned: math.MaxInt64}},
	}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		s := new(Snapshot)
		if gob.NewDecoder(bytes.NewReader(b)).Decode(s) != nil {
			return
		}
		m := newMemory(time.Now())
		m.restore(s, time.Now())
		m.snapshot(time.Now())
	})
}
