package pool

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// maxEndpoints is how many addresses of a name are used.
const maxEndpoints = 16

// LookupFunc is what (*net.Resolver).LookupNetIP is.
type LookupFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

// Names returns the function that Upstream.Endpoints wants for a host and port
// on the network "tcp", "tcp4" or "tcp6". It is nil if the host is an address
// already.
//
// A name that has no two addresses of a family is left as it is: that is one
// server, and net.Dialer chooses between its families better (RFC 8305).
func Names(network, address string, lookup LookupFunc) func(context.Context) ([]string, error) {
	families := map[string]string{"tcp": "ip", "tcp4": "ip4", "tcp6": "ip6"}
	family, known := families[network]
	host, port, err := net.SplitHostPort(address)
	if !known || err != nil || host == "" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	return func(ctx context.Context) ([]string, error) {
		addrs, err := lookup(ctx, family, host)
		if err != nil {
			return nil, fmt.Errorf("looking up %s: %w", host, err)
		}
		return endpoints(addrs, port), nil
	}
}

func endpoints(addrs []netip.Addr, port string) []string {
	var found []string
	var v4, v6 int
	for _, a := range addrs[:min(len(addrs), maxEndpoints)] {
		a = a.Unmap() // the resolver may return IPv4 addresses in IPv6 form
		if a.Is4() {
			v4++
		} else {
			v6++
		}
		found = append(found, net.JoinHostPort(a.String(), port))
	}
	if v4 < 2 && v6 < 2 {
		return nil
	}
	return found
}
