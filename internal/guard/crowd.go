package guard

import (
	"errors"
	"slices"
	"time"
)

// maxWaiting is how many logins of a source wait for others of it; more are told to
// try again later.
const maxWaiting = 1000

// crowdedPause is how long after a store has said that a source has too many logins
// under way it is asked again.
const crowdedPause = 50 * time.Millisecond

// ErrCrowded is the reason for which a guard does not ask about a login of a source
// of which too many others are undecided.
var ErrCrowded = errors.New("too many logins from this address are under way, and may all be wrong")

// crowd are the logins of a source that are under way. Each of them may turn out to be
// wrong. So there are not more at a time than could be wrong before the source is
// banned; the others wait, and the first to come is the first to go on.
type crowd struct {
	// pending are the tickets of those that are being asked about.
	pending []uint64
	waiting []turn
}

// turn is one that waits.
type turn struct {
	ticket uint64
	// come is closed when it has become one of the pending, or has to look again.
	come chan struct{}
}

// enter makes an attempt one of the pending. If it has to wait, it is told until when;
// what is full has no room to wait any more.
func (s *source) enter(cfg *Config, id uint64, now instant) (wait <-chan struct{}, full bool) {
	s.expire(now.add(-cfg.Window))
	s.call(cfg)
	c := s.crowd
	switch {
	case c == nil:
		s.crowd = &crowd{pending: []uint64{id}}
	case slices.Contains(c.pending, id): // it has waited for that
	case !s.crowded(cfg):
		c.pending = append(c.pending, id)
	case len(c.waiting) >= maxWaiting:
		return nil, true
	default:
		t := turn{id, make(chan struct{})}
		c.waiting = append(c.waiting, t)
		return t.come, false
	}
	return nil, false
}

// leave is for an attempt that is over, or does not want to wait any longer.
func (s *source) leave(cfg *Config, id uint64) {
	c := s.crowd
	if c == nil {
		return
	}
	if i := slices.Index(c.pending, id); i >= 0 {
		c.pending = slices.Delete(c.pending, i, i+1)
	}
	c.waiting = slices.DeleteFunc(c.waiting, func(t turn) bool { return t.ticket == id })
	s.call(cfg)
	if len(c.pending) == 0 { // then nobody waits either
		s.crowd = nil
	}
}

// crowded says whether all that is under way could be too much. One may be at any
// rate: it is the one that bans the source.
func (s *source) crowded(cfg *Config) bool {
	n := len(s.crowd.pending)
	return n > 0 && len(s.pairs)+n >= cfg.SourceFailures
}

// call has those go on who wait, as far as there is room.
func (s *source) call(cfg *Config) {
	c := s.crowd
	for c != nil && len(c.waiting) > 0 && !s.crowded(cfg) {
		c.pending = append(c.pending, c.waiting[0].ticket)
		close(c.waiting[0].come)
		c.waiting = slices.Delete(c.waiting, 0, 1)
	}
}

// dismiss has all look again who wait.
func (c *crowd) dismiss() {
	if c == nil {
		return
	}
	for _, t := range c.waiting {
		close(t.come)
	}
	c.waiting = nil
}

// enter makes an attempt one of those that its source has under way, as its method
// does.
func (m *memory) enter(cfg *Config, t *ticket, now instant) (wait <-chan struct{}, full bool) {
	if !t.hasSource || t.exempt {
		return nil, false
	}
	s := m.lockSource(t.source)
	defer s.mu.Unlock()
	return s.get(t.source).enter(cfg, t.id, now)
}

// leave gives back what an attempt has taken that has not come to an answer.
func (m *memory) leave(cfg *Config, id uint64, t *ticket) {
	if !t.hasSource {
		return
	}
	s := m.lockSource(t.source)
	defer s.mu.Unlock()
	if src := s.peek(t.source); src != nil {
		src.leave(cfg, id)
		s.dropIf(t.source, src.empty(m.instant(time.Now())))
	}
}
