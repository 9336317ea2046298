package imapcmd

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/keptnet"
)

// where is an address to connect to. The network is empty if nobody can.
type where struct{ shown, network, address string }

// maxPorts is how many ports of a range are looked at.
const maxPorts = 16

// dialable says how to connect to a listener.
func dialable(listen string) (all []where) {
	addr, err := caddy.ParseNetworkAddress(listen)
	if err == nil {
		addr, err = keptnet.Plain(addr)
	}
	switch {
	case err != nil || addr.IsFdNetwork():
		return []where{{shown: listen}}
	case addr.IsUnixNetwork():
		path, _, _ := strings.Cut(addr.Host, "|")
		return []where{{listen, "unix", path}}
	}
	host := addr.Host
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if addr.Network == "tcp6" || err == nil && ip.Is6() {
			host = "::1"
		}
	}
	for i := range min(addr.PortRangeSize(), maxPorts) {
		shown := listen
		if addr.PortRangeSize() > 1 {
			shown += " port " + strconv.Itoa(int(addr.StartPort+i))
		}
		all = append(all, where{shown, "tcp", net.JoinHostPort(host, strconv.Itoa(int(addr.StartPort+i)))})
	}
	return all
}
