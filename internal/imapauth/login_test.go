package imapauth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

func TestOpenExchange(t *testing.T) {
	server, _ := testTLS(t)
	srv := imaptest.NewFake(t, imaptest.Exchange(server))
	s, v := openAt(t, starttls(t, srv.Addr()), attempt(login.FormLogin), Keep)
	if v.Result != login.Granted || v.Err != nil {
		t.Fatalf("verdict %+v", v)
	}
	if !slices.Contains(s.Caps, "CLIENTNETWORKPRESENCELOCATION") {
		t.Errorf("capabilities %q, want those after login", s.Caps)
	}
	if len(s.Buffered) != 0 || s.Upstream != srv.Addr() {
		t.Errorf("session %+v", s)
	}
	// The session works.
	if _, err := s.Conn.Write([]byte("x NOOP\r\n")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := s.Conn.Read(buf)
	if got := string(buf[:n]); err != nil || got != "x OK NOOP completed.\r\n" {
		t.Errorf("NOOP: %q, %v", got, err)
	}
	srv.CheckHidden(testSecret)
	checkLogins(t, srv, imaptest.Login{Command: "LOGIN", User: testUser, Secret: testSecret, TLS: true})
}

func checkLogins(t *testing.T, srv *imaptest.Fake, want ...imaptest.Login) {
	t.Helper()
	if got := srv.Logins(); !slices.Equal(got, want) {
		t.Errorf("the backend saw %+v, want %+v", got, want)
	}
}

// How credentials are sent, and that it depends on the form in which they came,
// the operator's choice and what the backend offers, in this order from the end.
func TestMethod(t *testing.T) {
	const (
		both     = "IMAP4rev1 AUTH=PLAIN"
		sasl     = "IMAP4rev1 LOGINDISABLED AUTH=PLAIN"
		command  = "IMAP4rev1 AUTH=CRAM-MD5"
		mailLast = "IMAP4rev1 LOGINDISABLED AUTH=LOGIN"
		cloud    = "IMAP4 IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2 SASL-IR"
		asLogin  = "LOGIN"
		asPlain  = "AUTHENTICATE PLAIN"
		asSASL   = "AUTHENTICATE LOGIN"
	)
	for _, tc := range []struct {
		caps    string
		form    login.Form
		command AuthCommand
		authz   string
		want    string // the command that the backend saw, or the verdict
	}{
		{both, login.FormLogin, Keep, "", asLogin},
		{both, login.FormAuthenticate, Keep, "", asPlain},
		{both, login.FormLogin, Login, "", asLogin},
		{both, login.FormAuthenticate, Login, "", asLogin},
		{both, login.FormLogin, Plain, "", asPlain},
		{both, login.FormAuthenticate, Plain, "", asPlain},

		// The other one, where the first is not offered.
		{sasl, login.FormLogin, Keep, "", asPlain},
		{sasl, login.FormLogin, Login, "", asPlain},
		{command, login.FormAuthenticate, Keep, "", asLogin},
		{command, login.FormAuthenticate, Plain, "", asLogin},
		{"imap4rev1 logindisabled auth=plain", login.FormLogin, Keep, "", asPlain},

		// The last resort.
		{mailLast, login.FormLogin, Keep, "", asSASL},
		{mailLast, login.FormAuthenticate, Plain, "", asSASL},
		{"IMAP4rev1 AUTH=LOGIN", login.FormAuthenticate, Keep, "", asLogin},

		// Nothing is left.
		{cloud, login.FormLogin, Keep, "", unavailable},
		{cloud, login.FormAuthenticate, Plain, "bob", unavailable},
		{"IMAP4rev1 LOGINDISABLED AUTH=PLAIN-CLIENTTOKEN", login.FormLogin, Keep, "", unavailable},

		// Somebody else's mailbox: only PLAIN can say so.
		{both, login.FormAuthenticate, Keep, "bob", asPlain},
		{both, login.FormAuthenticate, Login, "bob", asPlain},
		{command, login.FormAuthenticate, Keep, "bob", "denied [AUTHORIZATIONFAILED]"},
		{mailLast, login.FormAuthenticate, Keep, "bob", "denied [AUTHORIZATIONFAILED]"},
	} {
		name := tc.caps + " " + string(tc.command) + " " + [...]string{"AUTHENTICATE", "LOGIN"}[tc.form] + " " + tc.authz
		t.Run(name, func(t *testing.T) {
			server, _ := testTLS(t)
			srv := imaptest.NewFake(t, imaptest.Profile{Inside: tc.caps, TLS: server})
			a := attempt(tc.form)
			a.AuthzID = tc.authz
			v := checkAt(t, starttls(t, srv.Addr()), a, tc.command)
			if strings.Contains(tc.want, "[") {
				if got := summary(v); got != tc.want {
					t.Errorf("verdict %s, want %s (%v)", got, tc.want, v.Err)
				}
				checkLogins(t, srv)
				return
			}
			if v.Result != login.Granted {
				t.Errorf("verdict %s (%v)", summary(v), v.Err)
			}
			want := imaptest.Login{User: testUser, AuthzID: tc.authz, Secret: testSecret, TLS: true}
			want.Command, want.Mechanism, _ = strings.Cut(tc.want, " ")
			checkLogins(t, srv, want)
		})
	}
}

// The operator's choice wins over the caller's.
func TestConfiguredCommand(t *testing.T) {
	server, _ := testTLS(t)
	srv := imaptest.NewFake(t, imaptest.Profile{TLS: server})
	cfg := starttls(t, srv.Addr())
	cfg.AuthCommand = Login
	checkAt(t, cfg, attempt(login.FormAuthenticate), Plain)
	checkLogins(t, srv, imaptest.Login{Command: "LOGIN", User: testUser, Secret: testSecret, TLS: true})
}

// What users type reaches the backend byte by byte, whichever way it goes.
func TestCredentialsAsTyped(t *testing.T) {
	names := []string{
		"alice",
		"{env.HOME}",
		"{5}",
		`CORP\alice`,
		`CORP\\alice`,
		"alice@example.org/shared",
		`alice@example.org\shared`,
		`"al\ic"e`,
		`quote"back\slash grün` + "\xff",
		"grün",
		" alice ",
		"*",
		"NIL",
		"+",
		"a\tb",
		"a(b)c%d*e",
		"\x7f\x01",
		strings.Repeat("long ", 100),
	}
	for _, caps := range []string{
		"IMAP4rev1 AUTH=PLAIN",
		"IMAP4rev1 AUTH=PLAIN SASL-IR LITERAL+",
		"IMAP4rev1 AUTH=PLAIN LITERAL-",
		"IMAP4rev2 AUTH=PLAIN",
		"IMAP4rev1 LOGINDISABLED AUTH=LOGIN SASL-IR",
	} {
		server, _ := testTLS(t)
		srv := imaptest.NewFake(t, imaptest.Profile{Inside: caps, TLS: server})
		cfg := starttls(t, srv.Addr())
		var want []imaptest.Login
		for _, form := range []login.Form{login.FormLogin, login.FormAuthenticate} {
			for _, name := range names {
				a := attempt(form)
				// The secret has to pass in the same way.
				a.User, a.Secret = name, login.Secret("secret of "+name)
				if v := checkAt(t, cfg, a, Keep); v.Result != login.Granted {
					t.Fatalf("%s: %q: %s (%v)", caps, name, summary(v), v.Err)
				}
				seen := imaptest.Login{Command: "LOGIN", User: name, Secret: string(a.Secret), TLS: true}
				switch {
				case strings.Contains(caps, "AUTH=LOGIN"):
					seen.Command, seen.Mechanism = "AUTHENTICATE", "LOGIN"
				case form == login.FormAuthenticate:
					seen.Command, seen.Mechanism = "AUTHENTICATE", "PLAIN"
					seen.Initial = strings.Contains(caps, "SASL-IR") || strings.Contains(caps, "rev2")
				default:
					seen.Literals = !imapwire.CanQuote(name) || !imapwire.CanQuote(string(a.Secret))
				}
				want = append(want, seen)
			}
		}
		got := srv.Logins()
		if len(got) != len(want) {
			t.Fatalf("%s: %d logins, want %d", caps, len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s:\n got %+v\nwant %+v", caps, got[i], want[i])
			}
		}
		srv.CheckHidden(names[4:]...)
	}
}

// A backend that refused is not asked again in another way: that would double
// the failures which lock an account.
func TestRefusedOnce(t *testing.T) {
	for _, form := range []login.Form{login.FormLogin, login.FormAuthenticate} {
		server, _ := testTLS(t)
		p := imaptest.Exchange(server)
		p.Login = func(l imaptest.Login) string { return "NO " + l.Command + " failed." }
		srv := imaptest.NewFake(t, p)
		if _, v := openAt(t, starttls(t, srv.Addr()), attempt(form), Keep); summary(v) != denied || v.Err != nil {
			t.Errorf("verdict %+v, want %s", v, denied)
		}
		if n := len(srv.Logins()); n != 1 {
			t.Errorf("the backend was asked %d times", n)
		}
		srv.WaitIdle()
	}
}

// Credentials that could break out of a command are refused without asking.
func TestUnsafeCredentials(t *testing.T) {
	server, _ := testTLS(t)
	srv := imaptest.NewFake(t, imaptest.Exchange(server))
	for _, tc := range []struct{ user, secret, authz string }{
		{"", "x", ""},
		{"x", "", ""},
		{"a\x00b", "x", ""},
		{"a\r\nA2 LOGOUT", "x", ""},
		{"x", "a\nb", ""},
		{"x", "a\rb", ""},
		{"x", "a\x00b", ""},
		{"x", "x", "a\x00b"},
	} {
		a := attempt(login.FormAuthenticate)
		a.User, a.Secret, a.AuthzID = tc.user, login.Secret(tc.secret), tc.authz
		if _, v := openAt(t, starttls(t, srv.Addr()), a, Keep); summary(v) != denied {
			t.Errorf("%q: verdict %s", tc, summary(v))
		}
	}
	srv.WaitIdle()
	checkLogins(t, srv)
}

// A check logs out again, and leaves no connection.
func TestCheckLogsOut(t *testing.T) {
	server, client := testTLS(t)
	commands := make(chan string, 8)
	srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
		if c.StartTLS(server) != nil {
			return
		}
		c.Send("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] ready\r\n")
		for {
			line, ok := c.ReadLine()
			if !ok {
				close(commands)
				return
			}
			tag, name, _ := imaptest.SplitCommand(line)
			commands <- name
			c.Sendf("%s OK done", tag)
		}
	})
	cfg := &Config{Address: srv.Addr(), Mode: ImplicitTLS, TLS: client}
	if v := checkAt(t, cfg, attempt(login.FormAuthenticate), Plain); v.Result != login.Granted {
		t.Errorf("verdict %s (%v)", summary(v), v.Err)
	}
	srv.WaitIdle()
	var got []string
	for name := range commands {
		got = append(got, name)
	}
	if want := []string{"AUTHENTICATE", "LOGOUT"}; !slices.Equal(got, want) {
		t.Errorf("commands %q, want %q", got, want)
	}
}

// afterLogin plays a backend that answers the login with the text, in which
// "TAG" is the tag, and any command after it with OK, after data if it has any.
func afterLogin(t *testing.T, answer string, data map[string]string) *imaptest.Script {
	server, _ := testTLS(t)
	return imaptest.NewScript(t, func(c *imaptest.Conn) {
		if c.StartTLS(server) != nil {
			return
		}
		c.Send("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN NAMESPACE] ready\r\n")
		tag, args := c.Command("LOGIN")
		if _, ok := c.Credentials("LOGIN", args); !ok {
			return
		}
		c.Send(strings.ReplaceAll(answer, "TAG", tag))
		for {
			line, ok := c.ReadLine()
			if !ok {
				return
			}
			tag, name, _ := imaptest.SplitCommand(line)
			text := data[name]
			if !strings.Contains(text, "TAG ") {
				text += "TAG OK done\r\n"
			}
			c.Send(strings.ReplaceAll(text, "TAG", tag))
		}
	})
}

// What the backend says around its OK: which capabilities count, and what of it
// the client gets to see.
func TestAfterLogin(t *testing.T) {
	asked := map[string]string{"CAPABILITY": "* CAPABILITY IMAP4rev1 ASKED\r\n"}
	for _, tc := range []struct {
		name, answer string
		data         map[string]string
		caps         string
		buffered     string
		want         string
	}{
		{"asked for", "TAG OK in\r\n", asked, "IMAP4rev1 ASKED", "", "granted"},
		{"in the code", "TAG OK [CAPABILITY IMAP4rev1 TOLD] in\r\n", asked, "IMAP4rev1 TOLD", "", "granted"},
		{"before the OK", "* CAPABILITY IMAP4rev1 TOLD\r\nTAG OK in\r\n", asked, "IMAP4rev1 TOLD", "", "granted"},
		{"strange ones are left out", "TAG OK [CAPABILITY IMAP4rev1  A\"B  gr\xfcn (X) IDLE] in\r\n", asked, "IMAP4rev1 IDLE", "", "granted"},
		{"none listed", "TAG OK in\r\n", nil, "", "", unavailable},
		{"listing refused", "TAG OK in\r\n", map[string]string{"CAPABILITY": "TAG BAD no\r\n"}, "", "", unavailable},
		{"not connected", "TAG OK in\r\n", map[string]string{"CAPABILITY": "TAG BAD User is authenticated but not connected.\r\n"}, "", "", throttling},

		{"sent early", "TAG OK [CAPABILITY IMAP4rev1] in\r\n* 3 EXISTS\r\n* 1 RE", asked, "IMAP4rev1", "* 3 EXISTS\r\n* 1 RE", "granted"},
		{"alert before", "* OK [ALERT] disk full\r\nTAG OK in\r\n", asked, "IMAP4rev1 ASKED", "* OK [ALERT] disk full\r\n", "granted"},
		{"alert in the OK", "TAG OK [ALERT] disk full\r\n", asked, "IMAP4rev1 ASKED", "* OK [ALERT] disk full\r\n", "granted"},
		{
			"alert in between", "TAG OK in\r\n",
			map[string]string{"CAPABILITY": "* NO [ALERT] disk full\r\n* CAPABILITY IMAP4rev1\r\nTAG OK done\r\n* 1 EXISTS\r\n"},
			"IMAP4rev1", "* OK [ALERT] disk full\r\n* 1 EXISTS\r\n", "granted",
		},
		{"too many alerts", strings.Repeat("* OK [ALERT] "+strings.Repeat("x", 4000)+"\r\n", 9) + "TAG OK in\r\n", asked,
			"IMAP4rev1 ASKED", strings.Repeat("* OK [ALERT] "+strings.Repeat("x", 4000)+"\r\n", 2), "granted"},
		{"no alert", "* OK [PARSE] x\r\n* NO y\r\nTAG OK [WARN] z\r\n", asked, "IMAP4rev1 ASKED", "", "granted"},

		{"BYE before", "* BYE busy\r\nTAG OK in\r\n", asked, "", "", unavailable},
		{"BYE in between", "TAG OK in\r\n* BYE busy\r\n", asked, "", "", unavailable},
		{"BYE at the end", "TAG OK [CAPABILITY IMAP4rev1] in\r\n* bye [UNAVAILABLE] busy\r\n", asked, "", "", unavailable},
		{"too many", "* BYE Too many connections\r\n", asked, "", "", limited},
		{"60 kB", "TAG OK [CAPABILITY IMAP4rev1] " + strings.Repeat("x", 60_000) + "\r\n", asked, "IMAP4rev1", "", "granted"},
		{"70 kB", "TAG OK [CAPABILITY IMAP4rev1] " + strings.Repeat("x", 70_000) + "\r\n", asked, "", "", unavailable},
		{"literals", "* LIST () {1}\r\n/ {7}\r\nTAG OK \r\n* NAMESPACE {0}\r\n\r\nTAG OK in\r\n", asked, "IMAP4rev1 ASKED", "", "granted"},
		{"braces in a text", "* OK {7}\r\nTAG OK in {7}\r\n", asked, "IMAP4rev1 ASKED", "", "granted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := afterLogin(t, tc.answer, tc.data)
			_, client := testTLS(t)
			cfg := &Config{Address: srv.Addr(), Mode: ImplicitTLS, TLS: client}
			s, v := openAt(t, cfg, attempt(login.FormLogin), Keep)
			if got := summary(v); got != tc.want {
				t.Fatalf("verdict %s, want %s (%v)", got, tc.want, v.Err)
			}
			if s == nil {
				srv.WaitIdle()
				return
			}
			if got := strings.Join(s.Caps, " "); got != tc.caps {
				t.Errorf("capabilities %q, want %q", got, tc.caps)
			}
			if got := string(s.Buffered); got != tc.buffered {
				t.Errorf("buffered %.200q, want %.200q", got, tc.buffered)
			}
		})
	}
}

// In clear text, if the operator says so, and only then.
func TestModes(t *testing.T) {
	server, client := testTLS(t)
	for _, tc := range []struct {
		name    string
		profile imaptest.Profile
		mode    TLSMode
		want    string
		err     error
	}{
		{"implicit", imaptest.Profile{Implicit: true, TLS: server}, ImplicitTLS, "granted", nil},
		{"implicit, offering STARTTLS", imaptest.Profile{Implicit: true, TLS: server, Inside: "IMAP4rev1 STARTTLS"}, ImplicitTLS, "granted", nil},
		{"off", imaptest.Profile{Clear: true, Before: "IMAP4rev1 AUTH=PLAIN", After: "IMAP4rev1"}, NoTLS, "granted", nil},
		{"off, and refused", imaptest.Profile{Before: "IMAP4rev1 STARTTLS AUTH=PLAIN", TLS: server}, NoTLS, unavailable, ErrRefused},
		{"off, and not offered", imaptest.Profile{TLS: server}, NoTLS, unavailable, ErrPrivacy},
		{"starttls", imaptest.Profile{TLS: server}, StartTLS, "granted", nil},
		{"starttls against clear text", imaptest.Profile{Clear: true, Before: "IMAP4rev1 AUTH=PLAIN"}, StartTLS, unavailable, ErrNoStartTLS},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := imaptest.NewFake(t, tc.profile)
			_, v := openAt(t, &Config{Address: srv.Addr(), Mode: tc.mode, TLS: client}, attempt(login.FormAuthenticate), Keep)
			if got := summary(v); got != tc.want || tc.err != nil && !errors.Is(v.Err, tc.err) {
				t.Errorf("verdict %s (%v), want %s (%v)", got, v.Err, tc.want, tc.err)
			}
			if tc.mode != NoTLS {
				srv.CheckHidden(testSecret)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	_, client := testTLS(t)
	for _, tc := range []struct {
		cfg  Config
		want string
	}{
		{Config{Mode: StartTLS, TLS: client}, ""},
		{Config{Mode: NoTLS, AuthCommand: Plain, Probe: ProbeOff}, ""},
		{Config{}, "unknown TLS mode"},
		{Config{Mode: "on"}, "unknown TLS mode"},
		{Config{Mode: StartTLS}, "without settings"},
		{Config{Mode: ImplicitTLS}, "without settings"},
		{Config{Mode: NoTLS, AuthCommand: "cram"}, "unknown command"},
		{Config{Mode: NoTLS, Probe: "maybe"}, "unknown probe mode"},
	} {
		err := tc.cfg.Validate()
		switch {
		case tc.want == "" && err == nil:
		case tc.want == "" || err == nil || !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tc.want):
			t.Errorf("%+v: error %v, want %q", tc.cfg, err, tc.want)
		}
	}
	// Nothing is sent on a connection that cannot be used.
	srv := imaptest.NewFake(t, imaptest.Profile{Clear: true, Before: "IMAP4rev1"})
	if _, v := openAt(t, &Config{Address: srv.Addr(), Mode: StartTLS}, attempt(login.FormLogin), Keep); !errors.Is(v.Err, ErrConfig) {
		t.Errorf("verdict %+v", v)
	}
	srv.WaitIdle()
	if len(srv.Clear()) > 0 {
		t.Errorf("sent %q", srv.Clear())
	}
}

// The context ends a login wherever it is; a cancelled one tells its cause.
func TestContext(t *testing.T) {
	server, client := testTLS(t)
	reached := make(chan struct{}, 8)
	srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
		if c.StartTLS(server) != nil {
			return
		}
		c.Send("* OK [CAPABILITY IMAP4rev1] ready\r\n")
		if _, ok := c.ReadLine(); !ok {
			return
		}
		reached <- struct{}{}
		c.Rest()
	})
	cfg := &Config{Address: srv.Addr(), Mode: ImplicitTLS, TLS: client}

	t.Run("cancelled", func(t *testing.T) {
		gone := errors.New("the client is gone")
		ctx, cancel := context.WithCancelCause(testContext(t))
		c, err := Dial(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			<-reached
			cancel(gone)
		}()
		if _, v := c.Open(ctx, attempt(login.FormLogin), Keep); v.Result != login.Unavailable || !errors.Is(v.Err, gone) {
			t.Errorf("verdict %+v", v)
		}
		srv.WaitIdle()
	})
	t.Run("late", func(t *testing.T) {
		c, err := Dial(testContext(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		v := c.Check(ctx, attempt(login.FormLogin), Keep)
		if v.Result != login.Unavailable || !errors.Is(v.Err, ErrTimeout) || !errors.Is(v.Err, context.DeadlineExceeded) {
			t.Errorf("verdict %+v", v)
		}
		srv.WaitIdle()
		select {
		case <-reached:
		default:
		}
	})
	t.Run("over before it began", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if c, err := Dial(ctx, cfg); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, %v", c, err)
		}
		c, err := Dial(testContext(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, v := c.Open(ctx, attempt(login.FormLogin), Keep); v.Result != login.Unavailable || !errors.Is(v.Err, context.Canceled) {
			t.Errorf("verdict %+v", v)
		}
		srv.WaitIdle()
		select {
		case <-reached:
			t.Error("something was sent")
		default:
		}
	})
}

// A connection serves one login.
func TestUsedOnce(t *testing.T) {
	server, _ := testTLS(t)
	p := imaptest.Exchange(server)
	p.Login = func(imaptest.Login) string { return "NO LOGIN failed." }
	srv := imaptest.NewFake(t, p)
	ctx := testContext(t)
	c, err := Dial(ctx, starttls(t, srv.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	if v := c.Check(ctx, attempt(login.FormLogin), Keep); summary(v) != denied {
		t.Errorf("verdict %s", summary(v))
	}
	if v := c.Check(ctx, attempt(login.FormLogin), Keep); v.Result != login.Unavailable || v.Code != imap.ResponseCodeUnavailable {
		t.Errorf("second verdict %s", summary(v))
	}
	c.Close()
	if n := len(srv.Logins()); n != 1 {
		t.Errorf("%d logins", n)
	}
}
