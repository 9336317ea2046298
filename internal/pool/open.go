package pool

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrDraining says that logins are kept away from every upstream.
var ErrDraining = errors.New("every upstream is draining")

// Lease counts as a session of an endpoint until it is released.
type Lease struct {
	Endpoint
	table *Table
	stay  context.Context
	// held is guarded by the lock of the table.
	held bool
}

// Open opens the first endpoint, in the order for this client, that can be
// opened. The next one is begun when one has failed, or when the stagger has
// passed since the last was begun, while those before go on; the first to be
// ready wins. Endpoints that fail to open are counted as failures, and so are
// those that were not ready within the stagger when the context ended or another
// one won.
//
// When Open returns, no open is running any more, and what the others have opened
// in the meantime is discarded. So open has to return soon when its context is
// done, and what it returns must not depend on that context. Discard may be
// called more than once. The error, if none could be opened, holds that of each
// endpoint that was tried, with its name.
//
// The caller says with Succeeded that this is worth something, or with Failed that
// it is not, and releases the lease when the session, or the attempt, is over.
func Open[T any](
	ctx context.Context, p *Pool, c Client,
	open func(context.Context, Endpoint) (T, error), discard func(T),
) (T, *Lease, error) {
	type opened struct {
		value T
		lease *Lease
	}
	order := p.Order(c)
	if len(order) == 0 {
		var none T
		return none, nil, ErrDraining
	}
	won, err := first(ctx, order, p.cfg.Stagger, Endpoint.String,
		func(ctx context.Context, e Endpoint) (opened, error) {
			value, lease, err := try(ctx, p, e, open)
			return opened{value, lease}, err
		},
		func(late opened) {
			late.lease.Release()
			discard(late.value)
		})
	return won.value, won.lease, err
}

// try opens one endpoint. The lease is nil if that fails.
func try[T any](ctx context.Context, p *Pool, e Endpoint, open func(context.Context, Endpoint) (T, error)) (T, *Lease, error) {
	lease := p.Hold(e)
	start := time.Now()
	value, err := calmly(ctx, e, open)
	if err == nil {
		return value, lease, nil
	}
	defer lease.Release()
	waited := time.Since(start)
	switch {
	case ctx.Err() == nil:
		lease.Failed(err)
	case waited >= p.cfg.Stagger:
		lease.Failed(fmt.Errorf("not ready after %v: %w", waited.Round(time.Millisecond), err))
	}
	return value, nil, err
}

// calmly makes an error of a panic, so that it counts as a failure, too.
func calmly[T any](ctx context.Context, e Endpoint, open func(context.Context, Endpoint) (T, error)) (value T, err error) {
	defer panicked("opening", &err)
	return open(ctx, e)
}

// Hold returns a lease on an endpoint, for who opens it without Open.
func (p *Pool) Hold(e Endpoint) *Lease {
	t := p.table
	t.mu.Lock()
	defer t.unlock()
	s := t.know(e)
	s.sessions++
	return &Lease{Endpoint: e, table: t, stay: s.stay, held: true}
}

// Release ends the lease. Releasing twice does no harm.
func (l *Lease) Release() {
	t := l.table
	t.mu.Lock()
	defer t.unlock()
	if !l.held {
		return
	}
	l.held = false
	s := t.states[l.Endpoint] // it is there while a lease is held
	s.sessions--
	t.forget(s)
}

// Failed counts a failure of the endpoint: it cannot be connected to, its TLS or
// greeting is wrong, or it does not want any logins now. A refused password is
// no failure.
func (l *Lease) Failed(err error) {
	t := l.table
	t.mu.Lock()
	defer t.unlock()
	if s := t.states[l.Endpoint]; s != nil {
		s.failed(time.Now(), err)
	}
}

// Succeeded says that the endpoint works. It brings up an endpoint that failures
// have brought down.
func (l *Lease) Succeeded() {
	t := l.table
	t.mu.Lock()
	defer t.unlock()
	if s := t.states[l.Endpoint]; s != nil {
		s.succeeded(time.Now())
	}
}
