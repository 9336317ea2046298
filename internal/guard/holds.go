package guard

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxHolds is how many accounts and sources can be listed, of each.
	maxHolds = 10000
	// maxHoldName is how long a name in the list can be.
	maxHoldName = 256
)

// holds knows the names of accounts that are held and the addresses of sources
// that are banned, so that an operator can see them. Everything else goes by
// hashes.
type holds struct {
	mu       sync.Mutex
	accounts map[ID]AccountHold
	sources  map[shortID]SourceHold
}

// AccountHold is an account of which no more new passwords reach the backend,
// unless they come from sources that have logged in to it.
type AccountHold struct {
	// User is a name of the account, as somebody typed it.
	User string `json:"user"`
	// Since is when the budget was used up; Until is when a part of it is back.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// shared says that a store has said so: what is counted here does not say
	// when it is over.
	shared bool
}

// SourceHold is a source that is banned.
type SourceHold struct {
	Source netip.Addr `json:"source"`
	Since  time.Time  `json:"since"`
	Until  time.Time  `json:"until"`
}

// put adds to a list, or changes what is there. If the list is full, another one
// makes room.
func put[K comparable, V any](m map[K]V, key K, v V) {
	if _, ok := m[key]; !ok && len(m) >= maxHolds {
		for other := range m {
			delete(m, other)
			break
		}
	}
	m[key] = v
}

// note lists what an operator may want to see, and tells him.
func (g *Guard) note(q *inquiry, o *outcome, now time.Time) {
	g.holds.mu.Lock()
	if o.holds {
		g.holds.hold(q, o.until, false, now)
	} else if !g.holds.accounts[q.account].shared {
		delete(g.holds.accounts, q.account)
	}
	if o.banned {
		g.holds.ban(q, q.cfg.SourceBan, now)
	}
	g.holds.mu.Unlock()
	if o.held && g.events.AccountHeld != nil {
		g.events.AccountHeld(q.attempt, o.failures)
	}
	if o.banned && g.events.SourceBanned != nil {
		g.events.SourceBanned(q.attempt, now.Add(q.cfg.SourceBan))
	}
}

// noteRefusal lists what was counted before a restart, or by other instances.
func (g *Guard) noteRefusal(q *inquiry, d decision, now time.Time) {
	g.holds.mu.Lock()
	defer g.holds.mu.Unlock()
	switch {
	case errors.Is(d.why, ErrHeld), errors.Is(d.why, ErrUnanswered):
		shared := d.until == 0
		if shared {
			d.until = q.cfg.Window
		}
		g.holds.hold(q, d.until, shared, now)
	case errors.Is(d.why, ErrBanned):
		g.holds.ban(q, q.cfg.SourceBan, now)
	}
}

func (h *holds) hold(q *inquiry, d time.Duration, shared bool, now time.Time) {
	entry := AccountHold{User: short(q.attempt.User), Since: now, Until: now.Add(d), shared: shared}
	if old, ok := h.accounts[q.account]; ok && now.Before(old.Until) {
		entry.User, entry.Since, entry.shared = old.User, old.Since, shared || old.shared
	}
	put(h.accounts, q.account, entry)
}

func (h *holds) ban(q *inquiry, d time.Duration, now time.Time) {
	put(h.sources, q.source, SourceHold{Source: plain(q.attempt.Remote), Since: now, Until: now.Add(d)})
}

// short returns a name that keeps no more memory than it needs.
func short(name string) string {
	if len(name) <= maxHoldName {
		return strings.Clone(name)
	}
	return strings.ToValidUTF8(name[:maxHoldName], "") + "..."
}

// CountHolds returns how many accounts and sources this instance holds now.
func (g *Guard) CountHolds() (accounts, sources int) {
	now := time.Now()
	g.holds.mu.Lock()
	defer g.holds.mu.Unlock()
	for _, h := range g.holds.accounts {
		if now.Before(h.Until) {
			accounts++
		}
	}
	for _, h := range g.holds.sources {
		if now.Before(h.Until) {
			sources++
		}
	}
	return accounts, sources
}

// Holds returns what this instance holds now, sorted by name and address.
func (g *Guard) Holds() (accounts []AccountHold, sources []SourceHold) {
	now := time.Now()
	g.holds.mu.Lock()
	for id, h := range g.holds.accounts {
		if now.Before(h.Until) {
			accounts = append(accounts, h)
		} else {
			delete(g.holds.accounts, id)
		}
	}
	for id, h := range g.holds.sources {
		if now.Before(h.Until) {
			sources = append(sources, h)
		} else {
			delete(g.holds.sources, id)
		}
	}
	g.holds.mu.Unlock()
	slices.SortFunc(accounts, func(a, b AccountHold) int { return cmp.Compare(a.User, b.User) })
	slices.SortFunc(sources, func(a, b SourceHold) int { return a.Source.Compare(b.Source) })
	return accounts, sources
}

// LiftAccount forgets the failures of an account, in whatever spelling, and says
// whether there were any.
func (g *Guard) LiftAccount(ctx context.Context, cfg *Config, user string) (bool, error) {
	id := g.keys.account(cfg.Domains.Account(user))
	lifted := g.memory.liftAccount(id)
	g.holds.mu.Lock()
	delete(g.holds.accounts, id)
	g.holds.mu.Unlock()
	return lifted, g.shared.lift(ctx, func(ctx context.Context, s Store) error { return s.LiftAccount(ctx, id) })
}

// LiftSource forgets the failures of a source and its ban, and says whether there
// were any.
func (g *Guard) LiftSource(ctx context.Context, addr netip.Addr) (bool, error) {
	id := g.keys.source(addr)
	lifted := g.memory.liftSource(id)
	g.holds.mu.Lock()
	delete(g.holds.sources, id)
	g.holds.mu.Unlock()
	return lifted, g.shared.lift(ctx, func(ctx context.Context, s Store) error { return s.LiftSource(ctx, id) })
}
