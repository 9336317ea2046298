package pool

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Table is what is known of upstreams: one for a process. Its zero value is
// ready for use.
//
// An endpoint is known as long as a started pool has it or a lease on it is held.
type Table struct {
	mu         sync.Mutex
	states     map[Endpoint]*state
	generation int
	// changes have not been told yet. Whoever unlocks the table tells them,
	// unless somebody is telling already.
	changes []told
	telling bool
}

// told is a change, and the pool that wants to know of it.
type told struct {
	Change
	pool *Pool
}

// Change is what became of an endpoint.
type Change struct {
	Endpoint
	// Up says that it came up; else it went down.
	Up bool
	// Expired says that it only came up because no login cared to try it for long:
	// nobody knows how it is.
	Expired bool
	// Err is why it went down.
	Err error
}

// unlock releases the lock, and tells of the changes that were made under it.
func (t *Table) unlock() {
	for len(t.changes) > 0 && !t.telling {
		t.telling = true
		batch := t.changes
		t.changes = nil
		t.mu.Unlock()
		for _, c := range batch {
			c.tell()
		}
		t.mu.Lock()
		t.telling = false
	}
	t.mu.Unlock()
}

func (c told) tell() {
	defer c.pool.recovered("telling of a change")
	c.pool.cfg.OnChange(c.Change)
}

// recovered is to be deferred. It logs a panic and ends it.
func (p *Pool) recovered(doing string) {
	if v := recover(); v != nil {
		p.cfg.Logger.Error("panic; the process goes on",
			zap.String("doing", doing), zap.String("panic", fmt.Sprintf("%T", v)), zap.ByteString("stack", debug.Stack()))
	}
}

// panicked is to be deferred. It makes an error of a panic.
func panicked(doing string, err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("panic while %s: %T\n%s", doing, v, debug.Stack())
	}
}

// know returns the state of an endpoint, a new one if nothing is known.
func (t *Table) know(e Endpoint) *state {
	s := t.states[e]
	if s == nil {
		s = &state{Endpoint: e, table: t, since: time.Now()}
		s.stay, s.leave = context.WithCancel(context.Background())
		if t.states == nil {
			t.states = make(map[Endpoint]*state)
		}
		t.states[e] = s
	}
	return s
}

// forget drops a state that nobody needs.
func (t *Table) forget(s *state) {
	if len(s.holders) == 0 && s.sessions == 0 {
		delete(t.states, s.Endpoint)
	}
}

// adopt makes a pool a holder of a state. Those of older pools stay below, even
// if they come later, as when a name is looked up once more before the pool is
// stopped.
func (t *Table) adopt(e Endpoint, p *Pool, u *upstream) {
	s := t.know(e)
	at := len(s.holders)
	for at > 0 && s.holders[at-1].pool.generation > p.generation {
		at--
	}
	s.holders = slices.Insert(s.holders, at, holder{pool: p, upstream: u})
	s.obey(time.Now())
}

// abandon is the reverse of adopt.
func (t *Table) abandon(e Endpoint, p *Pool) {
	s := t.states[e] // it is there while a pool holds it
	s.holders = slices.DeleteFunc(s.holders, func(h holder) bool { return h.pool == p })
	s.obey(time.Now())
	t.forget(s)
}

// membersOf returns what the pool in charge of an upstream has found its
// endpoints to be. A new pool begins with these, so that what is known of them is
// not lost before its own first lookup.
func (t *Table) membersOf(pool, address string) []member {
	for e, s := range t.states {
		if n := len(s.holders); n > 0 && e.Pool == pool && e.Upstream == address {
			return s.holders[n-1].upstream.members
		}
	}
	return nil
}
