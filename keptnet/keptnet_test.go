package keptnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Caddy starts a few at import.
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

// patience bounds a test that is not about time; it passes only in failure.
const patience = 20 * time.Second

// listenOn listens as a server does whose configuration has the address.
func listenOn(t *testing.T, address string) ([]net.Listener, error) {
	t.Helper()
	addr, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	all, err := addr.ListenAll(context.Background(), net.ListenConfig{})
	var lns []net.Listener
	for _, ln := range all {
		lns = append(lns, ln.(net.Listener))
	}
	return lns, err
}

// mustListen listens on one port. The cleanup closes it where the test does not.
func mustListen(t *testing.T, address string) net.Listener {
	t.Helper()
	lns, err := listenOn(t, address)
	if err != nil || len(lns) != 1 {
		t.Fatalf("%d listeners, %v", len(lns), err)
	}
	t.Cleanup(func() { _ = lns[0].Close() })
	return lns[0]
}

// freePorts returns the first of n ports in a row that nobody listens on.
func freePorts(t *testing.T, n int) int {
	t.Helper()
next:
	for first := 20000 + rand.IntN(8000); first < 32000; first += n {
		for port := first; port < first+n; port++ {
			ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				continue next
			}
			_ = ln.Close()
		}
		return first
	}
	t.Fatal("no free ports")
	return 0
}

// freeAddr returns an address that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1))
}

// serve greets all who come with the word, until the listener is closed. It
// returns how many there were.
func serve(t *testing.T, ln net.Listener, word string) int {
	for greeted := 0; ; greeted++ {
		conn, err := ln.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("accepting: %v", err)
			}
			return greeted
		}
		_, _ = io.WriteString(conn, word)
		_ = conn.Close()
	}
}

// greeting connects and returns what it hears until the end.
func greeting(addr string) (string, error) {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	conn, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(conn)
	return string(b), err
}

// wantGreeting serves the listener alone until a client has heard it.
func wantGreeting(t *testing.T, ln net.Listener) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		if conn, err := ln.Accept(); err != nil {
			t.Errorf("accepting: %v", err)
		} else {
			_, _ = io.WriteString(conn, "hello")
			_ = conn.Close()
		}
	})
	if heard, err := greeting(ln.Addr().String()); heard != "hello" || err != nil {
		t.Errorf("heard %q, %v", heard, err)
	}
	wg.Wait()
}

func wantClosed(t *testing.T, ln net.Listener) {
	t.Helper()
	if conn, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener accepts: %v, %v", conn, err)
	}
}

// wantRefused fails unless nobody listens at the address.
func wantRefused(t *testing.T, addr string) {
	t.Helper()
	if heard, err := greeting(addr); err == nil || heard != "" {
		t.Errorf("somebody listens still, and says %q", heard)
	}
}

// While clients come without a pause, one listener after the other takes over the
// socket. All are served, by whoever it is.
func TestHandover(t *testing.T) {
	const handovers, clients = 200, 8
	address := "kept/" + freeAddr(t)
	ln := mustListen(t, address)
	addr := ln.Addr().String()
	stop := make(chan struct{})
	var heard, greeted atomic.Int64
	var dialing, serving sync.WaitGroup
	for range clients {
		dialing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				word, err := greeting(addr)
				if err != nil || !strings.HasPrefix(word, "listener ") {
					t.Errorf("heard %q, %v", word, err)
					return
				}
				heard.Add(1)
			}
		})
	}
	for i := range handovers {
		current := ln
		serving.Go(func() { greeted.Add(int64(serve(t, current, fmt.Sprintf("listener %d", i)))) })
		for before := heard.Load(); heard.Load() < before+2 && !t.Failed(); {
			time.Sleep(50 * time.Microsecond)
		}
		next := mustListen(t, address)
		if i == handovers-1 {
			close(stop)
			dialing.Wait()
			_ = next.Close()
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		ln = next
	}
	serving.Wait()
	if heard.Load() != greeted.Load() {
		t.Errorf("%d were greeted, %d have heard it", greeted.Load(), heard.Load())
	}
	wantRefused(t, addr)
}

// A listener that waits for a connection or for its turn, or is about to, is woken by
// its end, while another of the same socket waits on, and is served.
func TestCloseWakes(t *testing.T) {
	address := "kept/" + freeAddr(t)
	other := mustListen(t, address)
	for i := range 50 {
		ln := mustListen(t, address)
		if i%2 == 0 { // the older one is closed
			ln, other = other, ln
		}
		woken := make(chan error)
		go func() {
			_, err := ln.Accept()
			woken <- err
		}()
		_ = ln.Close()
		select {
		case err := <-woken:
			var op *net.OpError
			if !errors.As(err, &op) || !errors.Is(err, net.ErrClosed) || op.Timeout() {
				t.Errorf("woken with %v", err)
			}
		case <-time.After(patience):
			t.Fatal("not woken")
		}
		wantClosed(t, ln)
	}
	wantGreeting(t, other)
}

// The oldest listener gets all connections. The one after it, which may belong to a
// configuration that will fail, waits until that is closed.
func TestTurns(t *testing.T) {
	address := "kept/" + freeAddr(t)
	lns := []net.Listener{mustListen(t, address), mustListen(t, address), mustListen(t, address)}
	addr := lns[0].Addr().String()
	var serving sync.WaitGroup
	for i, ln := range lns {
		serving.Go(func() { serve(t, ln, fmt.Sprint(i)) })
	}
	heard := func(want string) {
		t.Helper()
		for range 20 {
			if word, err := greeting(addr); word != want || err != nil {
				t.Fatalf("heard %q, %v; want %q", word, err, want)
			}
		}
	}
	heard("0")
	_ = lns[1].Close()
	heard("0")
	_ = lns[0].Close()
	heard("2")
	_ = lns[2].Close()
	serving.Wait()
	wantRefused(t, addr)
}

// The socket is closed with its last listener, however often one is closed.
func TestLastClose(t *testing.T) {
	address := "kept/" + freeAddr(t)
	lns := []net.Listener{mustListen(t, address), mustListen(t, address), mustListen(t, address)}
	addr := lns[0].Addr().String()
	for i, ln := range lns {
		wantGreeting(t, ln)
		for range 3 {
			if err := ln.Close(); err != nil {
				t.Errorf("closing listener %d: %v", i, err)
			}
		}
		wantClosed(t, ln)
	}
	wantRefused(t, addr)
	wantGreeting(t, mustListen(t, address))
}

// Who was accepted and not handed over when the last listener goes is not left
// hanging.
func TestLastCloseWithClient(t *testing.T) {
	ln := mustListen(t, "kept/"+freeAddr(t))
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = ln.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// An address that somebody else has is an error, again and again, and none any
// more when it is free.
func TestTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "kept/" + taken.Addr().String()
	for range 2 {
		if _, err := listenOn(t, address); !errors.Is(err, syscall.EADDRINUSE) && !strings.Contains(fmt.Sprint(err), "Only one usage") {
			t.Errorf("listening: %v", err)
		}
	}
	_ = taken.Close()
	wantGreeting(t, mustListen(t, address))
}

// A configuration that fails gives back what it had got, and that is all.
func TestFailedRange(t *testing.T) {
	port := freePorts(t, 2)
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	running := mustListen(t, fmt.Sprintf("kept/127.0.0.1:%d", port))
	for range 3 {
		if lns, err := listenOn(t, fmt.Sprintf("kept/127.0.0.1:%d-%d", port, port+1)); err == nil {
			t.Fatalf("got %d listeners", len(lns))
		}
		wantGreeting(t, running)
	}
}

// A configuration where an address is kept may follow one where it is not, and the
// other way round.
func TestFromPlain(t *testing.T) {
	addr := freeAddr(t)
	before := mustListen(t, addr)
	kept := mustListen(t, "kept/"+addr)
	_ = before.Close()
	wantGreeting(t, kept)
	after := mustListen(t, addr)
	_ = kept.Close()
	wantGreeting(t, after)
}

func TestAddresses(t *testing.T) {
	port := fmt.Sprint(":", freePorts(t, 1))
	tests := []struct {
		address string
		want    string // of the error
		ip      string
	}{
		{address: "kept/127.0.0.1" + port, ip: "127.0.0.1"},
		{address: "kept/localhost" + port, ip: "127.0.0.1"},
		{address: "kept/[::1]" + port, ip: "::1"},
		{address: "kept4/" + port, ip: "0.0.0.0"},
		{address: "kept6/" + port, ip: "::"},
		{address: "KEPT/127.0.0.1" + port, ip: "127.0.0.1"},
		{address: "kept4/[::1]" + port, want: "no suitable address"},
		{address: "kept//run/imap.sock|0660", want: "/run/imap.sock|0660: a unix socket is written as kept/unix/"},
		{address: "kept4/unix//run/imap.sock", want: "kept4/unix//run/imap.sock: a unix socket is written as kept/unix/"},
		{address: "kept/unix//run/imap.sock:143", want: "which has no colon"},
		{address: "kept/unix//run/imap.sock|rw", want: "permission bits"},
		{address: "kept/unix//run/imap.sock|0060", want: "owner of the socket"},
		{address: "kept/udp/:143", want: "write kept/host:port or kept/:port, with no other network"},
		{address: "kept/tcp/127.0.0.1:143", want: "write kept/host:port or kept/:port, with no other network"},
		{address: "kept/127.0.0.1", want: "it names no port"},
		{address: "kept/127.0.0.1:0", want: "it names no port"},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.address, "/", "_"), func(t *testing.T) {
			lns, err := listenOn(t, tt.address)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want an error with %q", err, tt.want)
				}
				return
			}
			if err != nil && strings.Contains(tt.ip, ":") {
				t.Skipf("no IPv6 here: %v", err)
			}
			if err != nil || len(lns) != 1 {
				t.Fatalf("%d listeners, %v", len(lns), err)
			}
			for _, ln := range lns {
				if got := ln.Addr().(*net.TCPAddr).IP.String(); got != tt.ip {
					t.Errorf("listens on %s", got)
				}
				_ = ln.Close()
			}
		})
	}
}

// Each port of a range has a socket of its own, which it shares with a listener of
// that port alone.
func TestRange(t *testing.T) {
	port := freePorts(t, 3)
	lns, err := listenOn(t, fmt.Sprintf("kept/127.0.0.1:%d-%d", port, port+2))
	if err != nil || len(lns) != 3 {
		t.Fatalf("%d listeners, %v", len(lns), err)
	}
	second := mustListen(t, fmt.Sprintf("kept/127.0.0.1:%d", port+1))
	for i, ln := range lns {
		if got := ln.Addr().(*net.TCPAddr).Port; got != port+i {
			t.Errorf("port %d, want %d", got, port+i)
		}
		wantGreeting(t, ln)
		_ = ln.Close()
	}
	wantGreeting(t, second)
}

// failing is a listener that fails a few times before it accepts.
type failing struct {
	net.Listener
	left atomic.Int32
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

// A process that has too many files open accepts again when it has fewer.
func TestAcceptAgain(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &failing{Listener: ln}
	f.left.Store(2)
	s := newSocket(caddy.NetworkAddress{Network: "tcp"}, nil, f)
	wantGreeting(t, newListener(s, 0))
	f.left.Store(1 << 30) // it fails at the end, too
	if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		_ = conn.Close() // the accept that waits
	}
	if err := s.Destruct(); err != nil {
		t.Error(err)
	}
}
