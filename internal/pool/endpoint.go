package pool

import "fmt"

// Endpoint is something that can be connected to.
type Endpoint struct {
	// Pool is the name of the pool.
	Pool string
	// Upstream is the address that is configured.
	Upstream string
	// Address is what to connect to: the same, or one of the addresses of its
	// name.
	Address string
}

// String names the endpoint in errors and logs.
func (e Endpoint) String() string {
	if e.Address == e.Upstream {
		return e.Upstream
	}
	return fmt.Sprintf("%s (%s)", e.Upstream, e.Address)
}

// membersOf returns what can be chosen of an upstream. Without endpoints that
// is its address.
func (p *Pool) membersOf(address string, endpoints []string) []member {
	if len(endpoints) == 0 {
		endpoints = []string{address}
	}
	members := make([]member, 0, len(endpoints))
	for _, e := range endpoints {
		m := member{Endpoint: Endpoint{Pool: p.cfg.Name, Upstream: address, Address: e}}
		m.hash = hash(address + " " + e)
		if !holds(members, m.Endpoint) {
			members = append(members, m)
		}
	}
	return members
}

func holds(members []member, e Endpoint) bool {
	for i := range members {
		if members[i].Endpoint == e {
			return true
		}
	}
	return false
}
