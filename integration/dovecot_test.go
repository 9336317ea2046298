//go:build integration

package integration

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// dovecot is a private instance of the real thing, playing the backend.
type dovecot struct {
	t   *testing.T
	dir string
	set dovecotSettings
	p   *process

	passwords map[string]string
	disabled  map[string]bool
	changes   int
	probes    int
}

// dovecotSettings are the parts of its configuration that tests choose.
type dovecotSettings struct {
	// IP is where it listens. A client from the same address counts as secured
	// with Dovecot, and so sees no LOGINDISABLED; the default is 127.0.0.3 to
	// show it to us as it shows itself to the internet.
	IP string
	// IMAP, IMAPS and Auth are its ports; Auth speaks the auth protocol.
	IMAP, IMAPS, Auth int
	// Cert is what it shows.
	Cert *imaptest.Certificate
	// Mechanisms are what it offers; the default is "plain login". Passdb are further
	// settings of its file of users.
	Mechanisms, Passdb string
	// Extra is appended to the configuration.
	Extra string

	Dir string
}

var dovecotConfig = template.Must(template.New("").Parse(`
base_dir = {{.Dir}}/run
state_dir = {{.Dir}}/state
log_path = {{.Dir}}/log
log_timestamp = "%Y-%m-%d %H:%M:%S.%{usecs} "
instance_name = caddy-imap-test
protocols = imap
listen = {{.IP}}
ssl = yes
ssl_cert = <{{.Cert.CertFile}}
ssl_key = <{{.Cert.KeyFile}}
disable_plaintext_auth = yes
auth_mechanisms = {{.Mechanisms}}
auth_verbose = yes
auth_failure_delay = 0
mail_location = maildir:~/mail
first_valid_uid = 1
mail_max_userip_connections = 1000
passdb {
  driver = passwd-file
  args = scheme=PLAIN {{.Dir}}/users
  {{.Passdb}}
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home={{.Dir}}/home/%u
}
service imap-login {
  inet_listener imap {
    port = {{.IMAP}}
  }
  inet_listener imaps {
    port = {{.IMAPS}}
    ssl = yes
  }
}
service auth {
  inet_listener {
    address = 127.0.0.1
    port = {{.Auth}}
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
{{.Extra}}
`))

// startDovecot starts a Dovecot with the accounts, password by name.
func startDovecot(t *testing.T, set dovecotSettings, passwords map[string]string) *dovecot {
	t.Helper()
	need(t, "dovecot")
	if set.IP == "" {
		set.IP = "127.0.0.3"
	}
	if set.Mechanisms == "" {
		set.Mechanisms = "plain login"
	}
	set.Dir = shortDir(t)
	set.IMAP, set.IMAPS, set.Auth = freePort(t), freePort(t), freePort(t)
	if set.Cert == nil {
		set.Cert = imaptest.NewCA(t).Issue(imaptest.Leaf{Names: []string{set.IP}})
	}
	var config strings.Builder
	if err := dovecotConfig.Execute(&config, set); err != nil {
		t.Fatalf("writing the configuration of Dovecot: %v", err)
	}
	writeFile(t, filepath.Join(set.Dir, "dovecot.conf"), config.String())
	home := filepath.Join(set.Dir, "home")
	if err := errors.Join(os.Mkdir(home, 0o755), os.Chown(home, 65534, 65534)); err != nil {
		t.Fatalf("making homes for mail: %v", err)
	}
	d := &dovecot{t: t, dir: set.Dir, set: set, passwords: maps.Clone(passwords), disabled: make(map[string]bool)}
	d.writeUsers()
	d.Start()
	t.Cleanup(func() {
		d.Stop()
		if t.Failed() {
			t.Logf("log of Dovecot:\n%s", d.Log())
		}
	})
	return d
}

// IMAP is where it speaks IMAP with STARTTLS, IMAPS with TLS from the start,
// Auth the auth protocol.
func (d *dovecot) IMAP() string  { return fmt.Sprintf("%s:%d", d.set.IP, d.set.IMAP) }
func (d *dovecot) IMAPS() string { return fmt.Sprintf("%s:%d", d.set.IP, d.set.IMAPS) }
func (d *dovecot) Auth() string  { return fmt.Sprintf("127.0.0.1:%d", d.set.Auth) }

// Start starts it, again after a Stop, and waits until it speaks.
func (d *dovecot) Start() {
	d.t.Helper()
	program, err := findProgram("dovecot")
	if err != nil {
		d.t.Fatal(err)
	}
	d.p = startProcess(d.t, "dovecot", exec.Command(program, "-F", "-c", filepath.Join(d.dir, "dovecot.conf")))
	eventually(d.t, "Dovecot to greet", func() error {
		if err := d.p.exited(); err != nil {
			d.t.Fatalf("%v\n%s", err, d.Log())
		}
		conn, err := net.DialTimeout("tcp", d.IMAP(), time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil && !strings.HasPrefix(line, "* OK") {
			err = fmt.Errorf("greeting %q", line)
		}
		return err
	})
}

// Stop stops it, its sessions included, and waits for it. A second call does
// nothing. The master leaves processes behind that serve their connections on
// by what they know; a backend that is stopped does not answer, so they go too.
func (d *dovecot) Stop() {
	d.t.Helper()
	if err := d.p.stop(d.t); err != nil {
		d.t.Errorf("Dovecot ended with %v", err)
	}
	group := -d.p.cmd.Process.Pid
	eventually(d.t, "all of Dovecot to end", func() error {
		if err := syscall.Kill(group, syscall.SIGKILL); errors.Is(err, syscall.ESRCH) {
			return nil
		}
		return errors.New("some of it still runs")
	})
}

// Disable refuses all further logins of the user, and returns once that is so:
// Dovecot looks at its file of users once a second.
func (d *dovecot) Disable(user string) {
	d.t.Helper()
	d.disabled[user] = true
	d.writeUsers()
	d.await(user, false)
}

// Enable is the reverse of Disable.
func (d *dovecot) Enable(user string) {
	d.t.Helper()
	delete(d.disabled, user)
	d.writeUsers()
	d.await(user, true)
}

func (d *dovecot) await(user string, granted bool) {
	d.t.Helper()
	eventually(d.t, "Dovecot to read its users", func() error {
		c := d.Dial()
		defer c.Close()
		if err := c.Login(user, d.passwords[user]).Wait(); (err == nil) != granted {
			return fmt.Errorf("login as %s: %v", user, err)
		}
		return nil
	})
}

// Change gives the user another password, and returns once only that is right.
func (d *dovecot) Change(user, password string) {
	d.t.Helper()
	d.passwords[user] = password
	d.writeUsers()
	d.await(user, true)
}

// Dial connects to it behind everybody's back.
func (d *dovecot) Dial() *imapclient.Client {
	d.t.Helper()
	c, err := imapclient.DialTLS(d.IMAPS(), &imapclient.Options{TLSConfig: insecureTLS()})
	if err != nil {
		d.t.Fatalf("connecting to Dovecot: %v", err)
	}
	return c
}

func (d *dovecot) writeUsers() {
	d.t.Helper()
	var b strings.Builder
	for _, user := range slices.Sorted(maps.Keys(d.passwords)) {
		if !d.disabled[user] {
			fmt.Fprintf(&b, "%s:{PLAIN}%s\n", user, d.passwords[user])
		}
	}
	// Another time and another size each time: that is how Dovecot notices.
	d.changes++
	b.WriteString(strings.Repeat("#", d.changes) + "\n")
	path := filepath.Join(d.dir, "users")
	writeFile(d.t, path+".new", b.String())
	stamp := time.Now().Add(time.Duration(d.changes) * 2 * time.Second)
	if err := errors.Join(os.Chtimes(path+".new", stamp, stamp), os.Rename(path+".new", path)); err != nil {
		d.t.Fatalf("replacing the users of Dovecot: %v", err)
	}
}

// Log is what it has logged so far.
func (d *dovecot) Log() string {
	b, err := os.ReadFile(filepath.Join(d.dir, "log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Errorf("reading the log of Dovecot: %v", err)
	}
	return string(b)
}

var dovecotLogin = regexp.MustCompile(`imap-login: Info: Login: user=<([^>]*)>`)

// WantLogins waits until it has logged as many logins of the user, which it does a
// moment after it has granted them, and complains if there are more.
func (d *dovecot) WantLogins(user string, want int) {
	d.t.Helper()
	eventually(d.t, fmt.Sprintf("login %d of %s", want, user), func() error {
		if n := d.Logins(user); n < want {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	if n := d.Logins(user); n != want {
		d.t.Errorf("%d logins of %s, want %d", n, user, want)
	}
}

// Logins counts the logins that it has granted to the user.
func (d *dovecot) Logins(user string) int {
	n := 0
	for _, m := range dovecotLogin.FindAllStringSubmatch(d.Log(), -1) {
		if m[1] == user {
			n++
		}
	}
	return n
}

// dovecotDenied is logged for each password that was checked and found wrong, and
// for each user that there is not.
var dovecotDenied = regexp.MustCompile(`auth: Info: passwd-file\((.*),[^,]*,<[^>]*>\): (?:Password mismatch|unknown user)`)

// Denied counts the logins that it has refused. It is exact: what is logged a
// moment later is waited for, by a login of our own that comes after all others.
func (d *dovecot) Denied() (n int) {
	d.t.Helper()
	d.probes++
	probe := fmt.Sprintf("probe-%d", d.probes)
	c := d.Dial()
	defer c.Close()
	c.Login(probe, "wrong") // its answer would come later than the line
	eventually(d.t, "Dovecot to log a refusal", func() error {
		n = 0
		seen := false
		for _, m := range dovecotDenied.FindAllStringSubmatch(d.Log(), -1) {
			seen = seen || m[1] == probe
			if !strings.HasPrefix(m[1], "probe-") {
				n++
			}
		}
		if !seen {
			return errors.New("it has not")
		}
		return nil
	})
	return n
}
