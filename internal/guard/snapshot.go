package guard

import (
	"math"
	"slices"
	"time"
)

// Snapshot is what an instance has counted, without anything about passwords that
// another process could understand. Times are in milliseconds since 1970.
type Snapshot struct {
	Accounts []AccountSnapshot
	Sources  []SourceSnapshot
}

// AccountSnapshot is what was counted of one account.
type AccountSnapshot struct {
	ID       ID
	Failures []FailureSnapshot
	Known    []KnownSnapshot
	Pauses   []PauseSnapshot
}

// PauseSnapshot is until when a backend wants to be left alone with the user.
type PauseSnapshot struct {
	Backend [8]byte
	Until   int64
}

// FailureSnapshot is one wrong password that reached the backend.
type FailureSnapshot struct {
	Ticket uint64
	Source [8]byte
	At     int64
	// Stale is as in Settlement.
	Stale bool
}

// KnownSnapshot is a source that has logged in, or in a SourceSnapshot a wrong
// login.
type KnownSnapshot struct {
	Source [8]byte
	At     int64
}

// SourceSnapshot is what was counted of one source.
type SourceSnapshot struct {
	ID     [8]byte
	Pairs  []KnownSnapshot
	Banned int64
}

// What a snapshot can bring in at most.
const (
	maxRestored = 1000
	maxBan      = 30 * 24 * time.Hour
)

// Snapshot returns what is worth to be kept, and forgets what is not.
func (g *Guard) Snapshot() *Snapshot { return g.memory.snapshot(time.Now()) }

// Changes counts what has changed since the guard was made. While it is the same,
// a snapshot would be, too.
func (g *Guard) Changes() uint64 { return g.memory.changes.Load() }

// Restore adds what a snapshot holds. It is for the beginning.
func (g *Guard) Restore(s *Snapshot) { g.memory.restore(s, time.Now()) }

func (m *memory) snapshot(at time.Time) *Snapshot {
	out := new(Snapshot)
	now := m.instant(at)
	began := at.UnixMilli() - int64(now)
	window := time.Duration(m.window.Load())
	if window == 0 {
		// Nothing was counted yet, so it is not known what is too old.
		window = math.MaxInt64
	}
	for i := range m.accounts {
		m.accounts[i].sweep(func(id ID, a *account) bool {
			if a.prune(now, window) {
				return false
			}
			s := AccountSnapshot{ID: id}
			for _, f := range a.failures {
				s.Failures = append(s.Failures, FailureSnapshot{f.ticket, f.home, began + int64(f.at), f.stale})
			}
			for _, k := range a.known {
				s.Known = append(s.Known, KnownSnapshot{k.home, began + int64(k.at)})
			}
			for _, p := range a.pauses {
				if now < p.until {
					s.Pauses = append(s.Pauses, PauseSnapshot{p.backend, began + int64(p.until)})
				}
			}
			if len(s.Failures)+len(s.Known)+len(s.Pauses) > 0 {
				out.Accounts = append(out.Accounts, s)
			}
			return true
		})
	}
	for i := range m.sources {
		m.sources[i].sweep(func(id shortID, src *source) bool {
			src.expire(now.add(-window))
			s := SourceSnapshot{ID: id}
			for _, p := range src.pairs {
				s.Pairs = append(s.Pairs, KnownSnapshot{p.mac, began + int64(p.at)})
			}
			if now < src.banned {
				s.Banned = began + int64(src.banned)
			}
			if len(s.Pairs) == 0 && s.Banned == 0 {
				return src.crowd != nil
			}
			out.Sources = append(out.Sources, s)
			return true
		})
	}
	return out
}

// restore believes nothing that it reads: no time is in the future, except for
// ends, which are near.
func (m *memory) restore(in *Snapshot, at time.Time) {
	now := m.instant(at)
	past := func(ms int64) instant {
		return instant(min(max(ms, 0), at.UnixMilli())-at.UnixMilli()) + now
	}
	end := func(ms int64, most time.Duration) instant {
		return now + instant(min(max(ms-at.UnixMilli(), 0), most.Milliseconds()))
	}
	for _, s := range in.Accounts {
		sh := m.lockAccount(s.ID)
		a := sh.get(s.ID)
		for _, f := range s.Failures[max(0, len(s.Failures)-maxRestored):] {
			a.count(failure{ticket: f.Ticket, home: f.Source, at: past(f.At), stale: f.Stale}, maxRestored)
		}
		slices.SortStableFunc(a.failures, func(f, g failure) int { return int(max(-1, min(f.at-g.at, 1))) })
		for _, k := range s.Known[max(0, len(s.Known)-maxKnown):] {
			a.known = last(a.known, maxKnown, known{k.Source, past(k.At)})
		}
		for _, p := range s.Pauses[max(0, len(s.Pauses)-maxPauses):] {
			a.pauses.add(p.Backend, end(p.Until, maxBackoff), now)
		}
		sh.mu.Unlock()
	}
	for _, s := range in.Sources {
		sh := m.lockSource(s.ID)
		src := sh.get(s.ID)
		for _, p := range s.Pairs[max(0, len(s.Pairs)-maxRestored):] {
			src.pairs = last(src.pairs, maxRestored, pair{p.Source, past(p.At)})
		}
		if s.Banned > 0 {
			src.banned = max(src.banned, end(s.Banned, maxBan))
		}
		sh.mu.Unlock()
	}
}
