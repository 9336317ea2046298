package caddyimap

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

// drainedText is what clients are told whose server is not to be used any more.
const drainedText = "This mail server is going away, please connect again."

// target is a backend, or one server of it, whose sessions are to end.
type target struct {
	// upstream is empty for all servers of the backend.
	backend, upstream string
}

func (t target) matches(e *sessions.Entry) bool {
	return e.Kind == sessions.IMAP && e.Backend == t.backend && (t.upstream == "" || e.Upstream == t.upstream)
}

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

// targets are all whose sessions are to end, and after how long.
func (r removed) targets() map[target]time.Duration {
	targets := make(map[target]time.Duration, len(r))
	for name, after := range r {
		targets[target{backend: name}] = after
	}
	return targets
}

// drains are under way in the process, whatever configuration began them.
var drains drainTable

// drainTable ends the sessions of targets after a time.
type drainTable struct {
	mu     sync.Mutex
	drains map[target]*drain
}

// drain is under way for one target.
type drain struct {
	since time.Time
	after time.Duration
	timer *time.Timer
	// over says that the time has passed.
	over bool
}

// set says for which targets sessions may go on for how long only. It takes the
// place of what was said before: for a target that was there already the time
// goes on, and a target that is not there any more is left alone.
func (t *drainTable) set(targets map[target]time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for to, d := range t.drains {
		if after, ok := targets[to]; !ok || after != d.after {
			d.timer.Stop()
			if !ok {
				delete(t.drains, to)
			}
		}
	}
	for to, after := range targets {
		since := time.Now()
		if d := t.drains[to]; d != nil {
			if d.after == after {
				continue
			}
			since = d.since
		}
		if t.drains == nil {
			t.drains = make(map[target]*drain)
		}
		d := &drain{since: since, after: after}
		t.drains[to] = d
		d.timer = time.AfterFunc(time.Until(since.Add(after)), func() { t.end(to, d) })
	}
}

// end is called when the time of a target has passed.
func (t *drainTable) end(to target, d *drain) {
	logger := zap.NewNop()
	if app := apps.newest.Load(); app != nil {
		logger = app.logger
	}
	defer func() {
		if p := recover(); p != nil {
			logger.Error("panic while ending sessions", zap.String("panic", fmt.Sprintf("%T", p)), zap.Stack("stack"))
		}
	}()
	t.mu.Lock()
	current := t.drains[to] == d
	d.over = current
	t.mu.Unlock()
	if !current {
		return
	}
	list := live.List(to.matches)
	logger.Info("the time of sessions that were left is over",
		zap.String("backend", to.backend), zap.String("upstream", to.upstream), zap.Int("sessions", len(list)))
	kick(list, drainedText)
}

// late ends a session that began, by a login that was under way, when the time of
// its target had passed already.
func (t *drainTable) late(e *sessions.Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for to, d := range t.drains {
		if d.over && to.matches(e) {
			e.Kick(drainedText, kickGrace)
		}
	}
}

// kick ends sessions, and returns how many there are.
func kick(list []*sessions.Entry, text string) int {
	for _, e := range list {
		e.Kick(text, kickGrace)
	}
	return len(list)
}
