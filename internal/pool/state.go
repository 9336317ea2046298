package pool

import (
	"context"
	"time"
)

// trialTime is how long a login that tries an endpoint has to report. After it
// another login may try.
const trialTime = 10 * time.Second

// state is what is known of an endpoint. It is guarded by the lock of the table.
type state struct {
	Endpoint
	table *Table
	// holders are the pools that have the endpoint. The last, which is the one
	// that was started last, is in charge: its settings hold, its functions are
	// called.
	holders  []holder
	sessions int

	// fails are the times of the failures that are not forgotten, while these
	// are not enough to bring the endpoint down.
	fails []time.Time
	// retry is when an endpoint that they have brought down may be tried again;
	// 0 in one that is not.
	retry time.Time

	// streak is the number of equal results of checks in a row: good ones if
	// it is above 0, failed ones below.
	streak int
	// unwell says that checks have brought the endpoint down.
	unwell bool

	// down is what was told of the endpoint last, since when, and why.
	down  bool
	since time.Time
	err   error

	// draining is since when new logins are kept away; 0 if they are not. stay
	// ends, by leave, when sessions are to end.
	draining time.Time
	stay     context.Context
	leave    context.CancelFunc
}

type holder struct {
	pool     *Pool
	upstream *upstream
}

// chief is the pool in charge; nil if there is none.
func (s *state) chief() *Pool {
	if len(s.holders) == 0 {
		return nil
	}
	return s.holders[len(s.holders)-1].pool
}

// obey drops what the settings of the pool in charge would not have brought
// about: nobody would ever revoke it. And it notes whether the endpoint drains.
func (s *state) obey(now time.Time) {
	if len(s.holders) == 0 {
		return
	}
	h := s.holders[len(s.holders)-1]
	if h.pool.cfg.FailDuration <= 0 {
		s.fails, s.retry = nil, time.Time{}
	}
	// While it drains, nobody looks, and what was thought of it stays.
	if !h.upstream.checked && !h.upstream.Drain {
		s.unwell, s.streak = false, 0
	}
	s.drain(now, h.upstream.Drain)
	s.tell(now, nil)
}

// remembered returns how many failures count at the moment.
func (s *state) remembered(now time.Time) (n int) {
	p := s.chief()
	if p == nil {
		return 0
	}
	if !s.retry.IsZero() {
		return p.cfg.MaxFails
	}
	for _, at := range s.fails {
		if now.Sub(at) < p.cfg.FailDuration {
			n++
		}
	}
	return n
}

// tell compares the state with what was told before. The error is why it is down,
// if that is new.
func (s *state) tell(now time.Time, err error) { s.change(now, Change{Err: err}) }

// change is tell, with what else there is to say of a change.
func (s *state) change(now time.Time, c Change) {
	down := s.unwell || !s.retry.IsZero()
	if down == s.down {
		return
	}
	s.down, s.since, s.err = down, now, c.Err
	if p := s.chief(); p != nil && p.cfg.OnChange != nil {
		c.Endpoint, c.Up = s.Endpoint, !down
		s.table.changes = append(s.table.changes, told{Change: c, pool: p})
	}
}

// usable reports whether the endpoint can be expected to work: it is up, or it
// is time to try it.
func (s *state) usable(now time.Time) bool {
	s.expire(now)
	return !s.unwell && !now.Before(s.retry)
}

// tried notes that a usable endpoint comes first in the order of a login. If
// that is a trial, others shall wait for its result.
func (s *state) tried(now time.Time) {
	if p := s.chief(); !s.retry.IsZero() && p != nil {
		s.retry = now.Add(min(p.cfg.FailDuration, trialTime))
	}
}

// expire lifts what failures have brought about if nobody has cared to try the
// endpoint for long.
func (s *state) expire(now time.Time) {
	p := s.chief()
	if p != nil && !s.retry.IsZero() && !now.Before(s.retry.Add(p.cfg.FailDuration)) {
		s.retry = time.Time{}
		s.change(now, Change{Expired: true})
	}
}

// failed counts a failure.
func (s *state) failed(now time.Time, err error) {
	p := s.chief()
	if p == nil || p.cfg.FailDuration <= 0 {
		return
	}
	s.expire(now)
	kept := s.fails[:0]
	for _, at := range s.fails {
		if now.Sub(at) < p.cfg.FailDuration {
			kept = append(kept, at)
		}
	}
	s.fails = append(kept, now)
	if !s.retry.IsZero() || len(s.fails) >= p.cfg.MaxFails {
		s.fails = s.fails[:0]
		s.retry = now.Add(p.cfg.FailDuration)
	}
	s.tell(now, err)
}

// succeeded takes a success for the proof that an endpoint that failures have
// brought down works again.
func (s *state) succeeded(now time.Time) {
	s.retry = time.Time{}
	s.tell(now, nil)
}

// checked counts the result of a check by p.
func (s *state) checked(now time.Time, p *Pool, err error) {
	if s.chief() != p {
		return
	}
	if err == nil {
		s.streak = max(s.streak, 0) + 1
		if s.streak >= p.cfg.Check.Rise {
			s.unwell = false
			if !now.Before(s.retry) { // it was time for a trial, and this was it
				s.retry = time.Time{}
			}
		}
	} else {
		s.streak = min(s.streak, 0) - 1
		if -s.streak >= p.cfg.Check.Fall {
			s.unwell = true
		}
	}
	s.tell(now, err)
}
