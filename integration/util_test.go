//go:build integration

package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience is how long the harness waits for something that is bound to happen.
const patience = 30 * time.Second

// shortDir makes a directory that daemons with users of their own may enter,
// and whose path is short enough for unix sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ci-")
	if err != nil {
		t.Fatalf("making a directory: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing a directory: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatalf("opening a directory: %v", err)
	}
	return dir
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatalf("writing %s: %v", filepath.Base(path), err)
	}
	return path
}

// lastPort is where freePort looks next: below the range from which the system
// takes ports for outgoing connections, so that nobody takes them before the
// server that they are for.
var lastPort atomic.Int32

func init() { lastPort.Store(20000 + rand.Int32N(8000)) }

// freePort returns a port that no one listens on at any address.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := int(lastPort.Add(1))
		ln, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", port))
		if err != nil {
			continue
		}
		_ = ln.Close()
		return port
	}
	t.Fatal("no free port")
	return 0
}

func freeAddr(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", freePort(t))
}

// eventually polls until done returns nil.
func eventually(t *testing.T, what string, done func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	pause := 5 * time.Millisecond
	for {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s: %v", patience, what, err)
		}
		time.Sleep(pause)
		pause = min(2*pause, 200*time.Millisecond)
	}
}

// accepts returns an error until somebody listens at the address.
func accepts(network, addr string) error {
	conn, err := net.DialTimeout(network, addr, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// process is a daemon that runs as our child, in a process group of its own.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // once done
}

func startProcess(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	p := &process{name: name, cmd: cmd, done: make(chan struct{})}
	go p.wait()
	return p
}

func (p *process) wait() {
	p.err = p.cmd.Wait()
	close(p.done)
}

// exited returns an error if the process has ended.
func (p *process) exited() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended: %w", p.name, errors.Join(p.err, errExited))
	default:
		return nil
	}
}

var errExited = errors.New("process ended")

// stop asks the process to end and waits for it; it returns what the process
// ended with.
func (p *process) stop(t *testing.T) error {
	t.Helper()
	if p.exited() == nil {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(patience):
			t.Errorf("%s did not end within %v of SIGTERM", p.name, patience)
			_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
			<-p.done
		}
	}
	return p.err
}
