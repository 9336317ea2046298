package guard

import (
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// what is to be done about an attempt.
type what uint8

const (
	// askWithin means to ask, unless there is a reason against it.
	askWithin what = iota
	// askFreely means to ask whatever the budget is.
	askFreely
	answerMemory
	grantMemory
	heldOff
	refuseNow
	waitForOthers
	waitForSource
)

// decision says what is to be done.
type decision struct {
	what what
	// why is the reason not to ask; until is for how long it will be one.
	why   error
	until time.Duration
	// known says that the source may use what is kept for known ones; again, that
	// this very attempt was refused before; claimed, that no other like it is asked
	// about freely meanwhile.
	known, again, claimed bool
	// code is that of the refusal that is remembered.
	code imap.ResponseCode
	// settled is closed when it is worth to look again.
	settled <-chan struct{}
}

// admit decides about an attempt. If it may be asked about within the budget, a
// part of that is reserved, and of what its source may have under way.
func (m *memory) admit(cfg *Config, t *ticket, at time.Time) decision {
	now := m.instant(at)
	if t.nameless {
		return m.admitSource(cfg, t, decision{}, now)
	}
	s := m.lockAccount(t.account)
	defer s.mu.Unlock()
	a := s.get(t.account)
	if now < a.pauses.until(t.backend) {
		return decision{what: heldOff}
	}
	r := a.refusalOf(t.try)
	if r != nil && now < r.next {
		return decision{what: answerMemory, code: r.code}
	}
	if g := a.grantOf(t.pair); g != nil && t.checkOnly && g.exact == t.exact && now.since(g.at) < cfg.PositiveCache {
		return decision{what: grantMemory}
	}
	free, claimed, busy := a.freely(cfg, t, now)
	if free {
		return decision{what: askFreely, claimed: claimed}
	}
	a.expire(now.add(-cfg.Window))
	// The reserve is for who comes with something new. A device that goes on
	// trying the same would use it up.
	d := decision{again: r != nil, known: r == nil && a.knows(t, now)}
	limit := cfg.limit(d.known)
	until := a.wonders(cfg, t, limit, now)
	switch {
	case until > 0:
		return decision{what: refuseNow, why: ErrUnanswered, until: until}
	case len(a.failures) >= limit && !busy:
		d.why, d.until = ErrHeld, a.until(cfg, limit, now)
	case busy, len(a.pending) > 0 && max(len(a.failures), len(a.unanswered))+len(a.pending) >= limit:
		if a.settled == nil {
			a.settled = make(chan struct{})
		}
		d.what, d.settled = waitForOthers, a.settled
	default:
		// What is answered from memory, or not at all, does not wait for others of the
		// source. That is locked for a moment within the account, and never the other
		// way round.
		if d = m.admitSource(cfg, t, d, now); d.what == askWithin {
			a.pending = append(a.pending, t.id)
		}
	}
	return d
}

// limit is how many wrong passwords of an account reach the backend.
func (cfg *Config) limit(known bool) int {
	if known {
		return cfg.AccountFailures
	}
	return cfg.AccountFailures - cfg.KnownReserve
}

// refuses returns the reason for which admit would refuse a proof that is good once.
func (m *memory) refuses(cfg *Config, t *ticket, at time.Time) error {
	now := m.instant(at)
	s := m.lockAccount(t.account)
	defer s.mu.Unlock()
	a := s.peek(t.account)
	if a == nil {
		return nil
	}
	a.expire(now.add(-cfg.Window))
	limit := cfg.limit(a.knows(t, now))
	switch {
	case now < a.pauses.until(t.backend):
		return ErrHeldOff
	case a.wonders(cfg, t, limit, now) > 0:
		return ErrUnanswered
	case len(a.failures) >= limit:
		return ErrHeld
	}
	return nil
}

// admitSource decides whether there is room for an attempt among those of its source,
// which is all there is to it if only the backend knows the account.
func (m *memory) admitSource(cfg *Config, t *ticket, d decision, now instant) decision {
	switch wait, full := m.enter(cfg, t, now); {
	case full:
		d.what, d.why = refuseNow, ErrCrowded
	case wait != nil:
		d.what, d.settled = waitForSource, wait
	}
	return d
}

// until returns for how long there will be as many failures as the limit.
func (a *account) until(cfg *Config, limit int, now instant) time.Duration {
	return cfg.Window - now.since(a.failures[len(a.failures)-limit].at)
}

// outcome is what has come of an attempt.
type outcome struct {
	// held says that the budget of unknown sources has just been used up;
	// holds, that it is, and until is for how long.
	held, holds bool
	until       time.Duration
	failures    int
	// banned says that the source has just been banned.
	banned bool
}

// settle remembers what the backend said.
func (m *memory) settle(cfg *Config, s *settlement, at time.Time) (o outcome) {
	now := m.instant(at)
	if !s.nameless {
		o = m.settleAccount(cfg, s, now)
	}
	if s.hasSource {
		o.banned = m.settleSource(cfg, s, now)
	}
	if w := int64(cfg.Window); w > m.window.Load() {
		m.window.Store(w)
	}
	m.changes.Add(1)
	return o
}

// settleAccount remembers it of the account.
func (m *memory) settleAccount(cfg *Config, s *settlement, now instant) (o outcome) {
	limit := cfg.AccountFailures - cfg.KnownReserve
	sh := m.lockAccount(s.account)
	defer sh.mu.Unlock()
	a := sh.get(s.account)
	a.expire(now.add(-cfg.Window))
	before := len(a.failures)
	a.settle(cfg, s, now)
	o.failures = len(a.failures)
	o.holds = o.failures >= limit
	o.held = o.holds && before < limit
	if o.holds {
		o.until = a.until(cfg, limit, now)
	}
	sh.dropIf(s.account, a.empty(now))
	return o
}

// settleSource remembers it of the source, and says whether that has banned it. In one
// step, what was under way is wrong or is not, so that nobody slips in between.
func (m *memory) settleSource(cfg *Config, s *settlement, now instant) (banned bool) {
	sh := m.lockSource(s.source)
	defer sh.mu.Unlock()
	src := sh.peek(s.source)
	if s.counts() {
		src = sh.get(s.source)
		banned = src.blame(cfg, s.ticket, now)
	}
	if src != nil {
		if s.result == login.Granted && !s.nameless {
			src.pardon(s.ticket)
		}
		src.leave(cfg, s.id)
		sh.dropIf(s.source, src.empty(now))
	}
	return banned
}

// forget gives back the reservation of an attempt that was not made.
func (m *memory) forget(t *ticket) {
	s := m.lockAccount(t.account)
	defer s.mu.Unlock()
	if a := s.peek(t.account); a != nil {
		a.unreserve(t.id)
		a.wake()
		s.dropIf(t.account, a.empty(m.instant(time.Now())))
	}
}
