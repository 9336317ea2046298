package pool

import (
	"context"
	"time"
)

// drain notes since when new logins are kept away from an endpoint, however
// often the configuration changes meanwhile. When they no longer are, sessions
// that begin from now on may stay.
func (s *state) drain(now time.Time, draining bool) {
	switch {
	case !draining:
		s.draining = time.Time{}
		if s.stay.Err() != nil {
			s.stay, s.leave = context.WithCancel(context.Background())
		}
	case s.draining.IsZero():
		s.draining = now
	}
}

// Stay returns a context that ends when the session of the lease is to end,
// because its upstream has drained for long enough.
func (l *Lease) Stay() context.Context { return l.stay }

// drainOver returns when the sessions of a draining upstream are to end; never is
// the zero time.
func (p *Pool) drainOver(u *upstream) time.Time {
	if !u.Drain || u.DrainTimeout <= 0 {
		return time.Time{}
	}
	t := p.table
	t.mu.Lock()
	defer t.unlock()
	var since time.Time
	for _, m := range u.members {
		s := t.states[m.Endpoint]
		if s != nil && !s.draining.IsZero() && (since.IsZero() || s.draining.Before(since)) {
			since = s.draining
		}
	}
	if since.IsZero() { // a newer pool is in charge, and sees to it
		return since
	}
	return since.Add(u.DrainTimeout)
}

// evict ends what stays at a draining upstream, also at endpoints that its name no
// longer has, and returns how many sessions that are.
func (p *Pool) evict(u *upstream) (sessions int) {
	t := p.table
	t.mu.Lock()
	defer t.unlock()
	for e, s := range t.states {
		if chief := s.chief(); e.Pool == p.cfg.Name && e.Upstream == u.Address && (chief == nil || chief == p) && s.stay.Err() == nil {
			sessions += s.sessions
			s.leave()
		}
	}
	return sessions
}
