package glue

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// Networks are networks, and addresses of single machines.
type Networks []netip.Prefix

// ParseNetworks reads the values of an option, in CIDR notation. Placeholders in
// them are replaced.
func ParseNetworks(option string, values []string) (Networks, error) {
	repl := caddy.NewReplacer()
	networks := make(Networks, 0, len(values))
	for _, value := range values {
		text, err := repl.ReplaceOrErr(value, true, true)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", option, value, err)
		}
		p, err := ParseNetwork(text)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", option, value, err)
		}
		networks = append(networks, p)
	}
	return networks, nil
}

// Contains reports whether the address is in one of the networks.
func (n Networks) Contains(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, p := range n {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// ParseNetwork reads a network in CIDR notation, or the address of one machine.
func ParseNetwork(text string) (netip.Prefix, error) {
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
