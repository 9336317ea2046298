package relay

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/tlsio"
)

// patience is how long a test waits for what has to come.
const patience = 20 * time.Second

// peer is a client or backend of a relayed session.
type peer struct {
	tb   testing.TB
	name string
	net.Conn
	br *bufio.Reader
}

func newPeer(tb testing.TB, name string, conn net.Conn) *peer {
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &peer{tb, name, conn, bufio.NewReader(conn)}
}

func (p *peer) send(s string) {
	p.tb.Helper()
	if _, err := io.WriteString(p.Conn, s); err != nil {
		p.tb.Errorf("%s cannot write: %v", p.name, err)
	}
}

// expect reads exactly what is wanted.
func (p *peer) expect(want string) {
	p.tb.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(p.br, got)
	if string(got[:n]) != want {
		p.tb.Fatalf("%s got %q, %v; want %q", p.name, got[:n], err, want)
	}
}

// end reads what is left: nothing, in order.
func (p *peer) end() {
	p.tb.Helper()
	if rest, err := io.ReadAll(p.br); err != nil || len(rest) > 0 {
		p.tb.Fatalf("%s got %d bytes, %v; want the end", p.name, len(rest), err)
	}
}

func (p *peer) closeWrite() { _ = p.Conn.(closeWriter).CloseWrite() }

// relayed is a session with both its ends.
type relayed struct {
	*Session
	client, backend *peer
	stats           chan Stats
}

// finish waits for the session, which has to end for the reason.
func (r *relayed) finish(tb testing.TB, why error) Stats {
	tb.Helper()
	select {
	case s := <-r.stats:
		if !errors.Is(s.Err, why) {
			tb.Errorf("ended with %v, want %v", s.Err, why)
		}
		return s
	case <-time.After(patience):
		tb.Fatal("the session does not end")
		panic("not reached")
	}
}

// overBoth runs a test over bare TCP and over TLS.
func overBoth(t *testing.T, o Options, test func(*testing.T, *relayed)) {
	for _, name := range []string{"tcp", "tls"} {
		t.Run(name, func(t *testing.T) { test(t, relay(t, o, name == "tls")) })
	}
}

// relay starts a session.
func relay(tb testing.TB, o Options, overTLS bool) *relayed {
	tb.Helper()
	return relayFrom(tb, o, overTLS, "")
}

// relayFrom starts a session whose client has said something behind its login.
func relayFrom(tb testing.TB, o Options, overTLS bool, pending string) *relayed {
	tb.Helper()
	if o.Idle == 0 {
		o.Idle = time.Minute
	}
	client, front := connect(tb, overTLS)
	backend, back := connect(tb, overTLS)
	r := &relayed{
		Session: New(Leg{Conn: front, Pending: []byte(pending)}, Leg{Conn: back}, o),
		client:  &peer{tb, "client", client, bufio.NewReader(client)},
		backend: &peer{tb, "backend", backend, bufio.NewReader(backend)},
		stats:   make(chan Stats, 1),
	}
	deadline := time.Now().Add(patience)
	_, _ = client.SetDeadline(deadline), backend.SetDeadline(deadline)
	go func() { r.stats <- r.Run() }()
	return r
}

// layer is what the relay finds on a connection.
type layer int

const (
	plain layer = iota
	// foreign is a TLS that is not ours, as of a handler before us.
	foreign
	ours
)

// connect returns both ends of a connection, the far one first.
func connect(tb testing.TB, overTLS bool) (net.Conn, net.Conn) {
	if overTLS {
		return link(tb, ours)
	}
	return link(tb, plain)
}

func link(tb testing.TB, l layer) (net.Conn, net.Conn) {
	far, near := tcpPair(tb)
	if l == plain {
		return far, near
	}
	if authority == nil {
		authority = imaptest.NewCA(tb)
		serverTLS = authority.ServerTLS()
		serverTLS.DynamicRecordSizingDisabled = true
	}
	cfg := authority.ClientTLS("localhost")
	cfg.DynamicRecordSizingDisabled = true
	client := tlsio.Client(far, cfg)
	var server interface {
		net.Conn
		Handshake() error
	} = tlsio.Server(near, serverTLS)
	if l == foreign {
		server = tls.Server(near, serverTLS)
	}
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-done); err != nil {
		tb.Fatal(err)
	}
	return client, server
}

var (
	authority *imaptest.CA
	serverTLS *tls.Config
)

// Run relays between two legs, with nothing chosen but the idle timeout.
func Run(client, backend Leg, idle time.Duration) Stats {
	return New(client, backend, Options{Idle: idle}).Run()
}
