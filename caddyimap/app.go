// Package caddyimap has the modules that put Caddy in front of IMAP servers: the
// imap app, which knows the backends and host names, and the imap handler, which
// serves clients.
//
// What they say to clients and backends is in packages of internal; here is what
// they can be told, and how they live in Caddy.
package caddyimap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/caddyserver/certmagic"
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
	// from its internal one if a name is not public, such as `localhost`, `mail`
	// and `mail.internal`. Clients that name no server, or another, get the
	// certificate of the first.
	Hostnames []string `json:"hostnames,omitempty"`

	// Certificates that somebody else gets and renews, in files, for the handlers
	// `imap`. Clients that ask for a name of one get it, and those for whom there
	// is no other get the first. For names in `hostnames` that are in a file,
	// Caddy gets no certificate. The files are read when the configuration is
	// loaded.
	Certificates []CertificateFiles `json:"certificates,omitempty"`

	// The IMAP servers behind this one, by a name of your choice. Handlers refer
	// to that name, and need not if there is only one.
	Backends map[string]*Backend `json:"backends,omitempty"`

	// How password guessing is made hard.
	Guard *Guard `json:"guard,omitempty"`

	// How many connections of IMAP clients there may be at a time, over all
	// handlers `imap`, logged in or not. Further ones are turned away. A
	// configuration that takes the place of this one counts on. Its memory, below, is
	// GOMEMLIMIT, which Caddy sets to nine tenths of what the machine or the control
	// group has. Default: half of the files that the process may have open, less 100,
	// or one for each 64 KiB of a quarter of its memory, whichever is less.
	MaxConnections int `json:"max_connections,omitempty"`

	// How many of them an IPv4 address or IPv6 /64 network may have. It does not
	// hold for `trusted_clients` of a handler, nor for what is `exempt` in the
	// guard. Default: no limit.
	MaxConnectionsPerSource int `json:"max_connections_per_source,omitempty"`

	// How much memory is used, in bytes, to remember what the extensions `SORT` and
	// `THREAD` need of messages, for all users. 400 bytes or so are needed for a
	// message. What has not been asked for the longest is forgotten. Default:
	// `67108864`, which is 64 MiB.
	HeaderCache int `json:"header_cache,omitempty"`

	// Whose names logs, events and the admin API show: `known` for those who were
	// let in, now or before, and for what looks like a name, `all`, or `none`.
	// Some people type their password where their name belongs. Default: `known`.
	LogUser string `json:"log_user,omitempty"`

	// maxConnections is the limit in force; 0 is none.
	maxConnections int
	// generation is higher in apps that were provisioned later.
	generation uint64
	// retired is set when the configuration is over, or was never started.
	retired atomic.Bool
	// ran is set when the configuration has started as a whole.
	ran atomic.Bool

	tls      *caddytls.TLS
	files    []tls.Certificate
	storage  certmagic.Storage
	guardRun *guardRun
	learning learning
	events   *eventQueue
	// ctx is for its end only; nothing is done with it that takes time.
	ctx    caddy.Context
	logger *zap.Logger
}

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
	a.warnAdmin(ctx)
	a.warnTLS(ctx)
	if a.LogUser == "" {
		a.LogUser = logKnown
	}
	if err := oneOf("log_user", a.LogUser, logKnown, logAll, logNone); err != nil {
		return err
	}
	for name, n := range map[string]int{"max_connections": a.MaxConnections, "max_connections_per_source": a.MaxConnectionsPerSource} {
		if n < 0 {
			return fmt.Errorf("%s %d: must be more than 0", name, n)
		}
	}
	if err := a.provisionHeaderCache(); err != nil {
		return err
	}
	if a.maxConnections = a.MaxConnections; a.maxConnections == 0 {
		a.maxConnections = defaultConnections(connectionsByFiles(openFiles()), connectionsByMemory(memory()))
	}
	if a.Guard == nil {
		a.Guard = new(Guard)
	}
	if err := a.Guard.provision(ctx); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	if err := a.registerMetrics(ctx); err != nil {
		return err
	}
	a.storage = ctx.Storage()
	if err := a.provisionEvents(ctx); err != nil {
		return err
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
	if err := a.provisionVerifiers(); err != nil {
		return err
	}
	if err := a.provisionCertificates(); err != nil {
		return err
	}
	if err := a.provisionHostnames(ctx); err != nil {
		return err
	}
	return a.whenStarted()
}

// whenStarted has started called, by Caddy's event of that name.
func (a *App) whenStarted() error {
	if err := a.events.app.On("started", startedHandler{a}); err != nil {
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

// Start has the guard count for the app. Handlers use the app only from when the
// whole configuration has started, so that no login goes to a backend of one that
// fails to.
func (a *App) Start() error {
	if err := a.startGuard(); err != nil {
		return err
	}
	a.events.start()
	return nil
}

// started is told when all apps of the configuration have started.
func (a *App) started() {
	a.ran.Store(true)
	headerCache.SetLimit(int64(a.HeaderCache))
	a.beginMetrics()
	a.startPools()
	a.startLearning()
	apps.start(a)
	a.events.begin()
	a.manageCertificates()
}

// Stop makes way for the app that is the newest without this one, if any. What has
// begun with this app is told of by that one.
func (a *App) Stop() error {
	a.retire()
	a.stopLearning()
	a.stopPools()
	a.events.stop()
	return a.stopGuard()
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
