package keptnet

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// otherProcess names the address that TestOtherProcess listens on. Behind "full:" it is
// the path of a unix socket in whose queue there is room for one.
const otherProcess = "KEPTNET_TEST_ADDRESS"

// TestOtherProcess is the process that listens in the tests below. It is another
// Caddy, so to say, and ends with its standard input.
func TestOtherProcess(t *testing.T) {
	address := os.Getenv(otherProcess)
	if address == "" {
		t.Skip("it is run by other tests")
	}
	if path, full := strings.CutPrefix(address, "full:"); full {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
			t.Fatal(err)
		}
	} else {
		mustListen(t, address)
	}
	fmt.Println("listening")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

// startOther has another process listen at the address until stop is called.
func startOther(t *testing.T, address string) (stop func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestOtherProcess$", "-test.timeout="+patience.String())
	cmd.Env = append(os.Environ(), otherProcess+"="+address)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			_ = in.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "listening\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	return stop
}

// wantTaken fails unless the address cannot be listened on, for the reason given.
func wantTaken(t *testing.T, address, want string) {
	t.Helper()
	lns, err := listenOn(t, address)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %d listeners, %v; want an error with %q", address, len(lns), err, want)
	}
	for _, ln := range lns {
		_ = ln.Close()
	}
}

// A port that another process of the same user would share is an error, until that
// has ended.
func TestPortOfAnother(t *testing.T) {
	addr := freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	for _, theirs := range []string{"kept/" + addr, addr, "kept/:" + port} {
		stop := startOther(t, theirs)
		for _, ours := range []string{"kept/" + addr, "kept/:" + port, "kept4/:" + port} {
			wantTaken(t, ours, "stop it first")
		}
		// Who wants to share it can.
		if theirs == addr {
			_ = mustListen(t, addr).Close()
		}
		stop()
		ln := mustListen(t, "kept/"+addr)
		wantGreeting(t, ln)
		_ = ln.Close()
	}
}

// A unix socket that another process serves is an error, and is not touched.
func TestUnixOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, theirs := range []string{"kept/unix/" + path + "|0600", "unix/" + path + "|0600"} {
		stop := startOther(t, theirs)
		wantTaken(t, "kept/unix/"+path+"|0660", "listening on kept/unix/"+path+": another process serves this socket (Dovecot?); stop it first")
		wantMode(t, path, 0o600)
		if conn, err := net.Dial("unix", path); err != nil {
			t.Errorf("the other process has lost its socket: %v", err)
		} else {
			_ = conn.Close()
		}
		stop()
		ln := mustListen(t, "kept/unix/"+path+"|0600")
		wantGreeting(t, ln)
		_ = ln.Close()
	}
}

// A socket with so many in its queue that nobody can connect is served all the same.
func TestUnixFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	startOther(t, "full:"+path)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wantTaken(t, "kept/unix/"+path+"|0600", "another process serves this socket")
}

// What this process has on a port under another name is no obstacle, whatever it is.
func TestOwnPort(t *testing.T) {
	addr := freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	for _, before := range []string{addr, "kept/" + addr, "kept4/:" + port, ":" + port} {
		for _, after := range []string{"kept/" + addr, "kept/127.0.0.2:" + port, "kept/:" + port} {
			old := mustListen(t, before)
			next := mustListen(t, after)
			_ = old.Close()
			wantGreeting(t, next)
			_ = next.Close()
		}
	}
}

// Sessions that outlive their listener do not keep it from coming back.
func TestPortWithSessions(t *testing.T) {
	addr := freeAddr(t)
	ln := mustListen(t, "kept/"+addr)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	session, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	_ = ln.Close()
	wantGreeting(t, mustListen(t, "kept/"+addr))
}

// Errors name the address, also where the system's own does not.
func TestErrorsNameAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d", "s")
	wantTaken(t, "kept/unix/"+path+"|0660", "listening on kept/unix/"+path+": ")
	wantTaken(t, "kept/192.0.2.1:"+fmt.Sprint(freePorts(t, 1)), "listening on kept/192.0.2.1:")
}
