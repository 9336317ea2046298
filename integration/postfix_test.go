//go:build integration

package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"os/user"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// postfix is a private instance of the real thing that checks passwords with
// whoever listens at its smtpd_sasl_path.
type postfix struct {
	t   *testing.T
	dir string
	set postfixSettings
	pid int
}

type postfixSettings struct {
	Dir  string
	Port int
	// Site is what a site sets.
	Site string
}

// postfixSite are the settings of a site: its smtpd_sasl_path, such as
// inet:127.0.0.1:12345, its certificate and key. The first two are those that one
// copies from our README.
const postfixSite = `
smtpd_sasl_type = dovecot
smtpd_sasl_path = %s

smtpd_sasl_auth_enable = yes
smtpd_tls_security_level = may
smtpd_tls_cert_file = %s
smtpd_tls_key_file = %s
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
`

// postfixMain makes an instance that needs nothing of the machine's own.
var postfixMain = template.Must(template.New("").Parse(`{{.Site}}
compatibility_level = 3.6
queue_directory = {{.Dir}}/queue
data_directory = {{.Dir}}/data
maillog_file = {{.Dir}}/log
maillog_file_prefixes = {{.Dir}}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.test
mydestination =
mynetworks =
alias_maps =
local_recipient_maps =
default_transport = discard:
smtpd_peername_lookup = no
smtpd_error_sleep_time = 0
smtpd_client_connection_count_limit = 0
service_throttle_time = 1s
`))

var postfixMaster = template.Must(template.New("").Parse(`
127.0.0.1:{{.Port}} inet n - n - - smtpd
cleanup  unix       n - n -     0 cleanup
qmgr     unix       n - n 300   1 qmgr
tlsmgr   unix       - - n 1000? 1 tlsmgr
rewrite  unix       - - n -     - trivial-rewrite
bounce   unix       - - n -     0 bounce
defer    unix       - - n -     0 bounce
trace    unix       - - n -     0 bounce
proxymap unix       - - n -     - proxymap
anvil    unix       - - n -     1 anvil
discard  unix       - - n -     - discard
postlog  unix-dgram n - n -     1 postlogd
`))

// startPostfix starts a Postfix. The auth listener has to be there already: an
// smtpd that finds none gives up.
func startPostfix(t *testing.T, saslPath string) *postfix {
	t.Helper()
	cert := imaptest.NewCA(t).Issue(imaptest.Leaf{})
	return startPostfixOf(t, fmt.Sprintf(postfixSite, saslPath, cert.CertFile, cert.KeyFile))
}

// startPostfixOf starts a Postfix with the settings of a site.
func startPostfixOf(t *testing.T, site string) *postfix {
	t.Helper()
	need(t, "postfix", "swaks")
	set := postfixSettings{Dir: shortDir(t), Port: freePort(t), Site: site}
	p := &postfix{t: t, dir: set.Dir, set: set}
	for _, sub := range []string{"etc", "queue", "data"} {
		if err := os.Mkdir(filepath.Join(set.Dir, sub), 0o755); err != nil {
			t.Fatalf("making directories for Postfix: %v", err)
		}
	}
	if err := os.Chown(filepath.Join(set.Dir, "data"), userID(t, "postfix"), -1); err != nil {
		t.Fatalf("giving Postfix its data directory: %v", err)
	}
	for name, text := range map[string]*template.Template{"main.cf": postfixMain, "master.cf": postfixMaster} {
		var b strings.Builder
		if err := text.Execute(&b, set); err != nil {
			t.Fatalf("writing %s: %v", name, err)
		}
		writeFile(t, filepath.Join(set.Dir, "etc", name), b.String())
	}
	p.start()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("log of Postfix:\n%s", p.Log())
		}
	})
	return p
}

func (p *postfix) start() {
	p.t.Helper()
	program, err := findProgram("postfix")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, verb := range []string{"check", "start"} {
		if out, err := exec.Command(program, "-c", filepath.Join(p.dir, "etc"), verb).CombinedOutput(); err != nil {
			p.t.Fatalf("postfix %s: %v\n%s%s", verb, err, out, p.Log())
		}
	}
	eventually(p.t, "Postfix to write its process id", func() error {
		b, err := os.ReadFile(filepath.Join(p.dir, "queue/pid/master.pid"))
		if err != nil {
			return err
		}
		p.pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err
	})
	eventually(p.t, "Postfix to listen", func() error { return accepts("tcp", p.Addr()) })
}

// stop ends the master by its id. It is nobody's child, so that its end has to
// be looked for.
func (p *postfix) stop() {
	p.t.Helper()
	if p.pid == 0 {
		return
	}
	if err := syscall.Kill(p.pid, syscall.SIGTERM); err != nil {
		p.t.Errorf("stopping Postfix: %v", err)
	}
	eventually(p.t, "Postfix to end", func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		if err != nil {
			return nil
		}
		// A process that is dead, but that nobody has asked about, is Z.
		if _, rest, ok := strings.Cut(string(stat), ") "); ok && strings.HasPrefix(rest, "Z") {
			return nil
		}
		return errors.New("it still runs")
	})
	p.pid = 0
}

// Addr is where it speaks SMTP.
func (p *postfix) Addr() string { return fmt.Sprintf("127.0.0.1:%d", p.set.Port) }

// Log is what it has logged so far.
func (p *postfix) Log() string {
	b, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	return string(b)
}

var smtpReply = regexp.MustCompile(`(?m)^<[-~*]{1,2} +([2-5]\d\d)[ -](.*)$`)

// Auth logs in with swaks and returns the code and text of the answer to AUTH.
func (p *postfix) Auth(mechanism, name, password string, more ...string) (code int, text string) {
	p.t.Helper()
	args := append([]string{
		"--server", "127.0.0.1", "--port", strconv.Itoa(p.set.Port), "--helo", "client.example.test",
		"--auth", mechanism, "--auth-user", name, "--auth-password", password,
		"--quit-after", "AUTH", "--timeout", "30",
	}, more...)
	out, _ := exec.Command("swaks", args...).CombinedOutput() // it exits with 28 if AUTH is refused
	_, answers, ok := strings.Cut(string(out), "> AUTH")
	if !ok {
		p.t.Fatalf("swaks sent no AUTH:\n%s", out)
	}
	for _, m := range smtpReply.FindAllStringSubmatch(answers, -1) {
		if code, _ = strconv.Atoi(m[1]); code != 334 {
			return code, m[2]
		}
	}
	p.t.Fatalf("no answer to AUTH:\n%s", out)
	return 0, ""
}

// WantAuth checks the code of an AUTH.
func (p *postfix) WantAuth(want int, mechanism, name, password string, more ...string) {
	p.t.Helper()
	start := time.Now()
	code, text := p.Auth(mechanism, name, password, more...)
	if code != want {
		p.t.Errorf("AUTH %s as %s %v: got %d %s after %v, want %d", mechanism, name, more, code, text, time.Since(start), want)
	}
}

func userID(t *testing.T, name string) int {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatalf("looking up a user: %v", err)
	}
	id, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatalf("user id of %s: %v", name, err)
	}
	return id
}
