package imapredis

import (
	"fmt"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-imap/caddy-imap/internal/glue"
)

// UnmarshalCaddyfile sets up the store from Caddyfile tokens. Syntax:
//
//	store redis {
//		address <address>...
//		username <name>
//		password <password>
//		db <number>
//		key_prefix <text>
//
//		tls on|off
//		tls_server_name <name>
//		tls_trust_pool <module>
//		tls_client_auth <automate_name> | <cert_file> <key_file>
//		tls_insecure_skip_verify
//	}
//
// An option that begins with tls_ switches TLS on.
func (s *Store) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the module
	var t reverseproxy.TLSConfig
	var on, off bool
	withTLS := func(o glue.Option) glue.Option { return o.Noted(func() { on = true }) }
	err := glue.Options{
		"address":    glue.List(&s.Addresses).Repeated(),
		"username":   glue.Text(&s.Username),
		"password":   glue.Text(&s.Password),
		"key_prefix": glue.Text(&s.KeyPrefix),
		"db": glue.Values(1, 1, func(values []string) error {
			n, err := strconv.Atoi(values[0])
			if err != nil || n < 0 {
				return fmt.Errorf("%s: not a whole number of at least 0", values[0])
			}
			s.DB = n
			return nil
		}),
		"tls": glue.Values(1, 1, func(values []string) error {
			switch values[0] {
			case "on":
				on = true
			case "off":
				off = true
			default:
				return fmt.Errorf("%s: must be on or off", values[0])
			}
			return nil
		}),
		"tls_server_name":          withTLS(glue.Text(&t.ServerName)),
		"tls_client_auth":          withTLS(glue.ClientAuth(&t)),
		"tls_insecure_skip_verify": withTLS(glue.Flag(&t.InsecureSkipVerify)),
		"tls_trust_pool":           withTLS(glue.TrustPool(&t.CARaw)),
	}.Block(d)
	if err != nil {
		return err
	}
	if on && off {
		return d.Err("option 'tls': with off, no option that begins with tls_ can be used")
	}
	if on {
		s.TLS = &t
	}
	return nil
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*Store)(nil)
