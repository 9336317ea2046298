package imapcmd

import (
	"cmp"
	"context"
	"crypto/x509"
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
		return f, doctor.ErrNoIMAP
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
		if o.adapter == "" && strings.Contains(err.Error(), "not valid JSON") {
			err = fmt.Errorf("%w (a dovecot.conf is read with --adapter dovecot, and a Caddyfile of another name with --adapter caddyfile)", err)
		}
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

// canConnect reports whether there is a listener that can be looked at.
func (f *found) canConnect() bool {
	return slices.ContainsFunc(f.fronts, func(front doctor.Front) bool { return front.Network != "" }) ||
		slices.ContainsFunc(f.auths, func(auth doctor.Auth) bool { return auth.Network != "" })
}

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
