package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/dovecotauth"
	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestFrontFaults pins what is told of our own listeners for IMAP clients.
func TestFrontFaults(t *testing.T) {
	ca := imaptest.NewCA(t)
	own := authority(t, ca)
	bare := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, os.ErrNotExist }}
	for _, tc := range []struct {
		name     string
		tls      *tls.Config
		implicit bool
		proxy    bool
		deaf     bool // to PROXY headers from here
		matched  bool
		names    []string
		own      []*x509.Certificate
		greeting string
		inside   string
		relayed  []string
		faults   []Fault
		texts    []string
	}{
		{name: "all well", tls: ca.ServerTLS(), own: own, texts: []string{"starttls", "days left", "clients have to be given the authority in /var/lib/root.crt"}},
		{name: "all well with implicit TLS", tls: ca.ServerTLS(), own: own, implicit: true},
		{name: "behind a PROXY header", tls: ca.ServerTLS(), own: own, proxy: true},
		{name: "two names", tls: ca.ServerTLS("localhost", "mail.example.org"), own: own, names: []string{"localhost", "mail.example.org"}},
		{name: "no name", tls: ca.ServerTLS(), own: own, names: []string{}},
		{
			name: "no certificate", tls: bare, names: []string{"localhost", "mail.example.org"}, faults: []Fault{NoCertificate, NoCertificate},
			texts: []string{"there is no certificate for localhost", "there is no certificate for mail.example.org", "option hostname", "port 80 or 443"},
		},
		{name: "no certificate with implicit TLS", tls: bare, implicit: true, names: []string{}, faults: []Fault{NoCertificate}, texts: []string{"clients that name no server"}},
		{name: "wrong name", tls: ca.ServerTLS("old.example.org"), own: own, faults: []Fault{CertName}, texts: []string{"not valid for localhost, but for old.example.org", "option hostname"}},
		{name: "expired", tls: showing(ca, imaptest.Leaf{Expired: true}), own: own, faults: []Fault{CertExpired}},
		{name: "of an unknown authority", tls: ca.ServerTLS(), faults: []Fault{CAUnknown}, texts: []string{"which this machine does not trust"}},
		{name: "banned", greeting: "* BYE", faults: []Fault{Unavailable}},
		{name: "somebody else's port", greeting: "220 ESMTP", faults: []Fault{NotIMAP}, texts: []string{"something else listens here"}},
		{name: "behind a load balancer alone", tls: ca.ServerTLS(), own: own, deaf: true, texts: []string{"takes no header from 127.0.0.1, so none is sent"}},
		{name: "not for us", greeting: "* BYE", matched: true, texts: []string{"- greeting", "this route has a matcher, which may not let this machine in"}},
		{name: "for us, too", tls: ca.ServerTLS(), own: own, matched: true, texts: []string{"days left"}},
		{name: "no passwords, and tokens", tls: ca.ServerTLS(), own: own, inside: "IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2", relayed: []string{"XOAUTH2"}},
		{name: "no passwords, and no tokens", tls: ca.ServerTLS(), own: own, inside: "IMAP4rev1 LOGINDISABLED", relayed: []string{"XOAUTH2"},
			faults: []Fault{LoginDisabled}, texts: []string{"only what the backend has"}},
		{name: "client certificates", tls: asking(ca, tls.VersionTLS13), own: own, names: []string{"localhost", "a.invalid"}, faults: []Fault{CertName},
			texts: []string{"clients must show a certificate"}},
		{name: "client certificates with TLS 1.2", tls: asking(ca, tls.VersionTLS12), implicit: true, texts: []string{"clients must show a certificate"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			srv := imaptest.NewFake(t, imaptest.Profile{TLS: tc.tls, Implicit: tc.implicit, Proxy: tc.proxy, Greeting: tc.greeting, Inside: tc.inside})
			f := Front{
				Address: ":143", Network: "tcp", Dial: srv.Addr(), Implicit: tc.implicit, Matched: tc.matched, ClientAuth: tc.tls != nil && tc.tls.ClientAuth != 0,
				Names: tc.names, Own: tc.own, OwnFile: "/var/lib/root.crt", Relayed: tc.relayed,
			}
			if tc.proxy {
				f.Proxy = &Proxied{Others: true}
			}
			if tc.deaf {
				f.Proxy = &Proxied{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/32")}}
			}
			if tc.names == nil {
				f.Names = []string{"localhost"}
			}
			examine(t, nil, func(ctx context.Context, d *Doctor) { d.Front(ctx, f) }).want(tc.faults, tc.texts...)
			srv.Close()
		})
	}
	srv := imaptest.NewFake(t, imaptest.Profile{})
	srv.Close()
	examine(t, nil, func(ctx context.Context, d *Doctor) {
		d.Front(ctx, Front{Address: ":143", Network: "tcp", Dial: srv.Addr(), Names: []string{"a.example", "b.example"}})
	}).want([]Fault{PortClosed}, "start Caddy with this configuration")
}

// TestClosedFronts pins that no password is sent to a listener for mail servers if nobody
// listens for IMAP clients: it may be of somebody who has waited for that.
func TestClosedFronts(t *testing.T) {
	ca := imaptest.NewCA(t)
	closed, open := imaptest.NewFake(t, imaptest.Profile{}), imaptest.NewFake(t, imaptest.Profile{TLS: ca.ServerTLS()})
	closed.Close()
	for _, tc := range []struct {
		fronts []string
		sent   bool
	}{
		{[]string{closed.Addr()}, false},
		{[]string{closed.Addr(), open.Addr()}, true},
		{nil, true},
		{[]string{""}, true},
	} {
		backend := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS()))
		srv := served(t, login.Verdict{Result: login.Granted})
		c := &chart{t: t}
		d := &Doctor{Tell: func(check Check) { c.checks = append(c.checks, check) }, Timeout: stepTime, Login: alice()}
		c.with(d, func(ctx context.Context, d *Doctor) {
			d.Backend(ctx, Backend{Config: at(backend.Addr(), ca, imapauth.StartTLS)})
			for _, front := range tc.fronts {
				f := Front{Address: front, Network: "tcp", Dial: front, Own: authority(t, ca), Names: []string{"localhost"}}
				if front == "" {
					f.Network = ""
				}
				d.Front(ctx, f)
			}
			d.Auth(ctx, Auth{Address: "kept/127.0.0.1:12345", Network: "tcp", Dial: srv.Addr()})
		})
		last := c.checks[len(c.checks)-1]
		if want := map[bool]Status{true: OK, false: Skipped}[tc.sent]; last.Step != StepLogin || last.Status != want {
			t.Errorf("%q: %+v", tc.fronts, last)
		}
		srv.Close()
	}
	open.Close()
}

// TestNameAdvice pins that nothing but the name of a host is given to be copied.
func TestNameAdvice(t *testing.T) {
	for want, names := range map[string][]string{
		"tls_server_name ex1.example.org (":               {"x; reboot", "`id`", "a b", "--insecure", "-x.example", "", "*.ex1.example.org"},
		"tls_server_name EX-1 (":                          {"$(id)", strings.Repeat("a.", 130) + "a", "EX-1"},
		"have the server's certificate made for its name": {"a\nb", "{env.HOME}"},
	} {
		if got := nameAdvice(&x509.Certificate{DNSNames: names}); !strings.Contains(got, want) {
			t.Errorf("%q: %s", names, got)
		}
	}
}

// asking is a server that wants certificates of its clients.
func asking(ca *imaptest.CA, version uint16) *tls.Config {
	cfg := ca.ServerTLS()
	cfg.ClientAuth, cfg.MaxVersion = tls.RequireAnyClientCert, version
	return cfg
}

// TestProxied pins from whom a PROXY header is expected.
func TestProxied(t *testing.T) {
	ten, loopback := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8")
	here := netip.MustParseAddr("127.0.0.1")
	for i, tc := range []struct {
		p    *Proxied
		from netip.Addr
		want bool
	}{
		{nil, here, false},
		{&Proxied{Others: true}, here, true},
		{&Proxied{Allow: []netip.Prefix{ten}}, here, false},
		{&Proxied{Allow: []netip.Prefix{ten, loopback}}, here, true},
		{&Proxied{Allow: []netip.Prefix{loopback}, Deny: []netip.Prefix{loopback}, Others: true}, here, false},
		{&Proxied{}, netip.Addr{}, true},
	} {
		if got := tc.p.expects(tc.from); got != tc.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}

func authority(t *testing.T, ca *imaptest.CA) []*x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(ca.File())
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{cert}
}

// served is a listener of the auth protocol, ours.
func served(t *testing.T, verdict login.Verdict) *imaptest.Script {
	t.Helper()
	s := &dovecotauth.Server{
		Check:  func(context.Context, *login.Attempt) login.Verdict { return verdict },
		Logger: zap.NewNop(),
	}
	return imaptest.NewScript(t, func(c *imaptest.Conn) { _ = s.NewConn(c).Serve(t.Context()) })
}

// TestAuth pins what is told of a listener for mail servers, and that it gets the
// password only after a backend has taken it.
func TestAuth(t *testing.T) {
	ca := imaptest.NewCA(t)
	granted := login.Verdict{Result: login.Granted}
	says := func(text string) *imaptest.Script {
		return imaptest.NewScript(t, func(c *imaptest.Conn) { c.Send(text); c.Rest() })
	}
	closed := says("")
	closed.Close()
	for _, tc := range []struct {
		name   string
		srv    *imaptest.Script
		login  *Login
		faults []Fault
		texts  []string
	}{
		{"nobody logs in", served(t, granted), nil, nil, []string{"it offers PLAIN, LOGIN", "say who with --user"}},
		{"somebody does", served(t, granted), alice(), nil, []string{"a mail server is told OK, and the name alice@example.org"}},
		{"refused", served(t, login.DeniedWith("")), alice(), []Fault{Denied}, []string{"though the backend has let the user in"}},
		{"not checked", served(t, login.UnavailableFor(os.ErrNotExist)), alice(), []Fault{Unavailable}, []string{"Postfix says 454"}},
		{"no delegates", served(t, granted), &Login{User: "alice/shared", Secret: testSecret}, []Fault{DelegatesRefused}, []string{"allow_delegates"}},
		{"closed", closed, alice(), []Fault{PortClosed}, []string{"before Postfix"}},
		{"another protocol", says("* OK IMAP4rev1 ready\r\n"), alice(), []Fault{NotAuth}, []string{"dovecot_auth"}},
		{"a long line", says(strings.Repeat("x", 1<<14)), alice(), []Fault{NotAuth}, nil},
		{"no mechanism", says("VERSION\t1\t2\nDONE\n"), alice(), []Fault{NotAuth}, nil},
		{"no passwords", says("VERSION\t1\t2\nMECH\tLOGIN\nMECH\tSCRAM-SHA-256\nDONE\n"), alice(), nil, []string{"- login PLAIN, which this command would log in with, is not offered here"}},
		{"not allowed", imaptest.NewScript(t, func(c *imaptest.Conn) { c.Reset() }), alice(), []Fault{NotAllowed}, []string{"the option allow"}},
		{"silent", says(""), alice(), []Fault{Silent}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			backend := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS()))
			c := examine(t, tc.login, func(ctx context.Context, d *Doctor) {
				d.Backend(ctx, Backend{Config: at(backend.Addr(), ca, imapauth.StartTLS)})
				d.Auth(ctx, Auth{Address: "kept/127.0.0.1:12345", Network: "tcp", Dial: tc.srv.Addr()})
			})
			// A delegate's login at the backend has a check of its own.
			c.want(tc.faults, tc.texts...)
			tc.srv.Close()
		})
	}
}

// TestWithheld pins that a listener does not get a password that no backend has let
// in.
func TestWithheld(t *testing.T) {
	ca := imaptest.NewCA(t)
	profile := imaptest.Exchange(ca.ServerTLS())
	profile.Login = imaptest.ExchangeFailed
	backend := imaptest.NewFake(t, profile)
	srv := served(t, login.Verdict{Result: login.Granted})
	examine(t, alice(), func(ctx context.Context, d *Doctor) {
		d.Backend(ctx, Backend{Config: at(backend.Addr(), ca, imapauth.StartTLS)})
		d.Backend(ctx, Backend{Config: at(backend.Addr(), ca, imapauth.StartTLS)})
		d.Auth(ctx, Auth{Address: ":12345", Network: "tcp", Dial: srv.Addr()})
	}).want([]Fault{Denied}, "the password is not sent again", "is not sent again")
	if n := len(backend.Logins()); n != 1 {
		t.Errorf("%d logins, want one", n)
	}
	if sent := imaptest.Revealed(srv.Clear(), testSecret); len(sent) > 0 {
		t.Errorf("the listener got %s", sent)
	}
}

// TestMainCF pins the lines for Postfix.
func TestMainCF(t *testing.T) {
	for _, tc := range []struct {
		a    Auth
		want string
	}{
		{Auth{Network: "tcp", Dial: "127.0.0.1:12345"}, "smtpd_sasl_path = inet:127.0.0.1:12345"},
		{Auth{Network: "unix", Dial: "/run/caddy-auth/postfix.sock"}, "smtpd_sasl_path = /run/caddy-auth/postfix.sock"},
		{Auth{Network: "unix", Dial: "/var/spool/postfix/caddy/auth.sock"}, "smtpd_sasl_path = caddy/auth.sock"},
	} {
		if lines := MainCF(tc.a); !slices.Contains(lines, tc.want) || lines[0] != "smtpd_sasl_type = dovecot" {
			t.Errorf("%q, want %q", lines, tc.want)
		}
	}
}
