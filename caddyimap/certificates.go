package caddyimap

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// provisionHostnames checks the names, and sees to it that those which are not
// public get their certificates from the internal authority, as Caddy's HTTP
// server does for its own names. layer4 does nothing of the kind.
func (a *App) provisionHostnames(ctx caddy.Context) error {
	if len(a.Hostnames) == 0 {
		return nil
	}
	repl := caddy.NewReplacer()
	for i, text := range a.Hostnames {
		name, err := repl.ReplaceOrErr(text, true, true)
		if err != nil {
			return fmt.Errorf("hostname %s: %w", text, err)
		}
		name = strings.ToLower(name)
		if !isHostname(name) {
			return fmt.Errorf("hostname %q: not the name of a host, such as mail.example.org; "+
				"it has no scheme and no port, and letters beyond ASCII are written in their xn-- form", name)
		}
		a.Hostnames[i] = name
	}
	app, err := ctx.App("tls")
	if err != nil {
		return fmt.Errorf("loading the tls app for the certificates of the hostnames: %w", err)
	}
	a.tls = app.(*caddytls.TLS)

	var internal []string
	for _, name := range a.Hostnames {
		if !isPublic(name) && !a.hasFileFor(name) && !a.hasAuthority(name) && !slices.Contains(internal, name) {
			internal = append(internal, name)
		}
	}
	if len(internal) == 0 {
		return nil
	}
	issuer := new(caddytls.InternalIssuer)
	if err := issuer.Provision(ctx); err != nil {
		return fmt.Errorf("setting up the internal issuer for %s: %w", strings.Join(internal, ", "), err)
	}
	policy := &caddytls.AutomationPolicy{SubjectsRaw: internal, Issuers: []certmagic.Issuer{issuer}}
	if err := a.tls.AddAutomationPolicy(policy); err != nil {
		return fmt.Errorf("adding an automation policy for %s: %w", strings.Join(internal, ", "), err)
	}
	return nil
}

// isHostname reports whether clients could know a server by this name, or address.
// certmagic takes more for a name, down to what only a URL can be.
func isHostname(name string) bool {
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Zone() == ""
	}
	labels := strings.Split(strings.TrimPrefix(name, "*."), ".")
	for _, label := range labels {
		if !isLabel(label) || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
	}
	// The top is no number, or it would be an address with a mistake in it.
	return len(name) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

// isPublic reports whether public authorities may sign for the name. Beyond what
// certmagic knows, they do not for one without a domain.
func isPublic(name string) bool {
	return certmagic.SubjectQualifiesForPublicCert(name) && strings.ContainsAny(name, ".:")
}

// hasAuthority reports whether the configuration says itself where the certificate
// of a name that is not public comes from: by a policy for the name, or by one for
// all names with an authority that is not public either. A public one may be there
// for the other names alone.
func (a *App) hasAuthority(name string) bool {
	if a.tls.Automation == nil {
		return false
	}
	for _, policy := range a.tls.Automation.Policies {
		if len(policy.Subjects()) == 0 && slices.ContainsFunc(policy.Issuers, isOwnAuthority) {
			return true
		}
		for _, subject := range policy.Subjects() {
			if certmagic.MatchWildcard(name, subject) {
				return true
			}
		}
	}
	return false
}

// isOwnAuthority reports whether the issuer asks an authority that only those trust
// who were told to.
func isOwnAuthority(issuer certmagic.Issuer) bool {
	acme, ok := issuer.(interface{ GetACMEIssuer() *caddytls.ACMEIssuer })
	return ok && acme.GetACMEIssuer() != nil && len(acme.GetACMEIssuer().TrustedRootsPEMFiles) > 0
}

// manageCertificates has the certificates obtained, in the background, and renewed.
// The tls app must have started: its start changes what obtaining a certificate
// reads, without a lock, and Caddy starts apps in no fixed order.
func (a *App) manageCertificates() {
	if len(a.Hostnames) == 0 {
		return
	}
	names := make(map[string]struct{}, len(a.Hostnames))
	for _, name := range a.unmanaged() {
		names[name] = struct{}{}
	}
	if err := a.tls.Manage(names); err != nil {
		a.logger.Error("the certificates of the hostnames cannot be managed", zap.Strings("hostnames", a.Hostnames), zap.Error(err))
	}
}

// unmanaged returns the names for which there is no certificate in files, neither
// ours nor the tls app's, and none that is managed for another app.
func (a *App) unmanaged() []string {
	return slices.DeleteFunc(slices.Clone(a.Hostnames), func(name string) bool {
		return a.hasFileFor(name) || a.tls.HasCertificateForSubject(name)
	})
}
