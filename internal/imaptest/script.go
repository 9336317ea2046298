package imaptest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

// patience bounds each step of a script. It is long, because it only passes
// when a test fails, and slow machines must not make it fail.
const patience = time.Minute

// Script is an IMAP server whose every connection is played by one function,
// word by word and as wrongly as the test likes.
type Script struct {
	tb   testing.TB
	ln   net.Listener
	play func(*Conn)
	wg   sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	closed  bool
	open    map[*Conn]struct{}
	total   int
	clear   bytes.Buffer
	logins  []Login
}

// NewScript starts a server on 127.0.0.1. It calls play once per connection, in
// a goroutine of its own, and closes the connection when play returns.
func NewScript(tb testing.TB, play func(c *Conn)) *Script {
	tb.Helper()
	return NewScriptAt(tb, "127.0.0.1:0", play)
}

// NewScriptAt is NewScript at an address of the loopback, for a server that
// takes the place of another.
func NewScriptAt(tb testing.TB, addr string, play func(c *Conn)) *Script {
	tb.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatalf("listening for a scripted IMAP server: %v", err)
	}
	s := &Script{tb: tb, ln: ln, play: play, open: make(map[*Conn]struct{})}
	s.changed = sync.NewCond(&s.mu)
	s.wg.Add(1)
	go s.accept()
	tb.Cleanup(s.Close)
	return s
}

// Addr is where the server listens, as host:port.
func (s *Script) Addr() string { return s.ln.Addr().String() }

// Close stops listening, cuts all connections and waits for their scripts.
// More than one call is one.
func (s *Script) Close() {
	s.mu.Lock()
	s.closed = true
	_ = s.ln.Close()
	for c := range s.open {
		_ = c.raw.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Conns is the number of connections accepted so far.
func (s *Script) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// Open is the number of connections whose scripts still run.
func (s *Script) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// WaitIdle waits until no script runs any more, and fails the test if that
// takes too long: then somebody has left a connection open.
func (s *Script) WaitIdle() {
	s.tb.Helper()
	s.waitFor("every connection to end", func() bool { return len(s.open) == 0 })
}

// WaitConns waits until n connections have been accepted in all.
func (s *Script) WaitConns(n int) {
	s.tb.Helper()
	s.waitFor("more connections", func() bool { return s.total >= n })
}

func (s *Script) waitFor(what string, done func() bool) {
	s.tb.Helper()
	late := false
	timer := time.AfterFunc(patience, func() {
		s.mu.Lock()
		late = true
		s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !done() && !late {
		s.changed.Wait()
	}
	if late {
		s.tb.Errorf("scripted server waited %v for %s: %d open of %d", patience, what, len(s.open), s.total)
	}
}

// Clear is everything that has been received outside of TLS, of all
// connections.
func (s *Script) Clear() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.clear.Bytes())
}

// Logins are the attempts that scripts have noted with Conn.Note.
func (s *Script) Logins() []Login {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Login(nil), s.logins...)
}

// CheckHidden fails the test if one of the secrets, or an encoding of it, came
// in outside of TLS.
func (s *Script) CheckHidden(secrets ...string) {
	s.tb.Helper()
	for _, found := range Revealed(s.Clear(), secrets...) {
		s.tb.Errorf("sent without TLS: %s", found)
	}
}

func (s *Script) accept() {
	defer s.wg.Done()
	for {
		raw, err := s.ln.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.tb.Errorf("scripted IMAP server: accepting: %v", err)
			}
			return
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			_ = raw.Close()
			return
		}
		s.total++
		c := newConn(s, raw, s.total)
		s.open[c] = struct{}{}
		s.wg.Add(1)
		s.mu.Unlock()
		s.changed.Broadcast()
		go s.serve(c)
	}
}

func (s *Script) serve(c *Conn) {
	defer s.wg.Done()
	defer func() {
		_ = c.Conn.Close()
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
		s.changed.Broadcast()
	}()
	defer func() {
		if v := recover(); v != nil {
			s.tb.Errorf("scripted IMAP server: panic: %v\n%s", v, debug.Stack())
		}
	}()
	s.play(c)
}

func (s *Script) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// recorder notes what passes through it for the server that owns it.
type recorder struct {
	s *Script
	r io.Reader
}

func (r recorder) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.s.mu.Lock()
	r.s.clear.Write(p[:n])
	r.s.mu.Unlock()
	return n, err
}
