//go:build integration

package integration

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

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
