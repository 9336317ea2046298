package caddyimap

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// stolen is a cache with one session, which it has for whatever server.
type stolen struct{ session *tls.ClientSessionState }

func (s *stolen) Get(string) (*tls.ClientSessionState, bool) { return s.session, s.session != nil }
func (s *stolen) Put(_ string, session *tls.ClientSessionState) {
	if session != nil {
		s.session = session
	}
}

// TestForeignTickets presents tickets where they were not got: under another name,
// by somebody who has to show a certificate, and of another protocol.
func TestForeignTickets(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			w := newWorld(t)
			app := w.app(w.backend(w.fake().Addr()))
			app.Hostnames = []string{"mail.example.org", "old.example.org"}
			c := w.load(app)
			authority := caddyconfig.JSON(map[string]any{"provider": "file", "pem_files": []string{w.ca.File()}}, nil)
			h := c.handler(&Handler{ImplicitTLS: true})
			strict := c.handler(&Handler{ImplicitTLS: true, ConnectionPolicies: caddytls.ConnectionPolicies{
				{
					MatchersRaw:          caddy.ModuleMap{"sni": json.RawMessage(`["old.example.org"]`)},
					ClientAuthentication: &caddytls.ClientAuthentication{CARaw: authority},
				},
				{},
			}})
			starting := c.handler(new(Handler))
			web := caddytls.ConnectionPolicies{{ALPN: []string{"http/1.1"}}}
			if err := web.Provision(c.ctx); err != nil {
				t.Fatal(err)
			}
			// As the tls app does when it starts.
			for _, policies := range []caddytls.ConnectionPolicies{h.ConnectionPolicies, strict.ConnectionPolicies, starting.ConnectionPolicies, web} {
				for _, policy := range policies {
					policy.TLSConfig.SetSessionTicketKeys([][32]byte{{1}})
				}
			}
			// connect returns the state of the TLS that stands in the end.
			connect := func(h *Handler, name string, cache tls.ClientSessionCache, certs ...tls.Certificate) (tls.ConnectionState, error) {
				cl := serve(t, h)
				cfg := w.tls(name)
				cfg.MaxVersion, cfg.ClientSessionCache, cfg.Certificates = version, cache, certs
				// Whose certificate it was is no concern of somebody who attacks.
				cfg.InsecureSkipVerify = true
				if !h.ImplicitTLS {
					cl.expect(greetingClear)
					cl.ask("tls STARTTLS", "tls OK")
				}
				if err := cl.handshake(cfg); err != nil {
					return tls.ConnectionState{}, err
				}
				// A refusal, or a ticket, of TLS 1.3 comes with what is said next.
				cl.send("a NOOP\r\n")
				for {
					if line, err := cl.line(); err != nil {
						return tls.ConnectionState{}, err
					} else if line == "a OK NOOP completed." {
						return cl.conn.(*tls.Conn).ConnectionState(), nil
					}
				}
			}
			got := new(stolen)
			if state, err := connect(h, "mail.example.org", got); err != nil || state.DidResume || got.session == nil {
				t.Fatalf("no ticket: %v", err)
			}
			ticket := *got
			for _, tc := range []struct {
				what, name string
				handler    *Handler
				resumed    bool
			}{
				{"where it is from", "mail.example.org", h, true},
				{"in another case", "Mail.Example.ORG", h, true},
				{"at another port of the name", "mail.example.org", starting, true},
				{"under another name", "old.example.org", h, false},
				{"under no name", "", h, false},
				{"under a foreign name", "evil.example.net", h, false},
				{"under another name at another port", "old.example.org", starting, false},
			} {
				cache := ticket
				state, err := connect(tc.handler, tc.name, &cache)
				if err != nil || state.DidResume != tc.resumed {
					t.Errorf("%s: resumed %v, %v; want %v", tc.what, state.DidResume, err, tc.resumed)
				}
			}

			// Without a certificate of their own, nobody gets in where one is wanted.
			cache := ticket
			if _, err := connect(strict, "old.example.org", &cache); err == nil {
				t.Error("a ticket is as good as a certificate")
			}
			if state, err := connect(strict, "mail.example.org", &cache); err != nil || !state.DidResume {
				t.Errorf("at the name that wants none: resumed %v, %v", state.DidResume, err)
			}
			// Who has one gets no ticket that could be presented elsewhere.
			own := w.ca.Issue(imaptest.Leaf{Names: []string{"alice"}, Client: true}).Certificate
			empty := new(stolen)
			if _, err := connect(strict, "old.example.org", empty, own); err != nil || empty.session != nil {
				t.Errorf("with a certificate: ticket %v, %v", empty.session != nil, err)
			}

			// A ticket of a web site on the same Caddy.
			site := new(stolen)
			fetch(t, web.TLSConfig(c.ctx), &tls.Config{
				ServerName: "mail.example.org", InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: site,
			})
			if site.session == nil {
				t.Fatal("the web site gives no ticket")
			}
			if state, err := connect(h, "mail.example.org", site); err != nil || state.DidResume {
				t.Errorf("a ticket of a web site: resumed %v, %v", state.DidResume, err)
			}
		})
	}
}

// fetch connects to a server that is none for IMAP.
func fetch(t *testing.T, server, client *tls.Config) {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan error, 1)
	go func() {
		defer ours.Close()
		_, err := tls.Server(ours, server).Write([]byte("x"))
		done <- err
	}()
	conn := tls.Client(theirs, client)
	defer theirs.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Errorf("reading from the web site: %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("serving the web site: %v", err)
	}
}
