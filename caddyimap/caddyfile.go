package caddyimap

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/mholt/caddy-l4/layer4"

	"github.com/caddy-imap/caddy-imap/internal/glue"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("imap", parseApp)
}

// parseApp sets up the app from the global option. Several imap blocks are
// combined.
func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	app := new(App)
	if existing != nil {
		before, ok := existing.(httpcaddyfile.App)
		if !ok {
			return nil, d.Errf("existing configuration of the imap app has the type %T", existing)
		}
		if err := json.Unmarshal(before.Value, app); err != nil {
			return nil, d.Errf("reading the imap blocks before: %w", err)
		}
	}
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "imap", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile adds what the Caddyfile tokens say to the app. Syntax:
//
//	imap {
//		hostname <name>...
//		certificate <cert_file> <key_file>
//		backend <name> {
//			...
//		}
//		guard {
//			...
//		}
//		max_connections <number>
//		max_connections_per_source <number>
//		header_cache <bytes>
//		log_user known|all|none
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the option
	return glue.Options{
		"hostname": glue.List(&a.Hostnames).Repeated(),
		"certificate": glue.Values(2, 2, func(files []string) error {
			a.Certificates = append(a.Certificates, CertificateFiles{Certificate: files[0], Key: files[1]})
			return nil
		}).Repeated(),
		"backend":                    glue.Segment(a.unmarshalBackend).Repeated(),
		"guard":                      glue.Segment(a.unmarshalGuard).Repeated(),
		"max_connections":            glue.Number(&a.MaxConnections),
		"max_connections_per_source": glue.Number(&a.MaxConnectionsPerSource),
		"header_cache":               glue.Number(&a.HeaderCache),
		"log_user":                   glue.Text(&a.LogUser),
	}.Block(d)
}

func (a *App) unmarshalBackend(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the option
	if !d.NextArg() || d.Val() == "" {
		return d.Errf("option 'backend': name is missing")
	}
	name := d.Val()
	if _, ok := a.Backends[name]; ok {
		return d.Errf("duplicate backend '%s'", name)
	}
	b := new(Backend)
	if err := b.UnmarshalCaddyfile(d); err != nil {
		return err
	}
	if a.Backends == nil {
		a.Backends = make(map[string]*Backend)
	}
	a.Backends[name] = b
	return nil
}

func (a *App) unmarshalGuard(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the option
	if a.Guard != nil {
		return d.Errf("duplicate option 'guard'")
	}
	a.Guard = new(Guard)
	return a.Guard.UnmarshalCaddyfile(d)
}

// UnmarshalCaddyfile sets up the guard from Caddyfile tokens behind its name.
// Syntax:
//
//	guard {
//		off
//		account_failures <number>
//		known_reserve <number>
//		account_window <duration>
//		failure_delay <duration>
//		source_failures <number>
//		source_ban <duration>
//		exempt <cidr>...
//		domain <name> <domain>
//		positive_cache <duration>
//		store <module>
//	}
func (g *Guard) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return glue.Options{
		"off":              glue.Flag(&g.Off),
		"account_failures": glue.Number(&g.AccountFailures),
		"known_reserve": glue.Values(1, 1, func(values []string) error {
			n, err := strconv.Atoi(values[0])
			if err != nil || n < 0 {
				return fmt.Errorf("%s: not a whole number of at least 0", values[0])
			}
			g.KnownReserve = &n
			return nil
		}),
		"account_window":  glue.Duration(&g.AccountWindow),
		"failure_delay":   glue.Duration(&g.FailureDelay),
		"source_failures": glue.Number(&g.SourceFailures),
		"source_ban":      glue.Duration(&g.SourceBan),
		"exempt":          glue.List(&g.Exempt),
		"domain": glue.Values(2, 2, func(values []string) error {
			g.Domains = append(g.Domains, GuardDomain{Name: values[0], Domain: values[1]})
			return nil
		}).Repeated(),
		"positive_cache": glue.Duration(&g.PositiveCache),
		"store": glue.Segment(func(d *caddyfile.Dispenser) (err error) {
			g.StoreRaw, err = unmarshalStore(d)
			return err
		}),
	}.Block(d)
}

// guardStores is the namespace of modules in which several instances count
// together.
const guardStores = "imap.guard.stores"

// unmarshalStore reads the name of a store's module, and what it is told.
func unmarshalStore(d *caddyfile.Dispenser) (json.RawMessage, error) {
	d.Next() // consume the name of the option
	if !d.NextArg() {
		return nil, d.Errf("option 'store': module is missing")
	}
	name := d.Val()
	id := guardStores + "." + name
	if _, err := caddy.GetModule(id); err != nil {
		return nil, d.Errf("option 'store': unknown module '%s'; known are %s", name, glue.KnownModules(guardStores))
	}
	module, err := caddyfile.UnmarshalModule(d, id)
	if err != nil {
		return nil, err
	}
	store, ok := module.(GuardStore)
	if !ok {
		return nil, d.Errf("option 'store': module '%s' is no store for the guard", name)
	}
	return layer4.SetModuleNameInline("store", name, caddyconfig.JSON(store, nil))
}

// UnmarshalCaddyfile sets up the backend from Caddyfile tokens behind its name.
// Syntax:
//
//	backend <name> {
//		upstream <address>... {
//			drain
//			drain_timeout <duration>
//		}
//		lb_policy first|round_robin|least_conn|random|client_ip_hash|user_hash
//
//		fail_duration <duration>
//		max_fails <number>
//		health_interval <duration>
//		health_timeout <duration>
//		health_fall <number>
//		health_rise <number>
//
//		dial_timeout <duration>
//		auth_timeout <duration>
//		username <template>
//		delegate <template>
//		master_user <name>
//		master_password <password>
//		auth_command keep|login|plain
//		probe auto|on|off
//		max_sessions_per_user <number>
//		on_removed keep|drain <duration>
//		forward_client id|proxy_v1|proxy_v2|off
//		extensions off|auto|<name>...
//		idle_interval <duration>
//		append_limit <number>
//		special_use <use> <name>...
//		hide_folders auto|on|off
//		report_missing auto|on|off
//		mend_copyuid auto|on|off
//
//		tls starttls|implicit|off
//		tls_server_name <name>
//		tls_trust_pool <module>
//		tls_client_auth <automate_name> | <cert_file> <key_file>
//		tls_insecure_skip_verify
//
//		oauth2 {
//			...
//		}
//	}
func (b *Backend) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	var (
		t       reverseproxy.TLSConfig
		active  ActiveHealthChecks
		passive PassiveHealthChecks
		policy  string

		hasTLS, hasActive, hasPassive bool
	)
	withTLS := func(o glue.Option) glue.Option { return o.Noted(func() { hasTLS = true }) }
	withActive := func(o glue.Option) glue.Option { return o.Noted(func() { hasActive = true }) }
	withPassive := func(o glue.Option) glue.Option { return o.Noted(func() { hasPassive = true }) }
	err := glue.Options{
		"upstream":              glue.Segment(b.unmarshalUpstreams).Repeated(),
		"lb_policy":             glue.Text(&policy),
		"fail_duration":         withPassive(glue.Duration(&passive.FailDuration)),
		"max_fails":             withPassive(glue.Number(&passive.MaxFails)),
		"health_interval":       withActive(glue.Duration(&active.Interval)),
		"health_timeout":        withActive(glue.Duration(&active.Timeout)),
		"health_fall":           withActive(glue.Number(&active.Fall)),
		"health_rise":           withActive(glue.Number(&active.Rise)),
		"dial_timeout":          glue.Duration(&b.DialTimeout),
		"auth_timeout":          glue.Duration(&b.AuthTimeout),
		"username":              glue.Text(&b.Username),
		"delegate":              glue.Text(&b.Delegate),
		"master_user":           glue.Text(&b.MasterUser),
		"master_password":       glue.Text(&b.MasterPassword),
		"auth_command":          glue.Text(&b.AuthCommand),
		"probe":                 glue.Text(&b.Probe),
		"max_sessions_per_user": glue.Number(&b.MaxSessionsPerUser),
		"on_removed":            glue.Values(1, 2, b.setOnRemoved),
		"forward_client":        glue.Text(&b.ForwardClient),
		"oauth2": glue.Segment(func(d *caddyfile.Dispenser) error {
			b.OAuth2 = new(OAuth2)
			return b.OAuth2.UnmarshalCaddyfile(d)
		}),
		"extensions":               glue.Values(1, -1, b.setExtensions),
		"idle_interval":            glue.Duration(&b.IdleInterval),
		"append_limit":             glue.Number(&b.AppendLimit),
		"special_use":              glue.Values(2, -1, b.addSpecialUse).Repeated(),
		"hide_folders":             glue.Text(&b.HideFolders),
		"report_missing":           glue.Text(&b.ReportMissing),
		"mend_copyuid":             glue.Text(&b.MendCopyUID),
		"tls":                      glue.Text(&b.TLSMode),
		"tls_server_name":          withTLS(glue.Text(&t.ServerName)),
		"tls_client_auth":          withTLS(glue.ClientAuth(&t)),
		"tls_insecure_skip_verify": withTLS(glue.Flag(&t.InsecureSkipVerify)),
		"tls_trust_pool":           withTLS(glue.TrustPool(&t.CARaw)),
	}.Block(d)
	if hasTLS {
		b.TLS = &t
	}
	if policy != "" {
		b.LoadBalancing = &LoadBalancing{Selection: &Selection{Policy: policy}}
	}
	if hasActive || hasPassive {
		b.HealthChecks = new(HealthChecks)
	}
	if hasActive {
		b.HealthChecks.Active = &active
	}
	if hasPassive {
		b.HealthChecks.Passive = &passive
	}
	return err
}

// setOnRemoved reads what is to happen once the backend is gone.
func (b *Backend) setOnRemoved(values []string) error {
	switch word := values[0]; {
	case word == "drain" && len(values) == 1:
		return errors.New("drain needs a duration, such as 10m")
	case word == "keep" && len(values) == 2:
		return errors.New("keep takes no duration")
	case word == "keep":
		return nil
	case word != "drain":
		return oneOf("value", word, "keep", "drain")
	}
	d, err := caddy.ParseDuration(values[1])
	if err != nil {
		return fmt.Errorf("not a duration such as 5s or 1m30s: %w", err)
	}
	if d <= 0 {
		return fmt.Errorf("%s: must be more than 0", values[1])
	}
	b.OnRemovedDrain = caddy.Duration(d)
	return nil
}

// unmarshalUpstreams adds the upstreams of one line. What is in a block behind them
// is said of each.
func (b *Backend) unmarshalUpstreams(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the option
	addrs := d.RemainingArgs()
	if len(addrs) == 0 {
		return d.Errf("option 'upstream': value is missing")
	}
	if slices.Contains(addrs, "") {
		return d.Errf("option 'upstream': value is empty")
	}
	var u Upstream
	if err := (glue.Options{
		"drain":         glue.Flag(&u.Drain),
		"drain_timeout": glue.Duration(&u.DrainTimeout),
	}).Block(d); err != nil {
		return err
	}
	for _, addr := range addrs {
		one := u
		one.Dial = addr
		b.Upstreams = append(b.Upstreams, &one)
	}
	return nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	imap [<backend>] {
//		connection_policy {
//			...
//		}
//		implicit_tls
//		insecure_auth
//		mechanisms <name>...
//		login_timeout <duration>
//		idle_timeout <duration>
//		max_auth_failures <number>
//		banner <text>
//		trusted_clients <cidr>...
//		client_certificate {
//			user <template>
//		}
//		capability <+name|-name>...
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the handler
	if d.NextArg() {
		if h.Backend = d.Val(); h.Backend == "" {
			return d.Errf("name of the backend is empty")
		}
	}
	return glue.Options{
		"connection_policy": glue.Segment(func(d *caddyfile.Dispenser) error {
			policy := new(caddytls.ConnectionPolicy)
			h.ConnectionPolicies = append(h.ConnectionPolicies, policy)
			return policy.UnmarshalCaddyfile(d)
		}).Repeated(),
		"implicit_tls":      glue.Flag(&h.ImplicitTLS),
		"insecure_auth":     glue.Flag(&h.InsecureAuth),
		"mechanisms":        glue.List(&h.Mechanisms),
		"login_timeout":     glue.Duration(&h.LoginTimeout),
		"idle_timeout":      glue.Duration(&h.IdleTimeout),
		"max_auth_failures": glue.Number(&h.MaxAuthFailures),
		"banner":            glue.Text(&h.Banner),
		"trusted_clients":   glue.List(&h.TrustedClients),
		"client_certificate": glue.Segment(func(d *caddyfile.Dispenser) error {
			d.Next() // consume the name of the option
			h.ClientCertificate = new(ClientCertificate)
			return glue.Options{"user": glue.Text(&h.ClientCertificate.User)}.Block(d)
		}),
		"capability": glue.List(&h.Capability).Repeated(),
	}.Block(d)
}

// Interface guards.
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
	_ caddyfile.Unmarshaler = (*Backend)(nil)
	_ caddyfile.Unmarshaler = (*Handler)(nil)
)
