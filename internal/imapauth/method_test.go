package imapauth

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

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
				if strings.ContainsFunc(name, unicode.IsControl) { // which only passwords may have
					a.User = "alice"
				}
				if v := checkAt(t, cfg, a, Keep); v.Result != login.Granted {
					t.Fatalf("%s: %q: %s (%v)", caps, name, summary(v), v.Err)
				}
				seen := imaptest.Login{Command: "LOGIN", User: a.User, Secret: string(a.Secret), TLS: true}
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
		// Random bytes have a short name in them now and then.
		srv.CheckHidden(slices.DeleteFunc(slices.Clone(names[4:]), func(name string) bool { return len(name) < 5 })...)
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
		{"a\x01", "x", ""},
		{"a\x7f", "x", ""},
		{"\ta", "x", ""},
		{"x", "x", "a\u009b"},
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

// The bytes of a login on the wire.
func TestWire(t *testing.T) {
	long := strings.Repeat("x", maxLiteralMinus+1)
	for _, tc := range []struct {
		caps         string
		form         login.Form
		user, secret string
		want         string
	}{
		{"", login.FormLogin, `CORP\alice`, `a"b`, `T1 LOGIN "CORP\\alice" "a\"b"` + "\r\n"},
		{"", login.FormLogin, "grün", "x", "T1 LOGIN {5}\r\ngrün \"x\"\r\n"},
		{"", login.FormLogin, "x", "grün", "T1 LOGIN \"x\" {5}\r\ngrün\r\n"},
		{"LITERAL+", login.FormLogin, "ü", "grün", "T1 LOGIN {2+}\r\nü {5+}\r\ngrün\r\n"},
		{"LITERAL-", login.FormLogin, "ü", "grün", "T1 LOGIN {2+}\r\nü {5+}\r\ngrün\r\n"},
		{"LITERAL+", login.FormLogin, "u", long, "T1 LOGIN \"u\" {4097+}\r\n" + long + "\r\n"},
		{"LITERAL-", login.FormLogin, "u", long, "T1 LOGIN \"u\" {4097}\r\n" + long + "\r\n"},
		{"LITERAL-", login.FormLogin, "u", long[1:], "T1 LOGIN \"u\" {4096+}\r\n" + long[1:] + "\r\n"},
		{"AUTH=PLAIN", login.FormAuthenticate, "tim", "tanstaaf", "T1 AUTHENTICATE PLAIN\r\nAHRpbQB0YW5zdGFhZg==\r\n"},
		{"AUTH=PLAIN SASL-IR", login.FormAuthenticate, "tim", "tanstaaf", "T1 AUTHENTICATE PLAIN AHRpbQB0YW5zdGFhZg==\r\n"},
		{"LOGINDISABLED AUTH=LOGIN SASL-IR", login.FormAuthenticate, "tim", "tanstaaf", "T1 AUTHENTICATE LOGIN\r\ndGlt\r\ndGFuc3RhYWY=\r\n"},
	} {
		// As many invitations as it takes, and then the answer.
		says := "* OK [CAPABILITY IMAP4rev1 " + tc.caps + "] ready\r\n"
		switch strings.Count(tc.want, "\r\n") - strings.Count(tc.want, "+}\r\n") - 1 {
		case 1:
			says += "+\r\n"
		case 2:
			says += "+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\n"
		}
		conn := &recorded{in: bytes.NewReader([]byte(says + "T1 NO no\r\n"))}
		c := newClient(conn, &Config{Mode: NoTLS}, fuzzPrefix)
		ctx := testContext(t)
		if err := c.within(ctx, c.prepare); err != nil {
			t.Fatal(err)
		}
		a := attempt(tc.form)
		a.User, a.Secret = tc.user, login.Secret(tc.secret)
		v := c.Check(ctx, a, Keep)
		if got := conn.out.String(); got != tc.want || summary(v) != denied {
			t.Errorf("%s: sent %.100q, want %.100q; verdict %s (%v)", tc.caps, got, tc.want, summary(v), v.Err)
		}
	}
}
