package caddyimap

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func passive(failDuration caddy.Duration, maxFails int) *HealthChecks {
	return &HealthChecks{Passive: &PassiveHealthChecks{FailDuration: failDuration, MaxFails: maxFails}}
}

func active(checks ActiveHealthChecks) *HealthChecks { return &HealthChecks{Active: &checks} }

// TestBackendErrors pins what can be wrong in JSON only, or depends on files; what
// else can be wrong is tested with Caddyfiles.
func TestBackendErrors(t *testing.T) {
	w := newWorld(t)
	for want, amend := range map[string]func(*Backend){
		"upstream 1: it has no address; set dial": func(b *Backend) { b.Upstreams = append(b.Upstreams, new(Upstream)) },
		"upstream 0: it has no address; set dial": func(b *Backend) { b.Upstreams = []*Upstream{nil} },
		"dial_timeout -1ns: must be more than 0":  func(b *Backend) { b.DialTimeout = -1 },
		"auth_timeout -1s: must be more than 0":   func(b *Backend) { b.AuthTimeout = caddy.Duration(-time.Second) },
		`lb_policy "ip_hash": must be one of first, `: func(b *Backend) {
			b.LoadBalancing = &LoadBalancing{Selection: &Selection{Policy: "ip_hash"}}
		},
		"fail_duration -1ns: must be more than 0":              func(b *Backend) { b.HealthChecks = passive(-1, 0) },
		"max_fails -1: must be more than 0":                    func(b *Backend) { b.HealthChecks = passive(0, -1) },
		"health_interval -1ns: must be more than 0":            func(b *Backend) { b.HealthChecks = active(ActiveHealthChecks{Interval: -1}) },
		"health_interval 30ns: must be at least 1s":            func(b *Backend) { b.HealthChecks = active(ActiveHealthChecks{Interval: 30}) },
		"health_timeout -1ns: must be more than 0":             func(b *Backend) { b.HealthChecks = active(ActiveHealthChecks{Timeout: -1}) },
		"health_fall -1: must be more than 0":                  func(b *Backend) { b.HealthChecks = active(ActiveHealthChecks{Fall: -1}) },
		"health_rise -1: must be more than 0":                  func(b *Backend) { b.HealthChecks = active(ActiveHealthChecks{Rise: -1}) },
		"127.0.0.1:1: drain_timeout -1ns: must be more than 0": func(b *Backend) { b.Upstreams[0].DrainTimeout = -1 },
		"extensions: off is a word of the Caddyfile; leave the option out to have none": func(b *Backend) {
			b.Extensions = []string{"off"}
		},
		"tls: handshake_timeout cannot be used; auth_timeout bounds": func(b *Backend) { b.TLS.HandshakeTimeout = 1 },
		"tls: except_ports cannot be used; set tls_mode":             func(b *Backend) { b.TLS.ExceptPorts = []string{"143"} },
		"tls: loading client certificate key pair: open no-such.pem": func(b *Backend) {
			b.TLS.ClientCertificateFile, b.TLS.ClientCertificateKeyFile = "no-such.pem", "no-such-key.pem"
		},
		"reading no-such-ca.pem: open no-such-ca.pem": func(b *Backend) {
			b.TLS.CARaw = caddyconfig.JSON(map[string]any{"provider": "file", "pem_files": []string{"no-such-ca.pem"}}, nil)
		},
	} {
		b := w.backend("127.0.0.1:1")
		amend(b)
		if _, err := w.tryLoad(w.app(b)); err == nil || !strings.Contains(err.Error(), "backend exchange: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	for want, backends := range map[string]map[string]*Backend{
		"backends: a backend needs a name":  {"": w.backend("127.0.0.1:1")},
		"backend empty: it has no upstream": {"empty": nil},
	} {
		if _, err := w.tryLoad(&App{Backends: backends}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// TestBackendWarnings pins that what is dangerous is said at the start.
func TestBackendWarnings(t *testing.T) {
	w := newWorld(t)
	const clear, anybody = "passwords and mail go to this upstream in clear text", "anybody can pretend to be this backend"
	for _, tc := range []struct {
		addr, mode string
		tls        *reverseproxy.TLSConfig
		want       string
	}{
		{"ex1.corp.example.org", "off", nil, clear},
		{"192.0.2.1", "off", nil, clear},
		{"localhost", "off", nil, ""},
		{"127.0.0.2:1143", "off", nil, ""},
		{"[::1]", "off", nil, ""},
		{"unix//run/imap.sock", "off", nil, ""},
		{"ex1.corp.example.org", "", nil, ""},
		{"ex1.corp.example.org", "implicit", &reverseproxy.TLSConfig{InsecureSkipVerify: true}, anybody},
	} {
		b := &Backend{Upstreams: []*Upstream{{Dial: tc.addr}}, TLSMode: tc.mode, TLS: tc.tls}
		lines := w.load(w.app(b)).log.lines("warn", "")
		if tc.want == "" && len(lines) > 0 || tc.want != "" && (len(lines) != 1 || !strings.HasPrefix(lines[0].text("msg"), tc.want)) {
			t.Errorf("%s, tls %q: warnings %v, want %q", tc.addr, tc.mode, lines, tc.want)
		}
	}
}

// TestAddressErrors pins that an address which can never work is found out at the start.
func TestAddressErrors(t *testing.T) {
	w := newWorld(t)
	for dial, host := range map[string]string{
		"ex9:143:44":     "ex9:143:44",
		"ex9 corp":       "ex9 corp",
		" ex9:143":       " ex9",
		"ex9,ex8":        "ex9,ex8",
		"user@ex9":       "user@ex9",
		"127.0.0.300":    "127.0.0.300",
		"192.0.2:143":    "192.0.2",
		"ex9..corp":      "ex9..corp",
		"*.corp.example": "*.corp.example",
		"büro.example":   "büro.example",
		"[ex9:143]":      "ex9:143",
		"tcp4/ex9,ex8":   "ex9,ex8",
	} {
		_, err := w.tryLoad(w.app(&Backend{Upstreams: []*Upstream{{Dial: dial}}}))
		if want := fmt.Sprintf("upstream %s: %q is neither the name of a host nor an IP address; write host:port, ", dial, host); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// TestAddress pins what an upstream's address means.
func TestAddress(t *testing.T) {
	t.Setenv("IMAP_TEST_PORT", "1143")
	w := newWorld(t)
	for _, tc := range []struct{ dial, mode, network, want string }{
		{"ex1.corp.example.org", "", "tcp", "ex1.corp.example.org:143"},
		{"ex1.corp.example.org", "off", "tcp", "ex1.corp.example.org:143"},
		{"ex1.corp.example.org", "implicit", "tcp", "ex1.corp.example.org:993"},
		{"ex1.corp.example.org:{env.IMAP_TEST_PORT}", "implicit", "tcp", "ex1.corp.example.org:1143"},
		{"2001:db8::1", "", "tcp", "[2001:db8::1]:143"},
		{"[2001:db8::1]", "implicit", "tcp", "[2001:db8::1]:993"},
		{"[2001:db8::1]:1143", "", "tcp", "[2001:db8::1]:1143"},
		{"tcp4/ex1.corp.example.org", "", "tcp4", "ex1.corp.example.org:143"},
		{"unix//run/imap.sock", "off", "unix", "/run/imap.sock"},
		{"imap_1.corp.example.org.", "", "tcp", "imap_1.corp.example.org.:143"},
		{"[fe80::1%eth0]:1143", "", "tcp", "[fe80::1%eth0]:1143"},
	} {
		b := w.load(w.app(&Backend{Upstreams: []*Upstream{{Dial: tc.dial}}, TLSMode: tc.mode})).app.Backends["exchange"]
		cfg := b.configs[b.addresses[0]]
		if cfg == nil || cfg.Network != tc.network || cfg.Address != tc.want {
			t.Errorf("%s with tls %q: %+v, want %s on %s", tc.dial, tc.mode, cfg, tc.want, tc.network)
		}
	}
}

// TestShares pins that an upstream with TLS may be spared an offer, unless the operator
// has said what is offered.
func TestShares(t *testing.T) {
	w := newWorld(t)
	for mode, want := range map[string]bool{"starttls": true, "implicit": true, "off": false} {
		b := w.load(w.app(&Backend{Upstreams: []*Upstream{{Dial: "127.0.0.1"}}, TLSMode: mode})).app.Backends["exchange"]
		if cfg := b.configs[b.addresses[0]]; (cfg.Shares != nil) != want || (cfg.TLS != nil) != want {
			t.Errorf("tls %s: %+v", mode, cfg)
		}
	}
	tlsConfig := &reverseproxy.TLSConfig{Curves: []string{"x25519"}}
	b := w.load(w.app(&Backend{Upstreams: []*Upstream{{Dial: "127.0.0.1"}}, TLS: tlsConfig})).app.Backends["exchange"]
	if cfg := b.configs[b.addresses[0]]; cfg.Shares != nil {
		t.Error("what the operator has chosen is amended")
	}
}
