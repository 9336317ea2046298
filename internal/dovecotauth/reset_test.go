package dovecotauth

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// connect serves one connection of a real socket, and returns the client's end
// with the greeting read.
func connect(t *testing.T, network, address string, s serving, lastLine string) (nc net.Conn, br *bufio.Reader, served chan error) {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served = make(chan error, 1)
	accepted := make(chan net.Conn, 1)
	go func() {
		theirs, err := ln.Accept()
		accepted <- theirs
		if err == nil {
			err = s.Serve(context.Background(), theirs)
		}
		served <- err
	}()
	nc, err = net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if <-accepted == nil {
		t.Fatal(<-served)
	}
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	br = bufio.NewReader(nc)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, lastLine) {
			return nc, br, served
		}
	}
}

// TestReset pins what the client sees of an end that we decide on: on TCP a reset
// and never an orderly end, which Postfix takes notice of one request too late.
func TestReset(t *testing.T) {
	down := func(context.Context, *login.Attempt) login.Verdict {
		return login.UnavailableFor(errors.New("down"))
	}
	panics := func(context.Context, *login.Attempt) login.Verdict { panic("oops") }
	for _, tc := range []struct {
		name  string
		serve serving
		last  string // of the greeting
		input string
		want  string // is heard before the end
	}{
		{"backend away", &Server{Check: down}, "DONE", hello + authAlice, ""},
		{"check panics", &Server{Check: panics}, "DONE", hello + authAlice, ""},
		{"violation", &Server{Check: granted}, "DONE", hello + "PING\n", ""},
		{"violation in the handshake", &Server{Check: granted}, "DONE", "QUIT\n", ""},
		{"line too long", &Server{Check: granted}, "DONE", hello + strings.Repeat("x", maxAuthLine), ""},
		{"userdb violation", &UserDB{}, "SPID", "PING\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nc, br, served := connect(t, "tcp", "127.0.0.1:0", tc.serve, tc.last)
			if _, err := io.WriteString(nc, tc.input); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(br)
			if !errors.Is(err, syscall.ECONNRESET) && runtime.GOOS != "windows" || err == nil {
				t.Errorf("reading ended with %v, want a reset", err)
			}
			if string(rest) != tc.want {
				t.Errorf("server said %q, want %q", rest, tc.want)
			}
			if err := <-served; err == nil {
				t.Error("Serve returned nil although the client did not hang up")
			}
		})
	}
}

// TestAnswersBeforeReset pins that a reset does not overtake earlier answers that
// the client has had the time to read.
func TestAnswersBeforeReset(t *testing.T) {
	nc, br, served := connect(t, "tcp", "127.0.0.1:0", &Server{Check: accounts}, "DONE")
	if _, err := io.WriteString(nc, hello+authAlice); err != nil {
		t.Fatal(err)
	}
	if line, err := br.ReadString('\n'); err != nil || line != "OK\t1\tuser=alice@example.test\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := io.WriteString(nc, "PING\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := br.ReadByte(); err == nil || err == io.EOF {
		t.Errorf("reading ended with %v, want a reset", err)
	}
	if err := <-served; !errors.Is(err, ErrProtocol) {
		t.Errorf("Serve returned %v", err)
	}
}

// TestUnixClose pins that a unix socket, which has no resets, is just closed.
func TestUnixClose(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no unix sockets in temporary directories")
	}
	down := &Server{Check: func(context.Context, *login.Attempt) login.Verdict { return login.Verdict{} }}
	nc, br, served := connect(t, "unix", filepath.Join(t.TempDir(), "s"), down, "DONE")
	if _, err := io.WriteString(nc, hello+authAlice); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(br); err != nil || len(rest) != 0 {
		t.Errorf("server said %q, %v; want an end", rest, err)
	}
	if err := <-served; err == nil {
		t.Error("Serve returned nil although the client did not hang up")
	}
}

// TestHalfClose pins that a client whose last words are VERSION, CPID and a bad
// request still hears the answer, and an orderly end.
func TestHalfClose(t *testing.T) {
	nc, br, served := connect(t, "tcp", "127.0.0.1:0", &Server{Check: granted}, "DONE")
	if _, err := io.WriteString(nc, hello+"AUTH\t1\tPLAIN\tservice=smtp\tresp==\n"); err != nil {
		t.Fatal(err)
	}
	if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(br); err != nil || string(rest) != "FAIL\t1\n" {
		t.Errorf("server said %q, %v", rest, err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve returned %v for a client that hung up", err)
	}
}

// TestHalfCloseMidRequest pins that nothing is said of a check that ended because
// its client went away.
func TestHalfCloseMidRequest(t *testing.T) {
	for _, on := range []OnUnavailable{Disconnect, Fail} {
		asked := make(chan struct{})
		hangs := func(ctx context.Context, _ *login.Attempt) login.Verdict {
			close(asked)
			<-ctx.Done()
			return login.UnavailableFor(ctx.Err())
		}
		nc, br, served := connect(t, "tcp", "127.0.0.1:0", &Server{Check: hangs, OnUnavailable: on}, "DONE")
		if _, err := io.WriteString(nc, hello+authAlice); err != nil {
			t.Fatal(err)
		}
		<-asked
		if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(br); err != nil || len(rest) != 0 {
			t.Errorf("server said %q, %v; want an orderly end", rest, err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve returned %v for a client that hung up", err)
		}
	}
}
