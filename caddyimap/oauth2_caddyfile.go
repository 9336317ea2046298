package caddyimap

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-imap/caddy-imap/internal/glue"
)

// UnmarshalCaddyfile sets up the option from Caddyfile tokens. Syntax:
//
//	oauth2 {
//		token_url <url>
//		tenant <domain> <id>
//		grant password|client_credentials
//		verify <backend>
//		client_id <id>
//		client_secret <secret>
//		client_auth post|basic
//		scope <scope>...
//		mechanism XOAUTH2|OAUTHBEARER
//		tls_server_name <name>
//		tls_trust_pool <module>
//		tls_client_auth <automate_name> | <cert_file> <key_file>
//	}
func (o *OAuth2) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the option
	var (
		t      reverseproxy.TLSConfig
		hasTLS bool
	)
	withTLS := func(opt glue.Option) glue.Option { return opt.Noted(func() { hasTLS = true }) }
	err := glue.Options{
		"token_url": glue.Text(&o.TokenURL),
		"tenant": glue.Values(2, 2, func(values []string) error {
			if _, twice := o.Tenants[values[0]]; twice {
				return fmt.Errorf("%s: it is there twice; remove one", values[0])
			}
			if o.Tenants == nil {
				o.Tenants = make(map[string]string)
			}
			o.Tenants[values[0]] = values[1]
			return nil
		}).Repeated(),
		"grant":           glue.Text(&o.Grant),
		"verify":          glue.Text(&o.Verify),
		"client_id":       glue.Text(&o.ClientID),
		"client_secret":   glue.Text(&o.ClientSecret),
		"client_auth":     glue.Text(&o.ClientAuth),
		"scope":           glue.List(&o.Scopes).Repeated(),
		"mechanism":       glue.Text(&o.Mechanism),
		"tls_server_name": withTLS(glue.Text(&t.ServerName)),
		"tls_trust_pool":  withTLS(glue.TrustPool(&t.CARaw)),
		"tls_client_auth": withTLS(glue.ClientAuth(&t)),
	}.Block(d)
	if hasTLS {
		o.TLS = &t
	}
	return err
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*OAuth2)(nil)
