//go:build linux

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a server that runs as our child in the foreground, in a process
// group of its own.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// start has the server write its output into a file DIR/output.
func start(dir string, argv ...string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		return nil, fmt.Errorf("making a file for output: %w", err)
	}
	defer log.Close()
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), log: log.Name(), done: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C"}
	for _, name := range []string{"GOGC", "GOMEMLIMIT", "GODEBUG"} {
		if value, ok := os.LookupEnv(name); ok {
			p.cmd.Env = append(p.cmd.Env, name+"="+value)
		}
	}
	// If we are killed, nobody else would stop it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", argv[0], err)
	}
	go p.wait()
	return p, nil
}

func (p *process) wait() {
	_ = p.cmd.Wait() // how it ended is in its output
	close(p.done)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks it to end, and ends what is left of its group.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
	}
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
	<-p.done
}

// awaitReady polls until try succeeds, or the process has ended.
func (p *process) awaitReady(try func() error) error {
	deadline := time.After(20 * time.Second)
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it has ended; see %s", p.log)
		case <-deadline:
			return fmt.Errorf("it does not answer: %w; see %s", err, p.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// accepts is an error until somebody listens at the address.
func accepts(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// nextPort is below the range from which the system takes ports for outgoing
// connections, so that nobody takes one before its server.
var nextPort = 12000 + rand.IntN(8000)

func freeAddr() (string, error) {
	for range 1000 {
		nextPort++
		addr := fmt.Sprintf("127.0.0.1:%d", nextPort)
		if ln, err := net.Listen("tcp", addr); err == nil {
			return addr, ln.Close()
		}
	}
	return "", errors.New("looking for a free port: there is none")
}
