package guard

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// benchConfig is what a site with a few domains and exceptions has.
func benchConfig(tb testing.TB) *Config {
	cfg := testConfig()
	cfg.Domains = *mapped(tb)
	for _, p := range []string{"192.168.0.0/16", "2001:db8:1::/48", "10.0.0.0/8"} {
		cfg.Exempt = append(cfg.Exempt, netip.MustParsePrefix(p))
	}
	return cfg
}

// The guard's share of a login that the backend answers at once.
func BenchmarkLogin(b *testing.B) {
	v := map[string]login.Verdict{"granted": {Result: login.Granted}, "denied": login.DeniedWith(""), "unavailable": login.UnavailableFor(errPanic)}
	for _, bc := range []struct {
		name, verdict string
		// accounts is how many there are; 1 is always the same.
		accounts int
		checks   bool
		cache    time.Duration
		fail     bool
		same     bool
	}{
		{name: "granted", verdict: "granted", accounts: 1000, same: true},
		{name: "granted for the first time", verdict: "granted", accounts: 1 << 17},
		{name: "denied", verdict: "denied", accounts: 1 << 17},
		{name: "denied from memory", verdict: "denied", accounts: 1, same: true},
		{name: "held", verdict: "denied", accounts: 1},
		{name: "unavailable", verdict: "unavailable", accounts: 1000},
		{name: "granted from memory", verdict: "granted", accounts: 1, checks: true, cache: time.Hour, same: true},
	} {
		b.Run(bc.name, func(b *testing.B) {
			g, cfg := New([]byte("secret"), Events{}), benchConfig(b)
			cfg.PositiveCache = bc.cache
			ask := func(context.Context, bool) login.Verdict { return v[bc.verdict] }
			attempts := make([]*login.Attempt, bc.accounts)
			for i := range attempts {
				attempts[i] = attempt(fmt.Sprintf(`CORP\user%d`, i), "correct-horse-battery", addr(i%25000))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				a := *attempts[i%len(attempts)]
				if !bc.same {
					a.Secret = login.Secret(fmt.Sprint("guess", i))
				}
				if bc.checks {
					g.Check(b.Context(), cfg, &a, ask)
				} else {
					g.Open(b.Context(), cfg, &a, ask)
				}
				i++
			}
		})
	}
}

func BenchmarkBanned(b *testing.B) {
	g, cfg := New([]byte("secret"), Events{}), benchConfig(b)
	source := netip.MustParseAddr(thief)
	b.ReportAllocs()
	for b.Loop() {
		g.Banned(cfg, source)
	}
}

// heap returns how much memory is in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// fill tracks sources, and returns what each of them costs.
func fill(m *memory, cfg *Config, n, pairs int) int64 {
	before := heap()
	for i := range n {
		var id shortID
		binary.LittleEndian.PutUint64(id[:], uint64(i)*0x9e3779b97f4a7c15)
		sh := m.lockSource(id)
		s := sh.get(id)
		for j := range pairs {
			s.blame(cfg, &ticket{pair: shortID{byte(j)}}, instant(i))
		}
		sh.mu.Unlock()
	}
	return (heap() - before) / int64(n)
}

// TestMillionSources pins what a million sources cost, and that more cost nothing.
func TestMillionSources(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("it takes hundreds of megabytes")
	}
	for _, tc := range []struct {
		pairs int
		most  int64
	}{{1, 160}, {19, 640}} {
		m := newMemory(time.Now())
		cfg := testConfig()
		each := fill(m, cfg, 1_000_000, tc.pairs)
		more := heap()
		fill(m, cfg, 2_000_000, tc.pairs)
		more = heap() - more
		t.Logf("%d bytes for a source with %d wrong logins; %d MB more for another million", each, tc.pairs, more>>20)
		if each > tc.most || more > 100<<20 {
			t.Errorf("it is too much")
		}
		start := time.Now()
		s := m.snapshot(start)
		t.Logf("a snapshot of %d sources takes %s", len(s.Sources), time.Since(start))
		runtime.KeepAlive(m)
	}
}

// TestOverhead pins that the guard costs a login next to nothing.
func TestOverhead(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("it measures")
	}
	g, cfg := New([]byte("secret"), Events{}), benchConfig(t)
	for name, v := range map[string]login.Verdict{"granted": {Result: login.Granted}, "denied": login.DeniedWith("")} {
		n := 0
		ask := func(context.Context, bool) login.Verdict { return v }
		bench := testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				n++
				g.Open(b.Context(), cfg, attempt(fmt.Sprint(name, n%1000), "secret", office), ask)
			}
		})
		if bench.AllocedBytesPerOp() > 1024 {
			t.Errorf("%s: %d bytes", name, bench.AllocedBytesPerOp())
		}
		if d := time.Duration(bench.NsPerOp()); d > 20*time.Microsecond {
			t.Errorf("%s: %s", name, d)
		}
	}
}
