package guard

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// flights are logins under way. A client that is in a hurry opens several
// connections and logs in with the same password on all of them; one is enough to
// find out that it is wrong.
type flights struct {
	mu      sync.Mutex
	running map[shortID]*flight
}

// flight is one login that others wait for.
type flight struct {
	// landed is closed when the rest is set.
	landed  chan struct{}
	verdict login.Verdict
	// broken says that who led has gone before there was a verdict.
	broken bool
}

// join returns the flight of identical attempts. Who leads has to land it.
func (f *flights) join(try shortID) (fl *flight, leads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl, ok := f.running[try]; ok {
		return fl, false
	}
	fl = &flight{landed: make(chan struct{}), broken: true}
	f.running[try] = fl
	return fl, true
}

// land tells all who wait.
func (f *flights) land(fl *flight, try shortID) {
	f.mu.Lock()
	delete(f.running, try)
	f.mu.Unlock()
	close(fl.landed)
}

// patience is how long an attempt waits for others, altogether.
const patience = 10 * time.Second

var errPatience = errors.New("other logins of this user have taken too long")

// wait returns when something is done, or says why it has not waited for that.
func wait(ctx context.Context, done <-chan struct{}, until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return errPatience
	}
}
