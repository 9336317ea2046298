package caddyimap

import (
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

// drainedText is what clients are told whose backend is gone.
const drainedText = "This mail server is going away, please connect again."

// removed remembers backends that a configuration had and the newest has not, and
// for how long their sessions may go on. Those whose sessions are kept are not in
// it.
type removed map[string]time.Duration

// change notes that another app is the newest; nil is for none.
func (r *removed) change(before, newest *App) {
	if *r == nil {
		*r = make(removed)
	}
	if before != nil {
		for name, b := range before.Backends {
			delete(*r, name)
			if b.OnRemovedDrain > 0 {
				(*r)[name] = time.Duration(b.OnRemovedDrain)
			}
		}
	}
	if newest != nil {
		maps.DeleteFunc(*r, func(name string, _ time.Duration) bool { return newest.Backends[name] != nil })
	}
}

// drains are under way in the process, whatever configuration began them.
var drains drainTable

// drainTable ends the sessions of backends after a time.
type drainTable struct {
	mu     sync.Mutex
	drains map[string]*drain
}

// drain is under way for one backend.
type drain struct {
	since time.Time
	after time.Duration
	timer *time.Timer
	// over says that the time has passed.
	over bool
}

// set says for which backends sessions may go on for how long only. It takes the
// place of what was said before: for a backend that was there already the time
// goes on, and one that is not there any more is left alone.
func (t *drainTable) set(backends removed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, d := range t.drains {
		if after, ok := backends[name]; !ok || after != d.after {
			d.timer.Stop()
			if !ok {
				delete(t.drains, name)
			}
		}
	}
	for name, after := range backends {
		since := time.Now()
		if d := t.drains[name]; d != nil {
			if d.after == after {
				continue
			}
			since = d.since
		}
		if t.drains == nil {
			t.drains = make(map[string]*drain)
		}
		d := &drain{since: since, after: after}
		t.drains[name] = d
		d.timer = time.AfterFunc(time.Until(since.Add(after)), func() { t.evict(name, d) })
	}
}

// evict is called when the time of a backend has passed.
func (t *drainTable) evict(name string, d *drain) {
	logger := zap.NewNop()
	if app := apps.newest.Load(); app != nil {
		logger = app.logger
	}
	defer glue.Recovered(logger, "ending sessions")
	t.mu.Lock()
	current := t.drains[name] == d
	d.over = current
	t.mu.Unlock()
	if !current {
		return
	}
	list := live.List(func(e *sessions.Entry) bool { return isSessionAt(e, name) })
	logger.Info("the time of sessions that were left is over", zap.String("backend", name), zap.Int("sessions", len(list)))
	kick(list, drainedText)
}

// late ends a session that began, by a login that was under way, when the time of
// its backend had passed already.
func (t *drainTable) late(e *sessions.Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, d := range t.drains {
		if d.over && isSessionAt(e, name) {
			e.Kick(drainedText, kickGrace)
		}
	}
}

func isSessionAt(e *sessions.Entry, backend string) bool {
	return e.Kind == sessions.IMAP && e.Backend == backend
}

// kick ends sessions, and returns how many there are.
func kick(list []*sessions.Entry, text string) int {
	for _, e := range list {
		e.Kick(text, kickGrace)
	}
	return len(list)
}
