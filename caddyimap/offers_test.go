package caddyimap

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

const (
	lineMissing = "clients are not offered all that the option mechanisms names, since this upstream does not have it: " +
		"switch it on there, or take it away here"
	lineUnasked = "this upstream cannot be asked which mechanisms it offers, and clients are offered only those that are known: " +
		"see that it runs, can be reached from here, and is trusted as tls_trust_pool and tls_server_name say"
)

// leaving is a backend that only says what it offers.
func leaving(c *imaptest.Conn) { c.Rest() }

// wantOffered waits until these are offered.
func wantOffered(t *testing.T, h *Handler, want ...string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		got := h.front.Mechanisms()
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("offered are %q, want %q", got, want)
		}
	}
}

// TestOffered pins that clients are offered what is configured and the backend has, once
// that is known, and that the operator hears of what it does not have.
func TestOffered(t *testing.T) {
	w := newWorld(t)
	srv, app := w.saslBackend("AUTH=PLAIN AUTH=scram-sha-256 AUTH=XOAUTH2", leaving)
	c := w.load(app)
	h := c.handler(&Handler{Mechanisms: []string{"scram-sha-256", "login", "cram-md5", "PLAIN"}})
	if got := h.front.Mechanisms(); !slices.Equal(got, []string{"LOGIN", "PLAIN"}) {
		t.Errorf("before anything is known, offered are %q", got)
	}
	c.start()
	defer c.stop()
	l := c.log.soon("warn", lineMissing)
	if missing, _ := l["missing"].([]any); len(missing) != 1 || missing[0] != "CRAM-MD5" || l.text("upstream") != srv.Addr() {
		t.Errorf("logged %v", l)
	}
	wantOffered(t, h, "SCRAM-SHA-256", "LOGIN", "PLAIN")
	if one, two := h.front.Mechanisms(), h.front.Mechanisms(); &one[0] != &two[0] {
		t.Error("the list is made anew each time")
	}
	if n := srv.Conns(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestOfferedNothing pins that nobody is asked where only passwords are configured.
func TestOfferedNothing(t *testing.T) {
	w := newWorld(t)
	srv, app := w.saslBackend("AUTH=PLAIN AUTH=XOAUTH2", goOn)
	c := w.load(app)
	h := c.handler(&Handler{})
	c.start()
	check(t, c.ref(""), attempt(), login.Granted)
	c.stop()
	if n := srv.Conns(); n != 1 || !slices.Equal(h.front.Mechanisms(), login.Mechanisms) {
		t.Errorf("%d connections, offered are %q", n, h.front.Mechanisms())
	}
}

// TestOfferedAgain pins that an upstream which is away is asked until it is there.
func TestOfferedAgain(t *testing.T) {
	defer func(d time.Duration) { learnAgain = d }(learnAgain)
	learnAgain = time.Millisecond
	w := newWorld(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	app := w.guarded(strict(), addr)
	app.Backends["exchange"].TLSMode = "implicit"
	c := w.load(app)
	h := c.handler(&Handler{Mechanisms: []string{"XOAUTH2"}})
	c.start()
	defer c.stop()
	if l := c.log.soon("warn", lineUnasked); l.text("upstream") != addr || l.text("error") == "" {
		t.Errorf("logged %v", l)
	}
	if got := h.front.Mechanisms(); len(got) != 0 || got == nil {
		t.Errorf("offered are %q", got)
	}
	server := w.ca.ServerTLS()
	srv := imaptest.NewScriptAt(t, addr, func(c *imaptest.Conn) {
		if c.StartTLS(server) == nil {
			c.Send("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2] ready\r\n")
			c.Rest()
		}
	})
	wantOffered(t, h, "XOAUTH2")
	srv.WaitIdle()
	if n := len(c.log.lines("warn", lineUnasked)); n != 1 {
		t.Errorf("it was told %d times that the upstream is away", n)
	}
}

// TestOfferedBySeveral pins that of several upstreams, what all have counts that are known.
func TestOfferedBySeveral(t *testing.T) {
	w := newWorld(t)
	one, app := w.saslBackend("AUTH=PLAIN AUTH=SCRAM-SHA-1 AUTH=CRAM-MD5", leaving)
	two, _ := w.saslBackend("AUTH=PLAIN AUTH=XOAUTH2 AUTH=CRAM-MD5", leaving)
	away, _ := w.saslBackend("", leaving)
	away.Close()
	b := app.Backends["exchange"]
	b.Upstreams = append(b.Upstreams, &Upstream{Dial: two.Addr()}, &Upstream{Dial: away.Addr()}, &Upstream{Dial: "127.0.0.1:1", Drain: true})
	c := w.load(app)
	h := c.handler(&Handler{Mechanisms: []string{"XOAUTH2", "CRAM-MD5", "SCRAM-SHA-1"}})
	c.start()
	defer c.stop()
	wantOffered(t, h, "CRAM-MD5")
	c.log.soon("warn", lineUnasked)
	one.WaitIdle()
	two.WaitIdle()
	for _, l := range c.log.lines("warn", lineUnasked) {
		if l.text("upstream") != away.Addr() {
			t.Errorf("logged %v", l)
		}
	}
}

// TestOfferedAfterReload pins that what is known is not forgotten with a configuration,
// that it is asked about anew, and that a backend which hangs does not keep one alive.
func TestOfferedAfterReload(t *testing.T) {
	w := newWorld(t)
	server := w.ca.ServerTLS()
	silent := imaptest.NewScript(t, func(c *imaptest.Conn) {
		if c.StartTLS(server) != nil {
			return
		}
		if c.N == 1 {
			c.Send("* OK [CAPABILITY IMAP4rev1 AUTH=CRAM-MD5] ready\r\n")
		}
		c.Rest()
	})
	app := w.guarded(strict(), silent.Addr())
	app.Backends["exchange"].TLSMode = "implicit"
	one := w.load(app)
	h := one.handler(&Handler{Mechanisms: []string{"CRAM-MD5"}})
	one.start()
	wantOffered(t, h, "CRAM-MD5")
	two := w.load(app)
	next := two.handler(&Handler{Mechanisms: []string{"CRAM-MD5"}})
	two.start()
	for _, h := range []*Handler{h, next} {
		if got := h.front.Mechanisms(); !slices.Equal(got, []string{"CRAM-MD5"}) {
			t.Errorf("offered are %q", got)
		}
	}
	one.stop()
	silent.WaitConns(2)
	two.stop()
	silent.WaitIdle()
}

// TestRelayedHandler holds a login by SCRAM at a backend that takes no passwords, and what
// becomes of others there.
func TestRelayedHandler(t *testing.T) {
	w := newWorld(t)
	s := exchangeOf(login.ScramSHA256)
	srv, app := w.saslBackend("LOGINDISABLED AUTH="+s.Mechanism, func(c *imaptest.Conn) {
		if c.N != 2 { // it is asked what it offers, or for what it does not
			c.Rest()
			return
		}
		c.Play("", append(s.Steps(true), "S: + "+imaptest.Base64(s.Final), "C: ", "S: TAG OK [CAPABILITY IMAP4rev1] in", "C: a NOOP", "S: a OK done")...)
		c.Rest()
	})
	c := w.load(app)
	h := c.handler(&Handler{Mechanisms: []string{s.Mechanism, "PLAIN"}})
	c.start()
	defer c.stop()
	wantOffered(t, h, s.Mechanism, "PLAIN")
	srv.WaitIdle()

	cl := serve(t, h)
	cl.secure(w.tls("mail.example.org"))
	cl.ask("c CAPABILITY", "* CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID AUTH=SCRAM-SHA-256 AUTH=PLAIN", "c OK")
	cl.ask("in AUTHENTICATE "+s.Mechanism, "+ ")
	cl.ask(imaptest.Base64(s.Client[0]), "+ "+imaptest.Base64(s.Backend[0]))
	cl.ask(s.Proof(), "+ "+imaptest.Base64(s.Final))
	cl.ask("", "* CAPABILITY IMAP4rev1", "in OK")
	cl.ask("a NOOP", "a OK done")
	entries := live.List(nil)
	if len(entries) != 1 || entries[0].User != testUser {
		t.Errorf("sessions %v", entries)
	}
	_ = cl.conn.Close()
	cl.wait()
	noSecrets(t, c, s)

	v := check(t, c.ref(""), attempt(), login.Unavailable)
	if !errors.Is(v.Err, imapauth.ErrNoMechanism) {
		t.Errorf("a password: %+v", v)
	}
	if known := health(srv.Addr()); known != "a+0" {
		t.Errorf("known is %s", known)
	}
}

// TestTokensUnused pins that the operator hears of an oauth2 that no client could make use of.
func TestTokensUnused(t *testing.T) {
	const unused = "the option oauth2 is never used, since it is for clients with a password, and no handler of this backend takes one; " +
		"add PLAIN to mechanisms, or take oauth2 away"
	for name, tc := range map[string]struct {
		handlers [][]string
		verifies bool
		warned   int
	}{
		"no handler":                 {nil, false, 0},
		"passwords":                  {[][]string{nil}, false, 0},
		"tokens":                     {[][]string{{"XOAUTH2"}, {"OAUTHBEARER"}}, false, 1},
		"tokens and passwords":       {[][]string{{"XOAUTH2", "LOGIN"}}, false, 0},
		"passwords at another":       {[][]string{{"XOAUTH2"}, {"PLAIN"}}, false, 0},
		"tokens, and it is verified": {[][]string{{"XOAUTH2"}}, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, app := w.saslBackend("AUTH=XOAUTH2 AUTH=OAUTHBEARER", leaving)
			app.Backends["exchange"].OAuth2 = &OAuth2{TokenURL: "https://login.example.org/", ClientID: "x"}
			if tc.verifies {
				other := w.backend("127.0.0.1:1")
				other.OAuth2 = &OAuth2{TokenURL: "https://login.example.org/", ClientID: "x", ClientSecret: "y", Grant: "client_credentials", Verify: "exchange"}
				app.Backends["other"] = other
			}
			c := w.load(app)
			for _, mechanisms := range tc.handlers {
				c.handler(&Handler{Backend: "exchange", Mechanisms: mechanisms})
			}
			c.start()
			c.stop()
			lines := c.log.lines("warn", unused)
			if len(lines) != tc.warned || tc.warned > 0 && lines[0].text("backend") != "exchange" {
				t.Errorf("warned: %v", lines)
			}
		})
	}
}

// TestRelayedSetUp pins what cannot be configured.
func TestRelayedSetUp(t *testing.T) {
	w := newWorld(t)
	app := w.app(w.backend("127.0.0.1:1"))
	app.Backends["exchange"].Username = "{imap.user.local}"
	c := w.load(app)
	for want, mechanisms := range map[string][]string{
		`mechanisms XOAUTH2 NTLM: clients tell the backend exchange their names themselves, so that its option username, ` +
			`which is "{imap.user.local}", could not change them; take one of the two away`: {"PLAIN", "XOAUTH2", "NTLM"},
		`mechanisms "SCRAM-SHA-256-PLUS": unknown SASL mechanism`: {"SCRAM-SHA-256-PLUS"},
		`mechanisms "EXTERNAL": unknown SASL mechanism`:           {"EXTERNAL"},
		`mechanisms "ANONYMOUS": unknown SASL mechanism`:          {"ANONYMOUS"},
	} {
		_, err := c.ctx.LoadModuleByID("layer4.handlers.imap", caddyconfig.JSON(&Handler{Mechanisms: mechanisms}, nil))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", mechanisms, err)
		}
	}
}

// TestHashWithoutNames pins that the operator is told if users do not get where the policy
// wants them, since they have not said who they are.
func TestHashWithoutNames(t *testing.T) {
	for _, tc := range []struct {
		policy     string
		mechanisms []string
		want       string
	}{
		{"user_hash", []string{"PLAIN", "CRAM-MD5", "NTLM", "GSSAPI", "SCRAM-SHA-256"}, "[CRAM-MD5 NTLM GSSAPI]"},
		{"user_hash", []string{"PLAIN", "SCRAM-SHA-256", "XOAUTH2"}, ""},
		{"client_ip_hash", []string{"CRAM-MD5"}, ""},
	} {
		w := newWorld(t)
		b := w.backend("127.0.0.1:1", "127.0.0.1:2")
		b.LoadBalancing = &LoadBalancing{Selection: &Selection{Policy: tc.policy}}
		c := w.load(w.app(b))
		c.handler(&Handler{Mechanisms: tc.mechanisms})
		got := ""
		for _, l := range c.log.lines("warn", "") {
			if strings.HasPrefix(l.text("msg"), "lb_policy user_hash does not hold") {
				got += fmt.Sprint(l["mechanisms"])
			}
		}
		if got != tc.want {
			t.Errorf("%s, %q: told of %s, want %s", tc.policy, tc.mechanisms, got, tc.want)
		}
	}
}
