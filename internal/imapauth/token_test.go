package imapauth

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// testToken is as long as those of Microsoft.
var testToken = "ey" + strings.Repeat("J0b2tlbg", 400) + "~+/="

func tokenAttempt(t *testing.T, mechanism, user, authzID string) *login.Attempt {
	t.Helper()
	a := attempt(login.FormLogin)
	a.User, a.AuthzID = user, authzID
	with, err := a.WithToken(mechanism, login.Secret(testToken))
	if err != nil {
		t.Fatal(err)
	}
	return with
}

// tokenOnly looks like Exchange Online: no passwords, not even inside TLS.
func tokenOnly(t *testing.T, inside string) imaptest.Profile {
	server, _ := testTLS(t)
	return imaptest.Profile{TLS: server, Inside: inside}
}

func TestToken(t *testing.T) {
	for _, tc := range []struct {
		name, inside string
		mechanism    string
		authzID      string
		want         imaptest.Login
	}{
		{"XOAUTH2", "IMAP4rev1 LOGINDISABLED SASL-IR AUTH=XOAUTH2", login.XOAuth2, "",
			imaptest.Login{Mechanism: "XOAUTH2", User: testUser, Initial: true}},
		{"without an initial response", "IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2", login.XOAuth2, "",
			imaptest.Login{Mechanism: "XOAUTH2", User: testUser}},
		{"OAUTHBEARER", "IMAP4rev1 LOGINDISABLED SASL-IR AUTH=OAUTHBEARER", login.OAuthBearer, "",
			imaptest.Login{Mechanism: "OAUTHBEARER", User: testUser, Initial: true}},
		{"OAUTHBEARER without an initial response", "IMAP4rev1 LOGINDISABLED AUTH=OAUTHBEARER", login.OAuthBearer, "a=b,c@example.org",
			imaptest.Login{Mechanism: "OAUTHBEARER", User: "a=b,c@example.org"}},
		{"mailbox of somebody else", "IMAP4rev1 LOGINDISABLED SASL-IR AUTH=XOAUTH2", login.XOAuth2, "info@example.org",
			imaptest.Login{Mechanism: "XOAUTH2", User: "info@example.org", Initial: true}},
		{"beside passwords", "IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2", login.XOAuth2, "",
			imaptest.Login{Mechanism: "XOAUTH2", User: testUser, Initial: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := imaptest.NewFake(t, tokenOnly(t, tc.inside))
			cfg := starttls(t, srv.Addr())
			cfg.Token = tc.mechanism
			if err := Ping(testContext(t), cfg); err != nil {
				t.Errorf("health check: %v", err)
			}
			user := tc.want.User
			if tc.authzID != "" {
				user = testUser
			}
			a := tokenAttempt(t, tc.mechanism, user, tc.authzID)
			if _, v := openAt(t, cfg, a, Keep); v.Result != login.Granted {
				t.Fatalf("verdict %s (%v)", summary(v), v.Err)
			}
			if v := checkAt(t, cfg, a, Plain); v.Result != login.Granted {
				t.Errorf("check: verdict %s (%v)", summary(v), v.Err)
			}
			tc.want.Command, tc.want.Secret, tc.want.TLS = "AUTHENTICATE", testToken, true
			checkLogins(t, srv, tc.want, tc.want)
			srv.CheckHidden(testToken)
		})
	}
}

// What a backend says of a token that it does not take, with the error that it sends
// before and without.
func TestTokenRefused(t *testing.T) {
	for _, mechanism := range login.TokenMechanisms {
		for answer, want := range map[string]string{
			"NO AUTHENTICATE failed.":           denied,
			"NO [UNAVAILABLE] no introspection": unavailable,
			"NO Server Unavailable. 15":         unavailable,
			"BAD Command Argument Error. 12":    unavailable,
		} {
			p := tokenOnly(t, "IMAP4rev1 LOGINDISABLED SASL-IR AUTH="+mechanism)
			p.Login = func(imaptest.Login) string { return answer }
			srv := imaptest.NewFake(t, p)
			cfg := starttls(t, srv.Addr())
			cfg.Token = mechanism
			if _, v := openAt(t, cfg, tokenAttempt(t, mechanism, testUser, ""), Keep); summary(v) != want {
				t.Errorf("%s, %s: verdict %s, want %s (%v)", mechanism, answer, summary(v), want, v.Err)
			}
			srv.WaitIdle()
		}
	}
}

// tokenScript plays a backend that answers the token with the lines, in which TAG is
// the tag, and reads a line between two of them.
func tokenScript(t *testing.T, answers ...string) *Config {
	server, client := testTLS(t)
	srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
		if c.StartTLS(server) != nil {
			return
		}
		c.Send("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2 SASL-IR] ready\r\n")
		tag, _ := c.Command("AUTHENTICATE")
		for i, answer := range answers {
			if i > 0 {
				if _, ok := c.ReadLine(); !ok {
					return
				}
			}
			c.Send(strings.ReplaceAll(answer, "TAG", tag))
		}
	})
	return &Config{Address: srv.Addr(), Mode: ImplicitTLS, TLS: client, Token: login.XOAuth2}
}

func TestTokenProtocol(t *testing.T) {
	for name, tc := range map[string]struct {
		answers []string
		want    string
	}{
		"plain NO":                {[]string{"TAG NO no\r\n"}, denied},
		"error, then NO":          {[]string{"+ e30=\r\n", "TAG NO no\r\n"}, denied},
		"error, then a code":      {[]string{"+ e30=\r\n", "TAG NO [EXPIRED] no\r\n"}, "denied [EXPIRED]"},
		"error that is no base64": {[]string{"+ ***\r\n", "TAG NO no\r\n"}, unavailable},
		"error, then an error":    {[]string{"+ e30=\r\n", "+ e30=\r\n"}, unavailable},
		"error, then BYE":         {[]string{"+ e30=\r\n", "* BYE bye\r\n"}, unavailable},
		"hangs up":                {[]string{}, unavailable},
		"hangs up after error":    {[]string{"+ e30=\r\n"}, unavailable},
		"throttled":               {[]string{"TAG BAD Request is throttled. Suggested Backoff Time: 4711 milliseconds\r\n"}, throttling + " for 4.711s"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tokenScript(t, tc.answers...)
			v := checkAt(t, cfg, tokenAttempt(t, login.XOAuth2, testUser, ""), Plain)
			if got := summary(v); got != tc.want {
				t.Errorf("verdict %s, want %s (%v)", got, tc.want, v.Err)
			}
			if v.Err != nil && strings.Contains(v.Err.Error(), "eyJ0b2") {
				t.Error("the error has the token in it")
			}
		})
	}
}

func TestTokenNotOffered(t *testing.T) {
	srv := imaptest.NewFake(t, tokenOnly(t, "IMAP4rev1 AUTH=PLAIN AUTH=OAUTHBEARER"))
	cfg := starttls(t, srv.Addr())
	cfg.Token = login.XOAuth2
	if err := Ping(testContext(t), cfg); !errors.Is(err, ErrNoTokens) || !strings.Contains(err.Error(), "AUTH=XOAUTH2") {
		t.Errorf("got %v, want that AUTH=XOAUTH2 is not offered", err)
	}
}

// A backend that is to see tokens sees no password, even if it would take one.
func TestTokenIsNoPassword(t *testing.T) {
	srv := imaptest.NewFake(t, tokenOnly(t, "IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2"))
	for _, command := range []AuthCommand{Keep, Login, Plain} {
		cfg := starttls(t, srv.Addr())
		cfg.Token = login.XOAuth2
		if _, v := openAt(t, cfg, attempt(login.FormLogin), command); summary(v) != unavailable || !errors.Is(v.Err, errNoToken) {
			t.Errorf("%q: verdict %s (%v)", command, summary(v), v.Err)
		}
	}
	checkLogins(t, srv)
}

// A server that does not answer keeps nobody longer than the context says.
func TestTokenTimeout(t *testing.T) {
	server, client := testTLS(t)
	srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
		if c.StartTLS(server) != nil {
			return
		}
		c.Send("* OK [CAPABILITY IMAP4rev1 AUTH=XOAUTH2] ready\r\n")
		c.Command("AUTHENTICATE")
		c.Send("+\r\n")
		c.ReadLine()
		c.Send("+ e30=\r\n")
		c.ReadLine()
		c.Rest()
	})
	cfg := &Config{Address: srv.Addr(), Mode: ImplicitTLS, TLS: client, Token: login.XOAuth2}
	c, err := Dial(testContext(t), cfg, login.Ends{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if v := c.Check(ctx, tokenAttempt(t, login.XOAuth2, testUser, ""), Plain); summary(v) != unavailable || !errors.Is(v.Err, ErrTimeout) {
		t.Errorf("verdict %s (%v)", summary(v), v.Err)
	}
}
