package pool

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// ErrNoUpstream says that there is nothing to choose from.
var ErrNoUpstream = errors.New("no upstream is configured")

// first opens the first upstream that can be opened. They are tried in order:
// the next one is begun when one has failed, or when stagger has passed since
// the last was begun, while those before go on. The first to be ready wins.
//
// When first returns, no open is running any more: the context of the others is
// cancelled, they are waited for, and what they opened in the meantime is
// discarded. So open has to return soon when its context is done, and what it
// returns must not depend on that context. Discard may be called more than once.
//
// The error, if none could be opened, holds that of each upstream that was
// tried, with its name.
func first[A, T any](
	ctx context.Context, upstreams []A, stagger time.Duration, name func(A) string,
	open func(context.Context, A) (T, error), discard func(T),
) (T, error) {
	switch len(upstreams) {
	case 0:
		var none T
		return none, ErrNoUpstream
	case 1:
		t, err := open(ctx, upstreams[0])
		return t, named(name(upstreams[0]), err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &race[A, T]{
		upstreams: upstreams,
		name:      name,
		open:      open,
		results:   make(chan result[T], len(upstreams)),
		errs:      make([]error, len(upstreams)),
	}
	t, won := r.run(ctx, stagger)
	cancel()
	for r.running > 0 {
		if late := r.receive(<-r.results); late.err == nil {
			discard(late.value)
		}
	}
	if won {
		return t, nil
	}
	return t, errors.Join(r.errs...)
}

// race is one call of first with several upstreams. Only open runs in other
// goroutines.
type race[A, T any] struct {
	upstreams []A
	name      func(A) string
	open      func(context.Context, A) (T, error)
	results   chan result[T]
	// begun is the number of upstreams that were begun, running that of those
	// that have not been heard of since.
	begun, running int
	// errs are in the order of the upstreams.
	errs []error
}

// result is what became of one upstream.
type result[T any] struct {
	index int
	value T
	err   error
}

// run returns the winner, or false if there is none.
func (r *race[A, T]) run(ctx context.Context, stagger time.Duration) (winner T, won bool) {
	timer := time.NewTimer(stagger)
	defer timer.Stop()
	r.begin(ctx)
	for r.running > 0 {
		select {
		case res := <-r.results:
			if r.receive(res); res.err == nil {
				return res.value, true
			}
		case <-timer.C:
		}
		if r.begun < len(r.upstreams) && ctx.Err() == nil {
			timer.Reset(stagger)
			r.begin(ctx)
		}
	}
	return winner, false
}

// begin starts the next upstream.
func (r *race[A, T]) begin(ctx context.Context) {
	go r.openOne(ctx, r.begun)
	r.begun++
	r.running++
}

// openOne opens one upstream and reports. There is room for every report, so it
// never blocks.
func (r *race[A, T]) openOne(ctx context.Context, index int) {
	res := result[T]{index: index}
	defer func() {
		if p := recover(); p != nil {
			res.err = fmt.Errorf("panic while opening: %T\n%s", p, debug.Stack())
		}
		res.err = named(r.name(r.upstreams[index]), res.err)
		r.results <- res
	}()
	res.value, res.err = r.open(ctx, r.upstreams[index])
}

// receive keeps account of a report.
func (r *race[A, T]) receive(res result[T]) result[T] {
	r.running--
	r.errs[res.index] = res.err
	return res
}

func named(upstream string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("upstream %s: %w", upstream, err)
}
