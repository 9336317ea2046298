package caddysasl

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/zap"
)

// server is what the two handlers serve connections with.
type server interface {
	Serve(ctx context.Context, nc net.Conn) error
}

// handle serves one connection. It returns nil: what can go wrong is the client's
// doing, or was logged where it happened.
func handle(cx *layer4.Connection, allow *access, srv server, logger *zap.Logger) error {
	nc := conn{Connection: cx, raw: rawConn(cx)}
	defer nc.recovered(logger)
	if !allow.allows(nc.raw.RemoteAddr()) {
		allow.complain(nc.raw)
		nc.reset()
		return nil
	}
	// The context is not that of the configuration, which the connection may
	// outlive.
	ctx, done, ok := live.begin()
	if !ok {
		nc.reset()
		return nil
	}
	defer done()
	if err := srv.Serve(ctx, nc); err != nil {
		logger.Debug("connection ended", zap.Stringer("remote", nc.raw.RemoteAddr()), zap.Error(err))
	}
	return nil
}

// conn is a layer4 connection that can be reset. The method for that is out of
// reach behind layer4's own type, and behind what other handlers put around it.
type conn struct {
	*layer4.Connection
	raw net.Conn
}

// SetLinger says what becomes of data that was not sent yet when the connection
// is closed; with 0 it is reset. Where the socket knows no such thing, nothing
// happens.
func (c conn) SetLinger(sec int) error {
	if l, ok := c.raw.(interface{ SetLinger(sec int) error }); ok {
		return l.SetLinger(sec)
	}
	return nil
}

func (c conn) reset() {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// recovered is to be deferred. A panic that gets here would end the whole
// process.
func (c conn) recovered(logger *zap.Logger) {
	if p := recover(); p != nil {
		c.reset()
		// Only the type of the panic is shown: its words might quote a secret.
		logger.Error("panic while serving a connection",
			zap.String("panic", fmt.Sprintf("%T", p)), zap.ByteString("stack", debug.Stack()))
	}
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

// exitTimeout bounds how long the exit of the process waits for connections.
const exitTimeout = time.Second

// live are all connections of the process, whatever configuration they began
// with.
var live = newConnections()

func init() {
	caddy.OnExit(func(ctx context.Context) { live.end(ctx) })
}

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

// begin registers a connection, unless all have ended. Its context ends with the
// process; done must be called when it is over.
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
