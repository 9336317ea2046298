package caddyimap

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/pool"
)

// deadAddr is an address at which nobody listens.
func deadAddr(tb testing.TB) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// TestUpstreamOrder pins that the first upstream that is there gets all logins,
// and that the others never see the password.
func TestUpstreamOrder(t *testing.T) {
	w := newWorld(t)
	one, two := w.fake(), w.fake()
	c := w.load(w.app(w.backend(deadAddr(t), one.Addr(), two.Addr())))
	for range 3 {
		asks(t, c.ref(""), one)
	}
	if n, m := len(one.Logins()), len(two.Logins()); n != 3 || m != 0 {
		t.Errorf("%d logins at the first and %d at the second, want 3 and 0", n, m)
	}
	if two.Conns() != 0 {
		t.Errorf("the second was dialled %d times", two.Conns())
	}
	one.Close()
	asks(t, c.ref(""), two)

	// A password that was refused is not tried elsewhere.
	three := w.fake()
	c = w.load(w.app(w.backend(two.Addr(), three.Addr())))
	a := attempt()
	a.Secret = "wrong-battery"
	if v := c.ref("").Check(t.Context(), a); v.Result != login.Denied || v.Upstream != two.Addr() {
		t.Errorf("%v by %s: %v", v.Result, v.Upstream, v.Err)
	}
	if three.Conns() != 0 {
		t.Error("a refused password went on to the next upstream")
	}
}

// TestUpstreamSlow pins that an upstream which hangs is given up for the next, and
// never gets the password, even if both become ready.
func TestUpstreamSlow(t *testing.T) {
	w := newWorld(t)
	profile := w.profile()
	greet := make(chan struct{})
	slow := imaptest.NewScript(t, func(c *imaptest.Conn) {
		<-greet
		c.Sendf("* OK ready.")
		c.Rest()
	})
	next := w.start(profile)
	c := w.load(w.app(w.backend(slow.Addr(), next.Addr())))
	start := time.Now()
	asks(t, c.ref(""), next)
	if d := time.Since(start); d < pool.DefaultStagger || d > pool.DefaultStagger+5*time.Second {
		t.Errorf("the next upstream was asked after %v, want %v", d, pool.DefaultStagger)
	}
	close(greet)
	slow.WaitIdle()
	if n := len(next.Logins()); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	slow.CheckHidden(testSecret)
}

// TestUpstreamsDead pins what is told, and to whom, if no upstream is there.
func TestUpstreamsDead(t *testing.T) {
	w := newWorld(t)
	one, two := deadAddr(t), deadAddr(t)
	c := w.load(w.app(w.backend(one, two)))
	v := c.ref("").Check(t.Context(), attempt())
	if v.Result != login.Unavailable || v.Upstream != one+" "+two {
		t.Errorf("%v by %s", v.Result, v.Upstream)
	}
	trouble := c.log.lines("error", "")
	if len(trouble) != 1 {
		t.Fatalf("logged as errors: %v", trouble)
	}
	for _, addr := range []string{one, two} {
		if !strings.Contains(trouble[0].text("error"), "upstream "+addr+": connecting: ") {
			t.Errorf("the error says nothing about %s: %v", addr, trouble[0])
		}
	}
}

// TestAuthTimeout pins that a backend which says nothing is not waited for longer
// than that.
func TestAuthTimeout(t *testing.T) {
	w := newWorld(t)
	silent := imaptest.NewScript(t, func(c *imaptest.Conn) { c.Rest() })
	p := w.profile()
	over := make(chan struct{})
	p.Login = func(imaptest.Login) string { <-over; return "" }
	thoughtful := w.start(p)
	defer close(over)
	for name, addr := range map[string]string{"no greeting": silent.Addr(), "no answer to the password": thoughtful.Addr()} {
		b := w.backend(addr)
		b.AuthTimeout = caddy.Duration(300 * time.Millisecond)
		r := w.load(w.app(b)).ref("")
		open := func(ctx context.Context, a *login.Attempt) login.Verdict { _, v := r.open(ctx, a); return v }
		for _, ask := range []login.Checker{r.Check, open} {
			start := time.Now()
			v := ask(t.Context(), attempt())
			if v.Result != login.Unavailable || v.Err == nil || !strings.Contains(v.Err.Error(), "did not answer in time") {
				t.Errorf("%s: %v: %v", name, v.Result, v.Err)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("%s: took %v", name, d)
			}
		}
	}
	silent.WaitIdle()
	if n := len(thoughtful.Logins()); n != 2 {
		t.Errorf("the password was sent %d times, want 2", n)
	}
}

// TestUsername pins that the template is applied to who logs in and to whom he
// wants to be, and that what was typed is text.
func TestUsername(t *testing.T) {
	t.Setenv("IMAP_TEST_DOMAIN", "corp.example.org")
	w := newWorld(t)
	for _, tc := range []struct{ template, user, authzID, wantUser, wantAuthzID string }{
		{"", "alice", "", "alice", ""},
		{"", "{env.HOME}", "{imap.user}", "{env.HOME}", "{imap.user}"},
		{"{imap.user.local}@{env.IMAP_TEST_DOMAIN}", "alice@example.org", "", "alice@corp.example.org", ""},
		{"{imap.user.local}@{env.IMAP_TEST_DOMAIN}", `CORP\alice`, "shared@example.org", "alice@corp.example.org", "shared@corp.example.org"},
		{`CORP\{imap.user.local}`, "{env.IMAP_TEST_DOMAIN}@{imap.user.domain}", "", `CORP\{env.IMAP_TEST_DOMAIN}`, ""},
	} {
		p := w.profile()
		p.Login = nil
		fake := w.start(p)
		b := w.backend(fake.Addr())
		b.Username = tc.template
		c := w.load(w.app(b))
		a := attempt()
		a.User, a.AuthzID = tc.user, tc.authzID
		if v := c.ref("").Check(t.Context(), a); v.Result != login.Granted {
			t.Errorf("%s: %v: %v", tc.template, v.Result, v.Err)
			continue
		}
		got := fake.Logins()[0]
		if got.User != tc.wantUser || got.AuthzID != tc.wantAuthzID || got.Secret != testSecret {
			t.Errorf("%s of %q for %q: the backend saw %q for %q", tc.template, tc.user, tc.authzID, got.User, got.AuthzID)
		}
		if shown := c.log.one("info", "login").text("user"); a.User != tc.user || shown != tc.user {
			t.Errorf("%s: the log shows %q, and not what was typed", tc.template, shown)
		}
	}
}

// TestAuthCommand pins in which form each handler's credentials go to the backend.
func TestAuthCommand(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		option string
		form   login.Form
		check  bool
		want   string
	}{
		{"", login.FormLogin, false, "LOGIN"},
		{"", login.FormAuthenticate, false, "AUTHENTICATE"},
		{"", login.FormLogin, true, "AUTHENTICATE"},
		{"keep", login.FormLogin, true, "LOGIN"},
		{"login", login.FormAuthenticate, false, "LOGIN"},
		{"plain", login.FormLogin, false, "AUTHENTICATE"},
	} {
		fake := w.fake()
		b := w.backend(fake.Addr())
		b.AuthCommand = tc.option
		r := w.load(w.app(b)).ref("")
		a := attempt()
		a.Form = tc.form
		if tc.check {
			r.Check(t.Context(), a)
		} else if session, v := r.open(t.Context(), a); v.Result == login.Granted {
			session.Close()
		}
		var got []string
		for _, l := range fake.Logins() {
			got = append(got, l.Command)
		}
		if !slices.Equal(got, []string{tc.want}) {
			t.Errorf("auth_command %q, form %v, check %v: the backend saw %q", tc.option, tc.form, tc.check, got)
		}
	}
}

// TestUnsafe pins that what could end a command early reaches no backend, and is
// logged as what it is for the user: a refusal.
func TestUnsafe(t *testing.T) {
	w := newWorld(t)
	fake := w.fake()
	c := w.load(w.app(w.backend(fake.Addr())))
	a := attempt()
	a.Secret += "\r\n"
	if v := c.ref("").Check(t.Context(), a); v.Result != login.Denied {
		t.Errorf("%v: %v", v.Result, v.Err)
	}
	if fake.Conns() != 0 {
		t.Error("the backend was asked")
	}
	if got := c.log.one("info", "login"); got.text("result") != "denied" {
		t.Errorf("logged %v", got)
	}
}

// TestBackendTLS pins that nobody is logged in at a backend that is not the one
// that was meant, and that the log says why.
func TestBackendTLS(t *testing.T) {
	w := newWorld(t)
	other := imaptest.NewCA(t)
	for _, tc := range []struct {
		name  string
		tls   *tls.Config
		amend func(*Backend)
		want  string
	}{
		{"right", w.ca.ServerTLS(), nil, ""},
		{"wrong authority", other.ServerTLS(), nil, "x509: certificate signed by unknown authority"},
		{"wrong name", w.ca.ServerTLS("mail.example.net"), nil, "x509: cannot validate certificate for 127.0.0.1"},
		{"expired", w.ca.Issue(imaptest.Leaf{Expired: true}).ServerConfig(), nil, "x509: certificate has expired"},
		{"its own name", w.ca.ServerTLS("mail.example.net"), func(b *Backend) { b.TLS.ServerName = "mail.example.net" }, ""},
		{"not verified", other.ServerTLS(), func(b *Backend) { b.TLS.InsecureSkipVerify = true }, ""},
		{"old", oldTLS(w), nil, "protocol version not supported"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := w.profile()
			p.TLS = tc.tls
			fake := w.start(p)
			b := w.backend(fake.Addr())
			if tc.amend != nil {
				tc.amend(b)
			}
			c := w.load(w.app(b))
			v := c.ref("").Check(t.Context(), attempt())
			fake.CheckHidden(testSecret)
			if tc.want == "" {
				if v.Result != login.Granted {
					t.Errorf("%v: %v", v.Result, v.Err)
				}
				return
			}
			if v.Result != login.Unavailable || len(fake.Logins()) != 0 {
				t.Errorf("%v, and %d logins", v.Result, len(fake.Logins()))
			}
			if trouble := c.log.lines("error", ""); len(trouble) != 1 || !strings.Contains(trouble[0].text("error"), tc.want) {
				t.Errorf("logged as errors: %v; want %q", trouble, tc.want)
			}
		})
	}
}

func oldTLS(w *world) *tls.Config {
	cfg := w.ca.ServerTLS()
	cfg.MaxVersion = tls.VersionTLS11
	return cfg
}

// TestBackendClientAuth pins that a backend is shown the certificate that it wants
// to see.
func TestBackendClientAuth(t *testing.T) {
	w := newWorld(t)
	p := w.profile()
	p.TLS.ClientAuth, p.TLS.ClientCAs = tls.RequireAndVerifyClientCert, w.ca.Pool()
	fake := w.start(p)
	b := w.backend(fake.Addr())
	if v := w.load(w.app(b)).ref("").Check(t.Context(), attempt()); v.Result != login.Unavailable {
		t.Errorf("%v without a certificate", v.Result)
	}
	cert := w.ca.Issue(imaptest.Leaf{Names: []string{"proxy.example.org"}, Client: true})
	b.TLS.ClientCertificateFile, b.TLS.ClientCertificateKeyFile = cert.CertFile, cert.KeyFile
	asks(t, w.load(w.app(b)).ref(""), fake)
}

// TestDelegateByTemplate pins that a name which asks for the mailbox of somebody
// else once the template is applied gets nowhere, where that is not allowed.
func TestDelegateByTemplate(t *testing.T) {
	w := newWorld(t)
	fake := w.fake()
	b := w.backend(fake.Addr())
	b.Username = `CORP\{imap.user}`
	c := w.load(w.app(b))
	c.start()
	defer c.stop()
	a := attempt()
	a.User, a.NoDelegates = `alice\bob`, true
	v := c.ref("exchange").Check(t.Context(), a)
	if v.Result != login.Denied || v.Code != imap.ResponseCodeAuthorizationFailed || len(fake.Logins()) != 0 {
		t.Errorf("%v %s, and the backend saw %d logins", v.Result, v.Code, len(fake.Logins()))
	}
	a.NoDelegates = false
	c.ref("exchange").Check(t.Context(), a)
	if got := fake.Logins(); len(got) != 1 || got[0].User != `CORP\alice\bob` {
		t.Errorf("where that is allowed, the backend saw %v", got)
	}
}
