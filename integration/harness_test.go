//go:build integration

package integration

import (
	"crypto/tls"
	"fmt"
	"testing"
)

// insecureTLS is for our own looks at servers whose certificates are not what a
// test is about.
func insecureTLS() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// Without any of our own code in between: that the servers of the other tests
// do what those take for granted.
func TestHarness(t *testing.T) {
	t.Parallel()
	good, bad := secret("Right-Horse-81"), secret("Wrong-Horse-82")
	d := startDovecot(t, dovecotSettings{}, map[string]string{"alice": good})
	c := d.Dial()
	defer c.Close()
	if err := c.Login("alice", bad).Wait(); err == nil {
		t.Error("Dovecot takes any password")
	}
	if err := c.Login("alice", good).Wait(); err != nil {
		t.Error(err)
	}
	d.WantLogins("alice", 1)
	p := startPostfix(t, "inet:"+d.Auth())
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		for _, more := range [][]string{nil, {"--tls"}} {
			p.WantAuth(235, mechanism, "alice", good, more...)
			p.WantAuth(535, mechanism, "alice", bad, more...)
		}
	}
	d.Disable("alice")
	p.WantAuth(535, "PLAIN", "alice", good)
	d.Stop()
	p.WantAuth(454, "PLAIN", "alice", good)
	d.Start()
	d.Enable("alice")
	// Each smtpd finds out for itself that its connection is gone, and says so
	// to one client.
	eventually(t, "Postfix to connect to Dovecot anew", func() error {
		if code, text := p.Auth("PLAIN", "alice", good); code != 235 {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
}
