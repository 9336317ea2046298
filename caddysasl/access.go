package caddysasl

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// loopback is who may connect by default.
var loopback = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("::1/128"),
}

// access decides who may connect. It looks at each connection, because a handler
// does not know on which addresses it is made to listen.
type access struct {
	prefixes []netip.Prefix
	logger   *zap.Logger
	// complained is set once somebody was refused.
	complained atomic.Bool
}

func newAccess(allow []string, repl *caddy.Replacer, logger *zap.Logger) (*access, error) {
	a := &access{prefixes: loopback, logger: logger}
	if len(allow) == 0 {
		return a, nil
	}
	a.prefixes = make([]netip.Prefix, 0, len(allow))
	for _, text := range allow {
		p, err := parsePrefix(repl.ReplaceAll(text, ""))
		if err != nil {
			return nil, fmt.Errorf("allow %q: %w", text, err)
		}
		a.prefixes = append(a.prefixes, p)
	}
	return a, nil
}

// parsePrefix reads a network, or the address of one machine.
func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("not a network in CIDR notation: %w", err)
		}
		if p.Addr().Is4In6() {
			return netip.Prefix{}, fmt.Errorf("an IPv4 network must be written as one, like 192.0.2.0/24")
		}
		return p, nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("neither a network in CIDR notation nor an address: %w", err)
	}
	addr = addr.Unmap().WithZone("")
	return netip.PrefixFrom(addr, addr.BitLen()), nil
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
		addr := peer.AddrPort().Addr().Unmap().WithZone("")
		for _, p := range a.prefixes {
			if p.Contains(addr) {
				return true
			}
		}
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
		zap.Stringers("allow", a.prefixes))
}
