//go:build integration

package integration

import (
	"fmt"
	"net/http"
	"net/smtp"
	"net/textproto"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// checkPostfix logs in with a right and a wrong password in each way there is, with the
// backend there, away, and there again.
func checkPostfix(p *postfix, d *dovecot, user, good, bad string) {
	p.t.Helper()
	checkPostfixBy(p, d, user, good, bad, nil, []string{"--tls"})
}

// checkPostfixBy does so in some ways only, given as options of swaks.
func checkPostfixBy(p *postfix, d *dovecot, user, good, bad string, ways ...[]string) {
	p.t.Helper()
	all := func(password string, want int) {
		p.t.Helper()
		for _, mechanism := range []string{"PLAIN", "LOGIN"} {
			for _, more := range ways {
				p.WantAuth(want, mechanism, user, password, more...)
			}
		}
	}
	all(good, 235)
	all(bad, 535)
	d.Stop()
	all(good, 454)
	// The bad one is remembered as such; another is not.
	all(secret("Battery-Not-Horse-3"), 454)
	d.Start()
	all(good, 235)
	all(bad, 535)
}

func TestPostfix(t *testing.T) {
	t.Parallel()
	good, bad := secret("Postfix-Good-31"), secret("Postfix-Bad-32")
	const user = "alice@example.test"
	// The port of the README, unless somebody has it already.
	inet := "127.0.0.1:12345"
	if accepts("tcp", inet) == nil {
		inet = freeAddr(t)
	}
	tests := []struct {
		name string
		// listen is where Caddy listens, path what Postfix is told.
		listen, path func(dir string) string
	}{
		{
			"inet",
			func(string) string { return inet },
			func(string) string { return "inet:" + inet },
		},
		{
			"unix",
			func(dir string) string { return "unix/" + filepath.Join(dir, "auth.sock") + "|0666" },
			func(dir string) string { return "unix:" + filepath.Join(dir, "auth.sock") },
		},
		{
			"kept unix",
			func(dir string) string { return "kept/unix/" + filepath.Join(dir, "auth.sock") + "|0666" },
			func(dir string) string { return "unix:" + filepath.Join(dir, "auth.sock") },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			need(t, "dovecot", "postfix", "swaks")
			ca := imaptest.NewCA(t)
			d := startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}})},
				map[string]string{user: good})
			dir := shortDir(t)
			config := site{Backend: upstream(d.IMAP(), ca), Auth: tt.listen(dir)}
			c := startCaddy(t, config.String())
			p := startPostfix(t, tt.path(dir))

			checkPostfix(p, d, user, good, bad)

			if tt.name == "unix" {
				return // Caddy's own are lost with the first configuration that fails
			}
			failing := config
			failing.IMAP = taken(t)
			for range 3 {
				c.refused(failing.String())
				c.reload(config.String())
				p.WantAuth(235, "PLAIN", user, good)
			}
		})
	}
}

// A backend that takes the connection and then says nothing is the worst kind
// of down: Postfix waits for ten seconds and then hangs up on us.
func TestPostfixWithSilentBackend(t *testing.T) {
	t.Parallel()
	need(t, "postfix", "swaks")
	password := secret("Silent-Backend-5")
	silent := imaptest.NewScript(t, func(c *imaptest.Conn) { c.Rest() })
	auth := freeAddr(t)
	startCaddy(t, site{Backend: "\t\t\tupstream " + silent.Addr(), Auth: auth}.String())
	p := startPostfix(t, "inet:"+auth)
	start := time.Now()
	p.WantAuth(454, "PLAIN", "alice", password)
	took := time.Since(start)
	if took > 10*time.Second {
		t.Errorf("the answer took %v", took)
	}
	figure(t, "454 after %v", took.Round(100*time.Millisecond))
	if silent.Conns() == 0 {
		t.Error("the backend was never asked")
	}
}

// From the moment an account is disabled at the backend nobody gets in with it,
// and until that moment everybody did: nothing is remembered for them.
func TestDisabledAccount(t *testing.T) {
	t.Parallel()
	need(t, "dovecot", "postfix", "swaks")
	password := secret("Dismissed-Today-9")
	ca := imaptest.NewCA(t)
	d := startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}})},
		map[string]string{"alice": password, "bob": password})
	addr, auth := freeAddr(t), freeAddr(t)
	c := startCaddy(t, site{Backend: upstream(d.IMAP(), ca), IMAP: addr, Auth: auth}.String())
	awaitCertificate(t, addr)
	p := startPostfix(t, "inet:"+auth)

	check := func(user string, imapAnswer string, smtpCode int) {
		t.Helper()
		dialSecure(t, addr).Want(imapAnswer, "LOGIN %s %s", user, password)
		p.WantAuth(smtpCode, "PLAIN", user, password)
		p.WantAuth(smtpCode, "LOGIN", user, password)
	}
	check("alice", "OK", 235)
	d.Disable("alice")
	check("alice", "NO [AUTHENTICATIONFAILED]", 535)
	check("bob", "OK", 235)
	check("alice", "NO [AUTHENTICATIONFAILED]", 535)
	d.Enable("alice")
	// The guard would ask again within a minute; an operator need not wait.
	c.request(http.MethodDelete, "/imap/guard/accounts/alice", "application/json", "")
	check("alice", "OK", 235)
}

// smtpAuth logs in with Go's client: swaks takes too long to start for streams
// of logins, and cannot send every byte.
func smtpAuth(addr, user, password string) (code int, err error) {
	conn, err := dialFrom("127.0.0.1", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	c, err := smtp.NewClient(conn, "127.0.0.1")
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.Auth(smtp.PlainAuth("", user, password, "127.0.0.1")); err != nil {
		if reply, ok := err.(*textproto.Error); ok {
			return reply.Code, nil
		}
		return 0, fmt.Errorf("AUTH: %w", err)
	}
	return 235, c.Quit()
}
