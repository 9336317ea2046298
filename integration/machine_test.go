//go:build integration

package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// machine is a small Debian of the test's own, in which systemd can run.
type machine struct {
	t    *testing.T
	root string
	p    *process
	// leader is the process id of its systemd, once it is up.
	leader string
}

// newMachine makes one from the packages of the release that this machine has, with
// those given and what they need. Packages that were loaded once are kept, since
// loading takes longer than all the rest.
func newMachine(t *testing.T, packages ...string) *machine {
	t.Helper()
	need(t, "debootstrap", "systemd-nspawn", "nsenter")
	release, err := exec.Command("bash", "-c", ". /etc/os-release && echo $VERSION_CODENAME").Output()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := filepath.Abs("../.cache/debs")
	if err == nil {
		err = os.MkdirAll(cache, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, root: filepath.Join(shortDir(t), "root")}
	if err := os.Mkdir(m.root, 0o755); err != nil {
		t.Fatal(err)
	}
	// In memory, since dpkg waits for the disk after each file.
	command(t, "mount", "-t", "tmpfs", "-o", "mode=755,size=3g", "machine", m.root)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", m.root).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	start := time.Now()
	command(t, "debootstrap", "--variant=minbase", "--include="+strings.Join(packages, ","), "--cache-dir="+cache, strings.TrimSpace(string(release)), m.root)
	figure(t, "a new Debian in %v", time.Since(start).Round(time.Second))
	return m
}

// Boot starts its systemd, and waits until that has started all there is.
func (m *machine) Boot() {
	m.t.Helper()
	log, err := os.Create(m.root + ".log")
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("systemd-nspawn", "--quiet", "--directory", m.root, "--machine", fmt.Sprintf("ci-%d", os.Getpid()),
		"--private-network", "--register=no", "--keep-unit", "--boot")
	cmd.Stdout, cmd.Stderr = log, log
	m.p = startProcess(m.t, "systemd-nspawn", cmd)
	m.t.Cleanup(m.Halt)
	eventually(m.t, "systemd to start", func() error {
		if err := m.p.exited(); err != nil {
			b, _ := os.ReadFile(m.root + ".log")
			m.t.Fatalf("%v\n%s", err, b)
		}
		pid := cmd.Process.Pid
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil || len(strings.Fields(string(b))) == 0 {
			return fmt.Errorf("it has no child yet: %w", err)
		}
		m.leader = strings.Fields(string(b))[0]
		out, err := exec.Command("nsenter", "--target", m.leader, "--all", "systemctl", "is-system-running").CombinedOutput()
		if state := strings.TrimSpace(string(out)); state != "running" && state != "degraded" {
			return fmt.Errorf("the system is %s: %w", state, err)
		}
		return nil
	})
}

// Halt stops systemd and everything that it has started.
func (m *machine) Halt() {
	if m.leader == "" {
		return
	}
	m.leader = ""
	if err := m.p.stop(m.t); err != nil {
		m.t.Errorf("the machine ended with %v", err)
	}
}

// Run runs a line of shell in the machine and returns what it prints.
func (m *machine) Run(line string) string {
	m.t.Helper()
	in := []string{"chroot", m.root}
	if m.leader != "" {
		in = []string{"nsenter", "--target", m.leader, "--all"}
	}
	return command(m.t, append(in, "bash", "-euc", line)...)
}

// Write writes a file of the machine.
func (m *machine) Write(name, text string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.Path(name)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	writeFile(m.t, m.Path(name), text)
}

// Path is that of a file of the machine.
func (m *machine) Path(name string) string { return filepath.Join(m.root, name) }

// command runs a program that has to succeed, and returns what it prints.
func command(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}
