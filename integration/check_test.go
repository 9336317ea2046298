//go:build integration

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// checked is what a run of caddy imap-check says.
type checked struct {
	OK     bool `json:"ok"`
	Checks []struct {
		Part, Step, Fault string
	} `json:"checks"`
	MainCF []struct{ Lines []string } `json:"main_cf"`
}

// faults are all that was found, as part/fault.
func (c *checked) faults() (all []string) {
	for _, check := range c.Checks {
		if check.Fault != "" {
			all = append(all, check.Part+"/"+check.Fault)
		}
	}
	return all
}

// imapCheck is the command, with the environment of the server.
func (c *caddyServer) imapCheck(args ...string) *exec.Cmd {
	cmd := exec.Command(run.caddy, append([]string{"imap-check"}, args...)...)
	cmd.Dir, cmd.Env = c.dir, c.p.cmd.Env
	return cmd
}

// Check runs the command for the server's configuration, with the password on its
// standard input, and fails unless it finds exactly that.
func (c *caddyServer) Check(user, password string, want ...string) *checked {
	c.t.Helper()
	cmd := c.imapCheck("--config", filepath.Join(c.dir, "Caddyfile"), "--json", "--user", user, "--password-stdin")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(password+"\n"), &out, &errs
	err := cmd.Run()
	for _, found := range imaptest.Revealed(append(out.Bytes(), errs.Bytes()...), secrets()...) {
		c.t.Errorf("the check shows a secret: %s", found)
	}
	found := new(checked)
	if err := json.Unmarshal(out.Bytes(), found); err != nil {
		c.t.Fatalf("%v\n%s%s", err, &out, &errs)
	}
	var exit *exec.ExitError
	status := 0
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	}
	if wrong := len(want) > 0; (status == 1) != wrong || found.OK == wrong || !slices.Equal(found.faults(), want) {
		c.t.Errorf("status %d, faults %q, want %q\n%s%s", status, found.faults(), want, &out, &errs)
	}
	if errs.Len() > 0 {
		c.t.Errorf("on stderr: %s", &errs)
	}
	return found
}

// With everything real: what is well, and what is named when something fails.
func TestCheck(t *testing.T) {
	t.Parallel()
	good, bad := secret("Healthy-Horse-61"), secret("Sickly-Horse-62")
	ca := imaptest.NewCA(t)
	d := startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}})}, map[string]string{"alice": good})
	s := site{Backend: upstream(d.IMAP(), ca), IMAP: freeAddr(t), IMAPS: freeAddr(t), Auth: freeAddr(t)}
	c := startCaddy(t, s.String())
	awaitCertificate(t, s.IMAP)

	well := c.Check("alice", good)
	d.WantLogins("alice", 2) // at the backend, and by way of the listener for mail servers
	if len(well.MainCF) != 1 || !slices.Contains(well.MainCF[0].Lines, "smtpd_sasl_path = inet:"+s.Auth) {
		t.Errorf("lines for Postfix: %+v", well.MainCF)
	}

	denied := d.Denied()
	c.Check("alice", bad, "backend/denied")
	if n := d.Denied() - denied; n != 1 {
		t.Errorf("Dovecot has refused the password %d times, want once", n)
	}

	if out, err := c.imapCheck("--to", d.IMAP()).CombinedOutput(); err == nil || !bytes.Contains(out, []byte("tls_trust_pool file")) {
		t.Errorf("without its authority: %v\n%s", err, out)
	}
	if out, err := c.imapCheck("--to", d.IMAPS(), "--tls-trust-pool", ca.File()).CombinedOutput(); err == nil || !bytes.Contains(out, []byte("set tls implicit")) {
		t.Errorf("with the wrong port: %v\n%s", err, out)
	}
	d.Stop()
	c.Check("alice", good, "backend/port_closed")
	c.Stop()
	c.Check("alice", good, "backend/port_closed", "front/port_closed", "front/port_closed", "auth/port_closed")
}

// What our own listeners do when they cannot serve anybody.
func TestCheckListeners(t *testing.T) {
	password := secret("Locked-Horse-63")
	ca := imaptest.NewCA(t)
	backend := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS()))
	c := startCaddy(t, fmt.Sprintf(`
	imap {
		backend exchange {
			%s
			tls_server_name localhost
		}
	}
	layer4 {
		%s {
			route {
				imap
			}
		}
		%s {
			route {
				imap {
					implicit_tls
				}
			}
		}
		%s {
			route {
				dovecot_auth {
					allow 192.0.2.1
				}
			}
		}
		kept/unix/%s/auth.sock|0660 {
			route {
				dovecot_auth
			}
		}
	}`, upstream(backend.Addr(), ca), freeAddr(t), freeAddr(t), freeAddr(t), shortDir(t)))
	c.Check("alice", password, "front/no_certificate", "front/no_certificate", "auth/not_allowed")
	if n := len(backend.Logins()); n != 2 { // the second by way of the socket
		t.Errorf("%d logins, want 2", n)
	}
}

// On a terminal the password is asked for and not shown, a refusal leads to a question,
// and whoever ends the command is rid of it at once.
func TestCheckTerminal(t *testing.T) {
	need(t, "dovecot", "script")
	good, bad := secret("Hidden-Horse-71"), secret("Shown-Horse-72")
	ca := imaptest.NewCA(t)
	d := startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}})}, map[string]string{"alice": good})
	check := fmt.Sprintf("%s imap-check --to %s --tls-trust-pool %s --user alice@example.test", run.caddy, d.IMAP(), ca.File())

	term := openTerminal(t, check)
	term.Expect("Password of alice@example.test: ")
	term.Type(good + "\n")
	term.Expect("is refused")
	term.Expect("Try the same password as alice? It counts as another try. [y/N] ")
	term.Type("y\n")
	term.Expect("as alice is let in")
	term.Expect("the server takes alice")
	term.Expect("Nothing is wrong, but look at the 2 lines marked !.")
	term.End()
	d.WantLogins("alice", 1)

	denied := d.Denied()
	term = openTerminal(t, check)
	term.Expect("Password of ")
	term.Type(bad + "\n")
	term.Expect("[y/N] ")
	term.Type("\n")
	term.Expect("1 thing is wrong")
	term.End()
	if n := d.Denied() - denied; n != 1 {
		t.Errorf("Dovecot has refused the password %d times, want once", n)
	}

	// A server that says nothing, and an operator who does not wait.
	silent := imaptest.NewScript(t, func(c *imaptest.Conn) { c.Rest() })
	for _, args := range []string{"", " --user alice"} {
		term = openTerminal(t, fmt.Sprintf("%s imap-check --to %s --timeout 10m%s; echo left; stty -a", run.caddy, silent.Addr(), args))
		if args == "" {
			term.Expect("is open")
		} else {
			term.Expect("Password of alice: ")
		}
		start := time.Now()
		term.Type("\x03")
		term.Expect("left")
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it took %v to end", took)
		}
		term.Expect(" echo ") // and not -echo
		term.End()
	}
}

// terminal is a shell command on a terminal of its own.
type terminal struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser

	mu   sync.Mutex
	seen bytes.Buffer
	at   int
}

func openTerminal(t *testing.T, command string) *terminal {
	t.Helper()
	term := &terminal{t: t}
	// The shell outlives the key that ends the command.
	term.cmd = exec.Command("script", "-qfec", "trap : INT; "+command, "/dev/null")
	term.cmd.Env = append(os.Environ(), "SHELL=/bin/sh")
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := term.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	term.in, term.cmd.Stdout, term.cmd.Stderr = in, term, term
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-term.cmd.Process.Pid, syscall.SIGKILL) })
	return term
}

// Write takes what is shown.
func (term *terminal) Write(p []byte) (int, error) {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.seen.Write(p)
}

// Expect waits until the text is shown, behind what was expected before.
func (term *terminal) Expect(text string) {
	term.t.Helper()
	eventually(term.t, fmt.Sprintf("the terminal to show %q", text), func() error {
		term.mu.Lock()
		defer term.mu.Unlock()
		at := strings.Index(term.seen.String()[term.at:], text)
		if at < 0 {
			return fmt.Errorf("it shows %q", term.seen.String())
		}
		term.at += at + len(text)
		return nil
	})
}

func (term *terminal) Type(text string) {
	term.t.Helper()
	if _, err := io.WriteString(term.in, text); err != nil {
		term.t.Fatal(err)
	}
}

// End waits for the command, and makes sure that no secret was shown.
func (term *terminal) End() {
	term.t.Helper()
	_ = term.cmd.Wait()
	for _, found := range imaptest.Revealed(term.seen.Bytes(), secrets()...) {
		term.t.Errorf("the terminal shows a secret: %s", found)
	}
}
