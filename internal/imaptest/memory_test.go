package imaptest

import (
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
)

func TestMemory(t *testing.T) {
	ca := NewCA(t)
	options := &imapclient.Options{TLSConfig: ca.ClientTLS("localhost")}
	tests := []struct {
		name     string
		accounts Accounts
		dial     func(addr string) (*imapclient.Client, error)
	}{
		{"clear", Accounts{}, func(addr string) (*imapclient.Client, error) {
			return imapclient.DialInsecure(addr, nil)
		}},
		{"STARTTLS", Accounts{TLS: ca.ServerTLS()}, func(addr string) (*imapclient.Client, error) {
			return imapclient.DialStartTLS(addr, options)
		}},
		{"implicit", Accounts{TLS: ca.ServerTLS(), Implicit: true}, func(addr string) (*imapclient.Client, error) {
			return imapclient.DialTLS(addr, options)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.accounts.Passwords = map[string]string{"alice": "right"}
			m := NewMemory(t, tt.accounts)
			try := func(password string) error {
				t.Helper()
				c, err := tt.dial(m.Addr())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := c.Login("alice", password).Wait(); err != nil {
					return err
				}
				_, err = c.Select("INBOX", nil).Wait()
				return err
			}
			if err := try("right"); err != nil {
				t.Error(err)
			}
			if try("wrong") == nil {
				t.Error("the wrong password was good")
			}
			m.Disable("alice", true)
			if try("right") == nil {
				t.Error("a disabled account was good")
			}
			m.Disable("alice", false)
			if err := try("right"); err != nil {
				t.Error(err)
			}
			if n := len(m.Logins()); n != 4 {
				t.Errorf("%d logins, want 4", n)
			}
		})
	}
}
