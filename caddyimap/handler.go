package caddyimap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/emersion/go-imap/v2"
	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/imapfront"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Handler is a handler that serves IMAP clients. It talks to them itself until
// they have logged in, over TLS, at a backend of the `imap` app; from then on it
// relays what client and backend say.
//
// A backend hears of nobody who has no password, and from nobody before TLS
// stands. Passwords are refused before that, without asking for them.
//
// TLS begins with STARTTLS, or with the first byte if `implicit_tls` is set. If a
// `tls` handler comes before this one, TLS stands already.
type Handler struct {
	// The name of the backend to log users in at, of those that the `imap` app
	// defines. Default: the backend, if there is exactly one.
	Backend string `json:"backend,omitempty"`

	// How TLS is done with clients. Unless a policy says otherwise, its ALPN is
	// `imap`, and clients that name no server, or another, get the certificate
	// of the first of the app's hostnames. Default: one policy for all.
	ConnectionPolicies caddytls.ConnectionPolicies `json:"connection_policies,omitempty"`

	// Whether TLS begins with the first byte, as on port 993. Default: `false`,
	// for STARTTLS.
	ImplicitTLS bool `json:"implicit_tls,omitempty"`

	// Whether passwords are accepted without TLS. They can be read on the way
	// then. Default: `false`.
	InsecureAuth bool `json:"insecure_auth,omitempty"`

	// The SASL mechanisms to offer: `PLAIN` and `LOGIN`, which bring us a password,
	// and those that the client carries out with the backend itself, while we pass on
	// what they say: `XOAUTH2`, `OAUTHBEARER`, `SCRAM-SHA-256`, `SCRAM-SHA-1`,
	// `CRAM-MD5`, `NTLM` and `GSSAPI`. Of these, clients are offered what the backend
	// is known to offer. The command LOGIN is there with `PLAIN` or `LOGIN`. Default:
	// PLAIN and LOGIN.
	Mechanisms []string `json:"mechanisms,omitempty"`

	// How long a client may take to log in, TLS included. Default: `1m`.
	LoginTimeout caddy.Duration `json:"login_timeout,omitempty"`

	// How long a session may go on without a byte from either side. RFC 3501
	// section 5.4 asks for 30 minutes at least. Default: `35m`.
	IdleTimeout caddy.Duration `json:"idle_timeout,omitempty"`

	// How many failed logins a connection may have before it is closed.
	// Default: `3`.
	MaxAuthFailures int `json:"max_auth_failures,omitempty"`

	// The name in the greeting. Default: `Caddy`.
	Banner string `json:"banner,omitempty"`

	// Networks and addresses of clients that log in for others, such as webmail,
	// in CIDR notation. They are believed when they name the address of their own
	// client with the command ID, as `x-originating-ip` (and its port as
	// `x-originating-port`), before they log in; what the log shows and the guard
	// counts is that address then. Default: none.
	TrustedClients []string `json:"trusted_clients,omitempty"`

	// How users log in with a client certificate and without a password, with the SASL
	// mechanism EXTERNAL. It takes a policy in `connection_policies` that verifies
	// certificates (`verify_if_given` or `require_and_verify`) and says who may sign
	// them, and a backend with a `master_user`. Default: not at all.
	ClientCertificate *ClientCertificate `json:"client_certificate,omitempty"`

	// Changes to the capabilities that clients are told before they log in and
	// after: `+NAME` adds one, `-NAME` takes one away. Default: none.
	Capability []string `json:"capability,omitempty"`

	backend *BackendRef
	front   imapfront.Config
	logger  *zap.Logger

	// certificateUser and verifiers are there if there is a ClientCertificate: the
	// template, and the TLS of the policies that verify certificates.
	certificateUser *login.CertificateTemplate
	verifiers       []*tls.Config
}

const (
	defaultLoginTimeout    = time.Minute
	defaultIdleTimeout     = 35 * time.Minute
	defaultMaxAuthFailures = 3
	defaultBanner          = "Caddy"
	maxBanner              = 200
	minTimeout             = time.Second
	alpnIMAP               = "imap"
)

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "layer4.handlers.imap",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets up the handler.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	backend, err := RefBackend(ctx, h.Backend)
	if err != nil {
		return fmt.Errorf("finding the backend: %w", err)
	}
	h.backend = backend
	if err := h.setDefaults(caddy.NewReplacer()); err != nil {
		return err
	}
	mechanisms, err := backend.Mechanisms(h.Mechanisms)
	if err != nil {
		return err
	}
	backend.warnHash(h.Mechanisms, h.logger)
	h.front = imapfront.Config{
		Banner:          h.Banner,
		Mechanisms:      mechanisms,
		LoginTimeout:    time.Duration(h.LoginTimeout),
		MaxAuthFailures: h.MaxAuthFailures,
		ImplicitTLS:     h.ImplicitTLS,
		InsecureAuth:    h.InsecureAuth,
		Banned:          backend.banned,
		Open:            backend.open,
	}
	if len(h.TrustedClients) > 0 {
		trusted, err := glue.ParseNetworks("trusted_clients", h.TrustedClients)
		if err != nil {
			return err
		}
		h.front.Trusted = trusted.Contains
	}
	if err := h.setCapabilities(); err != nil {
		return err
	}
	if h.InsecureAuth {
		h.logger.Warn("passwords are accepted without TLS; remove insecure_auth, unless the network is trusted")
	}
	if err := h.provisionTLS(ctx); err != nil {
		return err
	}
	return h.provisionCertificate()
}

// setDefaults checks the options and fills in those that were not given.
func (h *Handler) setDefaults(repl *caddy.Replacer) error {
	if h.LoginTimeout == 0 {
		h.LoginTimeout = caddy.Duration(defaultLoginTimeout)
	}
	if h.IdleTimeout == 0 {
		h.IdleTimeout = caddy.Duration(defaultIdleTimeout)
	}
	if h.MaxAuthFailures == 0 {
		h.MaxAuthFailures = defaultMaxAuthFailures
	}
	for name, d := range map[string]caddy.Duration{"login_timeout": h.LoginTimeout, "idle_timeout": h.IdleTimeout} {
		if d := time.Duration(d); d < minTimeout {
			return fmt.Errorf("%s %s: must be at least %s; a number without a unit counts nanoseconds", name, d, minTimeout)
		}
	}
	if h.MaxAuthFailures < 0 {
		return fmt.Errorf("max_auth_failures %d: must be more than 0", h.MaxAuthFailures)
	}
	h.Banner = repl.ReplaceAll(h.Banner, "")
	if h.Banner == "" {
		h.Banner = defaultBanner
	}
	if len(h.Banner) > maxBanner || strings.ContainsFunc(h.Banner, isNotText) {
		return fmt.Errorf("banner %q: must be at most %d printable ASCII characters", h.Banner, maxBanner)
	}
	mechanisms, err := login.ParseMechanisms(h.Mechanisms, login.RelayedForIMAP)
	if err != nil {
		return fmt.Errorf("mechanisms %w", err)
	}
	h.Mechanisms = mechanisms
	return nil
}

func isNotText(r rune) bool { return r < ' ' || r > '~' }

// setCapabilities reads the changes to the capability lists.
func (h *Handler) setCapabilities() error {
	seen := make(map[string]bool)
	for _, change := range h.Capability {
		sign, name := "", ""
		if change != "" {
			sign, name = change[:1], strings.ToUpper(change[1:])
		}
		switch {
		case name == "" || strings.ContainsFunc(name, isNotAtom) || sign != "+" && sign != "-":
			return fmt.Errorf("capability %q: must be + or - and a name", change)
		case decidedHere(name):
			return fmt.Errorf("capability %q: it follows from TLS and the option mechanisms, and can be neither added nor taken away", change)
		case seen[name]:
			return fmt.Errorf("capability %q: named twice", change)
		}
		seen[name] = true
		if sign == "-" {
			h.front.RemoveCaps = append(h.front.RemoveCaps, name)
		} else {
			h.front.AddCaps = append(h.front.AddCaps, name)
		}
	}
	return nil
}

// isNotAtom reports what a capability's name cannot hold (RFC 9051 section 9).
func isNotAtom(r rune) bool { return isNotText(r) || strings.ContainsRune(` ()[]{}%*"\`, r) }

// decidedHere reports whether a capability follows from other options, such as
// LOGINDISABLED, without which clients would send passwords in clear text, or would
// let clients past the login.
func decidedHere(name string) bool {
	switch imap.Cap(name) {
	case imap.CapIMAP4rev1, imap.CapStartTLS, imap.CapLoginDisabled, imap.CapUnauthenticate:
		return true
	}
	return strings.HasPrefix(name, "AUTH=")
}

// provisionTLS makes the TLS settings, once: sessions could not be resumed if
// each connection had its own.
func (h *Handler) provisionTLS(ctx caddy.Context) error {
	if len(h.ConnectionPolicies) == 0 {
		h.ConnectionPolicies = caddytls.ConnectionPolicies{new(caddytls.ConnectionPolicy)}
	}
	// The app was loaded before, for the backend.
	app := h.backend.own
	if _, err := ctx.AppIfConfigured("tls"); err != nil && len(app.files) == 0 {
		h.logger.Warn("no client can start TLS, and thus log in, since there is no certificate: " +
			"name the server with the option hostname of the imap app, or a certificate's files with its option certificate")
	}
	for _, policy := range h.ConnectionPolicies {
		if policy == nil {
			return errors.New("connection_policies: a policy is null")
		}
		if len(policy.ALPN) == 0 {
			policy.ALPN = []string{alpnIMAP}
		}
		if !slices.Contains(policy.ALPN, alpnIMAP) {
			return fmt.Errorf("connection_policy: alpn %s: clients that agree on it would be refused; add imap, or leave alpn out",
				strings.Join(policy.ALPN, " "))
		}
		if len(app.Hostnames) == 0 {
			continue
		}
		if policy.DefaultSNI == "" {
			policy.DefaultSNI = app.Hostnames[0]
		}
		if policy.FallbackSNI == "" {
			policy.FallbackSNI = app.Hostnames[0]
		}
	}
	if err := h.ConnectionPolicies.Provision(ctx); err != nil {
		return fmt.Errorf("setting up connection_policies: %w", err)
	}
	for _, policy := range h.ConnectionPolicies {
		app.showFiles(policy)
		app.noteMissing(policy, h.logger)
		// Many small records at the beginning cost more than they gain with mail.
		policy.TLSConfig.DynamicRecordSizingDisabled = true
		bindTickets(policy.TLSConfig)
	}
	h.front.TLS = h.ConnectionPolicies.TLSConfig(ctx)
	return nil
}

// Handle serves one client until it is gone. It does not call the next handler.
//
// The session may outlive the configuration of this handler. It needs nothing
// that ends with it, and a login goes to the newest backend of its name.
func (h *Handler) Handle(cx *layer4.Connection, _ layer4.Handler) error {
	h.serve(cx, glue.Begin)
	return nil
}

// serve serves the client until it is gone, or the context that enter returns is
// done.
func (h *Handler) serve(cx *layer4.Connection, enter func() (ctx context.Context, done func(), ok bool)) {
	v := &visit{handler: h, begun: make(chan struct{})}
	go v.receive(cx, enter)
	<-v.begun
	if v.session != nil {
		v.end()
	}
}

// Interface guards.
var (
	_ caddy.Provisioner  = (*Handler)(nil)
	_ layer4.NextHandler = (*Handler)(nil)
)
