//go:build integration && unix

package redistest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long something may take that is bound to happen.
const patience = 20 * time.Second

// Server is a redis-server that keeps nothing on disk. Its methods end the test
// where they fail.
type Server struct {
	// Addr is where it listens, as host:port, and Socket its unix socket.
	Addr, Socket string

	t    testing.TB
	args []string
	log  lockedBuffer
	cmd  *exec.Cmd
}

// Start runs a server until the end of the test. Further arguments are options of
// redis-server. Without redis-server the test is skipped; with CI=true it fails.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is not installed, and with CI=true no test may be left out")
		}
		t.Skip("LEFT OUT: redis-server is not installed")
	}
	dir, err := os.MkdirTemp("", "redis-") // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatalf("making a directory: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("looking for a free port: %v", err)
	}
	addr := ln.Addr().(*net.TCPAddr)
	_ = ln.Close()
	s := &Server{Addr: addr.String(), Socket: filepath.Join(dir, "redis.sock"), t: t}
	s.args = append([]string{
		"--port", fmt.Sprint(addr.Port), "--bind", "127.0.0.1", "--unixsocket", s.Socket,
		"--save", "", "--appendonly", "no", "--dir", dir,
	}, args...)
	s.Restart()
	t.Cleanup(s.Kill)
	return s
}

// Restart runs the server again after Kill. It has forgotten everything.
func (s *Server) Restart() {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", s.args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("starting redis-server: %v", err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		nc, err := net.Dial("unix", s.Socket)
		if err == nil {
			_ = nc.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("redis-server does not listen: %v\n%s", err, s.log.String())
		}
	}
}

// Kill ends the server at once.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = os.Remove(s.Socket)
	s.cmd = nil
}

// Pause has the server give no answers; Resume ends that.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume has the server go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("signalling redis-server: %v", err)
	}
}

// Do runs a command by redis-cli, and returns what it prints.
func (s *Server) Do(args ...string) string {
	s.t.Helper()
	out, err := exec.Command("redis-cli", append([]string{"-s", s.Socket}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("redis-cli %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// lockedBuffer is written to by the process.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
