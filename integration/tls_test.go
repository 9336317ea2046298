//go:build integration

package integration

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// What clients can do at the front door, by STARTTLS and by implicit TLS.
func TestFrontTLS(t *testing.T) {
	password := secret("Front-Door-Key-3")
	backend := imaptest.NewMemory(t, imaptest.Accounts{Passwords: map[string]string{"alice": password}})
	imapAddr, imapsAddr := freeAddr(t), freeAddr(t)
	c := startCaddy(t, site{
		Hostnames: "mail.internal other.internal localhost",
		Backend:   "\t\t\tupstream " + backend.Addr() + "\n\t\t\ttls off",
		IMAP:      imapAddr, IMAPS: imapsAddr,
	}.String())
	awaitCertificate(t, imapAddr)
	roots := c.Roots()

	handshake := map[string]func(t *testing.T, cfg *tls.Config) (*imapConn, tls.ConnectionState, error){
		"STARTTLS": func(t *testing.T, cfg *tls.Config) (*imapConn, tls.ConnectionState, error) {
			return dialTLS(t, imapAddr, false, cfg)
		},
		"implicit": func(t *testing.T, cfg *tls.Config) (*imapConn, tls.ConnectionState, error) {
			return dialTLS(t, imapsAddr, true, cfg)
		},
	}
	for _, name := range []string{"mail.internal", "other.internal", "localhost"} {
		eventually(t, "the certificate of "+name, func() error {
			_, _, err := handshake["STARTTLS"](t, &tls.Config{ServerName: name, RootCAs: roots})
			return err
		})
	}

	tests := []struct {
		name     string
		cfg      *tls.Config
		wantName string // in the certificate
		wantALPN string
		wantErr  string // instead of a handshake
	}{
		{name: "first name", cfg: &tls.Config{ServerName: "mail.internal"}, wantName: "mail.internal"},
		{name: "second name", cfg: &tls.Config{ServerName: "other.internal"}, wantName: "other.internal"},
		{name: "no SNI", cfg: &tls.Config{}, wantName: "mail.internal"},
		{name: "address for a name", cfg: &tls.Config{ServerName: "127.0.0.1"}, wantName: "mail.internal"},
		{name: "foreign name", cfg: &tls.Config{ServerName: "imap.example.net"}, wantName: "mail.internal"},
		{name: "ALPN imap", cfg: &tls.Config{NextProtos: []string{"imap"}}, wantName: "mail.internal", wantALPN: "imap"},
		{name: "ALPN h2 and imap", cfg: &tls.Config{NextProtos: []string{"h2", "imap"}}, wantName: "mail.internal", wantALPN: "imap"},
		{name: "ALPN h2", cfg: &tls.Config{NextProtos: []string{"h2"}}, wantErr: "no application protocol"},
		{name: "ALPN http/1.1", cfg: &tls.Config{NextProtos: []string{"http/1.1"}}, wantErr: "no application protocol"},
		{name: "TLS 1.0", cfg: &tls.Config{MaxVersion: tls.VersionTLS10}, wantErr: "protocol version"},
		{name: "TLS 1.1", cfg: &tls.Config{MaxVersion: tls.VersionTLS11}, wantErr: "protocol version"},
		{name: "TLS 1.2", cfg: &tls.Config{MaxVersion: tls.VersionTLS12}, wantName: "mail.internal"},
		{name: "TLS 1.3", cfg: &tls.Config{MinVersion: tls.VersionTLS13}, wantName: "mail.internal"},
	}
	for how, shake := range handshake {
		for _, tt := range tests {
			t.Run(how+"/"+tt.name, func(t *testing.T) {
				cfg := tt.cfg.Clone()
				cfg.InsecureSkipVerify = true // whose certificate it is, is what is tested
				if cfg.MinVersion == 0 {
					cfg.MinVersion = tls.VersionTLS10
				}
				conn, state, err := shake(t, cfg)
				if tt.wantErr != "" {
					if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
						t.Fatalf("got %v, want %q", err, tt.wantErr)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if names := state.PeerCertificates[0].DNSNames; !slices.Contains(names, tt.wantName) {
					t.Errorf("the certificate is for %v, want %s", names, tt.wantName)
				}
				if state.NegotiatedProtocol != tt.wantALPN {
					t.Errorf("ALPN %q, want %q", state.NegotiatedProtocol, tt.wantALPN)
				}
				conn.Want("OK Logged in", "LOGIN alice %s", password)
			})
		}
	}
}

// A certificate that the proxy cannot verify, or no TLS at all, is the
// operator's trouble: no password leaves, the client is told to come back, and
// the log says what is wrong.
func TestBackendTLS(t *testing.T) {
	ca, other := imaptest.NewCA(t), imaptest.NewCA(t)
	good := ca.ServerTLS("127.0.0.1")
	mutual := good.Clone()
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	client := ca.Issue(imaptest.Leaf{Names: []string{"proxy.internal"}, Client: true})
	old := good.Clone()
	old.MaxVersion = tls.VersionTLS11

	tests := []struct {
		name    string
		profile imaptest.Profile
		options string // besides the upstream and the authority
		// reason is what the log has to say; empty means that the login is good.
		reason string
	}{
		{name: "private authority", profile: imaptest.Profile{TLS: good}},
		{name: "implicit", profile: imaptest.Profile{TLS: good, Implicit: true}, options: "tls implicit"},
		{name: "Exchange", profile: imaptest.Exchange(good)},
		{name: "client certificate", profile: imaptest.Profile{TLS: mutual}, options: "tls_client_auth " + client.CertFile + " " + client.KeyFile},
		{
			name:    "name given",
			profile: imaptest.Profile{TLS: ca.ServerTLS("ex1.corp.internal")}, options: "tls_server_name ex1.corp.internal",
		},
		{name: "wrong authority", profile: imaptest.Profile{TLS: other.ServerTLS("127.0.0.1")}, reason: "certificate signed by unknown authority"},
		{name: "self-signed", profile: imaptest.Profile{TLS: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.1"}, SelfSigned: true}).ServerConfig()}, reason: "certificate signed by unknown authority"},
		{name: "expired", profile: imaptest.Profile{TLS: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.1"}, Expired: true}).ServerConfig()}, reason: "certificate has expired"},
		{name: "wrong address", profile: imaptest.Profile{TLS: ca.ServerTLS("127.0.0.9")}, reason: "certificate is valid for 127.0.0.9"},
		{name: "wrong name", profile: imaptest.Profile{TLS: ca.ServerTLS("ex2.corp.internal")}, options: "tls_server_name ex1.corp.internal", reason: "certificate is valid for ex2.corp.internal"},
		{name: "implicit, expired", profile: imaptest.Profile{TLS: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.1"}, Expired: true}).ServerConfig(), Implicit: true}, options: "tls implicit", reason: "certificate has expired"},
		{name: "TLS 1.1 only", profile: imaptest.Profile{TLS: old}, reason: "protocol version"},
		{name: "no client certificate", profile: imaptest.Profile{TLS: mutual}, reason: "certificate required"},
		{name: "STARTTLS not offered", profile: imaptest.Profile{Before: "IMAP4rev1 AUTH=PLAIN", Clear: true}, reason: "STARTTLS"},
		{name: "STARTTLS refused", profile: imaptest.Profile{Before: "IMAP4rev1 STARTTLS AUTH=PLAIN", Clear: true}, reason: "STARTTLS"},
		{name: "PREAUTH", profile: imaptest.Profile{TLS: good, Greeting: "* PREAUTH [CAPABILITY IMAP4rev1] welcome"}, reason: "PREAUTH"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			password := secret(fmt.Sprintf("Backend-Leg-%02d-Pw", i))
			backend := imaptest.NewFake(t, tt.profile)
			addr := freeAddr(t)
			c := startCaddy(t, site{Backend: upstream(backend.Addr(), ca) + "\n" + tt.options, IMAP: addr}.String())
			awaitCertificate(t, addr)
			conn := dialSecure(t, addr)
			start := time.Now()
			if tt.reason == "" {
				conn.Want("OK Logged in", "LOGIN alice %s", password)
				if got := backend.Logins(); len(got) != 1 || !got[0].TLS {
					t.Errorf("the backend saw %d logins", len(got))
				}
			} else {
				conn.Want("NO [UNAVAILABLE]", "LOGIN alice %s", password)
				conn.Want("NO [UNAVAILABLE]", "AUTHENTICATE PLAIN %s", plain("", "alice", password))
				c.WaitLog(`"level":"error"`, backend.Addr(), tt.reason)
				if got := backend.Logins(); len(got) != 0 {
					t.Errorf("the backend saw %d logins", len(got))
				}
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("it took %v", took)
				}
			}
			backend.CheckHidden(password)
		})
	}
}
