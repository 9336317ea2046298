//go:build integration

package integration

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// eximConfig is the least that Exim wants. What asks us about passwords comes from
// docs/exim.md.
const eximConfig = `
primary_hostname = mail.example.org
daemon_smtp_ports = 2525
local_interfaces = 127.0.0.1
tls_advertise_hosts = *
tls_certificate = /etc/exim4/both.pem
tls_privatekey = /etc/exim4/both.pem
begin authenticators
`

const chasquidConfig = `
hostname: "mail.example.org"
smtp_address: "127.0.0.1:2025"
submission_address: "127.0.0.1:2587"
`

// checkMailServers has Exim and chasquid ask about passwords, with the lines of
// docs/exim.md as they stand there. Caddy is not running yet, and is not at the end.
func checkMailServers(t *testing.T, m *machine) {
	t.Helper()
	page := fileText(t, "../docs/exim.md")
	block := func(begin string) string {
		found := regexp.MustCompile("(?s)```\n(" + regexp.QuoteMeta(begin) + ".*?)```\n").FindStringSubmatch(page)
		if found == nil {
			t.Fatalf("docs/exim.md has no block that begins with %q", begin)
		}
		return found[1]
	}
	leaf := imaptest.NewCA(t).Issue(imaptest.Leaf{Names: []string{"mail.example.org"}})
	cert, key := fileText(t, leaf.CertFile), fileText(t, leaf.KeyFile)
	directory := block("d /run/caddy-auth ")
	const upstream, demo = "upstream ex1.corp.example.org", "upstream 127.0.0.1:1143\ntls_insecure_skip_verify"

	m.Write("etc/exim4/both.pem", cert+key)
	m.Write("etc/exim4/exim4.conf", eximConfig+block("caddy_plain:"))
	m.Write("etc/tmpfiles.d/caddy-auth.conf", directory)
	example(t, m, "exim.Caddyfile", upstream, demo)
	m.Run("systemd-tmpfiles --create caddy-auth.conf && systemctl start caddy")
	m.Run("systemd-run --quiet --unit=test-exim exim4 -bdf")
	checkAnswers(t, m, smtpServer{"Exim", "2525", "demo", []string{"PLAIN", "LOGIN"}, "435"})
	m.Run("systemctl stop caddy test-exim")
	checkEximRelayed(t, m, block("caddy_plain:")+block("caddy_cram_md5:"))

	m.Write("etc/chasquid/chasquid.conf", chasquidConfig+block("dovecot_auth: true"))
	m.Write("etc/chasquid/certs/mail.example.org/fullchain.pem", cert)
	m.Write("etc/chasquid/certs/mail.example.org/privkey.pem", key)
	m.Write("etc/chasquid/domains/example.org/aliases", "")
	m.Write("etc/tmpfiles.d/caddy-auth.conf", strings.Replace(directory, "Debian-exim", "chasquid", 1))
	// chasquid sends names with a domain, which the demo's user has not.
	example(t, m, "chasquid.Caddyfile", upstream, demo+"\nusername {imap.user.local}",
		"deadline 4s", "deadline 4s\nidentity {imap.user.local}@example.org")
	m.Run("systemd-tmpfiles --create caddy-auth.conf && systemctl start caddy")
	m.Run(await("[ -S /run/caddy-auth/client.sock -a -S /run/caddy-auth/userdb.sock ]"))
	m.Run("systemctl stop chasquid; systemd-run --quiet --unit=test-chasquid --uid=chasquid chasquid --config_dir=/etc/chasquid")
	checkAnswers(t, m, smtpServer{"chasquid", "2587", "demo@example.org", []string{"PLAIN"}, "454"})
	m.Run("systemctl stop caddy test-chasquid")
}

// relayedDovecot is a backend that takes CRAM-MD5.
const relayedDovecot = `
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = </etc/exim4/both.pem
ssl_key = </etc/exim4/both.pem
auth_mechanisms = plain login cram-md5
mail_location = maildir:~/Maildir
passdb {
  driver = passwd-file
  args = scheme=PLAIN /etc/dovecot/test-users
}
userdb {
  driver = static
  args = uid=mail gid=mail home=/tmp/%u
}
service imap-login {
  inet_listener imap {
    port = 1143
  }
  inet_listener imaps {
    port = 0
  }
}
`

// checkEximRelayed has clients of Exim log in at a backend by CRAM-MD5, with the
// authenticators of docs/exim.md.
func checkEximRelayed(t *testing.T, m *machine, authenticators string) {
	t.Helper()
	m.Write("etc/exim4/exim4.conf", eximConfig+authenticators)
	m.Write("etc/dovecot/test.conf", relayedDovecot)
	m.Write("etc/dovecot/test-users", "demo:demo\n")
	example(t, m, "exim.Caddyfile", "upstream ex1.corp.example.org", "upstream 127.0.0.1:1143\ntls_insecure_skip_verify\nauth_timeout 20s",
		"dovecot_auth exchange", "dovecot_auth exchange {\nmechanisms PLAIN LOGIN CRAM-MD5\n}")
	m.Run("systemd-run --quiet --unit=test-dovecot dovecot -F -c /etc/dovecot/test.conf")
	m.Run(await("exec 3<>/dev/tcp/127.0.0.1/1143"))
	m.Run("systemctl start caddy && systemd-run --quiet --unit=test-exim exim4 -bdf")
	m.Run(await("exec 3<>/dev/tcp/127.0.0.1/2525"))
	eventually(t, "the mechanisms of the backend to be known", func() error {
		conn, err := net.Dial("unix", "/proc/"+m.leader+"/root/run/caddy-auth/exim.sock")
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		br := bufio.NewReader(conn)
		for greeting := ""; ; {
			line, err := br.ReadString('\n')
			if greeting += line; err != nil || line == "DONE\n" {
				if !strings.Contains(greeting, "MECH\tCRAM-MD5\t") {
					return fmt.Errorf("greeting %q: %v", greeting, err)
				}
				return nil
			}
		}
	})
	s := smtpServer{"Exim", "2525", "demo", []string{"PLAIN", "LOGIN", "CRAM-MD5"}, "435"}
	for _, mechanism := range s.mechanisms {
		wantAuth(t, m, s, mechanism, "demo", "235")
	}
	wantAuth(t, m, s, "CRAM-MD5", "not-Its-Password", "535")
	wantAuth(t, m, s, "CRAM-MD5", "demo", "235")
	m.Run("systemctl stop test-dovecot")
	wantAuth(t, m, s, "CRAM-MD5", "demo", s.away)
	m.Run("systemctl stop caddy test-exim")
}

// smtpServer is a mail server of the machine.
type smtpServer struct {
	name, port, user string
	mechanisms       []string
	// away is the code with which it says that a password could not be checked.
	away string
}

// checkAnswers logs in at a mail server with a right password, with a wrong one, and
// while the backend is away.
func checkAnswers(t *testing.T, m *machine, s smtpServer) {
	t.Helper()
	// The demo is a backend with the user demo.
	m.Run("systemd-run --quiet --unit=test-backend --setenv=HOME=/root caddy imap-proxy --demo")
	m.Run(await("exec 3<>/dev/tcp/127.0.0.1/1143 4<>/dev/tcp/127.0.0.1/" + s.port))
	for _, mechanism := range s.mechanisms {
		wantAuth(t, m, s, mechanism, "demo", "235")
	}
	wantAuth(t, m, s, "PLAIN", "not-Its-Password", "535")
	m.Run("systemctl stop test-backend")
	wantAuth(t, m, s, "PLAIN", "Some-Other-Password", s.away)
}

func wantAuth(t *testing.T, m *machine, s smtpServer, mechanism, password, code string) {
	t.Helper()
	out, _ := exec.Command("nsenter", "--target", m.leader, "--net", "swaks", "--server", "127.0.0.1", "--port", s.port, "--tls",
		"--quit-after", "AUTH", "--auth", mechanism, "--auth-user", s.user, "--auth-password", password, "--to", "demo@example.org",
	).CombinedOutput() // it exits with 28 if AUTH is refused
	if !regexp.MustCompile(`(?m)^<~\*? +` + code + `[ -]`).Match(out) {
		t.Errorf("%s, %s: want %s\n%s", s.name, mechanism, code, out)
	}
}
