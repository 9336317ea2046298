package guard

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// failover uses a store while it answers. While it does not, everything goes on
// by what the instance has counted itself.
type failover struct {
	mu sync.Mutex
	// links are those attached, the one in use last.
	links   []*link
	current atomic.Pointer[link]
}

// Attach makes the guard count with a store, instead of with one that is attached
// already. The function changed is told when the store is used from now on, and
// when it is not, and why. Detach ends that, waits for it, and goes back to the
// store before.
func (g *Guard) Attach(store Store, changed func(up bool, err error)) (detach func()) {
	ctx, cancel := context.WithCancel(context.Background())
	l := newLink(store, g.memory, changed)
	g.shared.change(func(links []*link) []*link { return append(links, l) })
	l.done.Add(1)
	go l.run(ctx)
	return func() {
		g.shared.change(func(links []*link) []*link {
			return slices.DeleteFunc(links, func(other *link) bool { return other == l })
		})
		cancel()
		l.done.Wait()
	}
}

func (f *failover) change(how func([]*link) []*link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.links = how(f.links)
	if n := len(f.links); n > 0 {
		f.current.Store(f.links[n-1])
	} else {
		f.current.Store(nil)
	}
}

// admit asks the store, and returns its reason not to ask the backend; nil if
// there is none. If counted is false, there is no store, and what is counted here
// decides.
func (f *failover) admit(ctx context.Context, m *memory, q *inquiry, d decision) (why error, counted bool) {
	l := f.current.Load()
	if l == nil || l.state.Load() != linkUp {
		return nil, false
	}
	now := time.Now()
	budget := q.cfg.AccountFailures
	if q.nameless {
		budget = math.MaxInt32 // there is no account to hold
	}
	var got Admitted
	err := l.call(ctx, func(ctx context.Context) (err error) {
		got, err = l.store.Admit(ctx, Admission{
			Ticket: q.id, Account: q.account, Backend: q.backend, Source: q.source, Home: q.home, Known: d.known, Again: d.again,
			Now: now, Window: q.cfg.Window,
			AccountFailures: budget, KnownReserve: q.cfg.KnownReserve,
			SourceFailures: q.cfg.SourceFailures, Exempt: q.exempt,
		})
		return err
	})
	if err != nil {
		l.leaveOpen(Settlement{Ticket: q.id, Account: q.account, Source: q.source, Now: now, Window: q.cfg.Window})
		return nil, false
	}
	m.learn(q, got, now)
	switch {
	case got.Crowded:
		why = ErrCrowded
	case !got.Allowed:
		why = ErrHeld
	case got.HeldOff.After(now):
		why = ErrHeldOff
	}
	if got.Banned.After(now) && q.hasSource && !q.exempt {
		why = ErrBanned
	}
	if why != nil && got.Allowed {
		f.settle(ctx, q.cfg, &settlement{ticket: &q.ticket}, now)
	}
	return why, true
}

// settle tells the store.
func (f *failover) settle(ctx context.Context, cfg *Config, s *settlement, now time.Time) {
	l := f.current.Load()
	if l == nil {
		return
	}
	told := Settlement{
		Ticket: s.id, Account: s.account, Backend: s.backend, Source: s.source, Home: s.home, Pair: s.guess,
		Granted: s.result == login.Granted && !s.nameless, Failed: s.counts(), Stale: s.stale, Exempt: s.exempt, Forgive: cfg.AccountFailures,
		Now: now, Window: cfg.Window,
		SourceFailures: cfg.SourceFailures, SourceBan: cfg.SourceBan,
	}
	if s.backoff > 0 {
		told.HeldOff = now.Add(s.backoff)
	}
	if s.free && !told.Granted && !told.Failed && s.backoff == 0 {
		return // nothing was reserved, and nothing has come of it
	}
	if l.state.Load() == linkDown || l.call(ctx, func(ctx context.Context) error { return l.store.Settle(ctx, told) }) != nil {
		if !s.free {
			// What has come of it is counted here, and merged.
			l.leaveOpen(Settlement{Ticket: s.id, Account: s.account, Source: s.source, Now: now, Window: cfg.Window})
		}
	}
}

// lift has the store forget as well. Who asks for it is told if it could not.
func (f *failover) lift(ctx context.Context, forget func(context.Context, Store) error) error {
	l := f.current.Load()
	if l == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, liftTimeout)
	defer cancel()
	if err := sound(func() error { return forget(ctx, l.store) }); err != nil {
		return fmt.Errorf("lifting the hold in the store: %w", err)
	}
	return nil
}

// learn takes over what other instances have found out.
func (m *memory) learn(q *inquiry, got Admitted, at time.Time) {
	now := m.instant(at)
	if d := got.HeldOff.Sub(at); d > 0 && !got.HeldOff.IsZero() {
		m.holdOff(&q.ticket, min(d, maxBackoff), at)
	}
	if d := got.Banned.Sub(at); d > 0 && !got.Banned.IsZero() && q.hasSource {
		s := m.lockSource(q.source)
		src := s.get(q.source)
		src.banned = max(src.banned, now.add(min(d, q.cfg.SourceBan)))
		s.mu.Unlock()
	}
}
