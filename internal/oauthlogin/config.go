package oauthlogin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Grant is how a token is got.
type Grant string

const (
	// Password is the resource owner password grant: the endpoint checks the user's
	// password.
	Password Grant = "password"
	// ClientCredentials is the grant for programs: the token is good for all users, and
	// says nothing about any.
	ClientCredentials Grant = "client_credentials"
)

// TenantPlaceholder stands for the tenant of a user in a URL.
const TenantPlaceholder = "{imap.tenant}"

// Config describes a token endpoint. It is not changed once in use.
type Config struct {
	// URL is the token endpoint: https, or http on the loopback. TenantPlaceholder in
	// its path is replaced by the tenant of the user's domain.
	URL string
	// Tenants are the tenants by domain, in lower case. They are all that can be put
	// into the URL: who logs in cannot choose whom his password goes to. They are needed
	// if the URL has a place for them.
	Tenants map[string]string
	// Grant is how a token is got.
	Grant Grant
	// ClientID and ClientSecret are those of this program at the endpoint. The secret is
	// empty for a public client.
	ClientID     string
	ClientSecret login.Secret
	// Basic says that they are sent in a header and not in the body (RFC 6749 section
	// 2.3.1).
	Basic bool
	// Scopes are what the token is asked for.
	Scopes []string
	// TLS is used for https. Default: Go's.
	TLS *tls.Config
	// DialTimeout bounds the connecting. 0 means no bound but that of the context.
	DialTimeout time.Duration

	// url is the URL, and dial connects to its host.
	url  *url.URL
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// isTenant is what a tenant may look like: an ID, or a domain.
var isTenant = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.-]*$`).MatchString

// offline is a scope that asks for a refresh token.
const offline = "offline_access"

func (cfg *Config) validate() error {
	if err := cfg.validateURL(); err != nil {
		return err
	}
	switch {
	case cfg.Grant != Password && cfg.Grant != ClientCredentials:
		return fmt.Errorf("grant %q: must be one of %s, %s", cfg.Grant, Password, ClientCredentials)
	case cfg.ClientID == "":
		return errors.New("client_id is missing: it is what the server of token_url calls this program")
	case cfg.Grant == ClientCredentials && cfg.ClientSecret == "":
		return errors.New("client_secret is missing: it is all that is proved with grant client_credentials")
	case slices.Contains(cfg.Scopes, offline):
		return fmt.Errorf("scope %s: it asks for a refresh token, which is never used; remove it", offline)
	}
	placed := strings.Contains(cfg.URL, TenantPlaceholder)
	switch {
	case placed && len(cfg.Tenants) == 0:
		return fmt.Errorf("token_url %s: it has a place for a tenant; say with the option tenant which domain has which", cfg.shown())
	case !placed && len(cfg.Tenants) > 0:
		return fmt.Errorf("token_url %s: there is a tenant for a domain, but no %s in the URL where it belongs", cfg.shown(), TenantPlaceholder)
	}
	for domain, tenant := range cfg.Tenants {
		if domain == "" || domain != strings.ToLower(domain) || !isTenant(domain) {
			return fmt.Errorf("tenant %s: %q is no domain of users", domain, domain)
		}
		if !isTenant(tenant) {
			return fmt.Errorf("tenant %s: %q must be the ID of a tenant, or one of its domains", domain, tenant)
		}
	}
	return nil
}

func (cfg *Config) validateURL() error {
	if cfg.URL == "" {
		return errors.New("token_url is missing: it is where tokens are got")
	}
	u, err := url.Parse(strings.ReplaceAll(cfg.URL, TenantPlaceholder, place))
	if err != nil {
		return errors.New("token_url: not a URL such as https://login.example.org/token")
	}
	cfg.url = u
	switch {
	case u.User != nil:
		return errors.New("token_url: a user does not belong there; use client_id and client_secret")
	case u.Hostname() == "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("token_url %s: not a URL such as https://login.example.org/token", cfg.shown())
	case strings.ContainsFunc(u.Host, isNotASCII):
		return fmt.Errorf("token_url %s: letters beyond ASCII in the name of its host must be in their xn-- form", cfg.shown())
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return fmt.Errorf("token_url %s: passwords would go there in clear text; it must begin with https://", cfg.shown())
	case strings.Contains(u.Host+u.RawQuery, place):
		return fmt.Errorf("token_url %s: %s can be used in the path only", cfg.shown(), TenantPlaceholder)
	}
	return nil
}

// place stands for TenantPlaceholder where that could not be.
const place = "imap-tenant-place"

// shown is the URL as an error may quote it: there may be a secret in its query, and in
// what is none.
func (cfg *Config) shown() string {
	if cfg.url.Host == "" {
		return "(without a host)"
	}
	u := url.URL{Scheme: cfg.url.Scheme, Host: cfg.url.Host, Path: cfg.url.Path}
	return strings.ReplaceAll(u.String(), place, TenantPlaceholder)
}

func isNotASCII(r rune) bool { return r >= utf8.RuneSelf }

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// endpoint returns the URL for a user. It is false if nobody knows the tenant of the
// user's domain.
func (cfg *Config) endpoint(user string) (string, bool) {
	if len(cfg.Tenants) == 0 {
		return cfg.URL, true
	}
	_, domain := login.SplitUser(user)
	tenant, ok := cfg.Tenants[strings.ToLower(domain)]
	return strings.ReplaceAll(cfg.URL, TenantPlaceholder, tenant), ok
}
