package caddysasl

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-imap/caddy-imap/internal/glue"
)

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	dovecot_auth [<backend>] {
//		mechanisms <name>...
//		deadline <duration>
//		on_unavailable disconnect|fail
//		allow <cidr>...
//		identity <template>
//		allow_delegates
//		max_connections <number>
//	}
func (h *DovecotAuth) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the handler
	if d.NextArg() {
		if h.Backend = d.Val(); h.Backend == "" {
			return d.Errf("name of the backend is empty")
		}
	}
	return glue.Options{
		"mechanisms":      glue.List(&h.Mechanisms),
		"deadline":        glue.Duration(&h.Deadline),
		"on_unavailable":  glue.Text(&h.OnUnavailable),
		"allow":           glue.List(&h.Allow),
		"identity":        glue.Text(&h.Identity),
		"allow_delegates": glue.Flag(&h.AllowDelegates),
		"max_connections": glue.Number(&h.MaxConnections),
	}.Block(d)
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	dovecot_userdb {
//		allow <cidr>...
//		max_connections <number>
//	}
func (h *DovecotUserDB) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the handler
	return glue.Options{
		"allow":           glue.List(&h.Allow),
		"max_connections": glue.Number(&h.MaxConnections),
	}.Block(d)
}

// Interface guards.
var (
	_ caddyfile.Unmarshaler = (*DovecotAuth)(nil)
	_ caddyfile.Unmarshaler = (*DovecotUserDB)(nil)
)
