package caddyimap

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/mholt/caddy-l4/layer4"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// masterSecret is as long as testSecret, and looked for in the log likewise.
const (
	masterName   = "proxy-master"
	masterSecret = "staple-of-all-mailboxes"
)

const greetingExternal = "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN AUTH=LOGIN AUTH=EXTERNAL] Caddy ready."

// byEmail is the option as most will have it.
var byEmail = &ClientCertificate{User: "{imap.certificate.email}"}

// mastered is a backend with a master user who may be testUser and nobody else.
func (w *world) mastered(amend func(*imaptest.Profile)) *imaptest.Fake {
	p := w.profile()
	p.Login = func(l imaptest.Login) string {
		if l.User == masterName && l.Secret == masterSecret && l.AuthzID == testUser {
			return "OK Logged in."
		}
		return "NO [AUTHENTICATIONFAILED] Authentication failed."
	}
	if amend != nil {
		amend(&p)
	}
	fake := w.start(p)
	return fake
}

// withMaster gives a backend its master user.
func (w *world) withMaster(addr string) *Backend {
	b := w.backend(addr)
	b.MasterUser, b.MasterPassword = masterName, masterSecret
	return b
}

// asking is a policy that asks clients for certificates of the authority.
func asking(ca *imaptest.CA, mode string) *caddytls.ConnectionPolicy {
	return &caddytls.ConnectionPolicy{ClientAuthentication: &caddytls.ClientAuthentication{
		Mode: mode, CARaw: caddyconfig.JSON(map[string]any{"provider": "file", "pem_files": []string{ca.File()}}, nil),
	}}
}

// external is a handler that takes certificates of the authority.
func external(ca *imaptest.CA, h Handler) *Handler {
	h.ClientCertificate, h.ConnectionPolicies = byEmail, caddytls.ConnectionPolicies{asking(ca, "verify_if_given")}
	return &h
}

// shown is the client's side of TLS with a certificate.
func (w *world) shown(certs ...*imaptest.Certificate) *tls.Config {
	cfg := w.tls("mail.example.org")
	for _, cert := range certs {
		// Whatever authorities the server names.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert.Certificate, nil }
	}
	return cfg
}

func (w *world) certificateOf(email string) *imaptest.Certificate {
	return w.ca.Issue(imaptest.Leaf{Emails: []string{email}, Client: true})
}

// TestClientCertificate logs a user in by each way in which TLS comes to stand, with
// and without an initial response.
func TestClientCertificate(t *testing.T) {
	name := base64.StdEncoding.EncodeToString([]byte("Alice@example.org"))
	for _, f := range fronts[:3] {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(f.name+" "+tls.VersionName(version), func(t *testing.T) {
				w := newWorld(t)
				fake := w.mastered(nil)
				c := w.load(w.app(w.withMaster(fake.Addr())))
				cert := w.certificateOf(testUser)
				for _, said := range []string{"=", "", name} {
					handlers := []layer4.NextHandler{c.handler(external(w.ca, f.handler))}
					if f.behind {
						before := asking(w.ca, "require_and_verify")
						before.ALPN, before.DefaultSNI = []string{"imap"}, "mail.example.org"
						handlers = append([]layer4.NextHandler{c.module("layer4.handlers.tls", map[string]any{
							"connection_policies": caddytls.ConnectionPolicies{before},
						})}, handlers...)
					}
					cl := serve(t, handlers...)
					cfg := w.shown(cert)
					cfg.MaxVersion = version
					if f.name == "starttls" {
						cl.secure(cfg)
					} else {
						if err := cl.handshake(cfg); err != nil {
							t.Fatal(err)
						}
						cl.expect(greetingExternal)
					}
					if said == "" {
						cl.ask("in AUTHENTICATE EXTERNAL", "+ ")
						cl.ask("", "* CAPABILITY ", loggedIn)
					} else {
						cl.ask("in AUTHENTICATE EXTERNAL "+said, "* CAPABILITY ", loggedIn)
					}
					users := sessionCounts.counts
					sessionCounts.mu.Lock()
					if users[userKey{"exchange", "alice"}] != 1 {
						t.Errorf("sessions are counted as %v", users)
					}
					sessionCounts.mu.Unlock()
					cl.ask("z LOGOUT", "* BYE", "z OK")
					cl.closed()
				}
				fake.WaitIdle()
				for _, l := range fake.Logins() {
					if l.Mechanism != "PLAIN" || l.User != masterName || l.AuthzID != testUser || l.Secret != masterSecret || !l.TLS {
						t.Errorf("the backend was told %+v", l)
					}
				}
				fake.CheckHidden(masterSecret)
				for _, line := range c.log.lines("info", "login") {
					if line.text("user") != testUser || line.text("mechanism") != "EXTERNAL" || line.text("result") != "granted" {
						t.Errorf("logged: %v", line)
					}
				}
				if n := len(c.log.lines("info", "session ended")); n != 3 {
					t.Errorf("%d sessions have ended", n)
				}
				c.conceals(masterSecret)
			})
		}
	}
}

// conceals fails if the log or the admin API show a secret.
func (c *config) conceals(secret string) {
	c.tb.Helper()
	for _, found := range imaptest.Revealed(c.log.bytes(), secret) {
		c.tb.Errorf("the log shows %s", found)
	}
	shown, err := json.Marshal(backendStatuses(c.app, upstreams.Snapshot()))
	if err != nil || strings.Contains(string(shown), secret) {
		c.tb.Errorf("the admin API shows %s, %v", shown, err)
	}
}

// TestClientCertificateRefused pins which certificates let nobody in, and that the
// backend does not hear of them.
func TestClientCertificateRefused(t *testing.T) {
	w := newWorld(t)
	other := imaptest.NewCA(t)
	fake := w.mastered(nil)
	c := w.load(w.app(w.withMaster(fake.Addr())))
	h := c.handler(external(w.ca, Handler{ImplicitTLS: true}))
	const failed = "a NO [AUTHORIZATIONFAILED] Authorization failed"
	for _, tc := range []struct {
		what   string
		cert   *imaptest.Certificate
		said   string
		answer string
		err    string
	}{
		{"no address", w.ca.Issue(imaptest.Leaf{CommonName: testUser, Client: true}), "=", failed, "{imap.certificate.email}: there has to be exactly one"},
		{"two addresses", w.ca.Issue(imaptest.Leaf{Emails: []string{testUser, "bob@example.org"}, Client: true}), "=", failed, "exactly one"},
		{"a mailbox besides", w.certificateOf("bob/alice@example.org"), "=", failed, "separator"},
		{"somebody else", w.certificateOf(testUser), base64.StdEncoding.EncodeToString([]byte("bob@example.org")), failed, errOther.Error()},
		{"somebody longer", w.certificateOf(testUser), base64.StdEncoding.EncodeToString([]byte(testUser + "\x01")), failed, errOther.Error()},
	} {
		cl := serve(t, h)
		if err := cl.handshake(w.shown(tc.cert)); err != nil {
			t.Fatal(err)
		}
		cl.expect(greetingExternal)
		cl.ask("a AUTHENTICATE EXTERNAL "+tc.said, tc.answer)
		_ = cl.conn.Close()
		cl.wait()
		lines := c.log.lines("info", "login")
		line := lines[len(lines)-1]
		if line.text("result") != "denied" || line.text("mechanism") != "EXTERNAL" || !strings.Contains(line.text("error"), tc.err) {
			t.Errorf("%s is logged as %v", tc.what, line)
		}
	}
	// Nobody is offered it without one, and a password is still one.
	cl := serve(t, h)
	if err := cl.handshake(w.shown()); err != nil {
		t.Fatal(err)
	}
	cl.expect(greetingSecure)
	cl.ask("a AUTHENTICATE EXTERNAL =", "a NO [CANNOT]")
	_ = cl.conn.Close()
	cl.wait()
	// A certificate of another authority, for servers, or expired, ends the handshake.
	for _, cert := range []*imaptest.Certificate{
		other.Issue(imaptest.Leaf{Emails: []string{testUser}, Client: true}),
		w.ca.Issue(imaptest.Leaf{Emails: []string{testUser}}),
		w.ca.Issue(imaptest.Leaf{Emails: []string{testUser}, Client: true, Expired: true}),
		w.ca.Issue(imaptest.Leaf{Emails: []string{testUser}, Client: true, SelfSigned: true}),
	} {
		cl := serve(t, h)
		if err := cl.handshake(w.shown(cert)); err == nil {
			if line, err := cl.line(); err == nil {
				t.Errorf("a bad certificate is greeted with %q", line)
			}
		}
		_ = cl.conn.Close()
		cl.wait()
	}
	if n := len(fake.Logins()); n > 0 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// TestClientCertificateBehindTLS pins that it does not matter whom a tls handler before
// ours trusts: ours has to trust him, too.
func TestClientCertificateBehindTLS(t *testing.T) {
	w := newWorld(t)
	other := imaptest.NewCA(t)
	c := w.load(w.app(w.withMaster(w.mastered(nil).Addr())))
	for _, tc := range []struct {
		what    string
		before  *caddytls.ConnectionPolicy
		cert    *imaptest.Certificate
		offered bool
	}{
		{"both trust it", asking(w.ca, "verify_if_given"), w.certificateOf(testUser), true},
		{"the other alone", asking(other, "verify_if_given"), other.Issue(imaptest.Leaf{Emails: []string{testUser}, Client: true}), false},
		{"nobody has verified it", asking(w.ca, "request"), w.certificateOf(testUser), false},
		{"none", asking(w.ca, "verify_if_given"), nil, false},
	} {
		tc.before.ALPN, tc.before.DefaultSNI = []string{"imap"}, "mail.example.org"
		before := c.module("layer4.handlers.tls", map[string]any{"connection_policies": caddytls.ConnectionPolicies{tc.before}})
		cl := serve(t, before, c.handler(external(w.ca, Handler{})))
		cfg := w.shown()
		if tc.cert != nil {
			cfg = w.shown(tc.cert)
		}
		if err := cl.handshake(cfg); err != nil {
			t.Fatalf("%s: %v", tc.what, err)
		}
		want := greetingSecure
		if tc.offered {
			want = greetingExternal
		}
		if got, err := cl.line(); got != want {
			t.Errorf("%s: %q, %v", tc.what, got, err)
		}
		_ = cl.conn.Close()
		cl.wait()
	}
}

// TestMasterUser pins what becomes of a certificate that a backend does not let in, or
// the guard: it is nobody's guess, and the operator hears of it.
func TestMasterUser(t *testing.T) {
	const refused = "the backend does not let its master user log in as users who have a client certificate"
	logIn := func(w *world, h *Handler) string {
		w.tb.Helper()
		cl := serve(w.tb, h)
		if err := cl.handshake(w.shown(w.certificateOf(testUser))); err != nil {
			_ = cl.conn.Close()
			cl.wait()
			return "" // as who is banned
		}
		line, err := cl.line()
		if line != greetingExternal {
			_ = cl.conn.Close()
			cl.wait()
			return line
		}
		cl.send("a AUTHENTICATE EXTERNAL =\r\n")
		for !strings.HasPrefix(line, "a ") && err == nil {
			line, err = cl.line()
		}
		_ = cl.conn.Close()
		cl.wait()
		return strings.TrimPrefix(line, "a ")
	}
	for _, tc := range []struct {
		what, says, want, code string
		told                   bool
	}{
		{"refused", "NO [AUTHENTICATIONFAILED] no", "NO [AUTHORIZATIONFAILED] Authorization failed", "AUTHORIZATIONFAILED", true},
		{"refused without a code", "NO no", "NO [AUTHORIZATIONFAILED] Authorization failed", "AUTHORIZATIONFAILED", true},
		{"disabled", "NO [CONTACTADMIN] no", "NO [CONTACTADMIN] Account disabled", "CONTACTADMIN", true},
		{"away", "BAD no", "NO [UNAVAILABLE] The mail server", "UNAVAILABLE", false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			w := newWorld(t)
			fake := w.mastered(func(p *imaptest.Profile) {
				before := p.Login
				p.Login = func(l imaptest.Login) string {
					if l.AuthzID != "" {
						return tc.says
					}
					if l.User == testUser && l.Secret == testSecret {
						return "OK Logged in."
					}
					return before(l)
				}
			})
			app := w.app(w.withMaster(fake.Addr()))
			app.Guard.AccountFailures, app.Guard.SourceFailures = 2, 2
			c := w.load(app)
			h := c.handler(external(w.ca, Handler{ImplicitTLS: true}))
			for range 4 {
				if got := logIn(w, h); !strings.HasPrefix(got, tc.want) {
					t.Fatalf("%q, want %q", got, tc.want)
				}
			}
			for _, line := range c.log.lines("info", "login") {
				if line.text("code") != tc.code || line.text("user") != testUser || line.text("upstream") != fake.Addr() {
					t.Errorf("logged: %v", line)
				}
			}
			found := 0
			for _, line := range c.log.lines("error", "") {
				if strings.HasPrefix(line.text("msg"), refused) {
					found++
				}
			}
			if found > 1 || (found == 1) != tc.told {
				t.Errorf("the operator is told %d times", found)
			}
			// Neither the account nor the source has a guess less.
			cl := serve(t, h)
			if err := cl.handshake(w.shown()); err != nil {
				t.Fatal(err)
			}
			cl.expect(greetingSecure)
			cl.logIn()
			cl.ask("z LOGOUT", "* BYE", "z OK")
			cl.closed()
			c.conceals(masterSecret)
		})
	}
	t.Run("no AUTH=PLAIN", func(t *testing.T) {
		w := newWorld(t)
		fake := w.mastered(func(p *imaptest.Profile) { p.Inside = "IMAP4rev1 AUTH=LOGIN" })
		c := w.load(w.app(w.withMaster(fake.Addr())))
		if got := logIn(w, c.handler(external(w.ca, Handler{ImplicitTLS: true}))); !strings.HasPrefix(got, "NO [UNAVAILABLE]") {
			t.Error(got)
		}
		line := c.log.one("error", "a user with a client certificate could not be logged in, because the backend gave no answer that decides: "+adviceMaster)
		if !strings.Contains(line.text("error"), "does not offer AUTH=PLAIN") || line.text("upstream") != fake.Addr() {
			t.Errorf("logged: %v", line)
		}
		fake.WaitIdle()
		if n := len(fake.Logins()); n > 0 {
			t.Errorf("the backend was asked %d times", n)
		}
	})
	t.Run("a hold and a ban", func(t *testing.T) {
		w := newWorld(t)
		app := w.app(w.withMaster(w.mastered(nil).Addr()))
		app.Guard.AccountFailures, app.Guard.SourceFailures = 2, 3
		c := w.load(app)
		h := c.handler(external(w.ca, Handler{ImplicitTLS: true}))
		mail := webmail(c)
		for _, secret := range []string{"one", "two", "three"} {
			logInFrom(t, mail, "203.0.113.66", testUser, secret)
		}
		if got := logInFrom(t, mail, "192.0.2.1", testUser, "four"); !strings.HasPrefix(got, "NO [UNAVAILABLE]") {
			t.Fatalf("the account is not held: %s", got)
		}
		if got := logIn(w, h); got != "OK Logged in" {
			t.Errorf("the owner is told %s", got)
		}
		for _, user := range []string{"u1", "u2", "u3"} {
			logInFrom(t, mail, "127.0.0.1", user, "x")
		}
		if got := logIn(w, h); got != "" {
			t.Errorf("a banned source is told %s", got)
		}
	})
	t.Run("gone from the newest configuration", func(t *testing.T) {
		w := newWorld(t)
		addr := w.mastered(nil).Addr()
		old := w.load(w.app(w.withMaster(addr)))
		old.start()
		h := old.handler(external(w.ca, Handler{ImplicitTLS: true}))
		next := w.load(w.app(w.backend(addr)))
		next.start()
		defer next.stop()
		if got := logIn(w, h); !strings.HasPrefix(got, "NO [UNAVAILABLE]") {
			t.Error(got)
		}
		if line := next.log.lines("error", ""); len(line) != 1 || !strings.Contains(line[0].text("error"), "has no master user") {
			t.Errorf("logged: %v", line)
		}
		b := w.withMaster(addr)
		b.Username = "{imap.user.local}"
		dropping := w.load(w.app(b))
		dropping.start()
		defer dropping.stop()
		if got := logIn(w, h); !strings.HasPrefix(got, "NO [UNAVAILABLE]") {
			t.Error(got)
		}
		if line := dropping.log.lines("error", ""); len(line) != 1 || !strings.Contains(line[0].text("error"), errSameName.Error()) ||
			!strings.HasSuffix(line[0].text("msg"), adviceNames) {
			t.Errorf("logged: %v", line)
		}
		old.stop()
	})
}

// TestClientCertificateErrors pins what cannot be configured.
func TestClientCertificateErrors(t *testing.T) {
	w := newWorld(t)
	c := w.load(w.app(w.withMaster("127.0.0.1:1")))
	bare := &caddytls.ConnectionPolicy{ClientAuthentication: &caddytls.ClientAuthentication{Mode: "require_and_verify"}}
	for _, tc := range []struct {
		user     string
		policies caddytls.ConnectionPolicies
		want     string
	}{
		{"", caddytls.ConnectionPolicies{asking(w.ca, "")}, "client_certificate: user: template is empty"},
		{"{imap.user}", caddytls.ConnectionPolicies{asking(w.ca, "")}, "client_certificate: user: template \"{imap.user}\": unknown placeholder"},
		{"alice", caddytls.ConnectionPolicies{asking(w.ca, "")}, "every user would become the same"},
		{byEmail.User, nil, "client_certificate: no client is asked for a certificate"},
		{byEmail.User, caddytls.ConnectionPolicies{{}}, "no client is asked for a certificate"},
		{byEmail.User, caddytls.ConnectionPolicies{asking(w.ca, "request")}, "certificates that nobody verifies"},
		{byEmail.User, caddytls.ConnectionPolicies{asking(w.ca, ""), asking(w.ca, "require")}, "certificates that nobody verifies"},
		{byEmail.User, caddytls.ConnectionPolicies{bare}, "does not say who may sign certificates"},
	} {
		h := &Handler{ClientCertificate: &ClientCertificate{User: tc.user}, ConnectionPolicies: tc.policies}
		if err := h.Provision(c.ctx); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want %q", err, tc.want)
		}
	}
	for _, mode := range []string{"", "verify_if_given", "require_and_verify"} {
		h := &Handler{ClientCertificate: byEmail, ConnectionPolicies: caddytls.ConnectionPolicies{asking(w.ca, mode), {}}}
		if err := h.Provision(c.ctx); err != nil {
			t.Errorf("mode %q: %v", mode, err)
		}
	}
	without := w.load(w.app(w.backend("127.0.0.1:1")))
	if err := external(w.ca, Handler{}).Provision(without.ctx); err == nil || !strings.Contains(err.Error(), "set its options master_user and master_password") {
		t.Errorf("error %v without a master user", err)
	}
	b := w.withMaster("127.0.0.1:1")
	b.Username = "{imap.user.local}"
	dropping := w.load(w.app(b))
	if err := external(w.ca, Handler{}).Provision(dropping.ctx); !errors.Is(err, errSameName) || !strings.HasSuffix(err.Error(), ": username of the backend exchange is "+
		`"{imap.user.local}", and user is "{imap.certificate.email}"; set username to {imap.user}, or have certificates log in at a backend of their own`) {
		t.Errorf("error %v where the domain is dropped", err)
	}
	one := external(w.ca, Handler{})
	one.ClientCertificate = &ClientCertificate{User: "{imap.certificate.email.local}@example.org"}
	if err := one.Provision(dropping.ctx); err != nil {
		t.Errorf("with one domain: %v", err)
	}
	t.Setenv("IMAP_TEST_MASTER", masterSecret)
	t.Setenv("IMAP_TEST_LINES", masterSecret+"\nx")
	for _, tc := range []struct{ user, password, want string }{
		{masterName, "", "master_user: it cannot log in without a password"},
		{"", masterSecret, "master_password: it is of no use without a name"},
		{masterName, "{env.IMAP_TEST_NONE}", "master_password: a placeholder in it is unknown or empty"},
		{"{env.IMAP_TEST_NONE}", "x", "master_user: a placeholder in it is unknown or empty"},
		{masterName, "{env.IMAP_TEST_LINES}", "master_user and master_password: one of them is empty, too long, or"},
		{masterName, "{env.IMAP_TEST_MASTER}", ""},
	} {
		b := w.backend("127.0.0.1:1")
		b.MasterUser, b.MasterPassword = tc.user, tc.password
		loaded, err := w.tryLoad(w.app(b))
		if tc.want == "" {
			if err != nil || loaded.app.Backends["exchange"].master.password != masterSecret {
				t.Errorf("%s: %v", tc.password, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), masterSecret) {
			t.Errorf("error %v, want %q", err, tc.want)
		}
	}
}

// TestCertificateTickets pins that no ticket of TLS stands for a certificate: who has
// one gets none, and one that somebody has from before opens nothing.
func TestCertificateTickets(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			w := newWorld(t)
			other := imaptest.NewCA(t)
			c := w.load(w.app(w.withMaster(w.mastered(nil).Addr())))
			asks := c.handler(external(w.ca, Handler{ImplicitTLS: true}))
			elsewhere := c.handler(external(other, Handler{ImplicitTLS: true}))
			plain := c.handler(&Handler{ImplicitTLS: true})
			handlers := map[string]*Handler{"that asks": asks, "with another authority": elsewhere, "that asks for none": plain}
			for _, h := range handlers {
				h.ConnectionPolicies[0].TLSConfig.SetSessionTicketKeys([][32]byte{{1}})
			}
			connect := func(h *Handler, cfg *tls.Config) (tls.ConnectionState, string) {
				t.Helper()
				cl := serve(t, h)
				if err := cl.handshake(cfg); err != nil {
					t.Fatal(err)
				}
				greeting, err := cl.line()
				if err != nil {
					t.Fatal(err)
				}
				defer cl.wait()
				defer cl.conn.Close()
				return cl.conn.(*tls.Conn).ConnectionState(), greeting
			}
			with := func(cache *stolen, certs ...*imaptest.Certificate) *tls.Config {
				cfg := w.shown(certs...)
				cfg.ClientSessionCache, cfg.MaxVersion = cache, version
				return cfg
			}
			alice := w.certificateOf(testUser)
			got := new(stolen)
			if _, greeting := connect(asks, with(got, alice)); greeting != greetingExternal || got.session != nil {
				t.Errorf("a ticket with a certificate: %v; greeted with %q", got.session != nil, greeting)
			}
			// As it was before Caddy gave none: the settings of the handler that asks,
			// with tickets.
			cfg := asks.ConnectionPolicies[0].TLSConfig.Clone()
			cfg.SessionTicketsDisabled = false
			cfg.SetSessionTicketKeys([][32]byte{{1}})
			cfg.UnwrapSession = nil
			cfg.WrapSession = func(cs tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
				s.Extra = append(s.Extra, ticketMark(cs))
				return cfg.EncryptTicket(cs, s)
			}
			fetch(t, cfg, with(got, alice))
			if got.session == nil {
				t.Fatal("no ticket to try")
			}
			for name, h := range handlers {
				// Without the certificate.
				ticket := *got
				state, greeting := connect(h, with(&ticket))
				if state.DidResume || greeting != greetingSecure {
					t.Errorf("at the handler %s: resumed %v, greeted with %q", name, state.DidResume, greeting)
				}
			}
			// That it would do, if nobody forbade it.
			ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				if conn, err := ln.Accept(); err == nil {
					_, _ = conn.Write([]byte("x"))
					_ = conn.Close()
				}
			}()
			cl := dial(t, ln.Addr().String())
			if err := cl.handshake(with(got)); err != nil || !cl.conn.(*tls.Conn).ConnectionState().DidResume {
				t.Errorf("the ticket is none: %v", err)
			}
			_, _ = cl.br.ReadByte()
			_ = cl.conn.Close()
			_ = ln.Close()
		})
	}
}
