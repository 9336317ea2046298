package pool

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// name is a resolver with one name.
type name struct {
	addrs atomic.Pointer[string]
	calls atomic.Int32
}

func (n *name) set(addrs string) { n.addrs.Store(&addrs) }

func (n *name) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	n.calls.Add(1)
	if _, limited := ctx.Deadline(); !limited || host != "mail.example.org" || network != "ip" {
		panic("asked for " + network + " " + host)
	}
	var list []netip.Addr
	words := *n.addrs.Load()
	if words == "error" {
		return nil, errDown
	}
	for _, a := range strings.Fields(words) {
		list = append(list, netip.MustParseAddr(a))
	}
	return list, nil
}

func named143(f *fleet, n *name) Config {
	const address = "mail.example.org:143"
	cfg := f.config("")
	cfg.FailDuration = failDuration
	cfg.Upstreams = []Upstream{{Address: address, Endpoints: Names("tcp", address, n.lookup)}}
	return cfg
}

// Each address of a name is an endpoint of its own, as long as the name has it.
func TestLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mail = "mail.example.org:143"
		var table Table
		f := newFleet()
		n := new(name)
		n.set("192.0.2.1 ::ffff:192.0.2.2")
		p := newPool(t, &table, named143(f, n))
		if got := addresses(p.Order(someone)); got != mail {
			t.Errorf("before the start %s", got)
		}
		p.Start()
		defer p.Stop()
		synctest.Wait()
		f.expect(t, "0s "+mail+" is [192.0.2.1:143 192.0.2.2:143]")
		expectStatus(t, &table, "192.0.2.1:143+0 192.0.2.2:143+0")

		// The order is that of the resolver, which may shuffle. That is no news.
		n.set("192.0.2.2 192.0.2.1")
		sleep(DefaultLookupInterval)
		if got := addresses(p.Order(someone)); got != "192.0.2.2:143 192.0.2.1:143" {
			t.Errorf("order %s", got)
		}
		// One that does not answer costs a login the stagger, and then nothing.
		f.set("192.0.2.2:143", errHangs)
		for _, want := range []time.Duration{DefaultStagger, 0, 0} {
			if got, took := f.login(t, p, someone); got != "192.0.2.1:143" || took != want {
				t.Errorf("logged in at %s in %v", got, took)
			}
		}
		f.expect(t, "31s "+mail+" (192.0.2.2:143) down: not ready after 1s: context canceled")
		// No answer of the resolver is no reason to forget what it said before.
		n.set("error")
		sleep(3 * DefaultLookupInterval)
		f.expect(t, "1m0s "+mail+" is [192.0.2.2:143 192.0.2.1:143]: looking up mail.example.org: down")
		lease := p.Hold(p.Order(someone)[1])
		n.set("192.0.2.3 192.0.2.2 2001:db8::1")
		sleep(DefaultLookupInterval)
		f.expect(t, "2m1s "+mail+" (192.0.2.2:143) up unseen", // it is forgotten by now
			"2m30s "+mail+" is [192.0.2.3:143 192.0.2.2:143 [2001:db8::1]:143]")
		expectStatus(t, &table, "192.0.2.1:143+?1 192.0.2.2:143+0 192.0.2.3:143+0 [2001:db8::1]:143+0")
		lease.Release()
		n.set("192.0.2.3")
		sleep(DefaultLookupInterval)
		expectStatus(t, &table, mail+"+0")
		p.Stop()
		calls := n.calls.Load()
		sleep(time.Hour)
		if calls != 7 || n.calls.Load() != calls {
			t.Errorf("%d lookups, then %d", calls, n.calls.Load())
		}
	})
}

// Checks see every address of a name, the new ones after the lookup, though the
// two have intervals of their own.
func TestLookupAndCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		n := new(name)
		n.set("192.0.2.1 192.0.2.2")
		f.set("192.0.2.2:143", errDown)
		f.set("192.0.2.3:143", errors.New("also down"))
		cfg := named143(f, n)
		cfg.OnLookup = nil
		cfg.Check = &Check{Probe: f.probe, Interval: 25 * time.Second}
		start(t, &table, cfg)
		synctest.Wait()
		expectStatus(t, &table, "192.0.2.1:143+0 192.0.2.2:143-0")
		n.set("192.0.2.1 192.0.2.3")
		sleep(49 * time.Second) // lookup at 30 s, checks at 25 s and 50 s
		expectStatus(t, &table, "192.0.2.1:143+0 192.0.2.3:143+0")
		sleep(time.Second)
		expectStatus(t, &table, "192.0.2.1:143+0 192.0.2.3:143-0")
		if calls, probes := n.calls.Load(), f.probed("192.0.2.1:143"); calls != 2 || probes != 3 {
			t.Errorf("%d lookups, %d checks", calls, probes)
		}
	})
}

// A reload forgets neither the endpoints of a name nor their health, even if the
// resolver is silent just then.
func TestReloadOfName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		n := new(name)
		n.set("192.0.2.1 192.0.2.2")
		old := start(t, &table, named143(f, n))
		synctest.Wait()
		bringDown(old, "192.0.2.1:143")
		n.set("error")
		next := start(t, &table, named143(f, n))
		old.Stop()
		synctest.Wait()
		expectStatus(t, &table, "192.0.2.1:143-0 192.0.2.2:143+0")
		n.set("192.0.2.3 192.0.2.1")
		sleep(DefaultLookupInterval - 1)
		expectStatus(t, &table, "192.0.2.1:143-0 192.0.2.2:143+0")
		sleep(1)
		expectStatus(t, &table, "192.0.2.1:143-0 192.0.2.3:143+0")

		// Who does not want to look up names any more does not.
		cfg := named143(f, n)
		cfg.Upstreams[0].Endpoints = nil
		start(t, &table, cfg)
		next.Stop()
		expectStatus(t, &table, "mail.example.org:143+0")
	})
}

// While a pool looks up a name once more, a newer one stays in charge.
func TestLookupOfOldPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		n := new(name)
		n.set("192.0.2.1 192.0.2.2")
		old := start(t, &table, named143(f, n))
		time.Sleep(DefaultLookupInterval / 2)
		cfg := named143(f, n)
		cfg.FailDuration = 0
		next := start(t, &table, cfg)
		n.set("192.0.2.1 192.0.2.3")
		sleep(DefaultLookupInterval)
		if got := addresses(next.Order(someone)); got != "192.0.2.1:143 192.0.2.3:143" {
			t.Errorf("order %s", got)
		}
		for _, e := range next.Order(someone) {
			l := next.Hold(e)
			l.Failed(errDown)
			l.Release()
		}
		expectStatus(t, &table, "192.0.2.1:143+0 192.0.2.3:143+0")
		old.Stop()
		expectStatus(t, &table, "192.0.2.1:143+0 192.0.2.3:143+0")
	})
}

func TestNames(t *testing.T) {
	for _, tc := range []struct{ network, address, asks string }{
		{"tcp", "mail.example.org:143", "ip mail.example.org"},
		{"tcp4", "mail.example.org:143", "ip4 mail.example.org"},
		{"tcp6", "mail.example.org:143", "ip6 mail.example.org"},
		{"tcp", "192.0.2.1:143", ""},
		{"tcp", "[2001:db8::1]:143", ""},
		{"tcp", "[fe80::1%eth0]:143", ""},
		{"unix", "/run/imap:143", ""},
		{"tcp", "mail.example.org", ""},
		{"tcp", ":143", ""},
	} {
		var asked string
		find := Names(tc.network, tc.address, func(_ context.Context, network, host string) ([]netip.Addr, error) {
			asked = network + " " + host
			return nil, nil
		})
		if find != nil {
			if found, err := find(t.Context()); found != nil || err != nil {
				t.Errorf("%s: %v, %v", tc.address, found, err)
			}
		}
		if asked != tc.asks {
			t.Errorf("%s: asked for %q, want %q", tc.address, asked, tc.asks)
		}
	}
}

func TestEndpoints(t *testing.T) {
	many := make([]netip.Addr, 40)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
	}
	if n := len(endpoints(many, "143")); n != maxEndpoints {
		t.Errorf("%d endpoints", n)
	}
	for addrs, want := range map[string]string{
		"192.0.2.1":                         "",
		"192.0.2.1 2001:db8::1":             "", // one server
		"2001:db8::1 2001:db8::2":           "[2001:db8::1]:143 [2001:db8::2]:143",
		"2001:db8::1 192.0.2.1 192.0.2.2":   "[2001:db8::1]:143 192.0.2.1:143 192.0.2.2:143",
		"192.0.2.1 ::ffff:192.0.2.1":        "192.0.2.1:143 192.0.2.1:143", // the pool drops one
		"fe80::1%eth0 fe80::2%eth0":         "[fe80::1%eth0]:143 [fe80::2%eth0]:143",
		"::ffff:192.0.2.1 2001:db8::1":      "",
		"::ffff:192.0.2.1 ::ffff:192.0.2.2": "192.0.2.1:143 192.0.2.2:143",
	} {
		var list []netip.Addr
		for _, a := range strings.Fields(addrs) {
			list = append(list, netip.MustParseAddr(a))
		}
		if got := strings.Join(endpoints(list, "143"), " "); got != want {
			t.Errorf("%s: %s, want %s", addrs, got, want)
		}
	}
	p := newPool(t, new(Table), newFleet().config("a"))
	if m := p.membersOf("a", []string{"b", "c", "b"}); len(m) != 2 {
		t.Errorf("members %v", m)
	}
}

// A panic of OnLookup ends neither lookups nor checks.
func TestOnLookupPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logged := observer.New(zap.ErrorLevel)
		var table Table
		f := newFleet()
		n := new(name)
		n.set("192.0.2.1 192.0.2.2")
		cfg := named143(f, n)
		cfg.Check = &Check{Probe: f.probe}
		cfg.Logger = zap.New(core)
		cfg.OnLookup = func(string, []string, error) { panic("boom") }
		start(t, &table, cfg)
		sleep(DefaultLookupInterval)
		if n.calls.Load() != 2 || f.probed("192.0.2.2:143") != 2 || logged.Len() != 1 {
			t.Errorf("%d lookups, %d checks, %d panics", n.calls.Load(), f.probed("192.0.2.2:143"), logged.Len())
		}
	})
}
