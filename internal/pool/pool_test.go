package pool

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// fleet is a set of upstreams, some of which are out of order, and what the
// pools of a table had to tell about them.
type fleet struct {
	mu     sync.Mutex
	broken map[string]error
	probes map[string]int
	told   []string
	start  time.Time
}

func newFleet() *fleet {
	return &fleet{broken: map[string]error{}, probes: map[string]int{}, start: time.Now()}
}

func (f *fleet) set(addr string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken[addr] = err
}

func (f *fleet) probe(_ context.Context, e Endpoint) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.probes[e.Address]++
	return f.broken[e.Address]
}

func (f *fleet) probed(addr string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.probes[addr]
}

// open is ready at once, fails at once, or hangs if the error is errHangs.
func (f *fleet) open(ctx context.Context, e Endpoint) (string, error) {
	f.mu.Lock()
	err := f.broken[e.Address]
	f.mu.Unlock()
	if errors.Is(err, errHangs) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	return e.Address, err
}

var errHangs = errors.New("hangs")

func (f *fleet) onChange(c Change) {
	word := map[bool]string{true: "up", false: "down"}[c.Up]
	if c.Expired {
		word += " unseen"
	}
	f.tell("%s %s%s", c.Endpoint, word, reason(c.Err))
}

func (f *fleet) onLookup(upstream string, endpoints []string, err error) {
	f.tell("%s is [%s]%s", upstream, strings.Join(endpoints, " "), reason(err))
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

func (f *fleet) tell(format string, a ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, fmt.Sprintf("%v ", time.Since(f.start))+fmt.Sprintf(format, a...))
}

// expect compares what was told since the last time, in any order.
func (f *fleet) expect(t *testing.T, want ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.Sort(f.told)
	slices.Sort(want)
	if !slices.Equal(f.told, want) {
		t.Errorf("told %q, want %q", f.told, want)
	}
	f.told = nil
}

// config returns one with upstreams "a b c"; an address in parentheses drains.
func (f *fleet) config(addrs string) Config {
	cfg := Config{Name: "pool", OnChange: f.onChange, OnLookup: f.onLookup}
	for _, a := range strings.Fields(addrs) {
		bare := strings.Trim(a, "()")
		cfg.Upstreams = append(cfg.Upstreams, Upstream{Address: bare, Drain: bare != a})
	}
	return cfg
}

func newPool(t testing.TB, table *Table, cfg Config) *Pool {
	t.Helper()
	p, err := table.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// start returns a pool that is stopped when the test ends.
func start(t testing.TB, table *Table, cfg Config) *Pool {
	t.Helper()
	p := newPool(t, table, cfg)
	p.Start()
	t.Cleanup(p.Stop)
	return p
}

func addresses(order []Endpoint) string {
	var list []string
	for _, e := range order {
		list = append(list, e.Address)
	}
	return strings.Join(list, " ")
}

// login opens an endpoint, says that it worked, and ends. It returns the winner
// and how long that has taken.
func (f *fleet) login(t *testing.T, p *Pool, c Client) (string, time.Duration) {
	t.Helper()
	begin := time.Now()
	addr, lease, err := Open(t.Context(), p, c, f.open, func(string) {})
	took := time.Since(begin)
	if err != nil {
		return err.Error(), took
	}
	defer lease.Release()
	if lease.Address != addr {
		t.Errorf("the lease is for %s instead of %s", lease.Address, addr)
	}
	lease.Succeeded()
	return addr, took
}

// status returns the snapshot, one word an endpoint: its address, + if it is up,
// and the number of sessions.
func status(table *Table) string {
	var words []string
	for _, s := range table.Snapshot() {
		sign := map[bool]string{true: "+", false: "-"}[s.Up]
		if s.Draining {
			sign += "d"
		}
		if !s.Configured {
			sign += "?"
		}
		words = append(words, fmt.Sprintf("%s%s%d", s.Address, sign, s.Sessions))
	}
	return strings.Join(words, " ")
}

func expectStatus(t *testing.T, table *Table, want string) {
	t.Helper()
	if got := status(table); got != want {
		t.Errorf("status %q, want %q", got, want)
	}
}

var someone = Client{Addr: netip.MustParseAddr("192.0.2.1"), User: "alice"}

func TestNewRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  Config
		want string
	}{
		"nothing":      {Config{}, ErrNoUpstream.Error()},
		"twice":        {newFleet().config("a b a"), "upstream a: it is there twice"},
		"no policy":    {Config{Policy: "fist", Upstreams: []Upstream{{Address: "a"}}}, `policy "fist": must be one of first, round_robin, least_conn, random, client_ip_hash, user_hash`},
		"check by nil": {Config{Check: &Check{}, Upstreams: []Upstream{{Address: "a"}}}, "there is no function to check upstreams with"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := new(Table).New(tc.cfg); err == nil || err.Error() != tc.want {
				t.Errorf("error %v, want %s", err, tc.want)
			}
		})
	}
}

// A reload starts the new pool before it stops the old one: neither health nor
// counts may be lost, nobody is told twice, and what is gone from the
// configuration is known as long as it has sessions.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		cfg := f.config("a b")
		cfg.FailDuration = time.Minute
		old := newPool(t, &table, cfg)
		old.Start()
		lease := old.Hold(old.Order(someone)[0])
		lease.Failed(errDown)
		f.expect(t, "0s a down: down")
		expectStatus(t, &table, "a-1 b+0")

		cfg = f.config("a c")
		cfg.FailDuration = time.Minute
		next := start(t, &table, cfg)
		expectStatus(t, &table, "a-1 b+0 c+0")
		old.Stop()
		expectStatus(t, &table, "a-1 c+0")
		if got := addresses(next.Order(someone)); got != "c a" {
			t.Errorf("order %q", got)
		}
		// A session that was begun by the old pool counts on, and the old pool can
		// still be used by who has not heard yet.
		if got := addresses(old.Order(someone)); got != "b a" {
			t.Errorf("order of the old pool %q", got)
		}
		late := old.Hold(old.Order(someone)[0])
		late.Failed(errDown)
		expectStatus(t, &table, "a-1 b+?1 c+0")
		late.Release()
		late.Release()
		expectStatus(t, &table, "a-1 c+0")
		lease.Succeeded()
		f.expect(t, "0s a up")
		lease.Release()
		expectStatus(t, &table, "a+0 c+0")
		next.Stop()
		next.Stop()
		expectStatus(t, &table, "")
	})
}

// A new configuration that fails elsewhere is stopped again: the old one is in
// charge as before. And one that is only validated changes nothing.
func TestReloadTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		cfg := f.config("a")
		cfg.FailDuration = time.Minute
		old := start(t, &table, cfg)
		cfg.MaxFails = 5
		next := newPool(t, &table, cfg)
		expectStatus(t, &table, "a+0")
		next.Start()
		hold := old.Hold(old.Order(someone)[0])
		defer hold.Release()
		hold.Failed(errDown)
		expectStatus(t, &table, "a+1")
		next.Stop()
		hold.Failed(errDown)
		expectStatus(t, &table, "a-1")

		validated := newPool(t, &table, cfg)
		validated.Stop()
		validated.Stop()
		expectStatus(t, &table, "a-1")
	})
}

// What the new settings would never revoke must not stay.
func TestReloadWithoutHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		f.set("b", errDown)
		cfg := f.config("a b c")
		cfg.FailDuration = time.Minute
		cfg.Check = &Check{Probe: f.probe}
		p := start(t, &table, cfg)
		hold := p.Hold(p.Order(someone)[0])
		hold.Failed(errDown)
		hold.Release()
		synctest.Wait()
		expectStatus(t, &table, "a-0 b-0 c+0")
		f.expect(t, "0s a down: down", "0s b down: down")
		start(t, &table, f.config("a b c"))
		expectStatus(t, &table, "a+0 b+0 c+0")
		f.expect(t, "0s a up", "0s b up")
		// The checks of the old pool go on until it is stopped, and mean nothing.
		time.Sleep(time.Minute)
		synctest.Wait()
		expectStatus(t, &table, "a+0 b+0 c+0")
	})
}

// Pools of different names have different opinions about the same address.
func TestPoolsApart(t *testing.T) {
	var table Table
	f := newFleet()
	cfg := f.config("a")
	cfg.FailDuration = time.Minute
	p := start(t, &table, cfg)
	cfg.Name = "wrong CA"
	q := start(t, &table, cfg)
	hold := q.Hold(q.Order(someone)[0])
	defer hold.Release()
	hold.Failed(errDown)
	snapshot := table.Snapshot()
	if len(snapshot) != 2 || !snapshot[0].Up || snapshot[1].Up || snapshot[1].Pool != "wrong CA" || !errors.Is(snapshot[1].Err, errDown) {
		t.Errorf("snapshot %+v", snapshot)
	}
	if got := addresses(p.Order(someone)); got != "a" {
		t.Errorf("order %q", got)
	}
}

// A callback may use the pool, may panic, and is called in order nevertheless.
func TestCallback(t *testing.T) {
	core, logged := observer.New(zap.ErrorLevel)
	var table Table
	var told []bool
	var hold *Lease
	cfg := newFleet().config("a")
	cfg.FailDuration = time.Minute
	cfg.Logger = zap.New(core)
	cfg.OnChange = func(c Change) {
		if !c.Up {
			hold.Succeeded()
		}
		told = append(told, c.Up)
		if !c.Up {
			if got := status(&table); got != "a+1" {
				t.Errorf("status %s", got)
			}
			panic("boom")
		}
	}
	p := start(t, &table, cfg)
	hold = p.Hold(p.Order(someone)[0])
	defer hold.Release()
	hold.Failed(errDown)
	hold.Failed(errDown)
	if !slices.Equal(told, []bool{false, true, false, true}) {
		t.Errorf("told %v", told)
	}
	if n := logged.FilterField(zap.String("doing", "telling of a change")).Len(); n != 2 {
		t.Errorf("%d panics logged", n)
	}
}
