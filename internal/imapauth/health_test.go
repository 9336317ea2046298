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

// TestPing pins that it goes through TLS to the capabilities, logs nobody in, and
// hangs up in order.
func TestPing(t *testing.T) {
	server, client := testTLS(t)
	commands := make(chan string, 8)
	srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
		defer close(commands)
		if c.StartTLS(server) != nil {
			return
		}
		c.Send("* OK ready\r\n")
		for {
			line, ok := c.ReadLine()
			if !ok {
				return
			}
			tag, name, _ := imaptest.SplitCommand(line)
			commands <- name
			if name == "CAPABILITY" {
				c.Sendf("* CAPABILITY IMAP4rev1 AUTH=PLAIN")
			}
			c.Sendf("%s OK done", tag)
		}
	})
	// It dials the address that is for that, and the name is another matter.
	cfg := &Config{Address: "mail.example.org:143", DialAddress: srv.Addr(), Mode: ImplicitTLS, TLS: client}
	if err := Ping(testContext(t), cfg); err != nil {
		t.Fatal(err)
	}
	srv.WaitIdle()
	var got []string
	for name := range commands {
		got = append(got, name)
	}
	if want := []string{"CAPABILITY", "LOGOUT"}; !slices.Equal(got, want) {
		t.Errorf("commands %q, want %q", got, want)
	}
}

// TestPingFails pins what is wrong with a server at which nobody could log in.
func TestPingFails(t *testing.T) {
	server, client := testTLS(t)
	for name, tc := range map[string]struct {
		profile imaptest.Profile
		want    error
	}{
		"crowded":      {imaptest.Profile{TLS: server, Greeting: "* BYE Too many connections"}, ErrThrottled},
		"no STARTTLS":  {imaptest.Profile{Clear: true, Before: "IMAP4rev1 AUTH=PLAIN"}, ErrNoStartTLS},
		"no mechanism": {imaptest.Profile{TLS: server, Inside: "IMAP4rev1 LOGINDISABLED AUTH=GSSAPI"}, ErrNoMechanism},
	} {
		t.Run(name, func(t *testing.T) {
			srv := imaptest.NewFake(t, tc.profile)
			if err := Ping(testContext(t), starttls(t, srv.Addr())); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
	silent := imaptest.NewScript(t, func(c *imaptest.Conn) { c.Rest() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Ping(ctx, &Config{Address: silent.Addr(), Mode: ImplicitTLS, TLS: client}); !errors.Is(err, ErrTimeout) {
		t.Errorf("error %v, want %v", err, ErrTimeout)
	}
	silent.WaitIdle()
}

// TestEverybody pins that a backend which throttles holds off everybody only if it
// has not been told who comes: what it says to a name may be about that user.
func TestEverybody(t *testing.T) {
	server, client := testTLS(t)
	const throttle = "TAG BAD Request is throttled.\r\n"
	for _, tc := range []struct {
		name, caps string
		form       login.Form
		user       string
		// answers are to the lines that the client sends from the login on.
		answers   []string
		everybody bool
	}{
		{"AUTHENTICATE, at once", "AUTH=PLAIN", login.FormAuthenticate, testUser, []string{throttle}, true},
		{"AUTHENTICATE, hung up", "AUTH=PLAIN", login.FormAuthenticate, testUser, []string{"* BYE Too many connections\r\n"}, true},
		{"AUTHENTICATE, the answer", "AUTH=PLAIN", login.FormAuthenticate, testUser, []string{"+ \r\n", throttle}, false},
		{"AUTHENTICATE with the password", "AUTH=PLAIN SASL-IR", login.FormAuthenticate, testUser, []string{throttle}, false},
		{"AUTHENTICATE LOGIN, at once", "AUTH=LOGIN LOGINDISABLED", login.FormAuthenticate, testUser, []string{throttle}, true},
		{"AUTHENTICATE LOGIN, at the name", "AUTH=LOGIN LOGINDISABLED", login.FormAuthenticate, testUser, []string{"+ \r\n", throttle}, false},
		{"LOGIN", "", login.FormLogin, testUser, []string{throttle}, false},
		{"LOGIN with literals", "", login.FormLogin, "älice", []string{throttle}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
				if c.StartTLS(server) != nil {
					return
				}
				c.Sendf("* OK [CAPABILITY IMAP4rev1 %s] ready", tc.caps)
				var tag string
				for _, answer := range tc.answers {
					line, ok := c.ReadLine()
					if !ok {
						return
					}
					if tag == "" {
						tag, _, _ = imaptest.SplitCommand(line)
					}
					c.Send(strings.ReplaceAll(answer, "TAG", tag))
				}
			})
			a := attempt(tc.form)
			a.User = tc.user
			v := checkAt(t, &Config{Address: srv.Addr(), Mode: ImplicitTLS, TLS: client}, a, Keep)
			if v.Result != login.Throttled || v.Everybody != tc.everybody {
				t.Errorf("verdict %s (%v), everybody %v, want %v", summary(v), v.Err, v.Everybody, tc.everybody)
			}
		})
	}
}
