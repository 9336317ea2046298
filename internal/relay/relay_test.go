package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tcpPair returns both ends of a TCP connection on the loopback.
func tcpPair(tb testing.TB) (a, b *net.TCPConn) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	dialed, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { dialed.Close(); accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

type rig struct {
	client, backend *net.TCPConn
	stats           chan Stats
}

func start(tb testing.TB, early, late string, idle time.Duration) rig {
	tb.Helper()
	client, front := tcpPair(tb)
	back, backend := tcpPair(tb)
	r := rig{client, backend, make(chan Stats, 1)}
	go func() {
		r.stats <- Run(Leg{front, []byte(early)}, Leg{back, []byte(late)}, idle)
	}()
	deadline := time.Now().Add(20 * time.Second)
	_, _ = client.SetDeadline(deadline), backend.SetDeadline(deadline)
	return r
}

func TestPendingBytesGoFirst(t *testing.T) {
	r := start(t, "a1 SELECT INBOX\r\n", "* 3 EXISTS\r\n", time.Minute)
	_, _ = r.client.Write([]byte("a2 NOOP\r\n"))
	_, _ = r.backend.Write([]byte("* 4 EXISTS\r\n"))
	_, _ = r.client.CloseWrite(), r.backend.CloseWrite()
	got, err := io.ReadAll(r.backend)
	if want := "a1 SELECT INBOX\r\na2 NOOP\r\n"; err != nil || string(got) != want {
		t.Errorf("backend got %q, %v; want %q", got, err, want)
	}
	got, err = io.ReadAll(r.client)
	if want := "* 3 EXISTS\r\n* 4 EXISTS\r\n"; err != nil || string(got) != want {
		t.Errorf("client got %q, %v; want %q", got, err, want)
	}
	if s := <-r.stats; s.Err != nil || s.FromClient != 26 || s.FromBackend != 24 {
		t.Errorf("stats %+v", s)
	}
}

func TestHalfCloseOnEitherSide(t *testing.T) {
	for _, side := range []string{"client", "backend"} {
		t.Run(side, func(t *testing.T) {
			r := start(t, "", "", time.Minute)
			first, second := r.client, r.backend
			if side == "backend" {
				first, second = second, first
			}
			_, _ = first.Write([]byte("last words"))
			_ = first.CloseWrite()
			if got, err := io.ReadAll(second); err != nil || string(got) != "last words" {
				t.Fatalf("other side got %q, %v", got, err)
			}
			// The first side has ended its sending half only: it still listens.
			answer := bytes.Repeat([]byte("answer "), 100_000)
			go func() {
				_, _ = second.Write(answer)
				_ = second.CloseWrite()
			}()
			if got, err := io.ReadAll(first); err != nil || !bytes.Equal(got, answer) {
				t.Fatalf("first side got %d bytes, %v; want %d", len(got), err, len(answer))
			}
			if s := <-r.stats; s.Err != nil {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestResetEndsBothSides(t *testing.T) {
	r := start(t, "", "", time.Minute)
	_ = r.backend.SetLinger(0)
	_ = r.backend.Close()
	if _, err := io.ReadAll(r.client); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client: %v", err)
	}
	if s := <-r.stats; !errors.Is(s.Err, syscall.ECONNRESET) {
		t.Errorf("stats %+v, want a reset", s)
	}
}

// TestIdle runs on the fake clock of a bubble.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, front := net.Pipe()
		back, backend := net.Pipe()
		stats := make(chan Stats, 1)
		begin := time.Now()
		go func() { stats <- Run(Leg{Conn: front}, Leg{Conn: back}, 35*time.Minute) }()
		// Traffic in one direction keeps the session alive as a whole.
		for range 3 {
			time.Sleep(30 * time.Minute)
			go func() { _, _ = backend.Write([]byte("* OK Still here\r\n")) }()
			if _, err := io.ReadFull(client, make([]byte, 17)); err != nil {
				t.Fatal(err)
			}
		}
		s := <-stats
		if !errors.Is(s.Err, ErrIdle) {
			t.Errorf("stats %+v, want idle", s)
		}
		if took := time.Since(begin); took != 125*time.Minute {
			t.Errorf("ended after %v, want 125m", took)
		}
		_, _ = client.Close(), backend.Close()
	})
}

// halfPipe is a pipe whose sending side can be ended alone, which the test learns
// through the channel.
type halfPipe struct {
	net.Conn
	ended chan struct{}
}

func (p halfPipe) CloseWrite() error {
	close(p.ended)
	return nil
}

// eof is a backend that has nothing more to say, and still listens.
type eof struct{ net.Conn }

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// TestDeaf pins that a client which does not hang up after its backend holds the
// session for seconds only.
func TestDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, front := net.Pipe()
		back, backend := net.Pipe()
		stats := make(chan Stats, 1)
		begin := time.Now()
		told := halfPipe{front, make(chan struct{})}
		go func() { stats <- Run(Leg{Conn: told}, Leg{Conn: eof{back}}, time.Hour) }()
		<-told.ended
		s := <-stats
		if took := time.Since(begin); !errors.Is(s.Err, ErrDeaf) || took != deafTimeout {
			t.Errorf("stats %+v after %v, want %v after %v", s, took, ErrDeaf, deafTimeout)
		}
		_, _ = client.Close(), backend.Close()
	})
}

// TestNoHalfClose: a pipe cannot end one direction alone, so both end at once.
func TestNoHalfClose(t *testing.T) {
	client, front := net.Pipe()
	back, backend := net.Pipe()
	stats := make(chan Stats, 1)
	go func() { stats <- Run(Leg{Conn: front}, Leg{Conn: back}, time.Hour) }()
	// Once something came through, both directions wait for more.
	go func() { _, _ = client.Write([]byte("\n")) }()
	if _, err := backend.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = backend.Close()
	if s := <-stats; s.Err != nil && !errors.Is(s.Err, io.ErrClosedPipe) {
		t.Errorf("stats %+v", s)
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("client: %v, want EOF", err)
	}
}

// cutOff is a client over TLS that gets a part of what it is sent.
type cutOff struct {
	net.Conn
	said *[]string
}

func (c cutOff) Write([]byte) (int, error) { return 3, io.ErrShortWrite }
func (c cutOff) NetConn() net.Conn         { return socket(c) }
func (c cutOff) CloseWrite() error         { return c.note("good-bye") }
func (c cutOff) Close() error              { return c.note("good-bye and close") }

func (c cutOff) note(what string) error {
	*c.said = append(*c.said, what)
	return nil
}

type socket struct {
	net.Conn
	said *[]string
}

func (s socket) Close() error {
	*s.said = append(*s.said, "close")
	return s.Conn.Close()
}

// TestCutOff pins that a client which was cut off in the middle of a record gets no
// good-bye of TLS: it would take it for the rest of the record.
func TestCutOff(t *testing.T) {
	client, front := net.Pipe()
	back, backend := net.Pipe()
	var said []string
	s := New(Leg{Conn: cutOff{front, &said}}, Leg{Conn: back}, Options{Idle: time.Minute})
	stats := make(chan Stats, 1)
	go func() { stats <- s.Run() }()
	s.Kick("Bye.", time.Minute)
	if end := <-stats; !errors.Is(end.Err, ErrKicked) {
		t.Errorf("stats %+v", end)
	}
	if len(said) == 0 || said[0] != "close" {
		t.Errorf("said %q before the connection was closed", said)
	}
	_, _ = client.Close(), backend.Close()
}
