package caddyimap

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
)

func TestIsHostname(t *testing.T) {
	label := strings.Repeat("x", 63)
	for name, want := range map[string]bool{
		"mail.example.org": true, "localhost": true, "mail": true, "*.example.org": true, "mx1.4example.org": true,
		"xn--bcher-kva.example": true, "192.0.2.1": true, "2001:db8::1": true, label + ".example.org": true,
		"": false, ".": false, "mail.example.org.": false, ".example.org": false, "mail..example.org": false, "*": false,
		"*.*.example.org": false, "mail.*.example.org": false, "mail_1.example.org": false, "-mail.example.org": false,
		"mail-.example.org": false, "mail.example.org:993": false, "imaps://mail.example.org": false, "mail example": false,
		"bücher.example": false, "192.0.2.300": false, "fe80::1%eth0": false, "[2001:db8::1]": false, label + "x.example.org": false,
		strings.Repeat(label+".", 4) + "org": false, "alice@example.org": false,
	} {
		if got := isHostname(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// TestHostnames pins where certificates come from: names that are not public get
// them from the internal authority, unless the configuration says otherwise.
func TestHostnames(t *testing.T) {
	t.Setenv("IMAP_TEST_HOSTNAME", "Mail.Internal")
	w := newWorld(t)
	app := w.app(w.backend("127.0.0.1:1"))
	app.Hostnames = []string{"mail.example.org", "localhost", "{env.IMAP_TEST_HOSTNAME}", "192.168.0.1", "localhost", "mail", "2001:db8::1"}
	c := w.load(app)
	var subjects []string
	for _, policy := range c.app.tls.Automation.Policies {
		if _, internal := policy.Issuers[0].(*caddytls.InternalIssuer); !internal || len(policy.Issuers) != 1 {
			t.Errorf("issuers of %v: %v", policy.Subjects(), policy.Issuers)
		}
		subjects = append(subjects, policy.Subjects()...)
	}
	if want := []string{"localhost", "mail.internal", "192.168.0.1", "mail"}; !slices.Equal(subjects, want) {
		t.Errorf("the internal authority is for %q, want %q", subjects, want)
	}
	if want := []string{"mail.example.org", "localhost", "mail.internal", "192.168.0.1", "localhost", "mail", "2001:db8::1"}; !slices.Equal(c.app.Hostnames, want) {
		t.Errorf("hostnames %q, want %q", c.app.Hostnames, want)
	}

	// What the configuration says itself counts.
	c.app.Hostnames = []string{"localhost", "imap.localhost"}
	before := len(c.app.tls.Automation.Policies)
	if err := c.app.provisionHostnames(c.ctx); err != nil {
		t.Fatal(err)
	}
	added := c.app.tls.Automation.Policies
	if len(added) != before+1 || !slices.ContainsFunc(added, func(p *caddytls.AutomationPolicy) bool {
		return slices.Equal(p.Subjects(), []string{"imap.localhost"})
	}) {
		t.Errorf("%d policies, want one more than %d, for imap.localhost alone", len(added), before)
	}
}

// TestHostnamesAuthority pins that names which are not public get their certificates
// from an authority of the operator's own, if the configuration has one for all.
func TestHostnamesAuthority(t *testing.T) {
	for name, tc := range map[string]struct {
		issuer   map[string]any
		internal bool
	}{
		"a public one":        {map[string]any{"module": "acme", "email": "postmaster@example.org"}, true},
		"another public one":  {map[string]any{"module": "acme", "ca": "https://acme.example.net/dir"}, true},
		"Caddy's":             {map[string]any{"module": "internal"}, true},
		"one of the operator": {map[string]any{"module": "acme", "ca": "https://ca.example.org/dir"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if !tc.internal {
				tc.issuer["trusted_roots_pem_files"] = []string{w.ca.File()}
			}
			w.apps = caddy.ModuleMap{"tls": caddyconfig.JSON(map[string]any{"automation": map[string]any{
				"policies": []any{map[string]any{"issuers": []any{tc.issuer}}},
			}}, nil)}
			app := w.app(w.backend("127.0.0.1:1"))
			app.Hostnames = []string{"mail.example.org", "mail.internal"}
			policies := w.load(app).app.tls.Automation.Policies
			added := len(policies) == 2 && slices.Equal(policies[0].Subjects(), []string{"mail.internal"})
			if added != tc.internal || !added && len(policies) != 1 {
				t.Errorf("%d policies; an own one for mail.internal: %v, want %v", len(policies), added, tc.internal)
			}
		})
	}
}

// TestNoHostnames pins that nothing is wanted of the tls app without them.
func TestNoHostnames(t *testing.T) {
	w := newWorld(t)
	c := w.load(w.app(w.backend("127.0.0.1:1")))
	if c.app.tls != nil {
		t.Error("the tls app was loaded")
	}
	c.start()
	c.stop()
}
