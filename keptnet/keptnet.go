// Package keptnet adds the network kept to Caddy: TCP listeners whose sockets
// outlive configurations. Importing it registers kept, kept4 and kept6, which
// stand for tcp, tcp4 and tcp6 in the addresses that a server listens on:
//
//	layer4 {
//		kept/:143 {
//			...
//		}
//	}
//
// For tcp, Caddy opens one more socket for each configuration, and closes that of
// the one before. The kernel has spread connections over both by then, and resets
// those that wait in the one that is closed. A kept socket is opened by the first
// configuration that wants it and closed by the last; those between hand it on,
// with whoever waits in its queue.
//
// Handing on means that the address is not looked at again: a host name is looked
// up when the socket is opened, and the settings in net.ListenConfig are those of
// the configuration that opened it.
//
// A socket at a unix path needs none of this. Caddy keeps it itself.
package keptnet

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	for _, version := range []string{"", "4", "6"} {
		caddy.RegisterNetwork("kept"+version, listenAs("tcp"+version))
	}
}

// sockets are the open sockets by their addresses, with a count of the listeners
// that share each.
var sockets = caddy.NewUsagePool()

// listenAs returns what Caddy calls to listen on an address of a kept network:
// the address is one of the network given but for the name.
func listenAs(network string) caddy.ListenerFunc {
	return func(ctx context.Context, _, host, ports string, offset uint, cfg net.ListenConfig) (any, error) {
		path, isUnix := strings.CutPrefix(host, "unix/")
		switch {
		case isUnix, strings.HasPrefix(host, "/"):
			return nil, fmt.Errorf("listening on kept/%s: a unix socket is kept by Caddy itself; write unix/%s", host, path)
		case strings.Contains(host, "/"):
			return nil, fmt.Errorf("listening on kept/%s: kept/ is for TCP; write kept/host:port or kept/:port, with no other network", host)
		}
		addrs, err := caddy.ParseNetworkAddress(caddy.JoinNetworkAddress(network, host, ports))
		if err != nil {
			return nil, fmt.Errorf("parsing an address to listen on: %w", err)
		}
		addr := addrs.At(offset)
		if addr.StartPort == 0 {
			return nil, fmt.Errorf("listening on kept/%s: it names no port, and nobody would find the one that the system chose; write kept/host:port", host)
		}
		shared, _, err := sockets.LoadOrNew(addr, func() (caddy.Destructor, error) { return open(ctx, addr, cfg) })
		if err != nil {
			return nil, err
		}
		return newListener(shared.(*socket)), nil
	}
}
