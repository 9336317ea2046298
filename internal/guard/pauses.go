package guard

import (
	"slices"
	"time"
)

// maxPauses is how many backends can want to be left alone with one user. There is one
// for each that a user logs in at.
const maxPauses = 16

// pauses are until when backends want to be left alone with a user. What one wants says
// nothing about another.
type pauses []pause

type pause struct {
	backend shortID
	until   instant
}

// until returns until when a backend wants that; 0 if it does not.
func (p pauses) until(backend shortID) instant {
	for _, one := range p {
		if one.backend == backend {
			return one.until
		}
	}
	return 0
}

// add makes a backend's pause last until then, if it was shorter.
func (p *pauses) add(backend shortID, until, now instant) {
	until = max(until, p.until(backend))
	*p = slices.DeleteFunc(*p, func(one pause) bool { return one.backend == backend || one.until <= now })
	if until > now {
		*p = last(*p, maxPauses, pause{backend, until})
	}
}

func (p pauses) any(now instant) bool {
	return slices.ContainsFunc(p, func(one pause) bool { return now < one.until })
}

// heldOff says whether the backend wants to be left alone with an account.
func (m *memory) heldOff(t *ticket, at time.Time) bool {
	s := m.lockAccount(t.account)
	defer s.mu.Unlock()
	a := s.peek(t.account)
	return a != nil && m.instant(at) < a.pauses.until(t.backend)
}

// holdOff leaves the backend alone with an account for a while.
func (m *memory) holdOff(t *ticket, d time.Duration, at time.Time) {
	s := m.lockAccount(t.account)
	defer s.mu.Unlock()
	now := m.instant(at)
	s.get(t.account).pauses.add(t.backend, now.add(d), now)
}
