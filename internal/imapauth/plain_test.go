package imapauth

import (
	"errors"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestOpenAs pins that somebody logs in as somebody else only where the backend can be
// told so, whatever else is preferred.
func TestOpenAs(t *testing.T) {
	server, _ := testTLS(t)
	for inside, offered := range map[string]bool{
		"IMAP4rev1 AUTH=PLAIN":                       true,
		"IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=LOGIN":    true,
		"IMAP4rev1 LOGINDISABLED AUTH=PLAIN SASL-IR": true,
		"IMAP4rev1":                          false,
		"IMAP4rev1 AUTH=LOGIN":               false,
		"IMAP4rev1 AUTH=XOAUTH2 AUTH=PLAINX": false,
	} {
		for _, command := range []AuthCommand{"", Keep, Login, Plain} {
			fake := imaptest.NewFake(t, imaptest.Profile{TLS: server, Inside: inside})
			cfg := starttls(t, fake.Addr())
			cfg.AuthCommand = command
			c, err := Dial(testContext(t), cfg, login.Ends{})
			if err != nil {
				t.Fatal(err)
			}
			a := attempt(login.FormLogin)
			a.AuthzID = "bob"
			s, v := c.OpenAs(testContext(t), a)
			if s != nil {
				_ = s.Conn.Close()
			}
			fake.WaitIdle()
			logins := fake.Logins()
			if v.Upstream != fake.Addr() || (v.Result == login.Granted) != offered || len(logins) > 0 != offered {
				t.Errorf("%s, %s: %s, asked %d times", inside, command, summary(v), len(logins))
			}
			if !offered && !errors.Is(v.Err, ErrNoAuthzID) {
				t.Errorf("%s, %s: %v", inside, command, v.Err)
			}
			for _, l := range logins {
				if l.AuthzID != "bob" || l.User != a.User || l.Mechanism != "PLAIN" {
					t.Errorf("%s, %s: the backend was told %+v", inside, command, l)
				}
			}
		}
	}
}
