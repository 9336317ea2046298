// Package keptnet adds the network kept to Caddy: listeners whose sockets outlive
// configurations. Importing it registers kept, kept4 and kept6, which stand for tcp,
// tcp4 and tcp6 in the addresses that a server listens on, and kept/unix for unix:
//
//	layer4 {
//		kept/:143 {
//			...
//		}
//		kept/unix//run/caddy-auth/postfix.sock|0660 {
//			...
//		}
//	}
//
// For tcp, Caddy opens one more socket for each configuration, and closes that of
// the one before. The kernel has spread connections over both by then, and resets
// those that wait in the one that is closed. For unix, it makes a copy of the last
// one that it has opened. A configuration that fails to start closes that, and as of
// Caddy 2.11.9 there is nothing to be copied any more: no further configuration
// can be loaded.
//
// A kept socket is opened by the first configuration that wants it and closed by the
// last; those between hand it on, with whoever waits in its queue. Whoever has it for
// longest gets all connections: a configuration that fails to start gets none.
//
// On Linux an address at which another process listens cannot be opened: Caddy would
// share a port with another Caddy, and would remove the file of a unix socket.
//
// Handing on means that the address is not looked at again: a host name is looked
// up when the socket is opened, and the settings in net.ListenConfig are those of
// the configuration that opened it.
package keptnet

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// networks are ours, and what they stand for.
var networks = map[string]string{"kept": "tcp", "kept4": "tcp4", "kept6": "tcp6"}

func init() {
	for network := range networks {
		caddy.RegisterNetwork(network, listen)
	}
}

// sockets are the open sockets by their addresses, with a count of the listeners
// that share each.
var sockets = caddy.NewUsagePool()

// Plain returns the address of Caddy's own networks for which one of ours stands, and
// others as they are.
func Plain(addr caddy.NetworkAddress) (caddy.NetworkAddress, error) {
	network, kept := networks[addr.Network]
	if !kept {
		return addr, nil
	}
	path, unix := strings.CutPrefix(addr.Host, "unix/")
	switch {
	case unix && strings.HasPrefix(path, "@") && strings.Contains(path, "|"):
		return addr, fmt.Errorf("%s/%s: a socket whose name begins with @ has no file, and so no mode; leave out what is behind the |",
			addr.Network, addr.Host)
	case unix && network == "tcp" && addr.EndPort == 0:
		return caddy.ParseNetworkAddress("unix/" + path) // this looks at the mode, too
	case unix, strings.HasPrefix(addr.Host, "/"):
		return addr, fmt.Errorf("%s/%s: a unix socket is written as kept/unix/ and its path, which has no colon, such as kept/unix//run/auth.sock|0660",
			addr.Network, addr.Host)
	case strings.Contains(addr.Host, "/"):
		return addr, fmt.Errorf("%s/%s: kept/ is for TCP and for unix sockets; write kept/host:port or kept/:port, with no other network", addr.Network, addr.Host)
	case addr.StartPort == 0:
		return addr, fmt.Errorf("%s/%s: it names no port, and nobody would find the one that the system chose; write kept/host:port", addr.Network, addr.Host)
	}
	addr.Network = network
	return addr, nil
}

// listen is what Caddy calls to listen on an address of ours.
func listen(ctx context.Context, network, host, ports string, offset uint, cfg net.ListenConfig) (any, error) {
	addr, err := caddy.ParseNetworkAddress(caddy.JoinNetworkAddress(network, host, ports))
	if err == nil {
		addr, err = Plain(addr)
	}
	if err != nil {
		return nil, fmt.Errorf("reading an address to listen on: %w", err)
	}
	addr = addr.At(offset)
	key, mode := addr, fs.FileMode(0)
	if addr.IsUnixNetwork() {
		key.Host, mode = file(addr.Host)
	}
	shared, loaded, err := sockets.LoadOrNew(key, func() (caddy.Destructor, error) { return open(ctx, key, addr, cfg) })
	if err != nil {
		// A unix socket's own error is but "permission denied".
		return nil, fmt.Errorf("listening on %s: %w", name(network, key), err)
	}
	s := shared.(*socket)
	if loaded && mode != 0 {
		if err := s.checkOwn(); err != nil {
			logger().Error("nobody can connect to this unix socket any more, since its file was removed; restart Caddy", zap.Error(err))
		}
	}
	return newListener(s, mode), nil
}

// name returns an address as it is written in a configuration, without a mode.
func name(network string, addr caddy.NetworkAddress) string {
	if addr.IsUnixNetwork() {
		return network + "/" + addr.String()
	}
	return network + "/" + addr.JoinHostPort(0)
}

// file returns the path of a unix socket, and the mode that its file is to have, which
// is 0 if there is no file. Caddy has looked at both.
func file(host string) (path string, mode fs.FileMode) {
	path, bits, ok := strings.Cut(host, "|")
	if strings.HasPrefix(path, "@") {
		return path, 0
	}
	if !ok {
		return path, 0o200 // as Caddy does
	}
	m, _ := strconv.ParseUint(bits, 8, 32)
	return path, fs.FileMode(m)
}

func logger() *zap.Logger { return caddy.Log().Named("kept") }
