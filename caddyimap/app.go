// Package caddyimap has the modules that put Caddy in front of IMAP servers: the
// imap app, which knows the backends and host names, and the imap handler, which
// serves clients.
//
// What they say to clients and backends is in packages of internal; here is what
// they can be told, and how they live in Caddy.
package caddyimap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(new(App))
	caddy.RegisterModule(new(Handler))
}

// App is what the handlers `imap` and `dovecot_auth` share: IMAP servers to log
// users in at, and the host names of this server.
//
// Backends can be changed while mail flows. Sessions go on where they are, and the
// next login goes to the new address, even if it comes over a connection that a
// mail server opened before the change:
//
//	curl -X PATCH -H "Content-Type: application/json" -d '"ex2.corp.example.org:143"' \
//		localhost:2019/config/apps/imap/backends/exchange/upstreams/0/dial
//
// Whoever may do that can collect the passwords of all users, so the admin API is
// best kept on a unix socket.
type App struct {
	// The names that clients connect to. Caddy gets certificates for them and
	// renews them: from the public authorities that it is configured with, or
	// from its internal one if a name is not public, such as `localhost` and
	// `mail.internal`. Clients that name no server, or another, get the
	// certificate of the first.
	Hostnames []string `json:"hostnames,omitempty"`

	// The IMAP servers behind this one, by a name of your choice. Handlers refer
	// to that name, and need not if there is only one.
	Backends map[string]*Backend `json:"backends,omitempty"`

	// How password guessing is made hard.
	Guard *Guard `json:"guard,omitempty"`

	// generation is higher in apps that were provisioned later.
	generation uint64
	// retired is set when the configuration is over, or was never started.
	retired atomic.Bool
	// ran is set when the configuration has started as a whole.
	ran atomic.Bool

	tls   *caddytls.TLS
	login *loginLog
	// ctx is for its end only; nothing is done with it that takes time.
	ctx    caddy.Context
	logger *zap.Logger
}

// Guard makes password guessing hard.
type Guard struct {
	// How long after a login has begun its refusal is sent, at the earliest.
	// It is the same whatever the reason is, a backend that is away included,
	// so that guessing is slow and the time tells nothing. It can be at most
	// 10s. Default: `2s`.
	FailureDelay caddy.Duration `json:"failure_delay,omitempty"`
}

const (
	defaultFailureDelay = 2 * time.Second
	maxFailureDelay     = 10 * time.Second
)

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "imap",
		New: func() caddy.Module { return new(App) },
	}
}

// generations counts the apps that were provisioned in this process.
var generations atomic.Uint64

// Provision sets up the app.
func (a *App) Provision(ctx caddy.Context) error {
	a.generation = generations.Add(1)
	a.ctx, a.logger = ctx, ctx.Logger()
	a.login = newLoginLog(a.logger)
	if a.Guard == nil {
		a.Guard = new(Guard)
	}
	if a.Guard.FailureDelay == 0 {
		a.Guard.FailureDelay = caddy.Duration(defaultFailureDelay)
	}
	if d := time.Duration(a.Guard.FailureDelay); d < 0 || d > maxFailureDelay {
		return fmt.Errorf("guard: failure_delay %s: must be more than 0 and at most %s", d, maxFailureDelay)
	}
	for name, b := range a.Backends {
		if name == "" {
			return fmt.Errorf("backends: a backend needs a name")
		}
		if b == nil {
			b = new(Backend)
			a.Backends[name] = b
		}
		if err := b.provision(ctx, a, name); err != nil {
			return fmt.Errorf("backend %s: %w", name, err)
		}
	}
	if err := a.provisionHostnames(ctx); err != nil {
		return err
	}
	return a.whenStarted(ctx)
}

// whenStarted has started called, by Caddy's event of that name.
func (a *App) whenStarted(ctx caddy.Context) error {
	app, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("loading the events app: %w", err)
	}
	if err := app.(*caddyevents.App).On("started", startedHandler{a}); err != nil {
		return fmt.Errorf("waiting for the start of all apps: %w", err)
	}
	return nil
}

// startedHandler handles the event that all apps have started.
type startedHandler struct{ app *App }

// Handle implements caddyevents.Handler.
func (h startedHandler) Handle(context.Context, caddy.Event) error {
	h.app.started()
	return nil
}

// Start does nothing: handlers use the app from when the whole configuration has
// started, so that no login goes to a backend of one that fails to.
func (a *App) Start() error { return nil }

// started is told when all apps of the configuration have started.
func (a *App) started() {
	a.ran.Store(true)
	apps.start(a)
	a.manageCertificates()
}

// Stop makes way for the app that is the newest without this one, if any.
func (a *App) Stop() error {
	a.retire()
	return nil
}

// Cleanup is for apps that were never started.
func (a *App) Cleanup() error {
	a.retire()
	closeForgotten(a.ctx, a.logger)
	return nil
}

func (a *App) retire() {
	a.retired.Store(true)
	apps.stop(a)
}

// backend returns the backend of that name, or the only one if the name is empty.
func (a *App) backend(name string) (*Backend, error) {
	if b, ok := a.Backends[name]; ok {
		return b, nil
	}
	known := slices.Sorted(maps.Keys(a.Backends))
	switch {
	case name != "" && len(known) == 0:
		return nil, fmt.Errorf("backend %q is not defined in the imap app; define it there with the option backend", name)
	case name != "":
		return nil, fmt.Errorf("backend %q is not defined in the imap app; known are %s", name, strings.Join(known, ", "))
	case len(known) == 0:
		return nil, errors.New("there is no backend; define one in the imap app with the option backend")
	case len(known) > 1:
		return nil, fmt.Errorf("no backend is named, and the imap app defines several; name one of %s", strings.Join(known, ", "))
	}
	return a.Backends[known[0]], nil
}

// Interface guards.
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
