//go:build integration

package integration

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// certSite is a site in front of a backend that knows alice.
func certSite(t *testing.T, password string) site {
	t.Helper()
	backend := imaptest.NewMemory(t, imaptest.Accounts{Passwords: map[string]string{"alice": password}})
	return site{Backend: "\t\t\tupstream " + backend.Addr() + "\n\t\t\ttls off", IMAP: freeAddr(t), IMAPS: freeAddr(t)}
}

// wantVerified logs in on both ports, with a client that trusts the roots, and
// returns the sessions.
func (s site) wantVerified(t *testing.T, name, password string, roots *x509.CertPool) (sessions []*imapConn) {
	t.Helper()
	for _, implicit := range []bool{false, true} {
		addr := map[bool]string{false: s.IMAP, true: s.IMAPS}[implicit]
		conn, _, err := dialTLS(t, addr, implicit, &tls.Config{ServerName: name, RootCAs: roots})
		if err != nil {
			t.Errorf("%s, implicit %v: %v", name, implicit, err)
			continue
		}
		conn.Want("OK Logged in", "LOGIN alice %s", password)
		sessions = append(sessions, conn)
	}
	return sessions
}

// awaitVerified waits for a certificate of the name.
func (s site) awaitVerified(t *testing.T, name string, roots *x509.CertPool) {
	t.Helper()
	eventually(t, "a certificate of "+name, func() error {
		_, _, err := dialTLS(t, s.IMAP, false, &tls.Config{ServerName: name, RootCAs: roots})
		return err
	})
}

// reloadByHand does what "systemctl reload caddy" does. It must fail with the text,
// or work if that is empty. The answer may be lost, so it is asked for again then.
func (c *caddyServer) reloadByHand(options, want string) {
	c.t.Helper()
	file := writeFile(c.t, filepath.Join(c.dir, "Caddyfile"), c.caddyfile(options))
	eventually(c.t, fmt.Sprintf("a reload that says %q", want), func() error {
		out, err := exec.Command(run.caddy, "reload", "--force", "--adapter", "caddyfile", "--config", file).CombinedOutput()
		if want == "" && err == nil || want != "" && err != nil && strings.Contains(string(out), want) {
			return nil
		}
		return fmt.Errorf("it ended with %v, %s", err, out)
	})
}

// Certificates in files, as people who migrate have them: they are shown at once,
// a reload reads them again, and files that are of no use change nothing.
func TestCertificateFiles(t *testing.T) {
	password := secret("Files-By-Hand-93")
	old, next := imaptest.NewCA(t), imaptest.NewCA(t)
	dir := shortDir(t)
	certFile, keyFile := filepath.Join(dir, "mail.pem"), filepath.Join(dir, "mail.key")
	install := func(ca *imaptest.CA) {
		t.Helper()
		cert := ca.Issue(imaptest.Leaf{Names: []string{"mail.example.org"}})
		for from, to := range map[string]string{cert.CertFile: certFile, cert.KeyFile: keyFile} {
			b, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, to, string(b))
		}
	}
	install(old)
	s := certSite(t, password)
	// The name is a public one, and in the file: nobody is asked for a certificate.
	s.Hostnames = "mail.example.org\n\t\tcertificate " + certFile + " " + keyFile
	c := startCaddy(t, s.String())
	sessions := s.wantVerified(t, "mail.example.org", password, old.Pool())
	if _, state, err := dialTLS(t, s.IMAP, false, insecureTLS()); err != nil || state.PeerCertificates[0].VerifyHostname("mail.example.org") != nil {
		t.Errorf("without a name: %v", err)
	}

	install(next)
	s.wantVerified(t, "mail.example.org", password, old.Pool())
	c.reloadByHand(s.String(), "")
	s.wantVerified(t, "mail.example.org", password, next.Pool())
	writeFile(t, keyFile, "no key")
	c.reloadByHand(s.String(), "certificate "+certFile+" "+keyFile+": ")
	s.wantVerified(t, "mail.example.org", password, next.Pool())
	for _, session := range sessions {
		session.Want("OK", "NOOP")
	}
	if lines := c.LogLines("obtaining certificate"); len(lines) > 0 {
		t.Errorf("somebody was asked for a certificate: %s", lines[0])
	}
}

// The same by JSON, with files of the tls app, and without a hostname.
func TestCertificateLoadFiles(t *testing.T) {
	password := secret("Files-By-JSON-94")
	ca := imaptest.NewCA(t)
	cert := ca.Issue(imaptest.Leaf{Names: []string{"mail.example.org"}})
	s := certSite(t, password)
	s.IMAPOptions = "connection_policy {\ndefault_sni mail.example.org\nfallback_sni mail.example.org\n}"
	c := startCaddy(t, s.String())
	c.request(http.MethodDelete, "/config/apps/imap/hostnames", "", "")
	config, err := json.Marshal(map[string]any{"certificates": map[string]any{
		"load_files": []any{map[string]string{"certificate": cert.CertFile, "key": cert.KeyFile}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	c.request(http.MethodPut, "/config/apps/tls", "application/json", string(config))
	s.wantVerified(t, "mail.example.org", password, ca.Pool())
	if _, state, err := dialTLS(t, s.IMAP, false, &tls.Config{ServerName: "other.example.org", InsecureSkipVerify: true}); err != nil ||
		state.PeerCertificates[0].VerifyHostname("mail.example.org") != nil {
		t.Errorf("with another name: %v", err)
	}
}

// Caddy's own authority: for names that are not public, and with local_certs for
// all others.
func TestInternalIssuer(t *testing.T) {
	password := secret("Own-Authority-95")
	for name, globals := range map[string]string{"mail.internal": "", "127.0.0.1": "", "mail.example.org": "\tlocal_certs\n"} {
		t.Run(name, func(t *testing.T) {
			s := certSite(t, password)
			s.Hostnames, s.Globals = name, globals
			c := startCaddy(t, s.String())
			s.awaitVerified(t, name, c.Roots())
			s.wantVerified(t, name, password, c.Roots())
		})
	}
}

// Certificates that are obtained when a client asks for their name, if a server of
// the operator's allows that.
func TestOnDemand(t *testing.T) {
	password := secret("When-Needed-96")
	authority := startPebble(t)
	roots := authority.Roots()
	allowed := []string{"mail.example.org", "mail.example.net"}
	var mu sync.Mutex
	var asked []string
	ask := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		name := r.URL.Query().Get("domain")
		asked = append(asked, name)
		if !slices.Contains(allowed, name) {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(ask.Close)

	s := certSite(t, password)
	s.Hostnames = "mail.example.org"
	permission := "\ton_demand_tls {\n\t\task " + ask.URL + "\n\t}\n"
	s.Globals = authority.Globals() + "\tauto_https disable_redirects\n"
	// The brace that closes the options closes the web site instead.
	website := fmt.Sprintf("}\nhttps://:%d {\n\tbind 127.0.0.1\n\ttls {\n\t\ton_demand\n\t}\n\tabort\n", freePort(t))
	bare := s.String() + website
	s.Globals += permission
	c := startCaddy(t, s.String()+website)
	for _, name := range allowed {
		s.wantVerified(t, name, password, roots)
	}
	authority.WantOrders(len(allowed))
	for range 3 {
		if _, _, err := dialTLS(t, s.IMAP, false, &tls.Config{ServerName: "evil.example.com", InsecureSkipVerify: true}); err == nil {
			t.Error("a name that is not allowed has got a certificate")
		}
	}
	authority.WantOrders(len(allowed))
	if _, state, err := dialTLS(t, s.IMAP, false, insecureTLS()); err != nil || state.PeerCertificates[0].VerifyHostname("mail.example.org") != nil {
		t.Errorf("without a name: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, name := range append(allowed, "evil.example.com") {
		if !slices.Contains(asked, name) {
			t.Errorf("nobody was asked about %s", name)
		}
	}
	// Without asking, anybody could have certificates obtained without end.
	c.reloadByHand(bare, "on-demand TLS cannot be enabled without a permission module")
}

// Clients that have to show a certificate.
func TestClientCertificates(t *testing.T) {
	password := secret("Show-Yours-97")
	ca, other := imaptest.NewCA(t), imaptest.NewCA(t)
	client := func(ca *imaptest.CA, leaf imaptest.Leaf) []tls.Certificate {
		leaf.Names = []string{"alice"}
		return []tls.Certificate{ca.Issue(leaf).Certificate}
	}
	modes := map[string]string{"require_and_verify": "", "verify_if_given": "mode verify_if_given\n"}
	for mode, option := range modes {
		s := certSite(t, password)
		s.IMAPOptions = "connection_policy {\nclient_auth {\n" + option + "trust_pool file " + ca.File() + "\n}\n}"
		c := startCaddy(t, s.String())
		optional := mode == "verify_if_given"
		good := client(ca, imaptest.Leaf{Client: true})
		roots := c.Roots()
		eventually(t, "a certificate of the server", func() error {
			_, _, err := dialTLS(t, s.IMAP, false, &tls.Config{ServerName: "mail.internal", RootCAs: roots, Certificates: good})
			return err
		})
		for _, tt := range []struct {
			name  string
			shown []tls.Certificate
			good  bool
		}{
			{"good", good, true},
			{"none", nil, optional},
			{"another authority's", client(other, imaptest.Leaf{Client: true}), false},
			{"its own", client(ca, imaptest.Leaf{Client: true, SelfSigned: true}), false},
			{"expired", client(ca, imaptest.Leaf{Client: true, Expired: true}), false},
			{"a server's", client(ca, imaptest.Leaf{}), false},
		} {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				for addr, implicit := range map[string]bool{s.IMAP: false, s.IMAPS: true} {
					t.Run(fmt.Sprintf("%s/%s/%s/implicit %v", mode, tt.name, tls.VersionName(version), implicit), func(t *testing.T) {
						cfg := &tls.Config{ServerName: "mail.internal", RootCAs: roots, MaxVersion: version}
						// Whatever the server says which authorities it wants.
						cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
							return &append(slices.Clone(tt.shown), tls.Certificate{})[0], nil
						}
						if answer, err := loginTLS(t, addr, implicit, cfg, "alice", password); tt.good {
							if err != nil || !strings.Contains(answer, "OK Logged in") {
								t.Errorf("%q, %v", answer, err)
							}
						} else if !refusedByTLS(err, version) || answer != "" {
							t.Errorf("%q, %v; want a refusal by TLS", answer, err)
						}
					})
				}
			}
		}
	}
}

// refusedByTLS says whether a client was told that it has no good certificate. In TLS
// 1.3 it may send its first command at the same time, and be reset.
func refusedByTLS(err error, version uint16) bool {
	if version == tls.VersionTLS13 && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		return true
	}
	return err != nil && strings.Contains(err.Error(), "remote error: tls: ")
}

// The commands of certificates.md show what is shown.
func TestLookingAtIt(t *testing.T) {
	need(t, "openssl")
	page, err := os.ReadFile("../docs/certificates.md")
	if err != nil {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(string(page), "\n## Looking at it\n\n```sh\n")
	command, _, found := strings.Cut(command, "```")
	if !found {
		t.Fatal("the page has no command")
	}
	password := secret("Look-At-It-99")
	ca := imaptest.NewCA(t)
	cert := ca.Issue(imaptest.Leaf{Names: []string{"mail.example.org"}})
	s := certSite(t, password)
	s.Hostnames = "mail.example.org\n\t\tcertificate " + cert.CertFile + " " + cert.KeyFile
	startCaddy(t, s.String())
	for addr, option := range map[string]string{s.IMAP: " -starttls imap", s.IMAPS: ""} {
		line := strings.Replace(command, "mail.example.org:143", addr, 1)
		line = strings.Replace(line, " -starttls imap", option, 1)
		out, err := exec.Command("bash", "-c", line).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "DNS:mail.example.org") || !strings.Contains(string(out), "notAfter=") {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
		first, _, _ := strings.Cut(line, "|")
		verify := strings.Replace(first, "</dev/null", "-verify_return_error -verify_hostname mail.example.org -CAfile "+ca.File()+" </dev/null", 1)
		out, err = exec.Command("bash", "-c", verify).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Verify return code: 0 (ok)") {
			t.Errorf("%s: %v\n%s", verify, err, out)
		}
		out, err = exec.Command("bash", "-c", strings.Replace(verify, "_hostname mail", "_hostname other", 1)).CombinedOutput()
		if err == nil {
			t.Errorf("another name is verified:\n%s", out)
		}
	}
}

// loginTLS tries to log in and returns what the server said over TLS, and with
// which error it ended. In TLS 1.3 a client learns only behind its handshake that
// it was refused.
func loginTLS(t *testing.T, addr string, implicit bool, cfg *tls.Config, user, password string) (string, error) {
	t.Helper()
	var conn *imapConn
	if implicit {
		raw, err := dialFrom("127.0.0.2", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn = newIMAPConn(t, raw)
	} else {
		conn = dialIMAP(t, addr)
		conn.Want("OK", "STARTTLS")
	}
	secure := tls.Client(conn.Conn, cfg)
	if err := secure.Handshake(); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(secure, "a LOGIN %s %s\r\nb LOGOUT\r\n", user, password); err != nil {
		return "", err
	}
	said, err := io.ReadAll(secure)
	return string(said), err
}
