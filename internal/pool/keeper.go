package pool

import (
	"context"
	"slices"
	"sync"
	"time"
)

// lookupTimeout is how long a lookup may take.
const lookupTimeout = 5 * time.Second

// keep looks up and checks one upstream until ctx is done.
func (p *Pool) keep(ctx context.Context, u *upstream) {
	defer p.keepers.Done()
	defer p.recovered("keeping an upstream")
	k := p.newKeeper(u)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		if ctx.Err() != nil { // both may have been ready
			return
		}
		next := k.round(ctx)
		if next.IsZero() {
			return
		}
		timer.Reset(time.Until(next))
	}
}

// keeper is what keep remembers. A time that is 0 means that there is nothing of
// the kind to do.
type keeper struct {
	pool                         *Pool
	upstream                     *upstream
	lookupAt, checkAt, drainOver time.Time
	lookupFailed                 bool
}

// newKeeper returns one that has everything to do at once, but for the end of the
// draining.
func (p *Pool) newKeeper(u *upstream) *keeper {
	k := &keeper{pool: p, upstream: u, drainOver: p.drainOver(u)}
	if u.Endpoints != nil {
		k.lookupAt = time.Now()
	}
	if u.checked {
		k.checkAt = time.Now()
	}
	return k
}

// round does what is due, and returns when something is due again.
func (k *keeper) round(ctx context.Context) (next time.Time) {
	cfg := &k.pool.cfg
	now := time.Now()
	due := func(at time.Time) bool { return !at.IsZero() && !now.Before(at) && ctx.Err() == nil }
	if due(k.lookupAt) {
		k.lookup(ctx)
		k.lookupAt = now.Add(cfg.LookupInterval)
	}
	if due(k.checkAt) {
		k.check(ctx)
		k.checkAt = now.Add(cfg.Check.Interval)
	}
	if due(k.drainOver) {
		k.drained()
		k.drainOver = time.Time{}
	}
	for _, at := range []time.Time{k.lookupAt, k.checkAt, k.drainOver} {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// drained ends the sessions, and tells of it if there were any.
func (k *keeper) drained() {
	sessions := k.pool.evict(k.upstream)
	if told := k.pool.cfg.OnDrained; told != nil && sessions > 0 {
		defer k.pool.recovered("telling of the end of a drain")
		told(k.upstream.Address, sessions)
	}
}

// lookup brings the endpoints up to date, and tells if they or the error are
// news.
func (k *keeper) lookup(ctx context.Context) {
	p, u := k.pool, k.upstream
	found, err := k.endpoints(ctx)
	if ctx.Err() != nil {
		return
	}
	news := err != nil && !k.lookupFailed
	k.lookupFailed = err != nil
	if err == nil {
		news = p.replace(u, p.membersOf(u.Address, found))
	} else {
		found = p.found(u)
	}
	if news && p.cfg.OnLookup != nil {
		defer p.recovered("telling of a lookup")
		p.cfg.OnLookup(u.Address, found, err)
	}
}

func (k *keeper) endpoints(ctx context.Context) (found []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	defer panicked("looking up the endpoints", &err)
	return k.upstream.Endpoints(ctx)
}

// found returns the endpoints that lookups have found before.
func (p *Pool) found(u *upstream) (addresses []string) {
	p.table.mu.Lock()
	defer p.table.unlock()
	for _, m := range u.members {
		if m.Address != u.Address {
			addresses = append(addresses, m.Address)
		}
	}
	return addresses
}

// replace gives the upstream other members, and reports whether they are others.
// A mere change of order is kept, but is not news.
func (p *Pool) replace(u *upstream, members []member) (news bool) {
	t := p.table
	t.mu.Lock()
	defer t.unlock()
	was := u.members
	u.members = members
	for _, m := range members {
		if !holds(was, m.Endpoint) {
			t.adopt(m.Endpoint, p, u)
			news = true
		}
	}
	for _, m := range was {
		if !holds(members, m.Endpoint) {
			t.abandon(m.Endpoint, p)
			news = true
		}
	}
	return news
}

// check checks all endpoints of the upstream at the same time.
func (k *keeper) check(ctx context.Context) {
	k.pool.table.mu.Lock()
	members := slices.Clone(k.upstream.members)
	k.pool.table.unlock()
	if len(members) == 1 {
		k.pool.checkOne(ctx, members[0].Endpoint)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, m := range members {
		wg.Add(1)
		go k.pool.checkBeside(ctx, m.Endpoint, &wg)
	}
}

func (p *Pool) checkBeside(ctx context.Context, e Endpoint, wg *sync.WaitGroup) {
	defer wg.Done()
	defer p.recovered("checking an upstream")
	p.checkOne(ctx, e)
}

// checkOne checks an endpoint and counts the result, unless the pool was stopped
// meanwhile.
func (p *Pool) checkOne(ctx context.Context, e Endpoint) {
	err := p.probe(ctx, e)
	if ctx.Err() != nil {
		return
	}
	t := p.table
	t.mu.Lock()
	defer t.unlock()
	if s := t.states[e]; s != nil {
		s.checked(time.Now(), p, err)
	}
}

func (p *Pool) probe(ctx context.Context, e Endpoint) (err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Check.Timeout)
	defer cancel()
	defer panicked("checking", &err)
	return p.cfg.Check.Probe(ctx, e)
}
