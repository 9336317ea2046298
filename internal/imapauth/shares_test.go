package imapauth

import (
	"crypto/tls"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestShares pins what each of three logins in a row offers to servers that differ in
// what they can do.
func TestShares(t *testing.T) {
	for _, tc := range []struct {
		name   string
		server func(*tls.Config)
		client func(*tls.Config)
		// offers says of each handshake whether a post-quantum key exchange was
		// offered, chosen what the last came to.
		offers [3]bool
		chosen tls.CurveID
	}{
		{name: "all", offers: [3]bool{true, true, true}, chosen: tls.X25519MLKEM768},
		{name: "X25519", server: only(tls.X25519), offers: [3]bool{true, false, false}, chosen: tls.X25519},
		// It is asked for another key share than the one that it has sent.
		{name: "P-384", server: only(tls.CurveP384), offers: [3]bool{true, false, false}, chosen: tls.CurveP384},
		{
			name: "TLS 1.2", server: func(cfg *tls.Config) { cfg.MaxVersion = tls.VersionTLS12 },
			offers: [3]bool{true, false, false}, chosen: tls.X25519,
		},
		{
			name: "told what to offer", server: only(tls.X25519),
			client: only(tls.X25519, tls.X25519MLKEM768), offers: [3]bool{true, true, true}, chosen: tls.X25519,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ca := imaptest.NewCA(t)
			server, client := ca.ServerTLS("localhost"), ca.ClientTLS("localhost")
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			if tc.server != nil {
				tc.server(server)
			}
			if tc.client != nil {
				tc.client(client)
			}
			var mu sync.Mutex
			var offers []bool
			server.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				mu.Lock()
				defer mu.Unlock()
				offers = append(offers, slices.Contains(hello.SupportedCurves, tls.X25519MLKEM768))
				return nil, nil
			}
			srv := imaptest.NewFake(t, imaptest.Profile{TLS: server})
			cfg := &Config{Address: srv.Addr(), Mode: StartTLS, TLS: client, Shares: NewShares(client)}
			var state tls.ConnectionState
			for i := range tc.offers {
				s, v := openAt(t, cfg, attempt(login.FormLogin), Keep)
				if v.Result != login.Granted {
					t.Fatalf("verdict %s (%v)", summary(v), v.Err)
				}
				state = s.Conn.(interface{ ConnectionState() tls.ConnectionState }).ConnectionState()
				if resumed := i > 0; state.DidResume != resumed {
					t.Errorf("handshake %d: resumed %v", i, state.DidResume)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(offers, tc.offers[:]) {
				t.Errorf("offers %v, want %v", offers, tc.offers)
			}
			if state.CurveID != tc.chosen {
				t.Errorf("chosen was %v, want %v", state.CurveID, tc.chosen)
			}
		})
	}
}

func only(groups ...tls.CurveID) func(*tls.Config) {
	return func(cfg *tls.Config) { cfg.CurvePreferences = groups }
}

// TestSharesLast pins that an upstream is asked again after a while, that what it did
// before it learned more is forgotten, and that addresses are apart.
func TestSharesLast(t *testing.T) {
	all := new(tls.Config)
	s, now := NewShares(all), time.Now()
	check := func(address string, after time.Duration, every bool) {
		t.Helper()
		if got := s.offer(all, address, now.Add(after)) == all; got != every {
			t.Errorf("%s after %v: every offer is %v, want %v", address, after, got, every)
		}
	}
	old := &tls.ConnectionState{Version: tls.VersionTLS13, CurveID: tls.CurveP256}
	check("a", 0, true)
	s.note(old, "a", now)
	check("a", sharesFor-1, false)
	check("b", 0, true)
	check("a", sharesFor, true)
	s.note(&tls.ConnectionState{Version: tls.VersionTLS13, CurveID: tls.X25519MLKEM768}, "a", now.Add(sharesFor))
	check("a", sharesFor, true)
	// A key exchange that is not known may be a better one.
	s.note(&tls.ConnectionState{Version: tls.VersionTLS13, CurveID: 0xffff}, "b", now)
	check("b", 0, true)

	s.note(old, "a", now.Add(sharesFor))
	s.note(old, "b", now.Add(2*sharesFor))
	if len(s.until) != 1 {
		t.Errorf("%d addresses are kept, want 1", len(s.until))
	}
}
