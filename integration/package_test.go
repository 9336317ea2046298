//go:build integration

package integration

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// packaged are files of the Debian package, with their modes.
var packaged = map[string]fs.FileMode{
	"/usr/bin/caddy":                               0o755,
	"/etc/caddy/Caddyfile":                         0o644,
	"/lib/systemd/system/caddy.service":            0o644,
	"/lib/systemd/system/caddy.socket":             0o644,
	"/usr/share/man/man8/caddy.8.gz":               0o644,
	"/usr/share/man/man8/caddy-imap-check.8.gz":    0o644,
	"/usr/share/man/man8/caddy-imap-proxy.8.gz":    0o644,
	"/usr/share/bash-completion/completions/caddy": 0o644,
	"/usr/share/doc/caddy-imap/copyright":          0o644,
	"/usr/share/doc/caddy-imap/README.md":          0o644,
	"/usr/share/doc/caddy-imap/docs/options.md":    0o644,
	"/usr/share/doc/caddy-imap/docs/fail2ban":      fs.ModeDir | 0o755,
	"/usr/share/doc/caddy-imap/docs/examples":      fs.ModeDir | 0o755,
	"/usr/share/doc/caddy-imap/docs/alerts.yml":    0o644,
	"/usr/share/doc/caddy-imap/docs/flow.svg":      0o644,
}

// exposure is the most that "systemd-analyze security" may say of the unit, in
// tenths. 100 is a service with everything open.
const exposure = 20

// TestPackage leads a Debian package through its whole life in a clean machine,
// with a real systemd: installed, started, configured as docs/postfix.md says,
// upgraded, with sockets of systemd's, with Exim and chasquid, and purged.
func TestPackage(t *testing.T) {
	need(t, "swaks")
	m := newMachine(t, "systemd", "exim4-daemon-heavy", "chasquid", "dovecot-imapd")
	for _, version := range []string{"0.1.0", "0.2.0"} {
		command(t, "../packaging/deb.sh", "--caddy", run.caddy, "--version", version, "--output", m.Path("root"))
	}
	deb := func(version string) string { return fmt.Sprintf("dpkg --install /root/caddy-imap_%s_*.deb", version) }

	out := m.Run(deb("0.1.0"))
	if !strings.Contains(out, "systemctl enable --now caddy") {
		t.Errorf("nobody is told what to do next: %s", out)
	}
	checkInstalled(t, m)
	m.Run("systemctl disable dovecot.service dovecot.socket") // which would be on our ports
	// Nothing has been started or enabled by itself.
	m.Boot()
	m.Run("! systemctl is-enabled caddy.service caddy.socket && ! systemctl is-active caddy.service caddy.socket")
	m.Run("systemd-analyze verify caddy.service caddy.socket")
	m.Run("runuser -u caddy -- caddy validate --config /etc/caddy/Caddyfile")
	m.Run("systemctl enable --now caddy")
	checkService(t, m)

	// The unix socket for Postfix, as its page says.
	m.Run("groupadd --system postfix && install -d -o caddy -g postfix -m 2750 /var/spool/postfix/caddy")
	example(t, m, "postfix-unix.Caddyfile")
	m.Run("systemctl restart caddy")
	m.Run(await("[ \"$(stat -c '%A %U %G' /var/spool/postfix/caddy/auth.sock)\" = 'srw-rw---- caddy postfix' ]"))
	// A connection outlives a reload.
	m.Run(greeting(143) + "; systemctl reload caddy; printf 'a NOOP\\r\\n' >&3; read -r answer <&3; [[ $answer == 'a OK '* ]]")

	// An upgrade restarts what runs, and leaves alone what was changed.
	before := m.Run("systemctl show -P MainPID caddy")
	m.Run(deb("0.2.0"))
	if after := m.Run("systemctl show -P MainPID caddy"); after == before || strings.TrimSpace(after) == "0" {
		t.Errorf("the process was %s before the upgrade and is %s after it", before, after)
	}
	m.Run(await(greeting(143)))
	want, got := fileText(t, "../docs/examples/postfix-unix.Caddyfile"), fileText(t, m.Path("etc/caddy/Caddyfile"))
	if got != want {
		t.Errorf("the upgrade has changed the Caddyfile to %s", got)
	}

	// Sockets of systemd's: whoever comes while Caddy is away has it started.
	example(t, m, "systemd.Caddyfile")
	m.Run("systemctl stop caddy && systemctl enable --now caddy.socket")
	m.Run("! systemctl is-active caddy.service")
	m.Run(greeting(143))
	m.Run(await("systemctl is-active caddy.service"))
	m.Run("systemctl restart caddy")
	m.Run("exec 3<>/dev/tcp/127.0.0.1/12345; read -r line <&3; [[ $line == VERSION* ]]")

	m.Run("systemctl disable --now caddy.socket caddy")
	checkMailServers(t, m)

	m.Run("dpkg --purge caddy-imap")
	checkPurged(t, m)
}

// greeting is a line of shell that connects to the port as 3, and ends well if
// IMAP is spoken there.
func greeting(port int) string {
	return fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d && read -t 20 -r line <&3 && [[ $line == '* OK '* ]]", port)
}

// await is a line of shell that waits for another to end well.
func await(line string) string {
	return fmt.Sprintf("for try in {1..200}; do if (%s) 2>/dev/null; then exit 0; fi; sleep 0.1; done; exit 1", line)
}

// example makes an example of the pages the Caddyfile of the machine, with other
// words in the place of some.
func example(t *testing.T, m *machine, name string, oldnew ...string) {
	t.Helper()
	text := fileText(t, filepath.Join("../docs/examples", name))
	m.Write("etc/caddy/Caddyfile", strings.NewReplacer(oldnew...).Replace(text))
}

func fileText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func checkInstalled(t *testing.T, m *machine) {
	t.Helper()
	for name, mode := range packaged {
		info, err := os.Lstat(m.Path(name))
		if err != nil {
			t.Error(err)
		} else if info.Mode() != mode {
			t.Errorf("%s has the mode %v, want %v", name, info.Mode(), mode)
		}
	}
	if got := m.Run("dpkg-query --show --showformat='${Conffiles}' caddy-imap"); strings.Count(got, "/etc/") != 1 || !strings.Contains(got, "/etc/caddy/Caddyfile ") {
		t.Errorf("conffiles: %q", got)
	}
	if got := m.Run("dpkg --verify caddy-imap"); got != "" {
		t.Errorf("dpkg --verify: %s", got)
	}
	if got := m.Run("getent passwd caddy"); !strings.HasSuffix(got, ":/var/lib/caddy:/usr/sbin/nologin\n") {
		t.Errorf("the user is %s", got)
	}
	m.Run("[ $(id -u caddy) -lt 1000 ] && [ \"$(id -Gn caddy)\" = caddy ]")
	if fileText(t, m.Path("etc/caddy/Caddyfile")) != fileText(t, "../Caddyfile.example") {
		t.Error("the Caddyfile is not Caddyfile.example")
	}
	page, err := gzip.NewReader(bytes.NewReader([]byte(fileText(t, m.Path("usr/share/man/man8/caddy-imap-proxy.8.gz")))))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(page)
	if err != nil || !bytes.Contains(text, []byte("STARTTLS")) {
		t.Errorf("the man page of imap-proxy: %s, %v", text, err)
	}
}

// checkService looks at what runs with Caddyfile.example as it was installed.
func checkService(t *testing.T, m *machine) {
	t.Helper()
	for _, port := range []int{143, 993} {
		// 993 begins with TLS, so nothing is said there.
		m.Run(await(fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d", port)))
	}
	m.Run(greeting(143))
	for path, want := range map[string]string{
		"/run/caddy":            "drwxr-xr-x caddy caddy",
		"/run/caddy/admin.sock": "srw------- caddy caddy",
		"/var/lib/caddy":        "drwx------ caddy caddy",
		"/var/log/caddy":        "drwxr-x--- caddy caddy",
	} {
		if got := strings.TrimSpace(m.Run("stat -c '%A %U %G' " + path)); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	status := m.Run("cat /proc/$(systemctl show -P MainPID caddy)/status")
	for _, want := range []string{
		"CapEff:\t0000000000000400", // CAP_NET_BIND_SERVICE, and nothing else
		"CapBnd:\t0000000000000400",
		"NoNewPrivs:\t1",
		"Seccomp:\t2",
	} {
		if !strings.Contains(status, want) {
			t.Errorf("the process does not have %q:\n%s", want, status)
		}
	}
	if strings.Contains(status, "Uid:\t0") {
		t.Error("it runs as root")
	}
	out := m.Run(fmt.Sprintf("systemd-analyze security --no-pager --threshold=%d caddy.service", exposure))
	figure(t, "systemd-analyze security says %s", strings.TrimSpace(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]))
	if log := m.Run("journalctl --no-pager -u caddy"); strings.Contains(log, "permission denied") || strings.Contains(log, "operation not permitted") || strings.Contains(log, "read-only file system") {
		t.Errorf("the unit forbids what Caddy wants to do:\n%s", log)
	}
}

func checkPurged(t *testing.T, m *machine) {
	t.Helper()
	m.Run("! (exec 3<>/dev/tcp/127.0.0.1/143) 2>/dev/null")
	for name := range packaged {
		if _, err := os.Lstat(m.Path(name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
	if left := m.Run("ls -d /etc/caddy /var/lib/caddy /var/log/caddy /run/caddy 2>/dev/null || true; find /etc/systemd -name 'caddy*'"); left != "" {
		t.Errorf("left are %s", left)
	}
}
