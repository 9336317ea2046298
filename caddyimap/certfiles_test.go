package caddyimap

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

const expiresMsg = "a certificate has expired or will soon, and clients refuse it then; renew its file, and reload"

// files has a certificate issued for the names.
func (w *world) files(leaf imaptest.Leaf) CertificateFiles {
	cert := w.ca.Issue(leaf)
	return CertificateFiles{Certificate: cert.CertFile, Key: cert.KeyFile}
}

// TestCertificateFiles pins who gets which certificate. The tls app has those of
// mail.example.org and old.example.org.
func TestCertificateFiles(t *testing.T) {
	w := newWorld(t)
	first := w.files(imaptest.Leaf{Names: []string{"imap.example.org", "imap.internal"}})
	second := w.files(imaptest.Leaf{Names: []string{"*.corp.example.org", "192.0.2.1"}})
	t.Setenv("IMAP_TEST_CERTIFICATE", first.Certificate)
	first.Certificate = "{env.IMAP_TEST_CERTIFICATE}"
	// Certificate and key may be in one file.
	var both []byte
	for _, part := range []string{second.Key, second.Certificate} {
		b, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, b...)
	}
	if err := os.WriteFile(second.Certificate, both, 0o600); err != nil {
		t.Fatal(err)
	}
	second.Key = second.Certificate

	for _, tc := range []struct {
		name      string
		hostnames []string
		policy    *caddytls.ConnectionPolicy
		// want are names of the certificates that are shown, by the name that
		// the client sends.
		want map[string]string
	}{
		{"files alone", nil, nil, map[string]string{
			"imap.example.org": "imap.example.org", "IMAP.example.org": "imap.example.org", "ex1.corp.example.org": "x.corp.example.org",
			"mail.example.org": "mail.example.org", "": "imap.example.org", "foreign.example.net": "imap.example.org",
		}},
		{"hostname", []string{"mail.example.org", "imap.internal"}, nil, map[string]string{
			"imap.internal": "imap.internal", "mail.example.org": "mail.example.org", "": "mail.example.org", "foreign.example.net": "mail.example.org",
		}},
		{"hostname in a file", []string{"x.corp.example.org", "mail.example.org"}, nil, map[string]string{
			"imap.internal": "imap.internal", "mail.example.org": "mail.example.org", "": "x.corp.example.org", "foreign.example.net": "x.corp.example.org",
		}},
		{"policy", nil, &caddytls.ConnectionPolicy{DefaultSNI: "old.example.org", FallbackSNI: "x.corp.example.org"}, map[string]string{
			"": "old.example.org", "foreign.example.net": "x.corp.example.org", "imap.example.org": "imap.example.org",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app := w.app(w.backend("127.0.0.1:1"))
			app.Hostnames, app.Certificates = tc.hostnames, []CertificateFiles{first, second}
			c := w.load(app)
			h := &Handler{ImplicitTLS: true}
			if tc.policy != nil {
				h.ConnectionPolicies = caddytls.ConnectionPolicies{tc.policy}
			}
			h = c.handler(h)
			for sent, want := range tc.want {
				cl := serve(t, h)
				cfg := w.tls(sent)
				cfg.InsecureSkipVerify = true // what is shown is looked at below
				if err := cl.handshake(cfg); err != nil {
					t.Errorf("SNI %q: %v", sent, err)
					continue
				}
				if err := cl.conn.(*tls.Conn).ConnectionState().PeerCertificates[0].VerifyHostname(want); err != nil {
					t.Errorf("SNI %q: %v", sent, err)
				}
				cl.expect(greetingSecure)
			}
			if lines := c.log.lines("warn", ""); len(lines) > 0 {
				t.Errorf("warnings: %v", lines)
			}
			// Names in files need no certificate of an authority.
			if c.app.tls != nil {
				for _, policy := range c.app.tls.Automation.Policies {
					t.Errorf("certificates are asked for, for %v", policy.Subjects())
				}
				if got, want := c.app.unmanaged(), []string(nil); !slices.Equal(got, want) {
					t.Errorf("to be managed are %q", got)
				}
			}
		})
	}
}

// TestCertificateFilesUnfit pins that a client which can do with none of
// the certificates is shown one all the same, and that an authority looking for
// the answer to a challenge of somebody else's is shown none.
func TestCertificateFilesUnfit(t *testing.T) {
	w := newWorld(t)
	app := w.app(w.backend("127.0.0.1:1"))
	app.Certificates = []CertificateFiles{w.files(imaptest.Leaf{Names: []string{"imap.example.org"}})}
	c := w.load(app)
	h := c.handler(&Handler{ImplicitTLS: true})
	cfg := w.tls("imap.example.org")
	cfg.NextProtos = []string{alpnACME}
	if err := serve(t, h).handshake(cfg); err == nil {
		t.Error("a challenge was answered that nobody has set")
	}
	hello := &tls.ClientHelloInfo{
		ServerName: "imap.example.org", SupportedVersions: []uint16{tls.VersionTLS12},
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, SignatureSchemes: []tls.SignatureScheme{tls.PKCS1WithSHA256},
	}
	policy := &caddytls.ConnectionPolicy{TLSConfig: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return new(tls.Certificate), nil
	}}}
	c.app.showFiles(policy)
	if cert, err := policy.TLSConfig.GetCertificate(hello); err != nil || cert != &c.app.files[0] {
		t.Errorf("got %v, %v", cert, err)
	}
}

// TestCertificateFilesErrors pins what is said about files that are of no use.
func TestCertificateFilesErrors(t *testing.T) {
	w := newWorld(t)
	good, other := w.files(imaptest.Leaf{}), w.files(imaptest.Leaf{})
	locked := filepath.Join(t.TempDir(), "locked.pem")
	if err := os.WriteFile(locked, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ cert, key, want string }{
		{"", good.Key, "must be two files, the certificate and its key"},
		{good.Certificate, "", "must be two files, the certificate and its key"},
		{good.Certificate + "x", good.Key, "reading the certificate: open "},
		{good.Certificate, good.Key + "x", "reading the key: open "},
		{good.Certificate, other.Key, "private key does not match public key; is the server's own certificate the first in its file?"},
		{good.Certificate, good.Certificate, "found a certificate rather than a key"},
		{good.Key, good.Key, "failed to find certificate PEM data"},
		{good.Certificate, locked, "the key has a password; openssl pkey writes it without one"},
		{good.Certificate, "{env.IMAP_TEST_NONE}", "IMAP_TEST_NONE"},
	} {
		app := w.app(w.backend("127.0.0.1:1"))
		app.Certificates = []CertificateFiles{good, {Certificate: tc.cert, Key: tc.key}}
		_, err := w.tryLoad(app)
		if err == nil || !strings.Contains(err.Error(), "certificate "+tc.cert+" "+tc.key+": ") || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want %q", err, tc.want)
		}
	}
}

// TestCertificateFilesExpire pins that the operator hears of an end that is near.
func TestCertificateFilesExpire(t *testing.T) {
	w := newWorld(t)
	app := w.app(w.backend("127.0.0.1:1"))
	expired := w.files(imaptest.Leaf{Names: []string{"imap.example.org"}, Expired: true})
	app.Certificates = []CertificateFiles{expired, w.files(imaptest.Leaf{})}
	if got := w.load(app).log.one("warn", expiresMsg); got.text("file") != expired.Certificate {
		t.Errorf("warned about %q", got.text("file"))
	}
}

// TestNoCertificate pins that a server which can have none is complained about.
func TestNoCertificate(t *testing.T) {
	const msg = "no client can start TLS, and thus log in, since there is no certificate: " +
		"name the server with the option hostname of the imap app, or a certificate's files with its option certificate"
	w := newWorld(t)
	w.noTLS = true
	c := w.load(w.app(w.backend("127.0.0.1:1")))
	c.handler(new(Handler))
	c.log.one("warn", msg)

	app := w.app(w.backend("127.0.0.1:1"))
	app.Certificates = []CertificateFiles{w.files(imaptest.Leaf{})}
	c = w.load(app)
	c.handler(new(Handler))
	if lines := c.log.lines("warn", msg); len(lines) > 0 {
		t.Error("complained about although there is a certificate in files")
	}
}

// TestMissingCertificate pins that the operator hears once of clients for whom there
// is no certificate, unless one will come for all.
func TestMissingCertificate(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		hostnames []string
		sni       map[string]bool // whether there is a certificate
		warnings  int
	}{
		{nil, map[string]bool{"mail.example.org": true}, 0},
		{nil, map[string]bool{"mail.example.org": true, "": false, "foreign.example.net": false}, 1},
		{[]string{"new.example.org"}, map[string]bool{"": false}, 0}, // it is on its way
	} {
		app := w.app(w.backend("127.0.0.1:1"))
		app.Hostnames = tc.hostnames
		c := w.load(app)
		h := c.handler(&Handler{ImplicitTLS: true})
		for name, good := range tc.sni {
			cfg := w.tls(name)
			cfg.InsecureSkipVerify = true
			if err := serve(t, h).handshake(cfg); (err == nil) != good {
				t.Errorf("%q: %v", name, err)
			}
		}
		if lines := c.log.lines("warn", ""); len(lines) != tc.warnings {
			t.Errorf("%v: warnings %v, want %d", tc.sni, lines, tc.warnings)
		}
	}
}
