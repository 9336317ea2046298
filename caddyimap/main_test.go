package caddyimap

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/goleak"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

func TestMain(m *testing.M) {
	// Caddy's logging and certmagic start a few at import.
	ignored := goleak.IgnoreCurrent()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	// The id of this instance goes there.
	if err := os.Setenv("XDG_DATA_HOME", dir); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, ignored, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// The credentials that the backends of these tests know. The secret is long
// enough to be found in base64.
const (
	testUser   = "alice@example.org"
	testSecret = "correct-horse-battery"
)

// patience bounds a test that is not about time; it passes only in failure.
const patience = 20 * time.Second

// world is what the servers of one test have in common: an authority, and the
// certificates by it.
type world struct {
	tb testing.TB
	ca *imaptest.CA
	// storage is that of all configurations from now on; nil is for one of its
	// own for each.
	storage *storage
	// apps are the JSON of other apps.
	apps caddy.ModuleMap
	// admin is where Caddy's admin endpoint would listen.
	admin *caddy.AdminConfig
	// noTLS leaves the tls app out.
	noTLS bool
}

// newWorld also begins with an empty guard for apps that are not started, and in
// the end no session may be counted any longer, nor may an upstream be known.
func newWorld(tb testing.TB) *world {
	guards.mu.Lock()
	guards.own = nil
	guards.mu.Unlock()
	tb.Cleanup(func() {
		noSessions(tb)
		if known := health(); known != "" {
			tb.Errorf("still known are %s", known)
		}
	})
	return &world{tb: tb, ca: imaptest.NewCA(tb)}
}

// profile is that of a backend that knows testUser only.
func (w *world) profile() imaptest.Profile {
	return imaptest.Profile{
		TLS: w.ca.ServerTLS(),
		Login: func(l imaptest.Login) string {
			if l.User == testUser && l.Secret == testSecret {
				return "OK Logged in."
			}
			return "NO [AUTHENTICATIONFAILED] Authentication failed."
		},
	}
}

// start starts a backend.
func (w *world) start(p imaptest.Profile) *imaptest.Fake {
	w.tb.Helper()
	return imaptest.NewFake(w.tb, p)
}

func (w *world) fake() *imaptest.Fake { w.tb.Helper(); return w.start(w.profile()) }

// backend trusts the world's authority.
func (w *world) backend(addrs ...string) *Backend {
	b := &Backend{TLS: &reverseproxy.TLSConfig{CARaw: caddyconfig.JSON(map[string]any{
		"provider": "file", "pem_files": []string{w.ca.File()},
	}, nil)}}
	for _, addr := range addrs {
		b.Upstreams = append(b.Upstreams, &Upstream{Dial: addr})
	}
	return b
}

// app has one backend, which is named exchange, and does not hold refusals back.
func (w *world) app(b *Backend) *App {
	return &App{
		Backends: map[string]*Backend{"exchange": b},
		Guard:    &Guard{FailureDelay: caddy.Duration(time.Millisecond)},
	}
}

// config is a configuration that has been provisioned as Caddy does it, from its
// JSON. What it logs goes to log.
type config struct {
	tb  testing.TB
	ctx caddy.Context
	app *App
	log *logged
	// storage is where it keeps things.
	storage *storage
	// cancel ends the configuration, as a reload does. More than one call is one.
	cancel context.CancelFunc
}

// load provisions a configuration with the app. Its front certificates are for
// mail.example.org and old.example.org.
func (w *world) load(app *App) *config {
	w.tb.Helper()
	c, err := w.tryLoad(app)
	if err != nil {
		w.tb.Fatal(err)
	}
	return c
}

func (w *world) tryLoad(app *App) (*config, error) {
	w.tb.Helper()
	var files []map[string]any
	for _, name := range []string{"mail.example.org", "old.example.org"} {
		cert := w.ca.Issue(imaptest.Leaf{Names: []string{name}})
		files = append(files, map[string]any{"certificate": cert.CertFile, "key": cert.KeyFile})
	}
	log := newLogged(w.tb)
	storage := w.storage
	if storage == nil {
		storage = newStorage(w.tb)
	}
	cfg := &caddy.Config{
		Admin:      w.admin,
		StorageRaw: storage.config(),
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{
			WriterRaw:  caddyconfig.JSON(map[string]any{"output": "imap_test", "key": log.key}, nil),
			EncoderRaw: json.RawMessage(`{"format": "json"}`),
			Level:      "DEBUG",
		}}}},
	}
	base, err := caddy.ProvisionContext(cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	// Caddy keeps the cancel function of that context to itself, so the apps are
	// loaded by another one.
	cfg.AppsRaw = caddy.ModuleMap{
		"imap": caddyconfig.JSON(app, nil),
		"tls":  caddyconfig.JSON(map[string]any{"certificates": map[string]any{"load_files": files}}, nil),
	}
	maps.Copy(cfg.AppsRaw, w.apps)
	if w.noTLS {
		delete(cfg.AppsRaw, "tls")
	}
	c := &config{tb: w.tb, log: log, storage: storage}
	c.ctx, c.cancel = caddy.NewContext(base)
	w.tb.Cleanup(c.cancel)
	loaded, err := c.ctx.App("imap")
	if err != nil {
		return nil, err
	}
	c.app = loaded.(*App)
	return c, nil
}

// start starts the app, as the only one of its configuration.
func (c *config) start() {
	c.tb.Helper()
	c.startAlone()
	c.app.started()
}

// startAlone starts the app before the others of its configuration.
func (c *config) startAlone() {
	c.tb.Helper()
	if err := c.app.Start(); err != nil {
		c.tb.Fatal(err)
	}
}

// stop ends the configuration as Caddy does: the app stops, and all modules are
// cleaned up.
func (c *config) stop() {
	c.tb.Helper()
	if err := c.app.Stop(); err != nil {
		c.tb.Error(err)
	}
	c.cancel()
}

// ref is a handler's reference to a backend.
func (c *config) ref(name string) *BackendRef {
	c.tb.Helper()
	r, err := RefBackend(c.ctx, name)
	if err != nil {
		c.tb.Fatal(err)
	}
	return r
}

// handler provisions a handler.
func (c *config) handler(h *Handler) *Handler {
	c.tb.Helper()
	return c.module("layer4.handlers.imap", h).(*Handler)
}

func (c *config) module(id string, config any) layer4.NextHandler {
	c.tb.Helper()
	module, err := c.ctx.LoadModuleByID(id, caddyconfig.JSON(config, nil))
	if err != nil {
		c.tb.Fatal(err)
	}
	return module.(layer4.NextHandler)
}

// attempt is one that the backends grant.
func attempt() *login.Attempt {
	return &login.Attempt{
		ID: "SESSION", Service: "smtp", User: testUser, Secret: testSecret,
		Mechanism: "PLAIN", Secured: true, Start: time.Now(),
	}
}
