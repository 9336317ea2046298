//go:build integration

package integration

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// certified is a proxy whose clients may show certificates of an authority, in front
// of a Dovecot with a master user.
type certified struct {
	*dovecot
	*caddyServer
	site        site
	users       *imaptest.CA
	imap, imaps string
}

func startCertified(t *testing.T) *certified {
	t.Helper()
	master := secret("Opens-All-Mailboxes-77")
	servers, users := imaptest.NewCA(t), imaptest.NewCA(t)
	dir := t.TempDir()
	d := startDovecot(t, dovecotSettings{
		Cert: servers.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}}),
		Extra: fmt.Sprintf(`
passdb {
  driver = passwd-file
  args = scheme=PLAIN %s
  master = yes
  result_success = continue
}
`, writeMaster(t, "proxy-master:{PLAIN}"+master+"::::::allow_nets=127.0.0.1/32\n")),
	}, map[string]string{"alice@example.org": secret("Alice-Has-A-Password-5"), "bob@example.org": secret("Bob-Has-One-As-Well-6")})
	c := &certified{dovecot: d, users: users, imap: freeAddr(t), imaps: freeAddr(t)}
	c.site = site{
		Guard: "failure_delay 1ms\naccount_failures 2\nsource_failures 3",
		Backend: upstream(d.IMAP(), servers) + "\n\t\t\tmaster_user proxy-master\n\t\t\tmaster_password {file." +
			writeFile(t, filepath.Join(dir, "master"), master+"\n") + "}",
		IMAP: c.imap, IMAPS: c.imaps,
		IMAPOptions: trusting(users) + "client_certificate {\nuser {imap.certificate.email}\n}\n",
	}
	c.caddyServer = startCaddy(t, c.site.String())
	awaitCertificate(t, c.imap)
	return c
}

// writeMaster writes a file that Dovecot can read.
func writeMaster(t *testing.T, text string) string {
	t.Helper()
	return writeFile(t, filepath.Join(shortDir(t), "master-users"), text)
}

// trusting is a policy that asks clients for certificates of an authority.
func trusting(ca *imaptest.CA) string {
	return "connection_policy {\nclient_auth {\nmode verify_if_given\ntrust_pool file " + ca.File() + "\n}\n}\n"
}

func (c *certified) issue(email string) *imaptest.Certificate {
	return c.users.Issue(imaptest.Leaf{Emails: []string{email}, Client: true})
}

// external logs in with a certificate, and returns the answer. With TLS 1.2 a
// certificate that is refused ends the handshake, and not what comes after it.
func (c *certified) external(t *testing.T, implicit bool, cert *imaptest.Certificate) string {
	t.Helper()
	addr := c.imap
	if implicit {
		addr = c.imaps
	}
	conn, _, err := dialTLS(t, addr, implicit, &tls.Config{
		ServerName: "mail.internal", RootCAs: c.Roots(), MaxVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert.Certificate, nil },
	})
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	if _, untagged := conn.Cmd("CAPABILITY"); !strings.Contains(strings.Join(untagged, " "), " AUTH=EXTERNAL") {
		return "not offered"
	}
	answer, _ := conn.Cmd("AUTHENTICATE EXTERNAL =")
	return answer
}

// TestClientCertificate logs in with programs that know nothing of us, at a real
// Dovecot with a real master user.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	need(t, "dovecot", "curl", "openssl", "python3")
	c := startCertified(t)
	alice := c.issue("alice@example.org")
	_, imapPort, _ := strings.Cut(c.imap, ":")
	_, imapsPort, _ := strings.Cut(c.imaps, ":")

	logged := func(t *testing.T, client func()) {
		t.Helper()
		const granted = `"msg":"login","result":"granted"`
		before := len(c.LogLines(granted, `"user":"alice@example.org"`, `"mechanism":"EXTERNAL"`))
		client()
		eventually(t, "the line of the login", func() error {
			if len(c.LogLines(granted, `"user":"alice@example.org"`, `"mechanism":"EXTERNAL"`)) != before+1 {
				return errors.New("it is not there")
			}
			return nil
		})
	}
	for name, args := range map[string][]string{
		"curl, STARTTLS":                    {"--ssl-reqd", "imap://mail.internal:" + imapPort},
		"curl, STARTTLS, initial response":  {"--ssl-reqd", "--sasl-ir", "imap://mail.internal:" + imapPort},
		"curl, TLS, no name":                {"imaps://mail.internal:" + imapsPort, "-u", ":"},
		"curl, TLS, name, initial response": {"imaps://mail.internal:" + imapsPort, "--sasl-ir"},
		"curl, TLS 1.2":                     {"imaps://mail.internal:" + imapsPort, "--tls-max", "1.2"},
	} {
		t.Run(name, func(t *testing.T) {
			logged(t, func() {
				args = append([]string{
					"-sS", "--max-time", "15", "-u", "alice@example.org:", "--login-options", "AUTH=EXTERNAL", "--cacert", c.RootFile(),
					"--resolve", "mail.internal:" + imapPort + ":127.0.0.1", "--resolve", "mail.internal:" + imapsPort + ":127.0.0.1",
					"--cert", alice.CertFile, "--key", alice.KeyFile, "-X", "STATUS INBOX (MESSAGES)",
				}, args...)
				if out := command(t, append([]string{"curl"}, args...)...); !strings.Contains(out, "* STATUS INBOX (MESSAGES 0)") {
					t.Errorf("curl got %q", out)
				}
			})
		})
	}
	for name, args := range map[string][]string{
		"openssl, STARTTLS": {"-connect", c.imap, "-starttls", "imap"},
		"openssl, TLS":      {"-connect", c.imaps},
	} {
		t.Run(name, func(t *testing.T) {
			logged(t, func() {
				cmd := exec.CommandContext(t.Context(), "openssl", append([]string{
					"s_client", "-quiet", "-verify_return_error", "-verify_hostname", "mail.internal", "-servername", "mail.internal",
					"-crlf", "-CAfile", c.RootFile(), "-cert", alice.CertFile, "-key", alice.KeyFile,
				}, args...)...)
				cmd.Stdin = strings.NewReader("a AUTHENTICATE EXTERNAL =\nb STATUS INBOX (MESSAGES)\nc LOGOUT\n")
				cmd.WaitDelay = patience
				out, _ := cmd.CombinedOutput()
				for _, want := range []string{"a OK Logged in", "* STATUS INBOX (MESSAGES 0)", "c OK "} {
					if !strings.Contains(string(out), want) {
						t.Errorf("no %q in\n%s", want, out)
					}
				}
			})
		})
	}
	for name, class := range map[string]string{
		"Python, STARTTLS": "m = imaplib.IMAP4('127.0.0.1', " + imapPort + "); m.starttls(x)",
		"Python, TLS":      "m = imaplib.IMAP4_SSL('127.0.0.1', " + imapsPort + ", ssl_context=x)",
	} {
		t.Run(name, func(t *testing.T) {
			logged(t, func() {
				out := command(t, "python3", "-c", fmt.Sprintf(`
import imaplib, ssl
x = ssl.create_default_context(cafile=%q)
x.check_hostname = False
x.load_cert_chain(%q, %q)
%s
m.authenticate('EXTERNAL', lambda challenge: b'')
print(m.status('INBOX', '(MESSAGES)'))
m.logout()
`, c.RootFile(), alice.CertFile, alice.KeyFile, class))
				if !strings.Contains(out, "MESSAGES 0") {
					t.Errorf("Python got %q", out)
				}
			})
		})
	}

	t.Run("who is refused", func(t *testing.T) {
		for email, want := range map[string]string{
			"bob@example.org":       "OK Logged in",
			"nobody@example.org":    "NO [AUTHORIZATIONFAILED] Authorization failed",
			"alice/bob@example.org": "NO [AUTHORIZATIONFAILED] Authorization failed",
			"proxy-master@evil.org": "NO [AUTHORIZATIONFAILED] Authorization failed",
		} {
			for _, implicit := range []bool{true, false} {
				if got := c.external(t, implicit, c.issue(email)); !strings.HasSuffix(got, want) {
					t.Errorf("%s is told %q, want %q", email, got, want)
				}
			}
		}
		if lines := c.LogLines(`"level":"error"`, "does not let its master user log in"); len(lines) != 1 {
			t.Errorf("the operator is told %q", lines)
		}
		// Whom Dovecot does not let in any more is kept out, whatever he shows.
		c.Disable("bob@example.org")
		if got := c.external(t, true, c.issue("bob@example.org")); !strings.Contains(got, "NO [AUTHORIZATIONFAILED]") {
			t.Errorf("somebody who is gone is told %q", got)
		}
		other := imaptest.NewCA(t).Issue(imaptest.Leaf{Emails: []string{"alice@example.org"}, Client: true})
		if got := c.external(t, true, other); !strings.Contains(got, "tls: ") {
			t.Errorf("a certificate of anybody's authority is answered with %q", got)
		}
	})
	t.Run("nothing counts", func(t *testing.T) {
		for range 4 {
			c.external(t, true, c.issue("nobody@example.org"))
		}
		if answer, err := imapLogin("127.0.0.2", c.imaps, "alice@example.org", "Alice-Has-A-Password-5"); err != nil || !strings.HasPrefix(answer, "OK") {
			t.Errorf("the password is answered with %q, %v", answer, err)
		}
	})
	t.Run("reloads", func(t *testing.T) {
		changed := c.site
		changed.IMAPOptions = trusting(imaptest.NewCA(t)) + "client_certificate {\nuser {imap.certificate.email}\n}\n"
		c.Load(changed.String())
		if got := c.external(t, true, alice); !strings.Contains(got, "tls: ") {
			t.Errorf("with another authority: %q", got)
		}
		changed.IMAPOptions = ""
		c.Load(changed.String())
		if got := c.external(t, true, alice); got != "not offered" {
			t.Errorf("without client_auth: %q", got)
		}
		c.Load(c.site.String())
		if got := c.external(t, true, alice); !strings.HasSuffix(got, "OK Logged in") {
			t.Errorf("with it again: %q", got)
		}
	})
}
