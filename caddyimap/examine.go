package caddyimap

import (
	"context"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// What a program has to know of a configuration that looks for faults in it: it asks
// the backends in the way that the handlers do, without the app being started.

// UpstreamConfigs returns how each upstream is talked to, in the order of the
// configuration. They are not to be changed. The backend has been provisioned.
func (b *Backend) UpstreamConfigs() []*imapauth.Config {
	configs := make([]*imapauth.Config, 0, len(b.addresses))
	for _, address := range b.addresses {
		configs = append(configs, b.configs[address])
	}
	return configs
}

// Rename returns the attempt with the name that the backend wants, or nil and the
// verdict that there is none.
func (b *Backend) Rename(a *login.Attempt) (*login.Attempt, login.Verdict) {
	renamed, v := b.rename(a)
	if renamed == nil {
		return nil, v
	}
	return b.asDelegate(renamed), v
}

// Token returns what makes the attempt with a token of a renamed one with a password; nil
// if the backend takes passwords. The verdict is Granted if there is a token.
func (b *Backend) Token() func(context.Context, *login.Attempt) (*login.Attempt, login.Verdict) {
	if b.OAuth2 == nil {
		return nil
	}
	return func(ctx context.Context, a *login.Attempt) (with *login.Attempt, v login.Verdict) {
		v = b.byToken(ctx, a, func(_ context.Context, a *login.Attempt) login.Verdict {
			with = a
			return login.Verdict{Result: login.Granted}
		})
		return with, v
	}
}

// CheckUpstream says what is wrong with the address of an upstream, without placeholders,
// as provisioning would.
func (b *Backend) CheckUpstream(address string) error {
	_, err := b.parseAddress(address)
	return err
}

// IsHostname says whether a name, without placeholders, can be one of Hostnames.
func IsHostname(name string) bool { return isHostname(name) }

// FindBackend returns the backend of that name with its name, or the only one if the
// name is empty.
func (a *App) FindBackend(name string) (string, *Backend, error) {
	b, err := a.backend(name)
	if err != nil {
		return "", nil, err
	}
	return b.name, b, nil
}

// ServerNames returns the names that clients connect to: the hostnames, or if there are
// none, a name of each certificate in files.
func (a *App) ServerNames() []string {
	names := append([]string{}, a.Hostnames...)
	if len(names) > 0 {
		return names
	}
	for _, cert := range a.files {
		for _, name := range cert.Leaf.DNSNames {
			if !strings.HasPrefix(name, "*") {
				names = append(names, name)
				break
			}
		}
	}
	return names
}
