// Package caddysasl lets mail servers ask Caddy about passwords. It has two
// layer4 handlers, which speak protocols of Dovecot: dovecot_auth answers by
// logging in at an IMAP backend, and dovecot_userdb says that it knows no users.
//
// The protocols themselves are in internal/dovecotauth, the backends in
// caddyimap.
package caddysasl

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/caddyimap"
	"github.com/caddy-imap/caddy-imap/internal/dovecotauth"
	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

func init() {
	caddy.RegisterModule(new(DovecotAuth))
	caddy.RegisterModule(new(DovecotUserDB))
}

// maxDeadline is below the 10 seconds after which Postfix gives a connection up.
const maxDeadline = 9 * time.Second

// DovecotAuth is a handler that speaks the server side of the Dovecot auth-client
// protocol. Mail servers that can use Dovecot for SMTP AUTH, such as Postfix, Exim
// and chasquid, use it instead, and a password is right if the IMAP backend lets
// its user in with it.
//
// In Postfix:
//
//	smtpd_sasl_type = dovecot
//	smtpd_sasl_path = inet:127.0.0.1:12345
//
// Whoever may connect can try passwords, and is believed when it tells from where
// its own client comes. So only programs of this machine may, unless others are
// allowed.
type DovecotAuth struct {
	// The name of the backend to ask, of those that the `imap` app defines.
	// Default: the backend, if there is exactly one.
	Backend string `json:"backend,omitempty"`

	// The SASL mechanisms to offer: `PLAIN` and `LOGIN`, which bring us a password,
	// and those that the client carries out with the backend itself, while we pass on
	// what they say: `XOAUTH2`, `OAUTHBEARER`, `SCRAM-SHA-256`, `SCRAM-SHA-1` and
	// `CRAM-MD5`. Of these, clients are offered what the backend is known to offer; if
	// nothing else is left, all of them. Default: PLAIN and LOGIN.
	Mechanisms []string `json:"mechanisms,omitempty"`

	// How long the backend may take for an answer. It cannot be more than 9s,
	// since Postfix waits for 10s; chasquid and Radicale wait for 5s, and want
	// `4s` here. Default: `8s`.
	Deadline caddy.Duration `json:"deadline,omitempty"`

	// What to do if a password could not be checked, because the backend is away
	// or holds users off. With `disconnect` the connection is reset, and Postfix
	// and Exim tell their client to try again later (454, 435); if other
	// passwords are under way on the same connection, it stays and the one
	// request fails. With `fail` the request fails with the code `temp_fail`,
	// which Postfix and Exim take for a wrong password (535). Default:
	// `disconnect`.
	OnUnavailable string `json:"on_unavailable,omitempty"`

	// The networks and addresses that may connect, in CIDR notation. They take
	// the place of the default; unix sockets may always connect. What counts is
	// the address of the socket, and not what a PROXY header says. Default:
	// the loopback networks, `127.0.0.0/8` and `::1/128`.
	Allow []string `json:"allow,omitempty"`

	// The user name to tell the mail server, which may decide by it on sender
	// addresses (`smtpd_sender_login_maps` in Postfix). These placeholders are
	// replaced by the name that was authenticated, in lower case:
	//
	// Placeholder | Description
	// ------------|------------
	// `{imap.user}` | The whole name
	// `{imap.user.local}` | The part before the last `@`, or after the first backslash
	// `{imap.user.domain}` | The other part, which may be empty
	//
	// Names with a space or a control character in them are refused. Default:
	// `{imap.user}`.
	Identity string `json:"identity,omitempty"`

	// Whether to let users in who ask for the mailbox of somebody else: with
	// names like `user/shared`, `DOM\user\shared` and `user@dom\shared`, or with
	// a SASL authorization identity that differs from the user name. Default:
	// `false`.
	AllowDelegates bool `json:"allow_delegates,omitempty"`

	// How many connections of mail servers there may be at a time, those of other
	// listeners with `dovecot_auth` included. Further ones are reset, and a Postfix
	// that finds no greeting does not serve its client at all. So it should be more
	// than the mail server has processes. Default: no limit.
	MaxConnections int `json:"max_connections,omitempty"`

	// mechanisms are those that are configured.
	mechanisms []string
	// usesDomain says that the identity has the domain in it that the user typed.
	usesDomain bool
	// options are those that it was given.
	options string
	// app is the layer4 app that it belongs to, and layout that app's; nil if it is
	// elsewhere.
	app     *layer4.App
	layout  *layout
	backend backendRef

	server *dovecotauth.Server
	access *access
	logger *zap.Logger
}

// backendRef is what a handler has to know about its backend beside the answers.
type backendRef interface {
	// Abandoned says that nobody is to be served for the handler.
	Abandoned() bool
	// IsNewest says that its configuration is the one that counts, Replaced that
	// another has taken its place.
	IsNewest() bool
	Replaced() bool
	// Register adds a connection to what is live, until end is called.
	Register(id string, remote net.Addr, connection sessions.Live) (end func())
}

// CaddyModule returns the Caddy module information.
func (*DovecotAuth) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "layer4.handlers.dovecot_auth",
		New: func() caddy.Module { return new(DovecotAuth) },
	}
}

// Provision sets up the handler.
func (h *DovecotAuth) Provision(ctx caddy.Context) error {
	h.logger, h.options = ctx.Logger(), optionsOf(h)
	if err := h.setUp(caddy.NewReplacer()); err != nil {
		return err
	}
	if err := registerMetrics(ctx); err != nil {
		return err
	}
	backend, err := caddyimap.RefBackend(ctx, h.Backend)
	if err != nil {
		return fmt.Errorf("finding the backend: %w", err)
	}
	if option := backend.DropsDomain(h.AllowDelegates); h.usesDomain && option != "" {
		return fmt.Errorf("identity %s: nobody has verified the domain in it, since the option %s of the backend drops it; "+
			"set identity to {imap.user.local}, or to {imap.user.local}@ and your domain", cmp.Or(h.Identity, defaultIdentity), option)
	}
	offered, err := backend.Mechanisms(h.mechanisms)
	if err != nil {
		return err
	}
	h.server.Mechanisms = offers(h.mechanisms, offered)
	h.server.Check, h.server.Refused, h.server.Hold = backend.Check, backend.Refused, backend.Hold
	measure(h.server)
	h.backend = backend
	connections.join(ctx, h)
	return nil
}

// Cleanup is called when the configuration is over.
func (h *DovecotAuth) Cleanup() error {
	connections.leave(h)
	return nil
}

// setUp does the part of provisioning that needs no backend.
func (h *DovecotAuth) setUp(repl *caddy.Replacer) error {
	h.server = &dovecotauth.Server{
		Deadline:       time.Duration(h.Deadline),
		AllowDelegates: h.AllowDelegates,
		Logger:         h.logger,
	}
	if d := h.server.Deadline; d < 0 || d > maxDeadline {
		return fmt.Errorf("deadline %s: must be more than 0 and at most %s, since Postfix waits for 10s only", d, maxDeadline)
	}
	if err := checkMost(h.MaxConnections); err != nil {
		return err
	}
	var err error
	if h.mechanisms, err = login.ParseMechanisms(h.Mechanisms, login.RelayedForAll); err != nil {
		return fmt.Errorf("mechanisms %w", err)
	}
	switch h.OnUnavailable {
	case "", "disconnect":
		h.server.OnUnavailable = dovecotauth.Disconnect
	case "fail":
		h.server.OnUnavailable = dovecotauth.Fail
	default:
		return fmt.Errorf("on_unavailable %q: must be disconnect or fail", h.OnUnavailable)
	}
	identity, err := parseIdentity(repl, cmp.Or(h.Identity, defaultIdentity))
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	h.usesDomain = identity.UsesDomain()
	h.server.Identity = func(a *login.Attempt) (string, error) {
		return identity.Expand(dovecotauth.Lower(a.User)), nil
	}
	h.access, err = newAccess(h.Allow, h.logger)
	return err
}

// offers returns what mail servers are told. If the backend is not known to have any of
// the mechanisms, that is all of them: a Postfix that is offered none gives up its
// smtpd, and with it mail that needs no login.
func offers(configured []string, offered func() []string) func() []string {
	return func() []string {
		if list := offered(); len(list) > 0 {
			return list
		}
		return configured
	}
}

// defaultIdentity is the name that was authenticated.
const defaultIdentity = "{imap.user}"

// parseIdentity reads a template whose names can be told to every mail server.
func parseIdentity(repl *caddy.Replacer, s string) (*login.Template, error) {
	template, err := glue.Template(repl, s)
	if err != nil {
		return nil, err
	}
	if !dovecotauth.SafeName(template.Expand("user")) {
		return nil, fmt.Errorf("template %q: must have no spaces and control characters in it, and be of at most 512 bytes", s)
	}
	return template, nil
}

// Handle serves one connection of a mail server until it ends. It does not call
// the next handler.
//
// A mail server keeps its connection for hours, and this handler may have been
// replaced by a new configuration meanwhile. The handler that the new one has on the
// same listener takes over then, for new requests.
func (h *DovecotAuth) Handle(cx *layer4.Connection, _ layer4.Handler) error {
	if h.backend.Abandoned() {
		glue.NewConn(cx).Reset()
		return nil
	}
	return handle(cx, h.access, h, h.logger)
}

// serve serves one connection.
func (h *DovecotAuth) serve(ctx context.Context, nc glue.Conn) error {
	leave, err := authCrowd.join(nc, h.MaxConnections, h.logger)
	if err != nil {
		return err
	}
	defer leave()
	c := &connection{Conn: h.server.NewConn(nc), handler: h, raw: nc.Raw}
	end := h.backend.Register(c.ID(), nc.Raw.RemoteAddr(), c)
	defer end()
	connections.add(c)
	defer connections.remove(c)
	return c.Serve(ctx)
}

// Interface guards.
var (
	_ caddy.Provisioner  = (*DovecotAuth)(nil)
	_ caddy.CleanerUpper = (*DovecotAuth)(nil)
	_ layer4.NextHandler = (*DovecotAuth)(nil)
)
