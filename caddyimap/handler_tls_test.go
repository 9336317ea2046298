package caddyimap

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
)

// TestALPN pins who is taken for an IMAP client.
func TestALPN(t *testing.T) {
	w := newWorld(t)
	fake := w.fake()
	c := w.load(w.app(w.backend(fake.Addr())))
	for _, f := range fronts[:3] {
		for _, tc := range []struct {
			offered []string
			want    string
			refused bool
		}{
			{[]string{"imap"}, "imap", false},
			{nil, "", false},
			{[]string{"h2", "imap"}, "imap", false},
			{[]string{"h2"}, "", true},
			{[]string{"h2", "http/1.1"}, "", true},
		} {
			if f.behind && tc.refused {
				continue // that tls handler has refused it already
			}
			t.Run(f.name+" "+strings.Join(tc.offered, " "), func(t *testing.T) {
				h := c.handler(&f.handler)
				cl := serve(t, h)
				if f.behind {
					cl = serve(t, c.module("layer4.handlers.tls", alpnTLS("imap")), h)
				}
				if !f.handler.ImplicitTLS && !f.behind {
					cl.expect(greetingClear)
					cl.ask("tls STARTTLS", "tls OK")
				}
				cfg := w.tls("mail.example.org")
				cfg.NextProtos = tc.offered
				err := cl.handshake(cfg)
				if tc.refused {
					if err == nil || !strings.Contains(err.Error(), "no application protocol") {
						t.Errorf("handshake: %v, want a refusal", err)
					}
					cl.closed()
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := cl.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != tc.want {
					t.Errorf("protocol %q, want %q", got, tc.want)
				}
				cl.ask("a NOOP")
				if f.handler.ImplicitTLS || f.behind {
					cl.expect(greetingSecure)
				}
				cl.expect("a OK")
			})
		}
	}
	// A tls handler that is not for IMAP lets a browser through, and we do not.
	cl := serve(t, c.module("layer4.handlers.tls", alpnTLS("h2")), c.handler(new(Handler)))
	cfg := w.tls("mail.example.org")
	cfg.NextProtos = []string{"h2"}
	if err := cl.handshake(cfg); err != nil {
		t.Fatal(err)
	}
	cl.closed()
}

// TestSNI pins that clients which name no server, or another, get the certificate
// of the first host name.
func TestSNI(t *testing.T) {
	w := newWorld(t)
	app := w.app(w.backend("127.0.0.1:1"))
	app.Hostnames = []string{"Mail.Example.org", "old.example.org"}
	c := w.load(app)
	for _, h := range []*Handler{
		{ImplicitTLS: true},
		{ImplicitTLS: true, ConnectionPolicies: caddytls.ConnectionPolicies{{ProtocolMin: "tls1.3"}}},
	} {
		h = c.handler(h)
		for _, tc := range []struct{ sent, want string }{
			{"mail.example.org", "mail.example.org"},
			{"old.example.org", "old.example.org"},
			{"", "mail.example.org"},
			{"foreign.example.net", "mail.example.org"},
		} {
			cl := serve(t, h)
			cfg := w.tls(tc.sent)
			if tc.sent != tc.want {
				cfg.InsecureSkipVerify = true // what is shown is looked at below
			}
			if err := cl.handshake(cfg); err != nil {
				t.Errorf("SNI %q: %v", tc.sent, err)
				continue
			}
			shown := cl.conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
			if err := shown.VerifyHostname(tc.want); err != nil {
				t.Errorf("SNI %q: %v", tc.sent, err)
			}
			cl.expect(greetingSecure)
		}
	}

	// What a policy says itself counts.
	h := c.handler(&Handler{ImplicitTLS: true, ConnectionPolicies: caddytls.ConnectionPolicies{{DefaultSNI: "old.example.org", ALPN: []string{"imap", "x"}}}})
	cl := serve(t, h)
	cfg := w.tls("")
	cfg.InsecureSkipVerify, cfg.NextProtos = true, []string{"x"}
	if err := cl.handshake(cfg); err != nil {
		t.Fatal(err)
	}
	if err := cl.conn.(*tls.Conn).ConnectionState().PeerCertificates[0].VerifyHostname("old.example.org"); err != nil {
		t.Error(err)
	}
}

// TestResumption pins that a client which comes again need not do a whole
// handshake, and that neither need we at the backend.
func TestResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			w := newWorld(t)
			backendTLS := w.ca.ServerTLS()
			backendTLS.MaxVersion = version
			resumed := make(chan bool, 8)
			backendTLS.VerifyConnection = func(s tls.ConnectionState) error {
				resumed <- s.DidResume
				return nil
			}
			fake := w.profile()
			fake.TLS = backendTLS
			c := w.load(w.app(w.backend(w.start(fake).Addr())))
			for _, f := range fronts[:2] {
				h := c.handler(&f.handler)
				if !h.ConnectionPolicies[0].TLSConfig.DynamicRecordSizingDisabled {
					t.Error("messages would be sent in small records")
				}
				cfg := w.tls("mail.example.org")
				cfg.MaxVersion = version
				cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				for n := range 3 {
					cl := serve(t, h)
					if f.handler.ImplicitTLS {
						if err := cl.handshake(cfg); err != nil {
							t.Fatal(err)
						}
						cl.expect(greetingSecure)
					} else {
						cl.secure(cfg)
					}
					cl.logIn()
					if got := cl.conn.(*tls.Conn).ConnectionState().DidResume; got != (n > 0) {
						t.Errorf("%s, connection %d: resumed: %v", f.name, n, got)
					}
					if got, again := <-resumed, n > 0 || f.handler.ImplicitTLS; got != again {
						t.Errorf("%s, connection %d: resumed at the backend: %v", f.name, n, got)
					}
					cl.ask("z LOGOUT", "* BYE", "z OK")
					cl.closed()
				}
			}
		})
	}
}

// TestHandlerErrors pins what can be wrong in JSON only; what can be wrong in a
// Caddyfile is tested with Caddyfiles.
func TestHandlerErrors(t *testing.T) {
	w := newWorld(t)
	c := w.load(w.app(w.backend("127.0.0.1:1")))
	for want, h := range map[string]Handler{
		"login_timeout -1ns: must be at least 1s":                                             {LoginTimeout: -1},
		"login_timeout 30ns: must be at least 1s; a number without a unit counts nanoseconds": {LoginTimeout: 30},
		"idle_timeout -1h0m0s: must be at least 1s":                                           {IdleTimeout: caddy.Duration(-time.Hour)},
		"max_auth_failures -1: must be more than 0":                                           {MaxAuthFailures: -1},
		"connection_policies: a policy is null":                                               {ConnectionPolicies: caddytls.ConnectionPolicies{nil}},
		`capability "": must be + or - and a name`:                                            {Capability: []string{""}},
		`banner "a\r\nb": must be at most 200 printable ASCII characters`:                     {Banner: "a\r\nb"},
		"setting up connection_policies: ":                                                    {ConnectionPolicies: caddytls.ConnectionPolicies{{ProtocolMin: "ssl3"}}},
	} {
		if err := h.Provision(c.ctx); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
