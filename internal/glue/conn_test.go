package glue

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// wrappers are what stands between us and the socket: what TLS and a PROXY header
// put around a connection have methods of these names.
type (
	overTLS   struct{ net.Conn }
	overProxy struct{ net.Conn }
)

func (c overTLS) NetConn() net.Conn { return c.Conn }
func (c overTLS) CloseWrite() error {
	return c.Conn.(*layer4.Connection).Conn.(*net.TCPConn).CloseWrite()
}

func (c overProxy) Raw() net.Conn { return c.Conn }
func (overProxy) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1"), Port: 1}
}

// wrapped is a way of wrapping.
type wrapped struct {
	name string
	wrap func(*layer4.Connection) *layer4.Connection
	// half tells whether the sending side can be ended alone.
	half   bool
	remote string
}

var wraps = []wrapped{
	{"bare", func(cx *layer4.Connection) *layer4.Connection { return cx }, true, "127.0.0.1"},
	{"behind tls", func(cx *layer4.Connection) *layer4.Connection { return cx.Wrap(overTLS{cx}) }, true, "127.0.0.1"},
	{"behind proxy_protocol", func(cx *layer4.Connection) *layer4.Connection { return cx.Wrap(overProxy{cx}) }, false, "192.0.2.1"},
}

// connect returns a client and the connection that a handler is given.
func connect(t *testing.T, w wrapped) (client *net.TCPConn, c Conn, socket net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	socket, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = nc.Close()
		_ = socket.Close()
	})
	for _, end := range []net.Conn{nc, socket} {
		if err := end.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return nc.(*net.TCPConn), NewConn(w.wrap(layer4.WrapConnection(socket, nil, zap.NewNop()))), socket
}

// TestConn pins that the socket is found under what other handlers put around it,
// and that the peer is whom these say.
func TestConn(t *testing.T) {
	for _, w := range wraps {
		t.Run(w.name, func(t *testing.T) {
			client, c, socket := connect(t, w)
			if c.Raw != socket {
				t.Errorf("the socket is %T", c.Raw)
			}
			if got := c.Remote(); got != netip.MustParseAddr(w.remote) {
				t.Errorf("the client is %v, want %s", got, w.remote)
			}
			if got := c.Ends(); got.Client.Addr() != c.Remote() || got.Client.Port() == 0 || got.Server != netip.MustParseAddrPort(socket.LocalAddr().String()) {
				t.Errorf("the connection is from %v to %v", got.Client, got.Server)
			}
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
			if b, err := io.ReadAll(client); len(b) > 0 || err != nil {
				t.Errorf("the client read %q, %v, want an end in order", b, err)
			}
			if !w.half {
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
					t.Errorf("reading ended with %v, want a closed connection", err)
				}
				return
			}
			if _, err := client.Write([]byte("x")); err != nil {
				t.Error(err)
			}
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Errorf("nothing can be read any more: %v", err)
			}
		})
	}
}

func TestReset(t *testing.T) {
	for _, w := range wraps {
		t.Run(w.name, func(t *testing.T) {
			client, c, _ := connect(t, w)
			c.Reset()
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("reading ended with %v, want a reset", err)
			}
		})
	}
}

// TestNoSocket pins that what a socket can do is not asked of anything else.
func TestNoSocket(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := NewConn(layer4.WrapConnection(ours, nil, zap.NewNop()))
	if err := c.SetLinger(0); err != nil || c.Raw != ours || c.Remote().IsValid() || c.Ends() != (login.Ends{}) {
		t.Errorf("SetLinger: %v; socket %T; client %v", err, c.Raw, c.Remote())
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("reading ended with %v", err)
	}
}

// TestRecovered pins that a panic ends the connection, and is told without its
// words.
func TestRecovered(t *testing.T) {
	client, c, _ := connect(t, wraps[0])
	core, logs := observer.New(zapcore.DebugLevel)
	func() {
		defer c.Recovered(zap.New(core))
		panic(errors.New("my password is hunter2"))
	}()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reading ended with %v, want a reset", err)
	}
	entries := logs.All()
	if len(entries) != 1 || entries[0].Level != zapcore.ErrorLevel {
		t.Fatalf("logged %v", entries)
	}
	fields := entries[0].ContextMap()
	if stack, _ := fields["stack"].(string); fields["panic"] != "*errors.errorString" || !strings.Contains(stack, "TestRecovered") || strings.Contains(stack, "hunter2") {
		t.Errorf("logged %v", fields)
	}

	// Without a panic nothing happens.
	client, c, _ = connect(t, wraps[0])
	func() { defer c.Recovered(zap.New(core)) }()
	if _, err := c.Write([]byte("x")); err != nil || logs.Len() != 1 {
		t.Errorf("after no panic: %v, %d entries", err, logs.Len())
	}
	if _, err := client.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}
