package guard

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

var errStore = errors.New("no store today")

// fakeStore is a store in its simplest form.
type fakeStore struct {
	mu sync.Mutex
	// trouble is asked before everything; nil is none.
	trouble  func(context.Context) error
	failures map[ID]map[uint64]fakeFailure
	heldOff  map[fakePause]time.Time
	pairs    map[shortID]map[shortID]time.Time
	banned   map[shortID]time.Time
	admits   int
	settles  int
	merges   int
}

// fakePause is who is to be left alone, by whom.
type fakePause struct {
	account ID
	backend [8]byte
}

type fakeFailure struct {
	at      time.Time
	source  shortID
	pending bool
	// guess says that the source is not exempt.
	guess bool
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		failures: make(map[ID]map[uint64]fakeFailure), heldOff: make(map[fakePause]time.Time),
		pairs: make(map[shortID]map[shortID]time.Time), banned: make(map[shortID]time.Time),
	}
}

func (s *fakeStore) set(trouble func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = trouble
}

// enter is the way to the store.
func (s *fakeStore) enter(ctx context.Context, count *int) error {
	s.mu.Lock()
	trouble := s.trouble
	if count != nil {
		*count++
	}
	s.mu.Unlock()
	if trouble != nil {
		return trouble(ctx)
	}
	return nil
}

func (s *fakeStore) Admit(ctx context.Context, a Admission) (Admitted, error) {
	if err := s.enter(ctx, &s.admits); err != nil {
		return Admitted{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.of(a.Account)
	for ticket, f := range of {
		if !f.pending && a.Now.Sub(f.at) >= a.Window {
			delete(of, ticket)
		}
	}
	limit := a.AccountFailures
	if !a.Known {
		limit -= a.KnownReserve
	}
	got := Admitted{Allowed: len(of) < limit, Banned: s.banned[a.Source], HeldOff: s.heldOff[fakePause{a.Account, a.Backend}]}
	guess := a.Source != shortID{} && !a.Exempt
	if n := s.underWay(a.Source); guess && got.Allowed && n > 0 && len(s.pairs[a.Source])+n >= a.SourceFailures {
		got.Allowed, got.Crowded = false, true
	}
	if got.Allowed {
		of[a.Ticket] = fakeFailure{at: a.Now, source: a.Source, pending: true, guess: guess}
	}
	return got, nil
}

// underWay returns how many logins of a source are undecided.
func (s *fakeStore) underWay(source shortID) (n int) {
	for _, of := range s.failures {
		for _, f := range of {
			if f.pending && f.guess && f.source == source {
				n++
			}
		}
	}
	return n
}

func (s *fakeStore) of(account ID) map[uint64]fakeFailure {
	if s.failures[account] == nil {
		s.failures[account] = make(map[uint64]fakeFailure)
	}
	return s.failures[account]
}

func (s *fakeStore) Settle(ctx context.Context, t Settlement) error {
	if err := s.enter(ctx, &s.settles); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.of(t.Account)
	delete(of, t.Ticket)
	if !t.HeldOff.IsZero() {
		s.heldOff[fakePause{t.Account, t.Backend}] = t.HeldOff
	}
	if t.Granted {
		for ticket, f := range of {
			if f.source == t.Source && !f.pending {
				delete(of, ticket)
			}
		}
		maps.DeleteFunc(s.pairs[t.Source], func(p shortID, _ time.Time) bool { return [4]byte(p[:4]) == [4]byte(t.Pair[:4]) })
	}
	if !t.Failed {
		return nil
	}
	of[t.Ticket] = fakeFailure{at: t.Now, source: t.Source}
	if t.Source == (shortID{}) {
		return nil
	}
	if s.pairs[t.Source] == nil {
		s.pairs[t.Source] = make(map[shortID]time.Time)
	}
	s.pairs[t.Source][t.Pair] = t.Now
	if len(s.pairs[t.Source]) >= t.SourceFailures && !t.Exempt {
		s.banned[t.Source] = t.Now.Add(t.SourceBan)
		delete(s.pairs, t.Source)
	}
	return nil
}

func (s *fakeStore) Merge(ctx context.Context, in *Snapshot) error {
	if err := s.enter(ctx, &s.merges); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range in.Accounts {
		for _, f := range a.Failures {
			s.of(a.ID)[f.Ticket] = fakeFailure{at: time.UnixMilli(f.At), source: f.Source}
		}
	}
	for _, src := range in.Sources {
		if src.Banned > 0 {
			s.banned[src.ID] = time.UnixMilli(src.Banned)
		}
	}
	return nil
}

func (s *fakeStore) LiftAccount(ctx context.Context, account ID) error {
	if err := s.enter(ctx, nil); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.failures, account)
	maps.DeleteFunc(s.heldOff, func(p fakePause, _ time.Time) bool { return p.account == account })
	return nil
}

func (s *fakeStore) LiftSource(ctx context.Context, source [8]byte) error {
	if err := s.enter(ctx, nil); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pairs, source)
	delete(s.banned, source)
	return nil
}

// pending returns how many reservations there are.
func (s *fakeStore) pending() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.failures {
		for _, f := range of {
			if f.pending {
				n++
			}
		}
	}
	return n
}

// messages writes down what is told about a store.
type messages struct {
	mu   sync.Mutex
	told []string
}

func (m *messages) changed(up bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case up && err == nil:
		m.told = append(m.told, "up")
	case !up && err != nil:
		m.told = append(m.told, "down")
	default:
		m.told = append(m.told, "nonsense")
	}
}

func (m *messages) are(want ...string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Equal(m.told, want)
}
