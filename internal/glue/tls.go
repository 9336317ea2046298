package glue

import (
	"encoding/json"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/mholt/caddy-l4/layer4"
)

// ClientAuth is an option with the certificate that a server is shown: the name of
// one that Caddy manages, or two files.
func ClientAuth(t *reverseproxy.TLSConfig) Option {
	return Values(1, 2, func(values []string) error {
		if len(values) == 1 {
			t.ClientCertificateAutomate = values[0]
		} else {
			t.ClientCertificateFile, t.ClientCertificateKeyFile = values[0], values[1]
		}
		return nil
	})
}

// trustPools is the namespace of modules that know authorities.
const trustPools = "tls.ca_pool.source"

// TrustPool is an option with a module that knows authorities, and what it is
// told.
func TrustPool(field *json.RawMessage) Option {
	return Segment(func(d *caddyfile.Dispenser) (err error) {
		*field, err = trustPool(d)
		return err
	})
}

func trustPool(d *caddyfile.Dispenser) (json.RawMessage, error) {
	d.Next() // consume the name of the option
	if !d.NextArg() {
		return nil, d.Errf("option 'tls_trust_pool': module is missing")
	}
	name := d.Val()
	id := trustPools + "." + name
	if _, err := caddy.GetModule(id); err != nil {
		return nil, d.Errf("option 'tls_trust_pool': unknown module '%s'; known are %s", name, KnownModules(trustPools))
	}
	module, err := caddyfile.UnmarshalModule(d, id)
	if err != nil {
		return nil, err
	}
	ca, ok := module.(caddytls.CA)
	if !ok {
		return nil, d.Errf("option 'tls_trust_pool': module '%s' knows no authorities", name)
	}
	return layer4.SetModuleNameInline("provider", name, caddyconfig.JSON(ca, nil))
}

// KnownModules lists the modules of a namespace, for an error message.
func KnownModules(namespace string) string {
	var names []string
	for _, module := range caddy.GetModules(namespace) {
		names = append(names, module.ID.Name())
	}
	return strings.Join(names, ", ")
}
