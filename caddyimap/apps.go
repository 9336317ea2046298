package caddyimap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// apps are the running apps of the process. There is one, and two for a moment
// while the configuration changes.
var apps appTable

// appTable finds the newest of the running apps. A connection keeps the handler
// that it began with, and a mail server keeps its connection for hours, so a
// handler's own app may be long gone.
type appTable struct {
	mu      sync.Mutex
	running []*App
	// newest is looked up at each login.
	newest atomic.Pointer[App]
	// gone are backends that the newest app does not have any more.
	gone removed
	// observers are called whenever an app has come or gone.
	observers []func()
}

func (t *appTable) start(a *App) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = append(t.running, a)
	t.choose()
}

// stop takes an app out. If it was the newest, because its configuration failed
// to start as a whole, the one before it is used again.
func (t *appTable) stop(a *App) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = slices.DeleteFunc(t.running, func(other *App) bool { return other == a })
	t.choose()
}

func (t *appTable) choose() {
	var newest *App
	for _, a := range t.running {
		if newest == nil || a.generation > newest.generation {
			newest = a
		}
	}
	if before := t.newest.Swap(newest); before != newest {
		t.gone.change(before, newest)
		drains.set(t.gone)
	}
	for _, f := range t.observers {
		f()
	}
}

// WhenConfigChanges has f called after a configuration with an imap app has started,
// and when one is over, be it that it never came to be: what its handlers have begun
// is for others to go on with then. f must not block. Packages with handlers call
// it in their init.
func WhenConfigChanges(f func()) {
	apps.mu.Lock()
	defer apps.mu.Unlock()
	apps.observers = append(apps.observers, f)
}

// BackendRef is a handler's reference to a backend. It outlives the configuration
// that it was made for: each login goes to the backend that has the name now.
type BackendRef struct {
	own  *App
	name string
}

// RefBackend returns a reference to the backend of that name in the imap app, or
// to its only backend if the name is empty. Placeholders in the name are replaced.
// A name that the app does not define is an error. Handlers call it when they are
// provisioned.
func RefBackend(ctx caddy.Context, name string) (*BackendRef, error) {
	name, err := caddy.NewReplacer().ReplaceOrErr(name, true, true)
	if err != nil {
		return nil, fmt.Errorf("replacing the placeholders in its name: %w", err)
	}
	app, err := ctx.App("imap")
	if err != nil {
		return nil, fmt.Errorf("loading the imap app: %w", err)
	}
	own := app.(*App)
	if _, err := own.backend(name); err != nil {
		return nil, err
	}
	return &BackendRef{own: own, name: name}, nil
}

// errNoApp says that the configuration has no imap app any more.
var errNoApp = errors.New("the configuration has no imap app any more")

// find returns the newest app that runs, and its backend of the reference's name.
// A new handler may be asked before its configuration has started as a whole; it
// uses the one before then, unless there is none, or none with such a backend. The
// app is nil if there is none at all.
func (r *BackendRef) find() (*App, *Backend, error) {
	app := apps.newest.Load()
	var b *Backend
	err := errNoApp
	if app != nil {
		b, err = app.backend(r.name)
	}
	if err != nil && !r.own.retired.Load() && (app == nil || app.generation < r.own.generation) {
		app = r.own
		b, err = app.backend(r.name)
	}
	return app, b, err
}

// IsNewest says whether the handler's own configuration is the one that counts.
func (r *BackendRef) IsNewest() bool { return apps.newest.Load() == r.own }

// Replaced says whether another configuration has taken the place of the handler's
// own.
func (r *BackendRef) Replaced() bool {
	newest := apps.newest.Load()
	return r.own.retired.Load() || newest != nil && newest.generation > r.own.generation
}

// Check asks the backend about an attempt of the Dovecot auth protocol, and
// leaves no session behind. What it returns should be held back with Hold.
func (r *BackendRef) Check(ctx context.Context, a *login.Attempt) login.Verdict {
	return r.attempt(ctx, a, entranceAuth, func(ctx context.Context, a *login.Attempt, b *Backend, on *link, _ bool) login.Verdict {
		return b.checkFor(ctx, a, imapauth.Plain, on)
	})
}

// open logs an attempt of an IMAP client in, unless the user has too many sessions.
func (r *BackendRef) open(ctx context.Context, a *login.Attempt) (session *login.Session, v login.Verdict) {
	told := false
	defer func() {
		if session != nil && !told { // a panic
			session.Close()
		}
	}()
	v = r.attempt(ctx, a, entranceIMAP, func(ctx context.Context, a *login.Attempt, b *Backend, on *link, right bool) (v login.Verdict) {
		session, v = b.openCounted(ctx, a, on, right)
		b.extend(session)
		return v
	})
	r.Hold(ctx, a, v)
	told = true
	return session, v
}

// banned says whether an address is not even to be greeted.
func (r *BackendRef) banned(addr netip.Addr) bool {
	app, _, _ := r.find()
	return app != nil && app.Guard.banned(plain(addr))
}

// shownUser returns the name of somebody who was let in as the log may show it.
func (r *BackendRef) shownUser(user string) string {
	app, _, _ := r.find()
	if app == nil {
		app = r.own
	}
	shown, _ := app.nameToShow(user, true)
	return shown
}

// ask is how a backend is asked about an attempt, with the name that it wants: on a
// connection of its own, unless there is one already. It is told whether the password
// was right before.
type ask func(ctx context.Context, a *login.Attempt, b *Backend, on *link, right bool) login.Verdict

// attempt finds the backend, asks it as far as the guard lets it, and tells what
// came of it.
func (r *BackendRef) attempt(ctx context.Context, typed *login.Attempt, from entrance, ask ask) login.Verdict {
	app, b, err := r.find()
	if err != nil {
		if app == nil {
			app = r.own
		}
		v := login.UnavailableFor(err)
		countLost(from, r.name, typed, v)
		app.log(ctx, typed, r.name, v, adviceConfig)
		return v
	}
	if typed.Relay != nil {
		return b.relay(ctx, app, typed, from, ask)
	}
	a := *typed
	a.Remote = plain(a.Remote)
	// What no backend would be asked about is no guess. What counts is the name that
	// it is asked about, since many that users type may become the same.
	renamed, v := b.rename(&a)
	if renamed != nil {
		v = b.guarded(ctx, app, renamed, from == entranceAuth, func(ctx context.Context, right bool) login.Verdict {
			return ask(ctx, renamed, b, nil, right)
		})
	}
	b.tell(ctx, app, &a, from, v)
	return v
}

// tell counts and logs what came of an attempt.
func (b *Backend) tell(ctx context.Context, app *App, a *login.Attempt, from entrance, v login.Verdict) {
	b.measures().count(from, a, v)
	app.successor().log(ctx, a, b.name, v, adviceBackend)
}

// Refused tells of an attempt of the Dovecot auth protocol that the backend is not
// asked about.
func (r *BackendRef) Refused(ctx context.Context, a *login.Attempt, v login.Verdict) {
	r.refused(ctx, a, entranceAuth, v)
}

func (r *BackendRef) refused(ctx context.Context, a *login.Attempt, from entrance, v login.Verdict) {
	app, b, _ := r.find()
	if app == nil {
		app = r.own
	}
	name := r.name
	if b != nil {
		name = b.name
		b.measures().count(from, a, v)
	} else {
		countLost(from, name, a, v)
	}
	app.log(ctx, a, name, v, adviceBackend)
}

// Hold waits until a verdict of Check may be told.
func (r *BackendRef) Hold(ctx context.Context, a *login.Attempt, v login.Verdict) {
	app, _, _ := r.find()
	if app == nil {
		app = r.own
	}
	app.Guard.hold(ctx, a, v)
}

// Abandoned says whether the configuration of the handler was given up before it
// ran. A connection may have come to one of its listeners all the same. Nobody is to
// be served by it, since what the configuration says never came to be.
func (r *BackendRef) Abandoned() bool { return r.own.retired.Load() && !r.own.ran.Load() }

// DropsDomain returns the option of the backend, if there is one, by which it is not
// told the domain of a user's name, so that nobody has verified that the user has that
// domain. Users who ask for somebody else's mailbox count only if there are any.
func (r *BackendRef) DropsDomain(delegates bool) (option string) {
	b, err := r.own.backend(r.name)
	switch {
	case err != nil:
		return ""
	case !b.username.UsesDomain():
		return "username"
	case delegates && b.delegate != nil && !b.delegate.UsesDomain():
		return "delegate"
	}
	return ""
}

// plain returns an address as the guard and networks know it: an IPv4 address as
// one, and without the name of our own network interface.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// successor returns the app that has taken the place of this one while it was
// waiting for a backend, or this one.
func (a *App) successor() *App {
	if newest := apps.newest.Load(); a.retired.Load() && newest != nil {
		return newest
	}
	return a
}
