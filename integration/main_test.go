//go:build integration

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// run is what the tests of this package share: one Caddy to test, the secrets
// that no log may show, and notes for whoever reads the output.
var run struct {
	caddy string

	mu      sync.Mutex
	secrets []string
	skipped []string
	figures []string
}

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "caddy-imap-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "making a directory for the tests:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if run.caddy = os.Getenv("CADDY_BIN"); run.caddy == "" {
		run.caddy = filepath.Join(dir, "caddy")
		start := time.Now()
		build := exec.Command("go", "build", "-race", "-o", run.caddy, "../cmd/caddy")
		build.Stdout, build.Stderr = os.Stdout, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "building the server to test:", err)
			return 1
		}
		fmt.Printf("built caddy with the race detector in %.0fs; CADDY_BIN names one that is there already\n",
			time.Since(start).Seconds())
	}
	code := m.Run()
	for _, line := range run.figures {
		fmt.Println("measured:", line)
	}
	for _, line := range run.skipped {
		fmt.Println("LEFT OUT:", line)
	}
	return code
}

// figure notes something measured, to be printed when all tests have run.
func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	run.mu.Lock()
	defer run.mu.Unlock()
	run.figures = append(run.figures, t.Name()+": "+fmt.Sprintf(format, args...))
}

// secret registers a password of the test, so that every log of every server we
// run is searched for it.
func secret(s string) string {
	run.mu.Lock()
	defer run.mu.Unlock()
	if !slices.Contains(run.secrets, s) {
		run.secrets = append(run.secrets, s)
	}
	return s
}

func secrets() []string {
	run.mu.Lock()
	defer run.mu.Unlock()
	return slices.Clone(run.secrets)
}

// need skips the test unless it runs as root and the programs are there. Where
// nothing may be left out it fails.
func need(t *testing.T, programs ...string) {
	t.Helper()
	reason := ""
	if os.Geteuid() != 0 {
		reason = "it needs root"
	}
	for _, program := range programs {
		if _, err := findProgram(program); err != nil {
			reason = program + " is not installed"
		}
	}
	if reason == "" {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("with CI=true nothing may be left out, but %s", reason)
	}
	run.mu.Lock()
	run.skipped = append(run.skipped, t.Name()+": "+reason)
	run.mu.Unlock()
	t.Skip(reason)
}

// findProgram looks where daemons live, too; root's PATH does not always.
func findProgram(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(name)
}
