package imapauth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
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

// A Dovecot that says nothing to a password may be punishing our address, and the
// error says so. Others have no such habit, and before the password nobody is punished.
func TestPenalty(t *testing.T) {
	over := make(chan struct{})
	server, client := testTLS(t)
	profile := imaptest.Profile{TLS: server, Greeting: "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] Dovecot (Debian) ready.",
		Login: func(imaptest.Login) string { <-over; return "" }}
	dovecot := imaptest.NewFake(t, profile)
	profile.Greeting = ""
	other := imaptest.NewFake(t, profile)
	stuck := imaptest.NewScript(t, func(c *imaptest.Conn) {
		c.Send("* OK Dovecot ready.")
		c.Rest()
	})
	defer close(over)
	for addr, want := range map[string]bool{dovecot.Addr(): true, other.Addr(): false, stuck.Addr(): false} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		v := openWithin(ctx, &Config{Address: addr, Mode: StartTLS, TLS: client})
		cancel()
		if v.Result != login.Unavailable || !errors.Is(v.Err, ErrTimeout) || errors.Is(v.Err, ErrPenalty) != want {
			t.Errorf("%s: %v", summary(v), v.Err)
		}
	}
}
