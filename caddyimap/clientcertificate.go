package caddyimap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// ClientCertificate says how users log in with a client certificate.
type ClientCertificate struct {
	// The user's name, made from the certificate:
	//
	// Placeholder | Description
	// ------------|------------
	// `{imap.certificate.email}` | The address of e-mail among its alternative names
	// `{imap.certificate.email.local}`, `{imap.certificate.email.domain}` | The parts before and behind the `@`
	// `{imap.certificate.common_name}` | The common name of its subject
	// `{imap.certificate.common_name.local}`, `{imap.certificate.common_name.domain}` | The parts, if it is an address
	// `{imap.certificate.dns}` | The name of a host among its alternative names
	//
	// There has to be exactly one of what is used. The backend's option `username` is
	// applied to the name, and must not make the same of two. Default: none.
	User string `json:"user,omitempty"`
}

// errOther says that a client asks for somebody whom its certificate does not name.
var errOther = errors.New("the client wants to be another user than the one of its certificate")

// errSameName says that who has the certificate of one user could open the mailbox of
// another.
var errSameName = errors.New("the option username of the backend may make the same name of those of two users with certificates")

// provisionCertificate reads the template, and sees that there are certificates that
// were verified by an authority that the operator has chosen.
func (h *Handler) provisionCertificate() (err error) {
	if h.ClientCertificate == nil {
		return nil
	}
	if h.certificateUser, err = glue.CertificateTemplate(caddy.NewReplacer(), h.ClientCertificate.User); err != nil {
		return fmt.Errorf("client_certificate: user: %w", err)
	}
	for _, policy := range h.ConnectionPolicies {
		switch cfg := policy.TLSConfig; {
		case cfg.ClientAuth == tls.NoClientCert:
		case cfg.ClientAuth != tls.VerifyClientCertIfGiven && cfg.ClientAuth != tls.RequireAndVerifyClientCert:
			return errors.New("client_certificate: a connection_policy asks for certificates that nobody verifies; " +
				"set the mode of its client_auth to verify_if_given or require_and_verify")
		case cfg.ClientCAs == nil:
			// All that this machine trusts would do, and with it anybody's certificate.
			return errors.New("client_certificate: a connection_policy does not say who may sign certificates; " +
				"add trust_pool to its client_auth")
		default:
			h.verifiers = append(h.verifiers, cfg)
		}
	}
	if len(h.verifiers) == 0 {
		return errors.New("client_certificate: no client is asked for a certificate; add a connection_policy with " +
			"client_auth, its mode verify_if_given or require_and_verify, and a trust_pool")
	}
	if b, err := h.backend.own.backend(h.backend.name); err == nil {
		if b.master == nil {
			return fmt.Errorf("client_certificate: %w", errNoMaster)
		}
		if err := h.tells(b); err != nil {
			return fmt.Errorf("client_certificate: %w", err)
		}
	}
	h.front.External, h.front.Open = true, h.open
	return nil
}

// tells finds fault with a backend that could be told the same name for two users.
func (h *Handler) tells(b *Backend) error {
	if b.username.TellsCertified(h.certificateUser) {
		return nil
	}
	return fmt.Errorf("%w: username of the backend %s is %q, and user is %q; set username to {imap.user}, "+
		"or have certificates log in at a backend of their own", errSameName, b.name, b.Username, h.ClientCertificate.User)
}

// open logs an attempt in. What a certificate says becomes the user's name before.
func (h *Handler) open(ctx context.Context, a *login.Attempt) (*login.Session, login.Verdict) {
	if a.Certificate == nil {
		return h.backend.open(ctx, a)
	}
	user, err := h.certificateUser.Expand(a.Certificate)
	a.User = user
	// It may be the backend of another configuration by now.
	if _, b, missing := h.backend.find(); err == nil && missing == nil {
		if err := h.tells(b); err != nil {
			v := login.UnavailableFor(err)
			h.backend.refused(ctx, a, entranceIMAP, v)
			h.backend.Hold(ctx, a, v)
			return nil, v
		}
	}
	if err == nil && a.AuthzID != "" && !strings.EqualFold(a.AuthzID, user) {
		err = errOther
	}
	if err != nil {
		v := login.DeniedWith(imap.ResponseCodeAuthorizationFailed)
		v.Err = err
		h.backend.refused(ctx, a, entranceIMAP, v)
		h.backend.Hold(ctx, a, v)
		return nil, v
	}
	a.AuthzID = ""
	return h.backend.open(ctx, a)
}

// standing returns the state of TLS that a handler before this one has terminated. A
// certificate in it is a verified one only if a policy of ours verifies it, too: the
// other handler may trust whomever it likes.
func (h *Handler) standing(state *tls.ConnectionState) *tls.ConnectionState {
	if len(h.verifiers) == 0 || len(state.VerifiedChains) == 0 {
		return state
	}
	verified := *state
	verified.VerifiedChains = nil
	for _, cfg := range h.verifiers {
		chains, err := verify(state.PeerCertificates, cfg.ClientCAs)
		if err != nil {
			continue
		}
		verified.VerifiedChains = chains
		if cfg.VerifyConnection == nil || cfg.VerifyConnection(verified) == nil {
			return &verified
		}
		verified.VerifiedChains = nil
	}
	return &verified
}

// verify is what crypto/tls does with the certificates of a client.
func verify(certs []*x509.Certificate, roots *x509.CertPool) ([][]*x509.Certificate, error) {
	options := x509.VerifyOptions{
		Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, cert := range certs[1:] {
		options.Intermediates.AddCert(cert)
	}
	return certs[0].Verify(options)
}
