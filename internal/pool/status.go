package pool

import (
	"cmp"
	"slices"
	"time"
)

// Status is what is known of an endpoint.
type Status struct {
	Endpoint
	// Configured says that a started pool has it. Else it is only here for the
	// sessions that are left.
	Configured bool
	// Draining says that new logins are kept away, and DrainingSince since when.
	Draining      bool
	DrainingSince time.Time
	// Up says that it is not known to be down. Since is when that changed
	// last, and Err why it is down.
	Up    bool
	Since time.Time
	Err   error
	// Fails is the number of failures that count towards MaxFails, or the whole
	// of it in an endpoint that they have brought down.
	Fails int
	// Sessions is the number of leases that are held, those of logins in
	// progress included.
	Sessions int
}

// Snapshot returns what is known of all endpoints, sorted by pool, upstream and
// address.
func (t *Table) Snapshot() []Status {
	t.mu.Lock()
	defer t.unlock()
	now := time.Now()
	list := make([]Status, 0, len(t.states))
	for _, s := range t.states {
		list = append(list, s.status(now))
	}
	slices.SortFunc(list, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Upstream, b.Upstream), cmp.Compare(a.Address, b.Address))
	})
	return list
}

func (s *state) status(now time.Time) Status {
	s.expire(now)
	st := Status{
		Endpoint: s.Endpoint,
		Up:       !s.down,
		Since:    s.since,
		Err:      s.err,
		Fails:    s.remembered(now),
		Sessions: s.sessions,
	}
	if n := len(s.holders); n > 0 {
		st.Configured = true
		st.Draining, st.DrainingSince = s.holders[n-1].upstream.Drain, s.draining
	}
	return st
}
