package caddysasl

import (
	"net"
	"net/netip"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
)

// loopback is who may connect by default.
var loopback = glue.Networks{
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("::1/128"),
}

// access decides who may connect. It looks at each connection, because a handler
// does not know on which addresses it is made to listen.
type access struct {
	allowed glue.Networks
	logger  *zap.Logger
	// complained is set once somebody was refused.
	complained atomic.Bool
}

func newAccess(allow []string, logger *zap.Logger) (*access, error) {
	a := &access{allowed: loopback, logger: logger}
	if len(allow) == 0 {
		return a, nil
	}
	var err error
	a.allowed, err = glue.ParseNetworks("allow", allow)
	return a, err
}

// isSocket says whether this is the connection itself, and not something that
// another handler has put around it and that does not say what is in it. That may
// claim to come from any address.
func isSocket(raw net.Conn) bool {
	switch raw.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// allows says whether the peer of a socket may connect. A unix socket has its
// file mode for that.
func (a *access) allows(peer net.Addr) bool {
	switch peer := peer.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.allowed.Contains(peer.AddrPort().Addr())
	}
	return false
}

// complain tells the operator that somebody was refused, the first time as an
// error, so that a scanner does not fill the log.
func (a *access) complain(raw net.Conn) {
	log := a.logger.Error
	if a.complained.Swap(true) {
		log = a.logger.Debug
	}
	log("refused a connection from an address that is not allowed: "+
		"if this is your mail server, name it with the option allow; "+
		"if not, let the listener have a loopback address or a unix socket only; "+
		"a handler such as throttle before this one hides the address; "+
		"further refusals are logged at debug level",
		zap.Stringer("remote", raw.RemoteAddr()),
		zap.Stringer("local", raw.LocalAddr()),
		zap.Stringers("allow", a.allowed))
}
