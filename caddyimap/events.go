package caddyimap

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// The events that sites can hook in at, with Caddy's events app.
const (
	eventLogin        = "login"
	eventLoginFailed  = "login_failed"
	eventAccountHeld  = "account_held"
	eventSourceBanned = "source_banned"
)

const (
	// maxEvents is how many events may wait for handlers that are slower than
	// logins.
	maxEvents = 1024
	// eventsGrace is for how long events are still emitted when the app stops.
	eventsGrace = 2 * time.Second
	// handlerGrace is how long a handler is waited for that was told to end.
	handlerGrace = time.Second
)

// eventQueue emits events, one after the other, so that no login waits for what a
// site does about them. None is emitted before all apps have started: the events
// app is changed by its start without a lock.
type eventQueue struct {
	app    *caddyevents.App
	ctx    caddy.Context
	logger *zap.Logger

	// ready is closed when all apps have started.
	ready chan struct{}
	begun sync.Once

	mu      sync.Mutex
	waiting chan event // nil unless started
	dropped bool       // the last one was
	// cancel tells handlers to end; ended is closed when all have.
	cancel context.CancelFunc
	ended  chan struct{}
}

type event struct {
	name string
	data map[string]any
}

func (a *App) provisionEvents(ctx caddy.Context) error {
	app, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("loading the events app: %w", err)
	}
	a.events = &eventQueue{app: app.(*caddyevents.App), ctx: ctx, logger: a.logger, ready: make(chan struct{})}
	return nil
}

// begin lets events be emitted. It is called when all apps have started, once.
func (q *eventQueue) begin() { q.begun.Do(func() { close(q.ready) }) }

func (q *eventQueue) start() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = make(chan event, maxEvents)
	q.ended = make(chan struct{})
	var ctx context.Context
	ctx, q.cancel = context.WithCancel(q.ctx)
	go q.emitAll(ctx, q.waiting, q.ended)
}

// stop emits what waits, as far as that is done soon. It does not wait forever for
// a handler that does not care: a reload would hang.
func (q *eventQueue) stop() {
	q.mu.Lock()
	waiting := q.waiting
	q.waiting = nil
	q.mu.Unlock()
	if waiting == nil {
		return
	}
	close(waiting)
	defer q.cancel()
	select {
	case <-q.ready:
	default: // nothing was emitted, and nothing will be
		q.cancel()
	}
	if q.endsWithin(eventsGrace) {
		return
	}
	q.cancel()
	if !q.endsWithin(handlerGrace) {
		q.logger.Warn("a handler of an event goes on, although the configuration is over")
	}
}

func (q *eventQueue) endsWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-q.ended:
		return true
	case <-timer.C:
		return false
	}
}

func (q *eventQueue) emitAll(ctx context.Context, waiting <-chan event, ended chan<- struct{}) {
	defer close(ended)
	dropped := 0
	for e := range waiting {
		if !q.canEmit(ctx) {
			dropped++
			continue
		}
		q.emit(ctx, e)
	}
	if dropped > 0 {
		q.logger.Warn("events were dropped, because the configuration ended before they could be emitted", zap.Int("events", dropped))
	}
}

// canEmit waits until all apps have started, or the configuration is over.
func (q *eventQueue) canEmit(ctx context.Context) bool {
	select {
	case <-q.ready:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

func (q *eventQueue) emit(ctx context.Context, e event) {
	defer func() {
		if p := recover(); p != nil {
			q.logger.Error("panic in a handler of an event", zap.String("event", e.name), zap.String("panic", fmt.Sprintf("%T", p)), zap.Stack("stack"))
		}
	}()
	with := q.ctx
	with.Context = ctx
	q.app.Emit(with, e.name, e.data)
}

// wanted says whether anybody wants to know, as far as that can be told.
func (q *eventQueue) wanted(name string) bool {
	select {
	case <-q.ready:
		return q.app.ShouldEmit(name)
	default:
		return true
	}
}

// add has an event emitted, if anybody wants to know.
func (q *eventQueue) add(name string, data func() map[string]any) {
	if !q.wanted(name) {
		return
	}
	e := event{name, data()}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil {
		return
	}
	select {
	case q.waiting <- e:
		q.dropped = false
	default:
		if !q.dropped {
			q.logger.Warn("events are dropped, because what is done about them takes longer than logins do", zap.String("event", name))
		}
		q.dropped = true
	}
}

// accountHeld tells that an account's budget is used up.
func (a *App) accountHeld(at *login.Attempt, failures int) {
	user, hash := a.nameToShow(at.User, false)
	fields := []zap.Field{zap.String("user", user), zap.Int("failures", failures)}
	if hash != "" {
		fields = append(fields, zap.String("user_hash", hash))
	}
	a.logger.Warn("no more wrong passwords for this account reach the backend for a while",
		append(fields, zap.String("remote_ip", addrText(at.Remote)))...)
	a.events.add(eventAccountHeld, func() map[string]any {
		return map[string]any{"user": user, "user_hash": hash, "failures": failures, "remote_ip": addrText(at.Remote), "service": printable(at.Service)}
	})
}

// sourceBanned tells that a source was banned.
func (a *App) sourceBanned(at *login.Attempt, until time.Time) {
	a.logger.Warn("this source has tried too many different passwords and is banned",
		zap.String("remote_ip", addrText(at.Remote)), zap.Time("until", until))
	a.events.add(eventSourceBanned, func() map[string]any {
		return map[string]any{"remote_ip": addrText(at.Remote), "until": until.Format(time.RFC3339), "service": printable(at.Service)}
	})
}

// loginDone tells what became of a login.
func (a *App) loginDone(at *login.Attempt, backend string, v login.Verdict) {
	name := eventLoginFailed
	if v.Result == login.Granted {
		name = eventLogin
	}
	a.events.add(name, func() map[string]any {
		user, hash := a.nameToShow(at.User, isNamed(at, v))
		return map[string]any{
			"result": v.Result.String(), "code": string(v.Code), "user": user, "user_hash": hash, "remote_ip": addrText(at.Remote),
			"service": printable(at.Service), "mechanism": printable(at.Mechanism), "backend": backend, "session": at.ID,
		}
	})
}
