package pool

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Policy decides in which order upstreams are tried.
type Policy string

const (
	// PolicyFirst keeps the order of the configuration.
	PolicyFirst Policy = "first"
	// PolicyRoundRobin takes them in turn.
	PolicyRoundRobin Policy = "round_robin"
	// PolicyLeastConn begins with the one that has the fewest sessions, logins
	// in progress included. Among equals it chooses at random.
	PolicyLeastConn Policy = "least_conn"
	// PolicyRandom shuffles them.
	PolicyRandom Policy = "random"
	// PolicyClientIPHash keeps a client at the same upstream, by its IPv4
	// address or its IPv6 network of 64 bits. A client without an address is
	// served at random.
	PolicyClientIPHash Policy = "client_ip_hash"
	// PolicyUserHash keeps a user at the same upstream. A user without a name
	// is served at random.
	//
	// Both hashes are the same in every process. When an upstream is lost or
	// added, only those move who were there or will be (rendezvous hashing).
	PolicyUserHash Policy = "user_hash"
)

// Policies are all there are.
var Policies = []Policy{
	PolicyFirst, PolicyRoundRobin, PolicyLeastConn, PolicyRandom, PolicyClientIPHash, PolicyUserHash,
}

// ParsePolicy returns the policy of that name. An empty one means PolicyFirst.
func ParsePolicy(name string) (Policy, error) {
	if name == "" {
		return PolicyFirst, nil
	}
	if p := Policy(name); slices.Contains(Policies, p) {
		return p, nil
	}
	words := make([]string, len(Policies))
	for i, p := range Policies {
		words[i] = string(p)
	}
	return "", fmt.Errorf("policy %q: must be one of %s", name, strings.Join(words, ", "))
}

// Client is who wants to log in, as far as policies care.
type Client struct {
	// Addr is the address of the client; it may be invalid.
	Addr netip.Addr
	// User tells users from each other. Spellings of the same user that should
	// be served alike are made the same by the caller.
	User string
}

// prefixIPv6 is what the addresses of one client have in common.
const prefixIPv6 = 64

// seed returns the hash of what the policy goes by. It is random if that is not
// known, or if the policy goes by nothing.
func (c Client) seed(policy Policy) uint64 {
	switch {
	case policy == PolicyUserHash && c.User != "":
		return hash(c.User)
	case policy == PolicyClientIPHash && c.Addr.IsValid():
		addr := c.Addr.Unmap()
		bytes := addr.As16()
		if addr.Is4() {
			return hash(bytes[:])
		}
		return hash(bytes[:prefixIPv6/8])
	}
	return rand.Uint64()
}

// candidate is a member with its place in the order: first those that are not
// down, and among these by rank.
type candidate struct {
	member *member
	state  *state // nil if nothing is known
	down   bool
	rank   uint64
}

// Order returns the endpoints in the order in which to try them. Those that are
// down come last, those that drain are left out.
//
// When the time of an endpoint that failed is over, one login is sent there to
// try it, and others only once that has succeeded.
func (p *Pool) Order(c Client) []Endpoint {
	var room [8]candidate // so that small pools need no allocation for it
	seed := c.seed(p.cfg.Policy)
	t := p.table
	t.mu.Lock()
	defer t.unlock()
	now := time.Now()
	list := p.candidates(room[:0], now)
	if len(list) == 0 {
		return nil
	}
	p.rank(list, seed)
	slices.SortFunc(list, candidate.compare)
	if foremost := list[0]; !foremost.down && foremost.state != nil {
		foremost.state.tried(now)
	}
	order := make([]Endpoint, len(list))
	for i := range list {
		order[i] = list[i].member.Endpoint
	}
	return order
}

func (p *Pool) candidates(list []candidate, now time.Time) []candidate {
	for _, u := range p.upstreams {
		if u.Drain {
			continue
		}
		for i := range u.members {
			m := &u.members[i]
			s := p.table.states[m.Endpoint]
			list = append(list, candidate{member: m, state: s, down: s != nil && !s.usable(now)})
		}
	}
	return list
}

// rank fills in the ranks. The list is in the order of the configuration.
func (p *Pool) rank(list []candidate, seed uint64) {
	switch p.cfg.Policy {
	case PolicyFirst:
		for i := range list {
			list[i].rank = uint64(i)
		}
	case PolicyRoundRobin:
		p.rankInTurn(list)
	case PolicyLeastConn:
		for i := range list {
			list[i].rank = uint64(rand.Uint32())
			if s := list[i].state; s != nil {
				list[i].rank |= uint64(s.sessions) << 32
			}
		}
	default:
		for i := range list {
			list[i].rank = mix(list[i].member.hash ^ seed)
		}
	}
}

// rankInTurn takes turns among those that are up and among those that are down,
// so that the neighbour of one that is down does not get the share of two.
func (p *Pool) rankInTurn(list []candidate) {
	var total, seen [2]uint64
	for i := range list {
		total[list[i].class()]++
	}
	for i := range list {
		class := list[i].class()
		n := total[class]
		list[i].rank = (seen[class] + n - p.robin%n) % n
		seen[class]++
	}
	p.robin++
}

func (c candidate) compare(other candidate) int {
	return cmp.Or(cmp.Compare(c.class(), other.class()), cmp.Compare(c.rank, other.rank))
}

// class is an index that is higher for those that come last.
func (c candidate) class() int {
	if c.down {
		return 1
	}
	return 0
}
