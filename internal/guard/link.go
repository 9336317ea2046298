package guard

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// storeTimeout is what a store may cost a login.
	storeTimeout = 50 * time.Millisecond
	// mergeTimeout bounds the merge when a store is back. All that an instance can
	// have counted takes a local Redis 20 seconds; that of 100000 users, less than 2.
	mergeTimeout = time.Minute
	// liftTimeout bounds what an operator asks for.
	liftTimeout = time.Second

	// minPause is how long a store that failed is left alone; one that keeps
	// failing as soon as it is used, up to maxPause.
	minPause, maxPause = time.Second, 30 * time.Second
	// steady is for how long a store was up that does not keep failing.
	steady = time.Minute
	// restMerging is how often as long as it takes to gather what is to be merged
	// the next time is away, so that it does not become the only work there is.
	restMerging = 20
)

// link is a store that is attached.
type link struct {
	store   Store
	memory  *memory
	changed func(up bool, err error)
	state   atomic.Int32
	// failed is sent to when the state becomes linkDown.
	failed chan error
	// open are attempts for which the store may hold a reservation that it was not
	// told the end of.
	mu   sync.Mutex
	open []Settlement
	done sync.WaitGroup
}

// The states of a link. While it is merging, what is settled goes to the store
// already: else it would be lost if it came after the snapshot.
const (
	linkDown int32 = iota
	linkMerging
	linkUp
)

func newLink(store Store, m *memory, changed func(bool, error)) *link {
	return &link{store: store, memory: m, changed: changed, failed: make(chan error, 1)}
}

// call asks the store something for a login. The client may be gone; what it has
// tried counts.
func (l *link) call(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	err := sound(func() error { return ask(ctx) })
	if err != nil {
		l.fail(err)
	}
	return err
}

// fail takes the store out of use. Only run brings it back, after it has received
// the error, so there is room for it.
func (l *link) fail(err error) {
	if l.state.Swap(linkDown) != linkDown {
		l.failed <- err
	}
}

// maxOpen is how many reservations are taken back; the others end by themselves.
const maxOpen = 1000

// leaveOpen remembers that the store may hold a reservation.
func (l *link) leaveOpen(s Settlement) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) < maxOpen {
		l.open = append(l.open, s)
	}
}

// settleOpen takes reservations back that were left open. Their attempts are over, or go
// on without one.
func (l *link) settleOpen(ctx context.Context) error {
	l.mu.Lock()
	open := l.open
	l.open = nil
	l.mu.Unlock()
	for i, s := range open {
		if err := l.store.Settle(ctx, s); err != nil {
			l.mu.Lock()
			l.open = append(l.open, open[i:]...)
			l.mu.Unlock()
			return err
		}
	}
	return nil
}

// run follows the store until ctx is done.
func (l *link) run(ctx context.Context) {
	defer l.done.Done()
	if err := sound(func() error { l.follow(ctx); return nil }); err != nil {
		l.state.Store(linkDown)
		l.tell(false, err)
	}
}

// follow merges what was counted here with what the store has, at the beginning and
// whenever the store is back.
func (l *link) follow(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause, quiet := minPause, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		rest, err := l.merge(ctx)
		if err == nil {
			quiet = false
			l.tell(true, nil)
			since := time.Now()
			select {
			case <-ctx.Done():
				return
			case err = <-l.failed:
			}
			if pause = min(2*pause, maxPause); time.Since(since) >= steady {
				pause = minPause
			}
		}
		if !quiet && ctx.Err() == nil {
			quiet = true
			l.tell(false, err)
		}
		timer.Reset(max(pause, rest))
	}
}

// merge brings the store into use, and says how long to wait if that has failed.
func (l *link) merge(ctx context.Context) (rest time.Duration, err error) {
	l.state.Store(linkMerging)
	start := time.Now()
	s := l.memory.snapshot(start)
	rest = restMerging * time.Since(start)
	ctx, cancel := context.WithTimeout(ctx, mergeTimeout)
	defer cancel()
	if err = sound(func() error { return errors.Join(l.settleOpen(ctx), l.store.Merge(ctx, s)) }); err != nil {
		l.fail(err)
	} else {
		// One that always answers late would be in use and out of use by turns, so
		// it is told of an attempt that never was.
		_ = l.call(ctx, func(ctx context.Context) error {
			return l.store.Settle(ctx, Settlement{Ticket: newID(), Now: time.Now()})
		})
	}
	if !l.state.CompareAndSwap(linkMerging, linkUp) {
		return rest, <-l.failed
	}
	return rest, nil
}

// tell says that the store is used or not. One who is told has no business to end
// the process.
func (l *link) tell(up bool, err error) {
	_ = sound(func() error { l.changed(up, err); return nil })
}

// sound calls a function, for which a panic is an error. Only its type is shown: its
// words might quote a secret.
func sound(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %T\n%s", p, debug.Stack())
		}
	}()
	return f()
}
