package pool

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func policyPool(t testing.TB, table *Table, policy Policy, addrs string) *Pool {
	t.Helper()
	cfg := newFleet().config(addrs)
	cfg.Policy = policy
	cfg.FailDuration = time.Hour
	return start(t, table, cfg)
}

// bringDown reports a failure of an address.
func bringDown(p *Pool, addr string) {
	for _, e := range p.Order(someone) {
		if e.Address == addr {
			l := p.Hold(e)
			l.Failed(errDown)
			l.Release()
		}
	}
}

// user returns the n-th user, from an address of its own.
func user(n int) Client {
	return Client{
		Addr: netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}),
		User: fmt.Sprintf("user%d@example.org", n),
	}
}

const manyLogins = 30_000

// shares counts who is tried first, in percent.
func shares(p *Pool) map[string]int {
	count := map[string]int{}
	for n := range manyLogins {
		count[p.Order(user(n))[0].Address]++
	}
	for addr, n := range count {
		count[addr] = (n*100 + manyLogins/2) / manyLogins
	}
	return count
}

func TestShares(t *testing.T) {
	for _, tc := range []struct {
		policy   Policy
		up, down string // the shares, with all up and with b down
		slack    int
	}{
		{PolicyFirst, "a=100", "a=100", 0},
		{PolicyRoundRobin, "a=33 b=33 c=33", "a=50 c=50", 0},
		{PolicyLeastConn, "a=33 b=33 c=33", "a=50 c=50", 2},
		{PolicyRandom, "a=33 b=33 c=33", "a=50 c=50", 2},
		{PolicyClientIPHash, "a=33 b=33 c=33", "a=50 c=50", 2},
		{PolicyUserHash, "a=33 b=33 c=33", "a=50 c=50", 2},
	} {
		t.Run(string(tc.policy), func(t *testing.T) {
			p := policyPool(t, new(Table), tc.policy, "a b c (d)")
			checkShares(t, shares(p), tc.up, tc.slack)
			bringDown(p, "b")
			checkShares(t, shares(p), tc.down, tc.slack)
		})
	}
}

func checkShares(t *testing.T, got map[string]int, want string, slack int) {
	t.Helper()
	words := strings.Fields(want)
	for _, w := range words {
		var addr string
		var share int
		if _, err := fmt.Sscanf(strings.Replace(w, "=", " ", 1), "%s %d", &addr, &share); err != nil {
			t.Fatal(err)
		}
		if got[addr] < share-slack || got[addr] > share+slack {
			t.Errorf("shares %v, want %s", got, want)
		}
	}
	if len(got) != len(words) {
		t.Errorf("shares %v, want %s", got, want)
	}
}

// Every policy names every upstream once, those that are down last, and never
// one that drains; and all of them if all are down.
func TestOrderComplete(t *testing.T) {
	for _, policy := range Policies {
		t.Run(string(policy), func(t *testing.T) {
			p := policyPool(t, new(Table), policy, "a (x) b c d e f g h i (y) j")
			down := map[string]bool{}
			for _, next := range []string{"c", "a", "j", "b", "d", "e", "f", "g", "h", "i"} {
				bringDown(p, next)
				down[next] = true
				for n := range 50 {
					checkComplete(t, p.Order(user(n)), down)
				}
			}
		})
	}
}

func checkComplete(t *testing.T, order []Endpoint, down map[string]bool) {
	t.Helper()
	seen := map[string]bool{}
	for i, e := range order {
		seen[e.Address] = true
		if down[e.Address] != (i >= len(order)-len(down)) {
			t.Fatalf("order %s; down are %v", addresses(order), down)
		}
	}
	if got := strings.Join(slices.Sorted(maps.Keys(seen)), ""); got != "abcdefghij" || len(order) != len(seen) {
		t.Fatalf("order %s", addresses(order))
	}
}

func TestFirstKeepsOrder(t *testing.T) {
	p := policyPool(t, new(Table), PolicyFirst, "d c b a")
	bringDown(p, "d")
	bringDown(p, "b")
	if got := addresses(p.Order(someone)); got != "c a d b" {
		t.Errorf("order %q", got)
	}
}

func TestRoundRobin(t *testing.T) {
	p := policyPool(t, new(Table), PolicyRoundRobin, "a b c d")
	p.robin = 0
	bringDown(p, "c") // asks once for the order
	var got []string
	for range 4 {
		got = append(got, addresses(p.Order(someone)))
	}
	if want := "b d a c; d a b c; a b d c; b d a c"; strings.Join(got, "; ") != want {
		t.Errorf("orders %q, want %q", got, want)
	}
}

func TestLeastConn(t *testing.T) {
	var table Table
	p := policyPool(t, &table, PolicyLeastConn, "a b c")
	for n := range 30 {
		p.Hold(p.Order(user(n))[0])
	}
	expectStatus(t, &table, "a+10 b+10 c+10")
	p.Hold(Endpoint{"pool", "a", "a"})
	l := p.Hold(Endpoint{"pool", "b", "b"})
	if got := addresses(p.Order(someone)[:1]); got != "c" {
		t.Errorf("%s is first", got)
	}
	l.Release()
	p.Hold(Endpoint{"pool", "c", "c"})
	if got := addresses(p.Order(someone)[:1]); got != "b" {
		t.Errorf("%s is first", got)
	}
	bringDown(p, "b")
	if order := p.Order(someone); order[2].Address != "b" {
		t.Errorf("order %s", addresses(order))
	}
}

// With the hashes only those move whose upstream is lost, they return when it is
// back, and the order of the configuration does not matter. All that holds for
// the second choice, too.
func TestHashStays(t *testing.T) {
	for _, policy := range []Policy{PolicyClientIPHash, PolicyUserHash} {
		t.Run(string(policy), func(t *testing.T) {
			var table Table
			all := policyPool(t, new(Table), policy, "a b c d")
			fewer := policyPool(t, new(Table), policy, "d (b) c a")
			p := policyPool(t, &table, policy, "c d a b")
			moved := map[string]int{}
			bringDown(p, "b")
			for n := range 3000 {
				c := user(n)
				home := addresses(all.Order(c))
				if again := addresses(all.Order(c)); again != home {
					t.Fatalf("%s: at %s, then at %s", c.User, home, again)
				}
				without := strings.Join(strings.Fields(strings.Replace(home, "b", "", 1)), " ")
				if got := addresses(fewer.Order(c)); got != without {
					t.Fatalf("%s: without b at %s, not %s", c.User, got, without)
				}
				if got := addresses(p.Order(c)); got != without+" b" {
					t.Fatalf("%s: with b down at %s, not %s b", c.User, got, without)
				}
				if home[:1] == "b" {
					moved[without[:1]]++
				}
			}
			for _, addr := range []string{"a", "c", "d"} {
				if moved[addr] < 200 {
					t.Errorf("those from b have moved to %v", moved)
				}
			}
			l := p.Hold(Endpoint{"pool", "b", "b"})
			l.Succeeded()
			for n := range 3000 {
				if got, home := addresses(p.Order(user(n))), addresses(all.Order(user(n))); got != home {
					t.Fatalf("b is back, but user %d is at %s, not %s", n, got, home)
				}
			}
		})
	}
}

// Where a user is must not depend on the process or the version.
func TestHashFixed(t *testing.T) {
	p := policyPool(t, new(Table), PolicyUserHash, "ex1.example.org:143 ex2.example.org:143 ex3.example.org:143")
	q := policyPool(t, new(Table), PolicyClientIPHash, "ex1.example.org:143 ex2.example.org:143 ex3.example.org:143")
	var users, addrs strings.Builder
	for n := range 20 {
		users.WriteByte(p.Order(user(n))[0].Address[2])
		addrs.WriteByte(q.Order(user(n))[0].Address[2])
	}
	const wantUsers, wantAddrs = "33311211132213222332", "31312333323113322113"
	if users.String() != wantUsers || addrs.String() != wantAddrs {
		t.Errorf("users %s, addresses %s", &users, &addrs)
	}
}

func TestClientIPHash(t *testing.T) {
	p := policyPool(t, new(Table), PolicyClientIPHash, "a b c d e f g h i j k l m n o p")
	at := func(addr string) string { return addresses(p.Order(Client{Addr: netip.MustParseAddr(addr)})) }
	for _, same := range [][2]string{
		{"192.0.2.7", "::ffff:192.0.2.7"},
		{"2001:db8::1", "2001:db8::ffff:2"},
		{"fe80::1%eth0", "fe80::2%eth1"},
	} {
		if at(same[0]) != at(same[1]) {
			t.Errorf("%s and %s are at different upstreams", same[0], same[1])
		}
	}
	if at("2001:db8:0:1::1") == at("2001:db8:0:2::1") || at("192.0.2.7") == at("192.0.2.8") {
		t.Error("different networks have the same order of 16 upstreams")
	}
}

// Those about whom the hash knows nothing must not all end up at the same
// upstream.
func TestHashOfNothing(t *testing.T) {
	for _, policy := range []Policy{PolicyClientIPHash, PolicyUserHash} {
		p := policyPool(t, new(Table), policy, "a b")
		seen := map[string]int{}
		for range 1000 {
			seen[p.Order(Client{})[0].Address]++
		}
		if seen["a"] < 300 || seen["b"] < 300 {
			t.Errorf("%s: %v", policy, seen)
		}
	}
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		f.set("a", errDown)
		cfg := f.config("(a) b")
		cfg.Check = &Check{Probe: f.probe}
		p := start(t, &table, cfg)
		synctest.Wait()
		expectStatus(t, &table, "a+d0 b+0")
		if f.probed("a") != 0 || f.probed("b") != 1 {
			t.Errorf("probed %v", f.probes)
		}
		if got, _ := f.login(t, p, someone); got != "b" {
			t.Errorf("logged in at %s", got)
		}
		p = start(t, &table, f.config("(a) (b)"))
		if got, _ := f.login(t, p, someone); got != ErrDraining.Error() {
			t.Errorf("logged in at %s", got)
		}
		start(t, &table, f.config("a b"))
		expectStatus(t, &table, "a+0 b+0")
	})
}
