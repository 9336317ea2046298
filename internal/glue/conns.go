package glue

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Conn is a layer4 connection that can be reset, and whose sending side can be
// ended alone. The methods for that are out of reach behind layer4's own type,
// and behind what other handlers put around it.
type Conn struct {
	*layer4.Connection
	// Raw is the socket.
	Raw net.Conn
}

// NewConn returns the connection with its socket.
func NewConn(cx *layer4.Connection) Conn { return Conn{Connection: cx, Raw: rawConn(cx)} }

// NetConn returns the socket.
func (c Conn) NetConn() net.Conn { return c.Raw }

// SetLinger says what becomes of data that was not sent yet when the connection
// is closed; with 0 it is reset. Where the socket knows no such thing, nothing
// happens.
func (c Conn) SetLinger(sec int) error {
	if l, ok := c.Raw.(interface{ SetLinger(sec int) error }); ok {
		return l.SetLinger(sec)
	}
	return nil
}

// CloseWrite ends the sending side alone. Where that cannot be done, the whole
// connection is closed.
func (c Conn) CloseWrite() error {
	if cw, ok := c.Connection.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return c.Close()
}

// Reset closes the connection such that the peer notices at its next write.
func (c Conn) Reset() {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// IsStream says whether the connection is one of a stream, and not of datagrams,
// which could be made to answer somebody else.
func (c Conn) IsStream() bool {
	switch c.Raw.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	_, datagram := c.LocalAddr().(*net.UDPAddr)
	return !datagram
}

// Remote returns the address of the client, as far as other handlers know it:
// behind a PROXY header it is the one named there.
func (c Conn) Remote() netip.Addr {
	return c.Ends().Client.Addr()
}

// Ends returns the addresses of the client and of what it connected to, likewise.
func (c Conn) Ends() login.Ends {
	return login.Ends{
		Client: login.PlainAddrPort(addrPort(c.RemoteAddr())),
		Server: login.PlainAddrPort(addrPort(c.LocalAddr())),
	}
}

// addrPort returns the address of a TCP connection, and none for others.
func addrPort(addr net.Addr) netip.AddrPort {
	if a, ok := addr.(*net.TCPAddr); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

// Recovered is to be deferred. A panic that gets past it would end the whole
// process.
func (c Conn) Recovered(logger *zap.Logger) {
	if p := recover(); p != nil {
		c.Reset()
		LogPanic(logger, "serving a connection", p)
	}
}

// Recovered is to be deferred by what runs on a goroutine without a connection. It
// logs a panic and ends it.
func Recovered(logger *zap.Logger, doing string) {
	if p := recover(); p != nil {
		LogPanic(logger, doing, p)
	}
}

// LogPanic logs what recover has returned, and where. It shows only the type: the words might
// quote a secret.
func LogPanic(logger *zap.Logger, doing string, p any) {
	logger.Error("panic while "+doing, zap.String("panic", fmt.Sprintf("%T", p)), zap.ByteString("stack", debug.Stack()))
}

// rawConn returns the socket under a connection and its wrappers, as far as these
// tell.
func rawConn(nc net.Conn) net.Conn {
	for {
		var inner net.Conn
		switch c := nc.(type) {
		case *layer4.Connection:
			inner = c.Conn
		case interface{ NetConn() net.Conn }: // tls.Conn
			inner = c.NetConn()
		case interface{ Raw() net.Conn }: // proxyproto.Conn
			inner = c.Raw()
		}
		if inner == nil {
			return nc
		}
		nc = inner
	}
}

// exitTimeout bounds how long the exit of the process waits for connections, which
// have a response to complete and a good-bye to say. It is less than the 5 seconds
// that service managers are told to wait.
const exitTimeout = 4 * time.Second

// live are all connections of the process, whatever configuration they began
// with.
var live = newConnections()

func init() {
	caddy.OnExit(func(ctx context.Context) { live.end(ctx) })
}

// Begin registers a connection with the process. Its context is not that of the
// configuration, which the connection may outlive: it ends when the process
// exits, which then waits a moment for done to be called. If the process exits
// already, ok is false, and done must not be called.
func Begin() (ctx context.Context, done func(), ok bool) { return live.begin() }

// connections can be ended together. A process that exits without that leaves it
// to the kernel, which ends a connection in the orderly way that Postfix notices
// too late: the next login on it would fail.
type connections struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	ended bool
}

func newConnections() *connections {
	c := new(connections)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

func (c *connections) begin() (ctx context.Context, done func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil, nil, false
	}
	c.wg.Add(1)
	return c.ctx, c.wg.Done, true
}

// end ends all connections, and waits for them for a moment.
func (c *connections) end(ctx context.Context) {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.cancel()
	ctx, cancel := context.WithTimeout(ctx, exitTimeout)
	defer cancel()
	over := make(chan struct{})
	go c.wait(over)
	select {
	case <-over:
	case <-ctx.Done():
	}
}

func (c *connections) wait(over chan<- struct{}) {
	c.wg.Wait()
	close(over)
}
