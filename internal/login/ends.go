package login

import (
	"net/netip"
)

// Ends are the two ends of the connection of somebody who logs in, as far as they
// are known. Addresses are as plain as in PlainAddrPort.
type Ends struct {
	// Client is where somebody comes from, Server what was connected to. A port
	// that is not known is 0.
	Client, Server netip.AddrPort
}

// Ends returns the two ends of the connection that the attempt came from.
func (a *Attempt) Ends() Ends {
	ends := Ends{Server: PlainAddrPort(a.Local)}
	if a.Remote.IsValid() {
		ends.Client = PlainAddrPort(netip.AddrPortFrom(a.Remote, a.RemotePort))
	}
	return ends
}

// PlainAddrPort returns an IPv4 address within IPv6 as what it is, and no address
// with the name of a network interface of ours.
func PlainAddrPort(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
