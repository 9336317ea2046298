package caddyimap

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/oauthlogin"
)

// OAuth2 has clients that log in with a password carried to a backend that takes only
// tokens, such as Exchange Online. Clients notice nothing of it.
type OAuth2 struct {
	// Where tokens are got: the token endpoint of the OAuth 2.0 server. It begins with
	// `https://`, unless the server is on this machine. `{imap.tenant}` in its path is
	// the user's tenant, as `tenants` has it. Redirects are not followed.
	TokenURL string `json:"token_url,omitempty"`

	// The tenant of each domain that users have in their names. A user of another domain
	// is refused, and nobody is asked about him. Default: none, for an endpoint that is the
	// same for all users.
	Tenants map[string]string `json:"tenants,omitempty"`

	// How tokens are got. With `password`, the token endpoint is told the user's name and
	// password, and decides whether they are right. With `client_credentials` it is told
	// only who we are, and its token opens all mailboxes: `verify` names who checks the
	// password. Default: `password`.
	Grant string `json:"grant,omitempty"`

	// The backend that checks passwords for `client_credentials`, by its name in the app.
	// It is told the name that this backend would be told, with its own `username` applied
	// to that. Default: none, which is an error with `client_credentials`.
	Verify string `json:"verify,omitempty"`

	// What the OAuth 2.0 server calls us. Placeholders are replaced when the
	// configuration is loaded, here and in all of the following.
	ClientID string `json:"client_id,omitempty"`

	// The secret that goes with it. Give it as `{file./path}` or `{env.NAME}`, since the
	// admin API shows the configuration. Default: none, for a public client.
	ClientSecret string `json:"client_secret,omitempty"`

	// How these two are sent: `post` (in the body of the question) or `basic` (in a
	// header). Default: `post`.
	ClientAuth string `json:"client_auth,omitempty"`

	// What the tokens are to be good for. Default: what the server decides.
	Scopes []string `json:"scopes,omitempty"`

	// The SASL mechanism to show a token to the backend with: `XOAUTH2` or `OAUTHBEARER`.
	// Default: `XOAUTH2`.
	Mechanism string `json:"mechanism,omitempty"`

	// How the token endpoint is verified, and what certificate it is shown. Of its fields,
	// `insecure_skip_verify`, `except_ports` and `handshake_timeout` cannot be used.
	// Default: the certificate must be valid for the host of `token_url`, and be signed
	// by an authority that this machine trusts.
	TLS *reverseproxy.TLSConfig `json:"tls,omitempty"`

	source *oauthlogin.Source
	// verifier is the backend that Verify names.
	verifier *Backend
}

// The words of client_auth.
const (
	clientAuthPost  = "post"
	clientAuthBasic = "basic"
)

// provision sets up everything but the verifier, which may not be there yet.
func (o *OAuth2) provision(ctx caddy.Context, b *Backend) (err error) {
	for _, d := range []struct {
		field  *string
		preset string
	}{{&o.Grant, string(oauthlogin.Password)}, {&o.ClientAuth, clientAuthPost}, {&o.Mechanism, login.XOAuth2}} {
		if *d.field == "" {
			*d.field = d.preset
		}
	}
	o.Mechanism = strings.ToUpper(o.Mechanism)
	clientCredentials := o.Grant == string(oauthlogin.ClientCredentials)
	switch {
	case b.AuthCommand != "":
		return errors.New("no password is sent to this backend, so that auth_command means nothing; remove one of the two")
	case b.MasterUser != "":
		return errors.New("no password is sent to this backend, nor that of a master user; remove master_user, or give the two backends of their own")
	case b.Delegate != "":
		return errors.New("whose mailbox it is to be is said with the token, so that delegate means nothing; remove one of the two")
	case clientCredentials && o.Verify == "":
		return fmt.Errorf("grant %s: such a token says nothing about the user, and anybody could log in as anybody; "+
			"name with verify a backend that checks passwords", o.Grant)
	case !clientCredentials && o.Verify != "":
		return fmt.Errorf("verify %s: with grant %s it is the token endpoint that checks passwords; remove one of the two", o.Verify, o.Grant)
	}
	if err := errors.Join(
		oneOf("client_auth", o.ClientAuth, clientAuthPost, clientAuthBasic),
		oneOf("mechanism", o.Mechanism, login.TokenMechanisms...),
	); err != nil {
		return err
	}
	cfg := oauthlogin.Config{Grant: oauthlogin.Grant(o.Grant), Basic: o.ClientAuth == clientAuthBasic, DialTimeout: time.Duration(b.DialTimeout)}
	if err := o.replace(&cfg); err != nil {
		return err
	}
	if o.TLS != nil && strings.HasPrefix(strings.ToLower(cfg.URL), "http:") {
		return errors.New("token_url begins with http://, and without TLS, tls_server_name, tls_trust_pool and tls_client_auth cannot be used; " +
			"remove them, or let it begin with https://")
	}
	if cfg.TLS, err = o.tlsConfig(ctx); err != nil {
		return err
	}
	if o.source, err = oauthlogin.New(cfg); err != nil {
		return err
	}
	for _, upstream := range b.configs {
		upstream.Token = o.Mechanism
	}
	return nil
}

// replace puts into the Config what the options say with their placeholders replaced.
func (o *OAuth2) replace(cfg *oauthlogin.Config) error {
	replaced := func(option, text string) (string, error) {
		value, err := glue.Replaced(text)
		if err != nil {
			return "", fmt.Errorf("%s: %w", option, err)
		}
		return value, nil
	}
	// The tenant's placeholder is ours, and stays.
	parts := strings.Split(o.TokenURL, oauthlogin.TenantPlaceholder)
	for i, part := range parts {
		var err error
		if parts[i], err = replaced("token_url", part); err != nil {
			return err
		}
	}
	cfg.URL = strings.Join(parts, oauthlogin.TenantPlaceholder)
	var errs [3]error
	cfg.ClientID, errs[0] = replaced("client_id", o.ClientID)
	secret, err := glue.Secret("client_secret", o.ClientSecret)
	cfg.ClientSecret, errs[1] = login.Secret(secret), err
	for _, scope := range o.Scopes {
		value, err := replaced("scope", scope)
		errs[2] = errors.Join(errs[2], err)
		cfg.Scopes = append(cfg.Scopes, value)
	}
	if len(o.Tenants) > 0 {
		cfg.Tenants = make(map[string]string, len(o.Tenants))
	}
	for domain, tenant := range o.Tenants {
		value, err := replaced("tenant", tenant)
		if err != nil {
			return err
		}
		lower := strings.ToLower(domain)
		if _, twice := cfg.Tenants[lower]; twice {
			return fmt.Errorf("tenant %s: it is there twice; remove one", domain)
		}
		cfg.Tenants[lower] = value
	}
	return errors.Join(errs[:]...)
}

func (o *OAuth2) tlsConfig(ctx caddy.Context) (*tls.Config, error) {
	cfg := new(tls.Config)
	if o.TLS != nil {
		switch {
		case o.TLS.InsecureSkipVerify:
			return nil, errors.New("tls: insecure_skip_verify cannot be used; whoever pretended to be the token endpoint could let anybody in; set tls_trust_pool")
		case o.TLS.HandshakeTimeout != 0 || len(o.TLS.ExceptPorts) != 0:
			return nil, errors.New("tls: handshake_timeout and except_ports cannot be used; auth_timeout bounds the handshake, too")
		}
		made, err := o.TLS.MakeTLSClientConfig(ctx)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		if made != nil { // nil is for settings that change nothing
			cfg = made
		}
	}
	if cfg.MinVersion == 0 {
		cfg.MinVersion = tls.VersionTLS12
	}
	return cfg, nil
}

// provisionVerifiers finds the backends that check passwords for others.
func (a *App) provisionVerifiers() error {
	for _, name := range slices.Sorted(maps.Keys(a.Backends)) {
		b := a.Backends[name]
		if b.OAuth2 == nil || b.OAuth2.Verify == "" {
			continue
		}
		if err := b.OAuth2.findVerifier(a, b); err != nil {
			return fmt.Errorf("backend %s: oauth2: verify %s: %w", name, b.OAuth2.Verify, err)
		}
	}
	return nil
}

func (o *OAuth2) findVerifier(a *App, b *Backend) error {
	verifier, err := a.backend(o.Verify)
	switch {
	case err != nil:
		return err
	case verifier == b:
		return errors.New("a backend cannot check passwords for itself")
	case verifier.OAuth2 != nil && verifier.OAuth2.Verify == b.name:
		return errors.New("the two would have each other check passwords; name a backend that is asked with passwords")
	case verifier.OAuth2 != nil && verifier.OAuth2.Verify != "":
		return fmt.Errorf("it has others check passwords itself; name %s", verifier.OAuth2.Verify)
	case !verifier.username.Tells(b.username):
		return fmt.Errorf("its option username, which is %q, may make the same name of two that this backend is told, which are %q: "+
			"who has one of two mailboxes could open the other; set it to {imap.user}", verifier.Username, b.Username)
	}
	o.verifier, verifier.takesPasswords = verifier, true
	return nil
}

// identity is what a refusal of the backend depends on beside its servers.
func (o *OAuth2) identity() []string {
	if o == nil {
		return nil
	}
	tenants := make([]string, 0, len(o.Tenants))
	for domain, tenant := range o.Tenants {
		tenants = append(tenants, domain+" "+tenant)
	}
	slices.Sort(tenants)
	return append([]string{o.TokenURL, o.Grant, o.Verify, o.ClientID, o.Mechanism}, tenants...)
}
