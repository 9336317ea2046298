//go:build integration

package integration

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// caddyServer is the server under test, in a world of its own: it has its own
// home, its own storage and an admin API on a unix socket.
type caddyServer struct {
	t    *testing.T
	dir  string
	p    *process
	http *http.Client

	stopped bool
}

// caddyGlobals is the beginning of each Caddyfile. Logs are at debug level, so
// that all there is to say is searched for secrets.
const caddyGlobals = `
	admin unix//%s/admin.sock
	debug
	skip_install_trust
`

// startCaddy starts the server with the global options given, and waits until
// the configuration has been loaded.
func startCaddy(t *testing.T, options string) *caddyServer {
	t.Helper()
	c := &caddyServer{t: t, dir: shortDir(t)}
	c.start("caddyfile", writeFile(t, filepath.Join(c.dir, "Caddyfile"), c.caddyfile(options)))
	return c
}

// startCaddyWith does so with a configuration that an adapter of that name reads.
func startCaddyWith(t *testing.T, adapter, text string) *caddyServer {
	t.Helper()
	c := &caddyServer{t: t, dir: shortDir(t)}
	c.start(adapter, writeFile(t, filepath.Join(c.dir, adapter+".conf"), text))
	return c
}

// start starts the server with a configuration file.
func (c *caddyServer) start(adapter, file string) {
	t, dir := c.t, c.dir
	t.Helper()
	c.http = &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", filepath.Join(dir, "admin.sock"))
			},
		},
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatalf("making a log for Caddy: %v", err)
	}
	defer log.Close()
	cmd := exec.Command(run.caddy, "run", "--adapter", adapter, "--config", file)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + dir,
		"XDG_DATA_HOME=" + filepath.Join(dir, "data"),
		"XDG_CONFIG_HOME=" + filepath.Join(dir, "config"),
		// For files that do not say where it is.
		"CADDY_ADMIN=unix/" + filepath.Join(dir, "admin.sock"),
	}
	cmd.Stdout, cmd.Stderr = log, log
	c.p = startProcess(t, "caddy", cmd)
	t.Cleanup(c.Stop)
	eventually(t, "Caddy to load its configuration", func() error {
		if err := c.p.exited(); err != nil {
			t.Fatalf("%v\n%s", err, c.Log())
		}
		resp, err := c.http.Get("http://localhost/config/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && !bytes.HasPrefix(body, []byte("{")) {
			err = fmt.Errorf("configuration is %q", body)
		}
		return err
	})
}

func (c *caddyServer) caddyfile(options string) string {
	return "{\n" + fmt.Sprintf(caddyGlobals, c.dir) + options + "\n}\n"
}

// Load replaces the configuration, as caddy reload does.
func (c *caddyServer) Load(options string) {
	c.t.Helper()
	c.request(http.MethodPost, "/load", "text/caddyfile", c.caddyfile(options))
}

// Patch changes one value of the configuration.
func (c *caddyServer) Patch(path string, value any) {
	c.t.Helper()
	b, err := json.Marshal(value)
	if err != nil {
		c.t.Fatal(err)
	}
	c.request(http.MethodPatch, path, "application/json", string(b))
}

// MoveTo has the backend be at another address.
func (c *caddyServer) MoveTo(addr string) {
	c.t.Helper()
	c.Patch("/config/apps/imap/backends/exchange/upstreams/0/dial", addr)
}

func (c *caddyServer) request(method, path, kind, body string) (answer string) {
	c.t.Helper()
	req, err := http.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s %s: %s %s", method, path, resp.Status, text)
	}
	return string(text)
}

// Roots is the authority that Caddy signs the certificates of internal names
// with. RootFile is the same as a file.
func (c *caddyServer) Roots() *x509.CertPool {
	c.t.Helper()
	var b []byte
	eventually(c.t, "Caddy to make its authority", func() (err error) {
		b, err = os.ReadFile(c.RootFile())
		return err
	})
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		c.t.Fatal("no certificate in Caddy's authority")
	}
	return pool
}

func (c *caddyServer) RootFile() string {
	return filepath.Join(c.dir, "data/caddy/pki/authorities/local/root.crt")
}

// Log is what Caddy has logged so far.
func (c *caddyServer) Log() string {
	b, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		c.t.Errorf("reading the log of Caddy: %v", err)
	}
	return string(b)
}

// WaitLog waits for a line of the log that holds all the words, and returns it.
func (c *caddyServer) WaitLog(words ...string) (found string) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("a line of the log with %q", words), func() error {
		lines := c.LogLines(words...)
		if len(lines) == 0 {
			return errors.New("there is none")
		}
		found = lines[0]
		return nil
	})
	return found
}

// LogLines returns the lines of the log that hold all the words.
func (c *caddyServer) LogLines(words ...string) (lines []string) {
next:
	for line := range strings.Lines(c.Log()) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue next
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// Stop stops Caddy and looks at what it leaves: it must have ended well, without
// a data race or a panic, and its log must hold no secret. The test's cleanup
// calls it if the test does not.
func (c *caddyServer) Stop() {
	c.t.Helper()
	if c.stopped {
		return
	}
	c.stopped = true
	start := time.Now()
	if err := c.p.stop(c.t); err != nil {
		c.t.Errorf("Caddy ended with %v", err)
	}
	if took := time.Since(start); took > patience/2 {
		c.t.Errorf("Caddy took %v to end", took)
	}
	log := c.Log()
	for _, word := range []string{"DATA RACE", "panic", "goroutine 1 ["} {
		if strings.Contains(log, word) {
			c.t.Errorf("the log of Caddy says %q", word)
		}
	}
	for _, found := range imaptest.Revealed([]byte(log), secrets()...) {
		c.t.Errorf("the log of Caddy holds a secret: %s", found)
	}
	if c.t.Failed() {
		c.t.Logf("log of Caddy:\n%s", log)
	}
}

// site is the configuration that most tests want: one backend, and any of the
// three kinds of listeners, where an address is given.
type site struct {
	Hostnames         string // default: mail.internal localhost
	Globals           string // global options beside ours
	Guard             string // the options of the guard
	Backend           string // the options of the backend
	IMAP, IMAPS, Auth string // addresses
	AuthFail          string // address of an auth listener with on_unavailable fail
	IMAPOptions       string // of both IMAP handlers
	AuthOptions       string
}

func (s site) String() string {
	if s.Hostnames == "" {
		s.Hostnames = "mail.internal localhost"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\timap {\n\t\thostname %s\n", s.Globals, s.Hostnames)
	if s.Guard != "" {
		fmt.Fprintf(&b, "\t\tguard {\n%s\n\t\t}\n", s.Guard)
	}
	fmt.Fprintf(&b, "\t\tbackend exchange {\n%s\n\t\t}\n\t}\n\tlayer4 {\n", s.Backend)
	route := func(addr, handler, options string) {
		if addr != "" {
			fmt.Fprintf(&b, "\t\t%s {\n\t\t\troute {\n\t\t\t\t%s exchange {\n%s\n\t\t\t\t}\n\t\t\t}\n\t\t}\n", addr, handler, options)
		}
	}
	route(s.IMAP, "imap", s.IMAPOptions)
	route(s.IMAPS, "imap", "implicit_tls\n"+s.IMAPOptions)
	route(s.Auth, "dovecot_auth", s.AuthOptions)
	route(s.AuthFail, "dovecot_auth", "on_unavailable fail\n"+s.AuthOptions)
	b.WriteString("\t}\n")
	return b.String()
}

// upstream is the options of a backend at the address, trusted by the authority.
func upstream(addr string, ca *imaptest.CA) string {
	return fmt.Sprintf("\t\t\tupstream %s\n\t\t\ttls_trust_pool file %s", addr, ca.File())
}
