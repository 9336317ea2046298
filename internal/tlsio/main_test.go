package tlsio

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serverTLS and clientTLS are made once.
var serverTLS, clientTLS *tls.Config

// wire is one end of a connection in memory that takes whatever is written at once.
type wire struct {
	net.Conn
	in, out *pipe
	// reads and writes count calls.
	reads, writes int
	// cut, if it is set, says how much of a read of so many bytes is done; take, how
	// much of a write, and with what error.
	cut  func(n int) int
	take func(n int) (int, error)
}

type pipe struct {
	mu      sync.Mutex
	changed sync.Cond
	data    []byte
	ended   bool
}

func newPipe() *pipe {
	p := new(pipe)
	p.changed.L = &p.mu
	return p
}

func (w *wire) Read(b []byte) (int, error) {
	p := w.in
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.data) == 0 && !p.ended {
		p.changed.Wait()
	}
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	w.reads++
	if w.cut != nil {
		b = b[:w.cut(len(b))]
	}
	n := copy(b, p.data)
	p.data = p.data[n:]
	return n, nil
}

func (w *wire) Write(b []byte) (n int, err error) {
	p := w.out
	p.mu.Lock()
	defer p.mu.Unlock()
	w.writes++
	n = len(b)
	if w.take != nil {
		n, err = w.take(n)
	}
	p.data = append(p.data, b[:n]...)
	p.changed.Broadcast()
	return n, err
}

func (w *wire) end(p *pipe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.changed.Broadcast()
}

func (w *wire) Close() error {
	w.end(w.in)
	w.end(w.out)
	return nil
}

func (*wire) SetWriteDeadline(time.Time) error { return nil }

// wires returns both ends of TLS in memory, after the handshake, and what is beneath.
func wires(tb testing.TB, version uint16) (client, server *Conn, c, s *wire) {
	tb.Helper()
	up, down := newPipe(), newPipe()
	c, s = &wire{in: down, out: up}, &wire{in: up, out: down}
	client, server = secure(tb, c, s, version)
	return client, server, c, s
}

func secure(tb testing.TB, c, s net.Conn, version uint16) (client, server *Conn) {
	tb.Helper()
	if serverTLS == nil {
		ca := imaptest.NewCA(tb)
		serverTLS, clientTLS = ca.ServerTLS("localhost"), ca.ClientTLS("localhost")
		serverTLS.DynamicRecordSizingDisabled, clientTLS.DynamicRecordSizingDisabled = true, true
	}
	cfg := clientTLS.Clone()
	cfg.MaxVersion = version
	client, server = Client(c, cfg), Server(s, serverTLS)
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-done); err != nil {
		tb.Fatal(err)
	}
	return client, server
}

func overVersions(t *testing.T, test func(*testing.T, uint16)) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) { test(t, version) })
	}
}
