package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Logins, checks, lookups, listings and reloads at the same time, in half an hour of
// a network that fails now and then: every change is told once and in order,
// what is told is what is so, and nothing is left in the end.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const reloads, loginsAtOnce = 50, 16
		var table Table
		var mu sync.Mutex
		up := map[string]bool{}
		var changes, granted int
		onChange := func(c Change) {
			mu.Lock()
			defer mu.Unlock()
			changes++
			if was, known := up[c.Address]; known && c.Up == was || !known && c.Up { // the first is that it goes down
				t.Errorf("%s is told to be up=%v twice", c.Address, c.Up)
			}
			up[c.Address] = c.Up
		}
		broken := func() error {
			time.Sleep(time.Duration(rand.Int64N(int64(50 * time.Millisecond))))
			if rand.IntN(10) == 0 {
				return errDown
			}
			return nil
		}
		open := func(ctx context.Context, _ Endpoint) (int, error) {
			if rand.IntN(20) == 0 {
				<-ctx.Done()
			}
			return 0, errors.Join(broken(), ctx.Err())
		}
		config := func(n int) Config {
			cfg := Config{
				Name:           "pool",
				Policy:         Policies[n%len(Policies)],
				FailDuration:   time.Second,
				LookupInterval: 3 * time.Second,
				OnChange:       onChange,
				Check: &Check{
					Interval: time.Second,
					Probe:    func(context.Context, Endpoint) error { return broken() },
				},
			}
			for i := range 4 {
				cfg.Upstreams = append(cfg.Upstreams, Upstream{Address: fmt.Sprint(i)})
			}
			cfg.Upstreams[3].Endpoints = func(context.Context) ([]string, error) {
				return []string{"3a", "3b"}, broken()
			}
			return cfg
		}

		pool := newPool(t, &table, config(0))
		pool.Start()
		current := func() *Pool {
			mu.Lock()
			defer mu.Unlock()
			return pool
		}
		end := make(chan struct{})
		var logins sync.WaitGroup
		for i := range loginsAtOnce {
			logins.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-end:
						return
					case <-time.After(100 * time.Millisecond):
					}
					ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
					_, lease, err := Open(ctx, current(), user(i*1000+n), open, func(int) {})
					cancel()
					if err != nil {
						continue
					}
					mu.Lock()
					granted++
					mu.Unlock()
					lease.Succeeded()
					time.Sleep(time.Second)
					lease.Release()
				}
			})
		}
		for n := range reloads {
			time.Sleep(30 * time.Second)
			table.Snapshot()
			next := newPool(t, &table, config(n))
			next.Start()
			mu.Lock()
			last := pool
			pool = next
			mu.Unlock()
			last.Stop()
		}
		synctest.Wait()
		for _, s := range table.Snapshot() {
			mu.Lock()
			if told, known := up[s.Address]; known && told != s.Up {
				t.Errorf("%s is told to be up=%v, and is not", s.Address, told)
			}
			mu.Unlock()
		}
		close(end)
		logins.Wait()
		pool.Stop()
		expectStatus(t, &table, "")
		if granted < 10_000 || changes < 1000 {
			t.Errorf("%d logins, %d changes", granted, changes)
		}
		t.Logf("%d logins, %d changes", granted, changes)
	})
}

func BenchmarkOrder(b *testing.B) {
	for _, policy := range Policies {
		for _, n := range []int{2, 8, 32} {
			b.Run(fmt.Sprintf("%s/%d", policy, n), func(b *testing.B) {
				p := benchPool(b, policy, n)
				b.ReportAllocs()
				for b.Loop() {
					runtime.KeepAlive(p.Order(someone))
				}
			})
		}
	}
}

func BenchmarkOrderParallel(b *testing.B) {
	p := benchPool(b, PolicyLeastConn, 8)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			runtime.KeepAlive(p.Order(someone))
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	p := benchPool(b, PolicyUserHash, 2)
	open := func(context.Context, Endpoint) (int, error) { return 0, nil }
	b.ReportAllocs()
	for b.Loop() {
		_, lease, _ := Open(b.Context(), p, someone, open, func(int) {})
		lease.Succeeded()
		lease.Release()
	}
}

func benchPool(b *testing.B, policy Policy, n int) *Pool {
	cfg := Config{Name: "exchange", Policy: policy, FailDuration: time.Minute}
	for i := range n {
		cfg.Upstreams = append(cfg.Upstreams, Upstream{Address: fmt.Sprintf("ex%d.corp.example.org:143", i)})
	}
	return start(b, new(Table), cfg)
}
