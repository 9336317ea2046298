// Package pool chooses among upstreams and remembers how they are. It does not
// know what they are: how to open a connection, how to check an upstream and how
// to look up a name are functions of the caller.
//
// A Table is what is known of all upstreams of the process, whatever
// configuration they are in. A Pool is the upstreams of one backend in one
// configuration; while it is started, it takes part in the Table. So a new
// configuration that is started before the old one is stopped finds health and
// counts as they were.
//
// An opinion about an upstream's health decides only when it is tried, and never
// whether: those that are down come last. Only draining keeps logins away.
package pool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
)

// Pool is the upstreams of one backend in one configuration.
type Pool struct {
	cfg   Config
	table *Table

	// What follows is guarded by the lock of the table.
	upstreams []*upstream
	// robin counts the logins for PolicyRoundRobin.
	robin uint64
	// generation is higher in pools that were started later.
	generation int
	stage      stage

	cancel  context.CancelFunc
	keepers sync.WaitGroup
}

type stage uint8

const (
	fresh stage = iota
	started
	stopped
)

// upstream is an Upstream with the endpoints that it has now.
type upstream struct {
	Upstream
	checked bool
	members []member
}

// member is an endpoint that can be chosen.
type member struct {
	Endpoint
	hash uint64
}

// New returns a pool that takes no part in the table yet. It can be used as it
// is; what it is told about health before it is started is not kept.
func (t *Table) New(cfg Config) (*Pool, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	p := &Pool{cfg: cfg, table: t, robin: rand.Uint64()}
	for _, u := range cfg.Upstreams {
		same := func(other *upstream) bool { return other.Address == u.Address }
		if slices.ContainsFunc(p.upstreams, same) {
			return nil, fmt.Errorf("upstream %s: it is there twice", u.Address)
		}
		p.upstreams = append(p.upstreams, &upstream{
			Upstream: u,
			checked:  cfg.Check != nil && !u.Drain,
			members:  p.membersOf(u.Address, nil),
		})
	}
	return p, nil
}

// Start begins checks and lookups, and puts the pool in charge of the health of
// its upstreams until Stop, or until another pool of the same name is started.
// It waits for nothing. Only the first call has an effect.
func (p *Pool) Start() {
	t := p.table
	t.mu.Lock()
	defer t.unlock()
	if p.stage != fresh {
		return
	}
	p.stage = started
	t.generation++
	p.generation = t.generation
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	for _, u := range p.upstreams {
		if known := t.membersOf(p.cfg.Name, u.Address); known != nil && u.Endpoints != nil {
			u.members = known
		}
		for _, m := range u.members {
			t.adopt(m.Endpoint, p, u)
		}
		if u.checked || u.Endpoints != nil || u.Drain && u.DrainTimeout > 0 {
			p.keepers.Add(1)
			go p.keep(ctx, u)
		}
	}
}

// Stop ends checks and lookups and waits for them. The pool can still be used,
// but keeps no state alive any more. Stop must not be called by a function of
// the Config.
func (p *Pool) Stop() {
	t := p.table
	t.mu.Lock()
	was := p.stage
	p.stage = stopped
	t.unlock()
	if p.cancel == nil { // it was never started
		return
	}
	p.cancel()
	p.keepers.Wait()
	if was == stopped {
		return
	}
	t.mu.Lock()
	defer t.unlock()
	for _, u := range p.upstreams {
		for _, m := range u.members {
			t.abandon(m.Endpoint, p)
		}
	}
}
