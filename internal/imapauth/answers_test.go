package imapauth

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// What may be answered to the credentials themselves, and that they are sent
// once at most.
func TestHostileAnswers(t *testing.T) {
	const caps = "IMAP4rev1 AUTH=PLAIN"
	for _, tc := range []struct {
		name   string
		caps   string
		form   login.Form
		answer string // to the command; TAG is its tag
		want   string
		err    error
	}{
		{"another tag", caps, login.FormLogin, "A1 OK in\r\n", unavailable, ErrProtocol},
		{"a tag that begins like ours", caps, login.FormLogin, "TAG1 OK in\r\n", unavailable, ErrProtocol},
		{"our tag in the other case", caps, login.FormLogin, "tag OK in\r\n", unavailable, ErrProtocol},
		{"untagged OK", caps, login.FormLogin, "* OK in\r\n* BYE\r\n", unavailable, ErrBye},
		{"no status", caps, login.FormLogin, "TAG OKAY in\r\n", unavailable, ErrProtocol},
		{"PREAUTH", caps, login.FormLogin, "* PREAUTH in\r\n", unavailable, ErrProtocol},
		{"tagged PREAUTH", caps, login.FormLogin, "TAG PREAUTH in\r\n", unavailable, ErrProtocol},
		{"unexpected continuation", caps, login.FormLogin, "+ more\r\n", unavailable, ErrProtocol},
		{"nonsense", caps, login.FormLogin, "[COPYUID 55 31 6]\r\n", unavailable, ErrProtocol},
		{"BYE", caps, login.FormLogin, "* BYE Connection closed. 14\r\n", unavailable, ErrBye},
		{"temporary failure", caps, login.FormLogin, "TAG NO Server Unavailable. 15\r\n", unavailable, ErrRefused},
		{"temporary failure by its code", caps, login.FormLogin, "TAG NO [UNAVAILABLE] x\r\n", unavailable, ErrRefused},
		{"BAD", caps, login.FormLogin, "TAG BAD Command Argument Error. 11\r\n", unavailable, ErrRefused},
		{"referral", caps, login.FormLogin, "TAG NO [REFERRAL imap://u@127.0.0.1/] x\r\n", unavailable, ErrRefused},
		{"referral, granted", caps, login.FormLogin, "TAG OK [REFERRAL imap://u@127.0.0.1/] x\r\n", "granted", nil},
		{"refused", caps, login.FormLogin, "TAG NO LOGIN failed.\r\n", denied, nil},

		{"OK without the password", caps, login.FormAuthenticate, "TAG OK in\r\n", unavailable, ErrProtocol},
		{"NO without the password", caps, login.FormAuthenticate, "TAG NO AUTHENTICATE failed.\r\n", unavailable, ErrRefused},
		{"BYE without the password", caps, login.FormAuthenticate, "* BYE\r\n", unavailable, ErrBye},
		{"unexpected continuation after SASL-IR", caps + " SASL-IR", login.FormAuthenticate, "+ \r\n", unavailable, ErrProtocol},
		{"challenge that is none", "IMAP4rev1 LOGINDISABLED AUTH=LOGIN", login.FormAuthenticate, "+\r\n+ ???\r\n", unavailable, ErrProtocol},
		{"another challenge", "IMAP4rev1 LOGINDISABLED AUTH=LOGIN", login.FormAuthenticate, "+\r\n+ UElOOg==\r\n", unavailable, ErrProtocol},
		{"OK without the password, AUTH=LOGIN", "IMAP4rev1 LOGINDISABLED AUTH=LOGIN", login.FormAuthenticate, "+\r\nTAG OK in\r\n", unavailable, ErrProtocol},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server, client := testTLS(t)
			srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
				if c.StartTLS(server) != nil {
					return
				}
				c.Sendf("* OK [CAPABILITY %s] ready", tc.caps)
				line, _ := c.ReadLine()
				tag, _, _ := imaptest.SplitCommand(line)
				c.Send(strings.ReplaceAll(strings.ReplaceAll(tc.answer, "TAG", tag), "tag", strings.ToLower(tag)))
				for {
					line, ok := c.ReadLine()
					if !ok {
						return
					}
					tag, name, _ := imaptest.SplitCommand(line)
					if slices.Contains([]string{"LOGIN", "AUTHENTICATE"}, name) {
						t.Errorf("the backend was asked again: %s", name)
					}
					c.Sendf("* CAPABILITY IMAP4rev1\r\n%s OK done", tag)
				}
			})
			_, v := openAt(t, &Config{Address: srv.Addr(), Mode: ImplicitTLS, TLS: client}, attempt(tc.form), Keep)
			if got := summary(v); got != tc.want || tc.err != nil && !errors.Is(v.Err, tc.err) {
				t.Errorf("verdict %s (%v), want %s (%v)", got, v.Err, tc.want, tc.err)
			}
			if n := srv.Conns(); n != 1 {
				t.Errorf("%d connections were made", n)
			}
		})
	}
}

// A backend that refuses a literal, or the second of two, is not told the rest.
func TestLiteralRefused(t *testing.T) {
	server, client := testTLS(t)
	for _, accepted := range []int{0, 1} {
		for _, answer := range []string{"NO LOGIN failed.", "BAD too long", "OK in"} {
			srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
				if c.StartTLS(server) != nil {
					return
				}
				c.Send("* OK [CAPABILITY IMAP4rev1] ready\r\n")
				tag, _ := c.Command("LOGIN")
				for range accepted {
					c.Send("+\r\n")
					c.Bytes(len("größe"))
					c.Expect(" {")
				}
				c.Sendf("%s %s", tag, answer)
				if rest := c.Rest(); len(rest) > 0 {
					t.Errorf("sent after the refusal: %q", rest)
				}
			})
			a := attempt(login.FormLogin)
			a.User, a.Secret = "größe", "geheim und größer"
			_, v := openAt(t, &Config{Address: srv.Addr(), Mode: ImplicitTLS, TLS: client}, a, Keep)
			if summary(v) != unavailable {
				t.Errorf("%s after %d literals: verdict %s (%v)", answer, accepted, summary(v), v.Err)
			}
			srv.WaitIdle()
		}
	}
}
