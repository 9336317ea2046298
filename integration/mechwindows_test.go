//go:build integration

package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// What Windows' domains have is relayed if the option names it: GSSAPI with a real
// Kerberos, and NTLM with Samba's helper in Dovecot.
func TestMechanismsWindows(t *testing.T) {
	t.Parallel()
	need(t, "dovecot", "curl", "mbsync", "ntlm_auth")
	good, bad := secret("Ticket-Or-Hash-61"), secret("Neither-Of-Them-62")
	k := startKDC(t, map[string]string{"alice": good, "mallory": good}, "localhost", "mail.internal")
	for _, user := range []string{"alice", "mallory"} {
		k.Login(user, good)
	}
	k.Rekey("mail.internal") // so that what is encrypted for it is gibberish to Dovecot
	d := startWindowsDovecot(t, k, good)
	p := startCaddyBefore(t, d)

	const alice = "alice@" + realm
	kerberos := func(ticket, host string, at place) (string, error) {
		cmd := exec.Command("curl", append(curlArgs(login.GSSAPI, "", ""), "--request", "NOOP", "--connect-to", "::"+at.imap, "imap://"+host+":143")...)
		cmd.Env = k.Env(ticket)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	cyrus := func(ticket, user string, at place) (string, error) {
		cmd := mbsyncCommand(t, at, true, login.GSSAPI, user, "")
		cmd.Env = k.Env(ticket)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	ntlm := func(user, password string, at place) (string, error) {
		out, err := exec.Command("curl", append(curlArgs(login.NTLM, user, password), "--request", "NOOP", "imap://"+at.imap)...).CombinedOutput()
		return string(out), err
	}
	tests := []struct {
		name, mechanism string
		login           func(at place) (string, error)
		granted         bool
		// user is in our log, theirs in that of Dovecot.
		user, theirs string
	}{
		{"ticket", login.GSSAPI, func(at place) (string, error) { return kerberos("alice", "localhost", at) }, true, "GSSAPI:127.0.0.1", alice},
		{"ticket and name", login.GSSAPI, func(at place) (string, error) { return cyrus("alice", alice, at) }, true, alice, alice},
		{"ticket for another host", login.GSSAPI, func(at place) (string, error) { return kerberos("alice", "mail.internal", at) }, false, "", ""},
		{"ticket of another user", login.GSSAPI, func(at place) (string, error) { return cyrus("mallory", alice, at) }, false, alice, alice},
		{"hash", login.NTLM, func(at place) (string, error) { return ntlm(`DOM\bob`, good, at) }, true, `DOM\\bob`, "bob@DOM"},
		{"wrong hash", login.NTLM, func(at place) (string, error) { return ntlm(`DOM\bob`, bad, at) }, false, `DOM\\bob`, ""},
	}
	for _, at := range []place{d.Direct(), p.at} {
		for _, tt := range tests {
			if tt.theirs == alice && tt.user == alice && at.name != p.at.name {
				continue // mbsync asks for a ticket for the name that it connects to
			}
			t.Run(tt.name+" at "+at.name, func(t *testing.T) {
				in := d.Logins(tt.theirs)
				out, _ := d.Failed(tt.theirs)
				said, err := tt.login(at)
				if granted := err == nil; granted != tt.granted {
					t.Fatalf("granted %v: %v\n%s", granted, err, said)
				}
				if tt.granted {
					d.WantLogins(tt.theirs, in+1)
				} else {
					eventually(t, "Dovecot to have refused it", func() error {
						if n, methods := d.Failed(tt.theirs); n != out+1 || methods[len(methods)-1] != tt.mechanism {
							return fmt.Errorf("it has refused %d after %d, %q", n, out, methods)
						}
						return nil
					})
				}
				if at.name != p.at.name {
					return
				}
				result := map[bool]string{true: "granted", false: "denied"}[tt.granted]
				words := []string{`"msg":"login"`, `"result":"` + result + `"`, `"mechanism":"` + tt.mechanism + `"`, `"user":"` + tt.user}
				if lines := p.LogLines(words...); len(lines) != 1 {
					t.Errorf("%d lines of the log with %q, want one:\n%s", len(lines), words, strings.Join(p.LogLines(`"msg":"login"`), ""))
				}
			})
		}
	}
	p.Stop()
}

func startWindowsDovecot(t *testing.T, k *kdc, password string) *mechDovecot {
	t.Helper()
	dir := shortDir(t)
	helper := writeFile(t, filepath.Join(dir, "ntlm_auth"), "#!/bin/sh\nexec ntlm_auth --configfile=/dev/null --password='"+password+"' \"$@\"\n")
	home := filepath.Join(dir, "home")
	if err := errors.Join(os.Chmod(helper, 0o755), os.Mkdir(home, 0o755), os.Chown(home, userID(t, "nobody"), -1)); err != nil {
		t.Fatal(err)
	}
	ca := imaptest.NewCA(t)
	return &mechDovecot{ca: ca, dovecot: startDovecot(t, dovecotSettings{
		Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}}), Mechanisms: "plain gssapi ntlm",
		Extra: fmt.Sprintf(`
auth_krb5_keytab = %s
auth_gssapi_hostname = "$ALL"
auth_username_format =
auth_use_winbind = yes
auth_winbind_helper_path = %s
import_environment = $import_environment KRB5_CONFIG=%s
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=%s/%%u allow_all_users=yes
}
`, k.Keytab(), helper, k.Config(), home),
	}, nil)}
}

// placed is a Caddy, and where clients find it.
type placed struct {
	*caddyServer
	at place
}

// startCaddyBefore starts one with NTLM and GSSAPI before a Dovecot.
func startCaddyBefore(t *testing.T, d *mechDovecot) placed {
	t.Helper()
	s := site{
		Backend: upstream(d.IMAP(), d.ca), IMAP: freeAddr(t), IMAPS: freeAddr(t),
		IMAPOptions: "mechanisms PLAIN GSSAPI NTLM", Guard: "failure_delay 1ms",
	}
	p := placed{startCaddy(t, s.String()), place{name: "proxy", imap: s.IMAP, imaps: s.IMAPS, host: "localhost"}}
	awaitCertificate(t, s.IMAP)
	p.Roots()
	p.at.root = p.RootFile()
	awaitMechanism(t, s.IMAP, login.NTLM)
	return p
}
