//go:build integration

package integration

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// plain is the response of SASL PLAIN.
func plain(authzid, user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(authzid + "\x00" + user + "\x00" + password))
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// A user name is the user's and the backend's affair. We neither expand nor
// fold nor split it on its way.
func TestNamesAsTyped(t *testing.T) {
	t.Parallel()
	password := secret(`Names "and\Such 6`)
	ca := imaptest.NewCA(t)
	backend := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS("127.0.0.1")))
	addr, auth := freeAddr(t), freeAddr(t)
	startCaddy(t, site{Backend: upstream(backend.Addr(), ca), IMAP: addr, Auth: auth}.String())
	awaitCertificate(t, addr)

	names := []struct {
		name string
		// delegate says that the name opens another's mailbox, which is nothing
		// to send mail with.
		delegate bool
	}{
		{name: "{env.HOME}"},
		{name: "{imap.user}{$HOME}"},
		{name: `CORP\alice`},
		{name: "alice@example.org/shared", delegate: true},
		{name: "Bär\"b\\el\xff\xfe"},
		{name: "Alice.Upper@Example.ORG"},
	}
	ways := []struct {
		name, command string
		login         func(c *imapConn, user string)
	}{
		{"quoted", "LOGIN", func(c *imapConn, user string) {
			c.Want("OK", "LOGIN %s %s", quote(user), quote(password))
		}},
		{"literals", "LOGIN", func(c *imapConn, user string) {
			c.Want("+", "LOGIN {%d}", len(user))
			c.Send(fmt.Sprintf("%s {%d}\r\n", user, len(password)))
			if got, _ := c.Answer(); !strings.HasPrefix(got, "+") {
				c.t.Errorf("second literal: %q", got)
			}
			c.Send(password + "\r\n")
			if got, _ := c.Answer(); !strings.HasPrefix(got, "OK") {
				c.t.Errorf("after the literals: %q", got)
			}
		}},
		{"literals at once", "LOGIN", func(c *imapConn, user string) {
			c.Want("OK", "LOGIN {%d+}\r\n%s {%d+}\r\n%s", len(user), user, len(password), password)
		}},
		{"PLAIN", "AUTHENTICATE", func(c *imapConn, user string) {
			c.Want("+", "AUTHENTICATE PLAIN")
			c.Send(plain("", user, password) + "\r\n")
			if got, _ := c.Answer(); !strings.HasPrefix(got, "OK") {
				c.t.Errorf("after the response: %q", got)
			}
		}},
		{"PLAIN at once", "AUTHENTICATE", func(c *imapConn, user string) {
			c.Want("OK", "AUTHENTICATE PLAIN %s", plain("", user, password))
		}},
		{"LOGIN mechanism", "AUTHENTICATE", func(c *imapConn, user string) {
			c.Want("+", "AUTHENTICATE LOGIN")
			c.Send(b64(user) + "\r\n")
			if got, _ := c.Answer(); !strings.HasPrefix(got, "+") {
				c.t.Errorf("after the name: %q", got)
			}
			c.Send(b64(password) + "\r\n")
			if got, _ := c.Answer(); !strings.HasPrefix(got, "OK") {
				c.t.Errorf("after the password: %q", got)
			}
		}},
	}
	for _, tt := range names {
		for _, way := range ways {
			t.Run(fmt.Sprintf("%q/%s", tt.name, way.name), func(t *testing.T) {
				before := len(backend.Logins())
				way.login(dialSecure(t, addr), tt.name)
				wantLogin(t, backend.Logins()[before:], way.command, tt.name, password)
			})
		}
	}
	t.Run("SMTP", func(t *testing.T) {
		p := startPostfix(t, "inet:"+auth)
		for _, tt := range names {
			t.Run(fmt.Sprintf("%q", tt.name), func(t *testing.T) {
				before := len(backend.Logins())
				code, err := smtpAuth(p.Addr(), tt.name, password)
				if err != nil {
					t.Fatal(err)
				}
				got := backend.Logins()[before:]
				if tt.delegate {
					if code != 535 || len(got) != 0 {
						t.Errorf("code %d, %d logins; want 535 and the backend left alone", code, len(got))
					}
					return
				}
				if code != 235 {
					t.Errorf("code %d, want 235", code)
				}
				wantLogin(t, got, "AUTHENTICATE", tt.name, password)
			})
		}
	})
}

func wantLogin(t *testing.T, got []imaptest.Login, command, user, password string) {
	t.Helper()
	if len(got) != 1 {
		t.Fatalf("the backend saw %d logins, want 1", len(got))
	}
	if l := got[0]; l.User != user || l.Secret != password || l.Command != command || !l.TLS || l.AuthzID != "" {
		t.Errorf("the backend saw %s as %q (authzid %q), TLS %v, the right password: %v; want %s as %q",
			l.Command, l.User, l.AuthzID, l.TLS, l.Secret == password, command, user)
	}
}
