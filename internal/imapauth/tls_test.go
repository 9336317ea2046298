package imapauth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// A backend that cannot prove who it is gets no password, in either mode of TLS,
// and the operator learns why.
func TestCertificates(t *testing.T) {
	ours, others := imaptest.NewCA(t), imaptest.NewCA(t)
	old := ours.ServerTLS("localhost")
	old.MaxVersion = tls.VersionTLS10
	for _, tc := range []struct {
		name   string
		server *tls.Config
		client *tls.Config
		want   string
		reason string // in the error
		is     func(error) bool
	}{
		{"good", ours.ServerTLS("localhost"), ours.ClientTLS("localhost"), "granted", "", nil},
		{"good, by address", ours.ServerTLS("127.0.0.1"), ours.ClientTLS("127.0.0.1"), "granted", "", nil},
		{"expired", ours.Issue(imaptest.Leaf{Expired: true}).ServerConfig(), ours.ClientTLS("localhost"), unavailable, "expired", isCert[x509.CertificateInvalidError]},
		{"another name", ours.ServerTLS("other.example.org"), ours.ClientTLS("localhost"), unavailable, "valid for other.example.org, not localhost", isCert[x509.HostnameError]},
		{"unknown authority", others.ServerTLS("localhost"), ours.ClientTLS("localhost"), unavailable, "unknown authority", isCert[x509.UnknownAuthorityError]},
		{"self-signed", ours.Issue(imaptest.Leaf{SelfSigned: true}).ServerConfig(), ours.ClientTLS("localhost"), unavailable, "unknown authority", isCert[x509.UnknownAuthorityError]},
		{"a client's certificate", ours.Issue(imaptest.Leaf{Client: true}).ServerConfig(), ours.ClientTLS("localhost"), unavailable, "incompatible key usage", isCert[x509.CertificateInvalidError]},
		{"TLS 1.0 only", old, ours.ClientTLS("localhost"), unavailable, "protocol version", nil},
		{"no name to expect", ours.ServerTLS("localhost"), ours.ClientTLS(""), unavailable, "ServerName", nil},
		{"a name that nobody checks", others.ServerTLS("other.example.org"), &tls.Config{InsecureSkipVerify: true}, "granted", "", nil},
	} {
		for _, mode := range []TLSMode{StartTLS, ImplicitTLS} {
			t.Run(tc.name+" "+string(mode), func(t *testing.T) {
				srv := imaptest.NewFake(t, imaptest.Profile{TLS: tc.server, Implicit: mode == ImplicitTLS})
				_, v := openAt(t, &Config{Address: srv.Addr(), Mode: mode, TLS: tc.client}, attempt(login.FormAuthenticate), Keep)
				if got := summary(v); got != tc.want {
					t.Fatalf("verdict %s (%v), want %s", got, v.Err, tc.want)
				}
				srv.CheckHidden(testSecret, testUser)
				if tc.want == "granted" {
					return
				}
				if !strings.Contains(v.Err.Error(), "in the TLS handshake") || !strings.Contains(v.Err.Error(), tc.reason) {
					t.Errorf("error %v, want one with %q", v.Err, tc.reason)
				}
				if tc.is != nil && !tc.is(v.Err) {
					t.Errorf("error %v is not of its kind", v.Err)
				}
				srv.WaitIdle()
				checkLogins(t, srv)
			})
		}
	}
}

func isCert[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// A client certificate is shown where one is asked for.
func TestClientCertificate(t *testing.T) {
	ca := imaptest.NewCA(t)
	server := ca.ServerTLS("localhost")
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	srv := imaptest.NewFake(t, imaptest.Profile{TLS: server})

	with := ca.ClientTLS("localhost")
	with.Certificates = []tls.Certificate{ca.Issue(imaptest.Leaf{Names: []string{"proxy"}, Client: true}).Certificate}
	if _, v := openAt(t, &Config{Address: srv.Addr(), Mode: StartTLS, TLS: with}, attempt(login.FormLogin), Keep); v.Result != login.Granted {
		t.Errorf("with a certificate: %s (%v)", summary(v), v.Err)
	}
	if _, v := openAt(t, &Config{Address: srv.Addr(), Mode: StartTLS, TLS: ca.ClientTLS("localhost")}, attempt(login.FormLogin), Keep); v.Result != login.Unavailable {
		t.Errorf("without one: %s (%v)", summary(v), v.Err)
	}
	srv.CheckHidden(testSecret)
}

// One tls.Config serves all connections to an upstream, and with a session cache
// later handshakes are resumed.
func TestResumption(t *testing.T) {
	ca := imaptest.NewCA(t)
	server, client := ca.ServerTLS("localhost"), ca.ClientTLS("localhost")
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	var resumed atomic.Int32
	server.VerifyConnection = func(cs tls.ConnectionState) error {
		if cs.DidResume {
			resumed.Add(1)
		}
		return nil
	}
	srv := imaptest.NewFake(t, imaptest.Profile{TLS: server})
	cfg := &Config{Address: srv.Addr(), Mode: StartTLS, TLS: client}
	for range 3 {
		if _, v := openAt(t, cfg, attempt(login.FormLogin), Keep); v.Result != login.Granted {
			t.Fatalf("verdict %s (%v)", summary(v), v.Err)
		}
	}
	if n := resumed.Load(); n != 2 {
		t.Errorf("%d of 3 handshakes were resumed, want 2", n)
	}
}

// A greeting that offers STARTTLS saves the question. What it says besides counts as
// little as what is said before TLS otherwise.
func TestStartTLSInGreeting(t *testing.T) {
	server, _ := testTLS(t)
	for greeting, want := range map[string][]string{
		"* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=LOGIN LITERAL+] ready\r\n": {"STARTTLS", "CAPABILITY", "LOGOUT"},
		"* OK [CAPABILITY IMAP4rev1 AUTH=LOGIN LITERAL+] ready\r\n":          {"CAPABILITY", "STARTTLS", "CAPABILITY", "LOGOUT"},
		"* OK ready\r\n": {"CAPABILITY", "STARTTLS", "CAPABILITY", "LOGOUT"},
	} {
		commands := make(chan string, 10)
		srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
			defer close(commands)
			c.Send(greeting)
			inside := ""
			for {
				line, ok := c.ReadLine()
				if !ok {
					return
				}
				tag, name, _ := imaptest.SplitCommand(line)
				commands <- name
				if name == "CAPABILITY" {
					c.Sendf("* CAPABILITY IMAP4rev1 STARTTLS%s", inside)
				}
				c.Sendf("%s OK done", tag)
				if name == "STARTTLS" {
					if c.StartTLS(server) != nil {
						return
					}
					inside = " AUTH=PLAIN"
				}
			}
		})
		if err := Ping(testContext(t), starttls(t, srv.Addr())); err != nil {
			t.Fatal(err)
		}
		srv.WaitIdle()
		var got []string
		for name := range commands {
			got = append(got, name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: commands %q, want %q", greeting, got, want)
		}
	}
}
