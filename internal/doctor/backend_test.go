package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestBackendFaults pins that each fault of a backend is named, that it is said what to
// do, and that a password is sent once at most.
func TestBackendFaults(t *testing.T) {
	ca := imaptest.NewCA(t)
	good := ca.ServerTLS()
	exchange := func(change func(*imaptest.Profile)) imaptest.Profile {
		p := imaptest.Exchange(good)
		change(&p)
		return p
	}
	trustNobody := func(cfg *imapauth.Config) { cfg.TLS.RootCAs = x509.NewCertPool() }
	for _, tc := range []struct {
		name    string
		profile imaptest.Profile
		script  func(*imaptest.Conn) // instead of the profile
		change  func(*imapauth.Config)
		faults  []Fault
		texts   []string
		logins  int
	}{
		{
			name: "all well at Exchange", profile: imaptest.Exchange(good),
			texts: []string{"looks like Exchange", "before TLS: IMAP4 IMAP4rev1 LOGINDISABLED STARTTLS", "inside TLS: IMAP4", "days left",
				"AUTHENTICATE PLAIN as alice@example.org is let in", "the mailbox answers"},
			logins: 1,
		},
		{
			name: "all well elsewhere", profile: imaptest.Profile{TLS: good, Greeting: "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] Dovecot ready."},
			texts: []string{"looks like Dovecot", "is let in", "not asked, as in operation"}, logins: 1,
		},
		{
			name: "plain port with TLS expected", script: func(c *imaptest.Conn) { c.Send("* OK ready\r\n"); c.Rest() },
			change: func(cfg *imapauth.Config) { cfg.Mode = imapauth.ImplicitTLS },
			faults: []Fault{ClearFirst}, texts: []string{"set tls starttls"},
		},
		{
			name: "TLS port with plain text expected", profile: imaptest.ExchangeOnline(good),
			faults: []Fault{TLSFirst}, texts: []string{"set tls implicit"},
		},
		{
			name: "STARTTLS not offered", profile: imaptest.Profile{Before: "IMAP4rev1"},
			faults: []Fault{NoStartTLS}, texts: []string{"Enable-ExchangeCertificate"},
		},
		{
			name: "private CA missing", profile: imaptest.Exchange(good), change: trustNobody,
			faults: []Fault{CAUnknown},
			texts:  []string{"signed by CN=imaptest authority", "tls_trust_pool file /etc/ssl/corp-ca.pem", "-starttls imap -showcerts", "certutil"},
		},
		{
			name: "certificate that signs itself", profile: imaptest.Exchange(showing(ca, imaptest.Leaf{SelfSigned: true})), change: trustNobody,
			faults: []Fault{CAUnknown}, texts: []string{"signs itself", "SHA-256 fingerprint"},
		},
		{
			name: "expired certificate", profile: imaptest.Exchange(showing(ca, imaptest.Leaf{Expired: true})),
			faults: []Fault{CertExpired}, texts: []string{"has expired on 1999-01-01", "renewed"},
		},
		{
			name: "wrong name", profile: imaptest.Exchange(showing(ca, imaptest.Leaf{Names: []string{"ex1.corp.example.org"}})),
			faults: []Fault{CertName}, texts: []string{"not valid for localhost, but for ex1.corp.example.org", "tls_server_name ex1.corp.example.org"},
		},
		{
			name:    "all that can be wrong with a certificate",
			profile: imaptest.Exchange(showing(ca, imaptest.Leaf{Names: []string{"ex1.corp.example.org"}, Expired: true})), change: trustNobody,
			faults: []Fault{CertExpired, CertName, CAUnknown},
		},
		{
			name: "certificate of a client", profile: imaptest.Exchange(showing(ca, imaptest.Leaf{Client: true})),
			faults: []Fault{TLSFailed}, texts: []string{"not a certificate for servers"},
		},
		{
			name: "certificate not looked at", profile: imaptest.Exchange(good),
			change: func(cfg *imapauth.Config) { cfg.TLS.InsecureSkipVerify = true },
			faults: []Fault{NotVerified}, texts: []string{"tls_insecure_skip_verify"}, logins: 1,
		},
		{
			name: "certificate wanted", profile: imaptest.Exchange(&tls.Config{Certificates: good.Certificates, ClientAuth: tls.RequireAnyClientCert}),
			faults: []Fault{TLSFailed}, texts: []string{"tls_client_auth"},
		},
		{
			name: "old TLS", profile: imaptest.Exchange(&tls.Config{Certificates: good.Certificates, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}),
			faults: []Fault{TLSFailed}, texts: []string{"TLS 1.2"},
		},
		{
			name: "LOGINDISABLED", profile: exchange(func(p *imaptest.Profile) { p.Inside = "IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2" }),
			faults: []Fault{LoginDisabled}, texts: []string{"SecureLogin", "OAuth"},
		},
		{
			name: "wrong password", profile: exchange(func(p *imaptest.Profile) { p.Login = imaptest.ExchangeFailed }),
			faults: []Fault{Denied}, texts: []string{"is refused", "--user 'alice'", `--user 'EXAMPLE\alice'`, "each try counts at the directory"}, logins: 1,
		},
		{
			name: "expired password", profile: exchange(func(p *imaptest.Profile) {
				p.Login = func(imaptest.Login) string { return "NO [EXPIRED] no" }
			}),
			faults: []Fault{Denied}, texts: []string{"the password has expired"}, logins: 1,
		},
		{
			name: "false OK", profile: exchange(func(p *imaptest.Profile) { p.Unconnected = func(imaptest.Login) bool { return true } }),
			faults: []Fault{FalseOK}, texts: []string{"is let in", "probe", "ImapEnabled"}, logins: 1,
		},
		{
			name: "throttling", profile: exchange(func(p *imaptest.Profile) {
				p.Login = func(imaptest.Login) string { return imaptest.ExchangeThrottled }
			}),
			faults: []Fault{Throttled}, texts: []string{"for 1m30s", "MaxConnectionsPerUser"}, logins: 1,
		},
		{
			name: "throttling at the greeting", profile: imaptest.Profile{Greeting: "* BYE Too many connections"},
			faults: []Fault{Throttled},
		},
		{
			name: "server behind the server away", profile: exchange(func(p *imaptest.Profile) {
				p.Login = func(imaptest.Login) string { return imaptest.ExchangeUnavailable }
			}),
			faults: []Fault{Unavailable}, logins: 1,
		},
		{
			name: "cut off at the login", profile: exchange(func(p *imaptest.Profile) { p.Login = func(imaptest.Login) string { return "" } }),
			faults: []Fault{Unavailable}, logins: 1,
		},
		{
			name: "wrong port", profile: imaptest.Profile{Greeting: "220 mx.example.org ESMTP\x1b[31m"},
			faults: []Fault{NotIMAP}, texts: []string{"does not speak IMAP"},
		},
		{
			name: "PREAUTH", profile: imaptest.Profile{Greeting: "* PREAUTH root"}, faults: []Fault{Unavailable},
		},
		{
			name: "passwords only inside TLS", profile: imaptest.Profile{Before: "IMAP4rev1 LOGINDISABLED"},
			change: func(cfg *imapauth.Config) { cfg.Mode, cfg.TLS = imapauth.NoTLS, nil },
			faults: []Fault{LoginDisabled}, texts: []string{"set tls starttls"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var srv *imaptest.Script
			if tc.script != nil {
				srv = imaptest.NewScript(t, tc.script)
			} else {
				srv = imaptest.NewFake(t, tc.profile).Script
			}
			cfg := at(srv.Addr(), ca, imapauth.StartTLS)
			if tc.change != nil {
				tc.change(cfg)
			}
			examine(t, alice(), func(ctx context.Context, d *Doctor) {
				d.Backend(ctx, Backend{Name: "exchange", Config: cfg})
			}).want(tc.faults, tc.texts...)
			if n := len(srv.Logins()); n != tc.logins {
				t.Errorf("%d logins, want %d", n, tc.logins)
			}
			srv.CheckHidden(testSecret)
			srv.Close()
		})
	}
}

// TestBackendDown pins what is told of one that cannot be connected to.
func TestBackendDown(t *testing.T) {
	ca := imaptest.NewCA(t)
	srv := imaptest.NewFake(t, imaptest.Profile{})
	srv.Close()
	examine(t, alice(), func(ctx context.Context, d *Doctor) {
		d.Backend(ctx, Backend{Config: at(srv.Addr(), ca, imapauth.StartTLS)})
	}).want([]Fault{PortClosed}, "nobody listens on "+srv.Addr(), "MSExchangeImap4")
}

// TestNames pins that each address of a name is checked by itself, and what is told of a
// name that there is not.
func TestNames(t *testing.T) {
	ca := imaptest.NewCA(t)
	srv := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS()))
	closed, open := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	look := func(host string) func(context.Context, *Doctor) {
		return func(ctx context.Context, d *Doctor) {
			d.LookupIP = func(_ context.Context, network, host string) ([]netip.Addr, error) {
				if network != "ip" || host != "localhost" {
					return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
				}
				return []netip.Addr{closed, open}, nil
			}
			d.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if strings.HasPrefix(address, closed.String()) {
					return nil, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}
				}
				return new(net.Dialer).DialContext(ctx, network, srv.Addr())
			}
			d.Backend(ctx, Backend{Config: at(host+":143", ca, imapauth.StartTLS)})
		}
	}
	examine(t, nil, look("localhost")).want([]Fault{Unreachable}, "localhost is 192.0.2.1, 192.0.2.2", "Backend: localhost:143 at 192.0.2.1:143", "192.0.2.1:143 does not answer",
		"Backend: localhost:143 at 192.0.2.2:143", "192.0.2.2:143 is open", "looks like Exchange", "nobody has logged in; say who with --user")
	examine(t, nil, look("nowhere.example.org")).want([]Fault{NameNotFound}, "nowhere.example.org has no address", "getent hosts nowhere.example.org")
}

// TestAgain pins that a refused password is sent again only if the operator says so,
// with another spelling each time, and that nobody else gets a refused one.
func TestAgain(t *testing.T) {
	ca := imaptest.NewCA(t)
	profile := imaptest.Exchange(ca.ServerTLS())
	profile.Login = func(l imaptest.Login) string {
		if l.User == `CORP\alice` {
			return "OK"
		}
		return imaptest.ExchangeFailed(l)
	}
	for _, tc := range []struct {
		name string
		yes  int // how many times the operator says yes
		want []string
		asks int
		says string
	}{
		{"never", 0, []string{testUser}, 1, "nobody was let in"},
		{"once", 1, []string{testUser, "alice"}, 2, "nobody was let in"},
		{"until it works", 9, []string{testUser, "alice", `CORP\alice`}, 2, `the server takes CORP\alice, and refuses alice@example.org`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv, other := imaptest.NewFake(t, profile), imaptest.NewFake(t, profile)
			l := alice()
			l.Domains = map[string]string{"CORP": "example.org"}
			asks := 0
			c := examine(t, l, func(ctx context.Context, d *Doctor) {
				d.Again = func(string) bool { asks++; return asks <= tc.yes }
				for _, s := range []*imaptest.Fake{srv, other} {
					d.Backend(ctx, Backend{Config: at(s.Addr(), ca, imapauth.StartTLS)})
				}
			})
			var got []string
			for _, l := range srv.Logins() {
				got = append(got, l.User)
			}
			if strings.Join(got, " ") != strings.Join(tc.want, " ") || asks != tc.asks {
				t.Errorf("logins as %q after %d questions, want %q after %d\n%s", got, asks, tc.want, tc.asks, c.text())
			}
			elsewhere := len(other.Logins())
			granted := tc.yes > 1
			if granted != (elsewhere == 1) {
				t.Errorf("%d logins at the other server", elsewhere)
			}
			// A refusal that led to a name that works is none that scripts should hear of.
			if failed := slices.ContainsFunc(c.checks, func(c Check) bool { return c.Status == Failed }); failed == granted {
				t.Errorf("failed %v, granted %v\n%s", failed, granted, c.text())
			}
			if strings.Count(c.text(), tc.says) != 1 || granted != strings.Contains(c.text(), `username "CORP\{imap.user.local}"`) {
				t.Errorf("said:\n%s", c.text())
			}
		})
	}
}

// TestAgainAtDovecot pins that a Dovecot is not asked about Windows domains.
func TestAgainAtDovecot(t *testing.T) {
	ca := imaptest.NewCA(t)
	srv := imaptest.NewFake(t, imaptest.Profile{TLS: ca.ServerTLS(), Greeting: "* OK Dovecot ready.",
		Login: func(imaptest.Login) string { return "NO [AUTHENTICATIONFAILED] Authentication failed." }})
	c := examine(t, alice(), func(ctx context.Context, d *Doctor) {
		d.Again = func(string) bool { return true }
		d.Backend(ctx, Backend{Config: at(srv.Addr(), ca, imapauth.StartTLS)})
	})
	if l := srv.Logins(); len(l) != 2 || strings.Contains(c.text(), `EXAMPLE\`) {
		t.Errorf("logins %+v\n%s", l, c.text())
	}
}

// TestSlowLogin pins that a backend which takes its time is not passed over, whatever
// it says in the end.
func TestSlowLogin(t *testing.T) {
	ca := imaptest.NewCA(t)
	over := make(chan struct{})
	defer close(over)
	for name, answer := range map[string]func(imaptest.Login) string{
		"granted": func(imaptest.Login) string { time.Sleep(stepTime/2 + 50*time.Millisecond); return "" },
		"denied":  func(imaptest.Login) string { time.Sleep(stepTime/2 + 50*time.Millisecond); return "NO failed" },
		"silent":  func(imaptest.Login) string { <-over; return "* BYE" },
	} {
		if name == "granted" {
			slowly := answer
			answer = func(l imaptest.Login) string { slowly(l); return "OK done" }
		}
		srv := imaptest.NewFake(t, imaptest.Profile{TLS: ca.ServerTLS(), Greeting: "* OK Dovecot ready.", Login: answer})
		c := examine(t, alice(), func(ctx context.Context, d *Doctor) {
			d.Backend(ctx, Backend{Config: at(srv.Addr(), ca, imapauth.StartTLS)})
		})
		c.want(map[string][]Fault{"granted": nil, "denied": {Denied}, "silent": {Unavailable}}[name], "forward_client", "auth_timeout 20s")
	}
}

// TestSpellings pins the forms of a name, in order.
func TestSpellings(t *testing.T) {
	domains := map[string]string{"CORP": "ad.example.org"}
	for _, tc := range []struct {
		l    Login
		want string
	}{
		{Login{User: "alice"}, ""},
		{Login{User: "alice", Domain: "example.org"}, `EXAMPLE\alice alice@example.org`},
		{Login{User: "alice@ad.example.org", Domains: domains}, `alice CORP\alice`},
		{Login{User: `corp\alice`, Domains: domains}, "alice alice@ad.example.org"},
		{Login{User: `OTHER\alice`}, "alice"},
		{Login{User: "alice/shared", Domain: "example.org"}, ""},
	} {
		if got := strings.Join(tc.l.spellings(), " "); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.l.User, got, tc.want)
		}
	}
}

// TestUsernameFor pins which option is told when another spelling works.
func TestUsernameFor(t *testing.T) {
	for _, tc := range []struct{ typed, told, want string }{
		{"alice@example.org", "alice", "{imap.user.local}"},
		{"alice", "alice@example.org", "{imap.user.local}@example.org"},
		{"alice@example.org", `CORP\alice`, `"CORP\{imap.user.local}"`},
		{`CORP\alice`, "alice@example.org", "{imap.user.local}@example.org"},
		{"alice", "bob", ""},
		{"alice", "alice2", ""},
		{"alice", "xalice", ""},
		{"@example.org", "alice", ""},
	} {
		if got := usernameFor(tc.typed, tc.told); got != tc.want {
			t.Errorf("%s told as %s: %q, want %q", tc.typed, tc.told, got, tc.want)
		}
	}
}

// TestRenamed pins that the backend gets the name that the configuration makes, and
// that this is told when it is refused.
func TestRenamed(t *testing.T) {
	ca := imaptest.NewCA(t)
	profile := imaptest.Exchange(ca.ServerTLS())
	profile.Login = imaptest.ExchangeFailed
	srv := imaptest.NewFake(t, profile)
	examine(t, alice(), func(ctx context.Context, d *Doctor) {
		d.Backend(ctx, Backend{Config: at(srv.Addr(), ca, imapauth.StartTLS), Rename: func(a *login.Attempt) (*login.Attempt, login.Verdict) {
			renamed := *a
			renamed.User = `CORP\alice`
			return &renamed, login.Verdict{}
		}})
	}).want([]Fault{Denied}, `AUTHENTICATE PLAIN as CORP\alice is refused`, `the option username has made CORP\alice of alice@example.org`)
	if l := srv.Logins(); len(l) != 1 || l[0].User != `CORP\alice` {
		t.Errorf("logins %+v", l)
	}
}

// TestDelegate pins that a name with a mailbox in it is sent as it is, and what is told
// of it.
func TestDelegate(t *testing.T) {
	ca := imaptest.NewCA(t)
	srv := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS()))
	l := &Login{User: "alice@example.org/shared", Secret: testSecret}
	examine(t, l, func(ctx context.Context, d *Doctor) {
		d.Backend(ctx, Backend{Config: at(srv.Addr(), ca, imapauth.StartTLS)})
	}).want(nil, "delegate", "allow_delegates")
}
