package caddysasl

import (
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	dovecot_auth [<backend>] {
//		mechanisms <PLAIN|LOGIN>...
//		deadline <duration>
//		on_unavailable disconnect|fail
//		allow <cidr>...
//		identity <template>
//		allow_delegates
//	}
func (h *DovecotAuth) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the handler
	if d.NextArg() {
		h.Backend = d.Val()
	}
	return unmarshal(d, map[string]option{
		"mechanisms":     list(&h.Mechanisms),
		"deadline":       duration(&h.Deadline),
		"on_unavailable": text(&h.OnUnavailable),
		"allow":          list(&h.Allow),
		"identity":       text(&h.Identity),
		"allow_delegates": {0, 0, func([]string) error {
			h.AllowDelegates = true
			return nil
		}},
	})
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	dovecot_userdb {
//		allow <cidr>...
//	}
func (h *DovecotUserDB) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the handler
	return unmarshal(d, map[string]option{"allow": list(&h.Allow)})
}

// option is how an option of a block is read.
type option struct {
	// min and max are the numbers of values it takes; a negative max is no
	// limit.
	min, max int
	set      func(values []string) error
}

func text(field *string) option {
	return option{1, 1, func(values []string) error {
		if values[0] == "" {
			return fmt.Errorf("value is empty")
		}
		*field = values[0]
		return nil
	}}
}

func list(field *[]string) option {
	return option{1, -1, func(values []string) error {
		*field = values
		return nil
	}}
}

func duration(field *caddy.Duration) option {
	return option{1, 1, func(values []string) error {
		d, err := caddy.ParseDuration(values[0])
		if err != nil {
			return fmt.Errorf("not a duration: %w", err)
		}
		if d <= 0 {
			return fmt.Errorf("%s: must be more than 0", values[0])
		}
		*field = caddy.Duration(d)
		return nil
	}}
}

// unmarshal reads the rest of a handler's line, which must be empty, and its
// block.
func unmarshal(d *caddyfile.Dispenser, options map[string]option) error {
	if d.NextArg() {
		return d.Errf("unexpected argument '%s'", d.Val())
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		o, known := options[name]
		if !known {
			return d.Errf("unknown option '%s'", name)
		}
		if seen[name] {
			return d.Errf("duplicate option '%s'", name)
		}
		seen[name] = true
		values := d.RemainingArgs()
		switch n := len(values); {
		case n < o.min:
			return d.Errf("option '%s': value is missing", name)
		case o.max == 0 && n > 0:
			return d.Errf("option '%s': takes no value, but has '%s'", name, values[0])
		case o.max > 0 && n > o.max:
			return d.Errf("option '%s': takes one value, but has also '%s'", name, values[o.max])
		}
		if err := o.set(values); err != nil {
			return d.Errf("option '%s': %w", name, err)
		}
		last := d.Val()
		if d.NextBlock(nesting+1) || d.Val() != last { // an empty block is just skipped
			return d.Errf("option '%s': takes no block", name)
		}
	}
	return nil
}

// Interface guards.
var (
	_ caddyfile.Unmarshaler = (*DovecotAuth)(nil)
	_ caddyfile.Unmarshaler = (*DovecotUserDB)(nil)
)
