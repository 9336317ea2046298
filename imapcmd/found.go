package imapcmd

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddypki"
	"github.com/caddyserver/certmagic"

	"github.com/caddy-imap/caddy-imap/caddyimap"
	"github.com/caddy-imap/caddy-imap/internal/doctor"
)

// found is what there is to look at.
type found struct {
	file string
	// warnings are those of the adapter.
	warnings []string
	// backends are the upstreams, by the name of their backend, fronts and auths the
	// listeners before them. left are listeners that cannot be looked at.
	backends map[string][]doctor.Backend
	fronts   []doctor.Front
	auths    []doctor.Auth
	// domains and domain are as in doctor.Login.
	domains map[string]string
	domain  string
}

// usageError is one of how the command was used.
type usageError struct{ error }

// load loads the configuration, or makes one of --to, and sets it up without starting
// it: what is looked at is what runs.
func (o *checkOptions) load(in io.Reader) (*found, error) {
	f := &found{file: o.config, backends: make(map[string][]doctor.Backend), domains: make(map[string]string)}
	cfg, err := o.read(f, in)
	if err != nil {
		return f, err
	}
	listeners := readListeners(cfg.AppsRaw["layer4"])
	cfg.Logging = noLog()
	ctx, err := caddy.ProvisionContext(cfg)
	switch {
	case err != nil && f.file == "" && len(o.target.upstreams) > 0:
		return f, &usageError{err}
	case err != nil:
		return f, err
	}
	app, err := ctx.AppIfConfigured("imap")
	if err != nil {
		return f, errors.New("there is no imap app in this configuration, and thus no backend; see Caddyfile.example")
	}
	return f, f.fill(ctx, app.(*caddyimap.App), listeners, o.backend)
}

// read returns the configuration. It may be read from in.
func (o *checkOptions) read(f *found, in io.Reader) (*caddy.Config, error) {
	if len(o.target.upstreams) > 0 {
		text, err := o.target.backendOnly()
		if err != nil {
			return nil, &usageError{err}
		}
		return parseConfig(text)
	}
	var b []byte
	var file, adapter string
	var err error
	if o.config == "-" {
		if b, err = io.ReadAll(in); err == nil && o.adapter != "" {
			b, err = f.adapt(o.adapter, b)
		}
	} else {
		b, file, adapter, err = caddycmd.LoadConfig(o.config, o.adapter)
	}
	switch {
	case err == nil && len(b) == 0:
		return nil, &usageError{errors.New("there is nothing to look at: name a configuration with --config or a server with --to")}
	case file != "":
		f.file = file
	}
	if err != nil {
		return nil, err
	}
	if adapter != "" {
		// Caddy has only logged the warnings.
		text, err := os.ReadFile(f.file)
		if err == nil {
			_, err = f.adapt(adapter, text)
		}
		if err != nil {
			return nil, err
		}
	}
	return parseConfig(caddy.RemoveMetaFields(b))
}

// adapt makes JSON of a configuration, and notes the warnings.
func (f *found) adapt(name string, text []byte) ([]byte, error) {
	adapter := caddyconfig.GetAdapter(name)
	if adapter == nil {
		return nil, fmt.Errorf("unknown adapter %q", name)
	}
	b, warnings, err := adapter.Adapt(text, map[string]any{"filename": f.file})
	if err != nil {
		return nil, fmt.Errorf("adapting the configuration with %s: %w", name, err)
	}
	for _, w := range warnings {
		w.File = cmp.Or(w.File, f.file)
		f.warnings = append(f.warnings, w.String())
	}
	return b, nil
}

func parseConfig(b []byte) (*caddy.Config, error) {
	cfg := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(b, cfg); err != nil {
		return nil, fmt.Errorf("decoding the configuration: %w", err)
	}
	return cfg, nil
}

// fill notes what there is to look at: all of it, or what has to do with one backend.
func (f *found) fill(ctx caddy.Context, app *caddyimap.App, l listeners, only string) error {
	if only != "" {
		if _, _, err := app.FindBackend(only); err != nil {
			return &usageError{fmt.Errorf("--backend %s: %w", only, err)}
		}
	}
	wanted := func(name string) bool { return only == "" || name == only }
	for name, b := range app.Backends {
		if !wanted(name) {
			continue
		}
		shown := name
		if f.file == "" {
			shown = "" // it is one of --to, and nobody has named it
		}
		for _, cfg := range b.UpstreamConfigs() {
			f.backends[name] = append(f.backends[name], doctor.Backend{Name: shown, Config: cfg, Rename: b.Rename, Token: b.Token()})
			if f.domain == "" {
				f.domain = domainOf(cfg.Address)
			}
		}
	}
	for _, d := range app.Guard.Domains {
		f.domains[strings.ToUpper(d.Name)] = d.Domain
	}
	if len(app.Guard.Domains) > 0 {
		f.domain = app.Guard.Domains[0].Domain
	}
	own, ownFile := authorities(ctx)
	backendOf := func(name string) string {
		name, _, _ = app.FindBackend(name)
		return name
	}
	for _, front := range l.fronts {
		if front.Backend = backendOf(front.Backend); wanted(front.Backend) {
			front.Names, front.Own, front.OwnFile = app.ServerNames(), own, ownFile
			f.fronts = append(f.fronts, front)
		}
	}
	for _, auth := range l.auths {
		if auth.Backend = backendOf(auth.Backend); wanted(auth.Backend) {
			f.auths = append(f.auths, auth)
		}
	}
	return nil
}

// domainOf guesses the domain of users by the address of a server.
func domainOf(address string) string {
	host, _, _ := strings.Cut(address, ":")
	_, domain, _ := strings.Cut(host, ".")
	if !strings.Contains(domain, ".") || strings.Trim(domain, "0123456789.") == "" {
		return ""
	}
	return domain
}

// authorities are those that this Caddy signs certificates with itself, and where the
// first of them is.
func authorities(ctx caddy.Context) (certs []*x509.Certificate, file string) {
	app, err := ctx.AppIfConfigured("pki")
	if err != nil {
		return nil, ""
	}
	pki, ok := app.(*caddypki.PKI)
	if !ok {
		return nil, ""
	}
	file = rootCertificate + " of the storage"
	if storage, ok := ctx.Storage().(*certmagic.FileStorage); ok {
		file = filepath.Join(storage.Path, rootCertificate)
	}
	for _, ca := range pki.CAs {
		if cert := ca.RootCertificate(); cert != nil {
			certs = append(certs, cert)
		}
	}
	return certs, file
}

func (f *found) names() string { return strings.Join(slices.Sorted(maps.Keys(f.backends)), ", ") }

// examine looks at all, and returns the lines for Postfix.
func (f *found) examine(ctx context.Context, d *doctor.Doctor) (lines []mainCF) {
	for _, name := range slices.Sorted(maps.Keys(f.backends)) {
		for _, b := range f.backends[name] {
			d.Backend(ctx, b)
		}
	}
	for _, front := range f.fronts {
		d.Front(ctx, front)
	}
	for _, auth := range f.auths {
		d.Auth(ctx, auth)
		if auth.Network != "" {
			lines = append(lines, mainCF{auth.Address, doctor.MainCF(auth)})
		}
	}
	return lines
}

// listeners are those of a configuration.
type listeners struct {
	fronts []doctor.Front
	auths  []doctor.Auth
}

// readListeners finds the handlers of ours, and where they listen. It reads the
// configuration before it is set up, since layer4 shows neither its listeners nor its
// handlers. What is wrong with it is found out when it is set up.
func readListeners(layer4 json.RawMessage) (l listeners) {
	var app struct {
		Servers map[string]struct {
			Listen []string `json:"listen"`
			Routes []route  `json:"routes"`
		} `json:"servers"`
	}
	if json.Unmarshal(layer4, &app) != nil {
		return l
	}
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		srv := app.Servers[name]
		for _, listen := range srv.Listen {
			for _, r := range srv.Routes {
				l.walk(listen, r, way{})
			}
		}
	}
	return l
}

// route is as in layer4.
type route struct {
	Handle []json.RawMessage `json:"handle"`
}

// way is what comes before a handler.
type way struct{ tls, proxy bool }

// walk finds the handlers of a route, in the order in which a connection comes to them,
// and those of routes within it.
func (l *listeners) walk(listen string, r route, w way) {
	repl := caddy.NewReplacer()
	for _, raw := range r.Handle {
		var h struct {
			Handler     string  `json:"handler"`
			Backend     string  `json:"backend"`
			ImplicitTLS bool    `json:"implicit_tls"`
			Delegates   bool    `json:"allow_delegates"`
			Routes      []route `json:"routes"`
		}
		if json.Unmarshal(raw, &h) != nil {
			continue
		}
		backend := repl.ReplaceAll(h.Backend, "")
		switch h.Handler {
		case "tls":
			w.tls = true
		case "proxy_protocol":
			w.proxy = true
		case "imap":
			for _, at := range dialable(repl.ReplaceAll(listen, "")) {
				front := doctor.Front{Address: at.shown, Backend: backend, Network: at.network, Dial: at.address,
					Implicit: h.ImplicitTLS || w.tls, Proxy: w.proxy}
				if !slices.ContainsFunc(l.fronts, func(other doctor.Front) bool { return other.Address == at.shown && other.Backend == backend }) {
					l.fronts = append(l.fronts, front)
				}
			}
		case "dovecot_auth":
			for _, at := range dialable(repl.ReplaceAll(listen, "")) {
				auth := doctor.Auth{Address: at.shown, Backend: backend, Network: at.network, Dial: at.address, Delegates: h.Delegates}
				if !slices.ContainsFunc(l.auths, func(other doctor.Auth) bool { return other.Address == at.shown && other.Backend == backend }) {
					l.auths = append(l.auths, auth)
				}
			}
		}
		for _, inner := range h.Routes {
			l.walk(listen, inner, w)
		}
	}
}
