package imapredis

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// dialTimeout bounds connecting with TLS, ioTimeout each read and write. A
	// login waits for less, and its context says so; what has begun goes on for the
	// next one.
	dialTimeout = 2 * time.Second
	ioTimeout   = 2 * time.Second
	// poolSize is how many connections there are at most. One serves more than a
	// thousand logins a second.
	poolSize = 16
)

// options returns what go-redis is told. Whatever does not work is not tried again:
// the guard counts alone then, and decides when to come back.
func options(addresses []caddy.NetworkAddress, tlsConfig *tls.Config) redis.UniversalOptions {
	o := redis.UniversalOptions{
		Protocol:              2, // so that the server sends nothing that was not asked for
		MaxRetries:            -1,
		MaxRedirects:          1,
		DialTimeout:           dialTimeout,
		DialerRetries:         1,
		ReadTimeout:           ioTimeout,
		WriteTimeout:          ioTimeout,
		ContextTimeoutEnabled: true,
		PoolSize:              poolSize,
		PipelinePoolSize:      -1,
		PoolTimeout:           ioTimeout,
		DisableIdentity:       true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	}
	network := addresses[0].Network
	for _, addr := range addresses {
		o.Addrs = append(o.Addrs, addr.JoinHostPort(0))
	}
	d := dialer{network: network, tls: tlsConfig}
	o.Dialer = d.dial
	return o
}

// dialer connects to servers. The nodes of a cluster name each other, all of them
// on the network of the first.
type dialer struct {
	network string
	tls     *tls.Config
}

// dial connects. If it cannot, it returns a connection that says so when it is
// used: go-redis writes a line to standard error for each failed dial, and there is
// one each time that the guard looks whether the server is back.
func (d dialer) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var nc net.Conn
	var err error
	if d.tls == nil {
		nc, err = new(net.Dialer).DialContext(ctx, d.network, addr)
	} else {
		nc, err = (&tls.Dialer{Config: d.tls}).DialContext(ctx, d.network, addr)
	}
	if err != nil {
		return failedConn{err}, nil
	}
	return nc, nil
}

// failedConn is a connection that was not made.
type failedConn struct{ err error }

func (c failedConn) Read([]byte) (int, error)       { return 0, c.err }
func (c failedConn) Write([]byte) (int, error)      { return 0, c.err }
func (failedConn) Close() error                     { return nil }
func (failedConn) LocalAddr() net.Addr              { return new(net.TCPAddr) }
func (failedConn) RemoteAddr() net.Addr             { return new(net.TCPAddr) }
func (failedConn) SetDeadline(time.Time) error      { return nil }
func (failedConn) SetReadDeadline(time.Time) error  { return nil }
func (failedConn) SetWriteDeadline(time.Time) error { return nil }

// Interface guard.
var _ net.Conn = failedConn{}
