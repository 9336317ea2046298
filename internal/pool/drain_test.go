package pool

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// draining is a config of which the upstreams in parentheses drain for an hour.
func draining(f *fleet, addrs string) Config {
	cfg := f.config(addrs)
	for i := range cfg.Upstreams {
		cfg.Upstreams[i].DrainTimeout = time.Hour
	}
	cfg.OnDrained = func(upstream string, sessions int) { f.tell("%s is rid of %d", upstream, sessions) }
	return cfg
}

func staying(leases ...*Lease) string {
	var s string
	for _, l := range leases {
		s += fmt.Sprintf("%s:%v ", l.Address, l.Stay().Err() == nil)
	}
	return s
}

// Sessions may stay for the time, counted from when the upstream began to drain
// and not from each change of the configuration. Those elsewhere stay.
func TestDrainTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		old := newPool(t, &table, draining(f, "a b"))
		old.Start()
		a, b := old.Hold(old.Order(someone)[0]), old.Hold(old.Order(someone)[1])
		defer b.Release()
		reload := func(addrs string) {
			next := newPool(t, &table, draining(f, addrs))
			next.Start()
			old.Stop()
			old = next
		}
		sleep(2 * time.Hour) // the time does not run while nothing drains
		for range 5 {
			reload("(a) b")
			expectStatus(t, &table, "a+d1 b+1")
			if s := table.Snapshot()[0]; s.DrainingSince.Sub(f.start) != 2*time.Hour {
				t.Errorf("drains since %v", s.DrainingSince.Sub(f.start))
			}
			sleep(10 * time.Minute)
		}
		sleep(10*time.Minute - 1)
		if got := staying(a, b); got != "a:true b:true " {
			t.Errorf("before the end: %s", got)
		}
		f.expect(t)
		sleep(1)
		if got := staying(a, b); got != "a:false b:true " {
			t.Errorf("after the end: %s", got)
		}
		f.expect(t, "3h0m0s a is rid of 1")
		// It is told once, and a login that was under way does not stay either.
		reload("(a) b")
		late := old.Hold(a.Endpoint)
		sleep(2 * time.Hour)
		if got := staying(late, b); got != "a:false b:true " {
			t.Errorf("a late one: %s", got)
		}
		late.Release()
		f.expect(t)

		a.Release()
		reload("a b")
		again := old.Hold(old.Order(someone)[0])
		defer again.Release()
		sleep(2 * time.Hour)
		if got := staying(again); got != "a:true " {
			t.Errorf("when it drains no longer: %s", got)
		}
		reload("(a) b") // and the time begins anew
		sleep(time.Hour - 1)
		f.expect(t)
		sleep(1)
		f.expect(t, "8h0m0s a is rid of 1")
		old.Stop()
	})
}

// Without a time, and when the upstream is taken back in time, nobody has to go.
func TestDrainTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		old := start(t, &table, draining(f, "(a) b"))
		lease := old.Hold(Endpoint{Pool: "pool", Upstream: "a", Address: "a"})
		defer lease.Release()
		sleep(59 * time.Minute)
		next := start(t, &table, f.config("(a) b"))
		sleep(5 * time.Minute) // the old one is not in charge any more
		old.Stop()
		sleep(time.Hour)
		f.expect(t)
		if got := staying(lease); got != "a:true " {
			t.Errorf("without a time: %s", got)
		}
		start(t, &table, draining(f, "(a) b")) // it is over since long
		next.Stop()
		sleep(1)
		f.expect(t, "2h4m0s a is rid of 1")
	})
}

// Sessions at an address that the name no longer has belong to the upstream all
// the same.
func TestDrainOfName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		n := new(name)
		n.set("192.0.2.1 192.0.2.2")
		old := start(t, &table, named143(f, n))
		sleep(time.Second)
		gone := old.Hold(old.Order(someone)[0])
		defer gone.Release()
		n.set("192.0.2.2 192.0.2.3")
		sleep(DefaultLookupInterval)
		cfg := named143(f, n)
		cfg.Upstreams[0].Drain, cfg.Upstreams[0].DrainTimeout = true, 2*time.Minute
		cfg.OnDrained = func(string, int) { panic("boom") }
		start(t, &table, cfg)
		old.Stop()
		sleep(2 * time.Minute)
		if got := staying(gone); got != "192.0.2.1:143:false " {
			t.Errorf("stays %s", got)
		}
		// It is looked up as before.
		n.set("192.0.2.4 192.0.2.5")
		sleep(DefaultLookupInterval)
		expectStatus(t, &table, "192.0.2.1:143+?1 192.0.2.4:143+d0 192.0.2.5:143+d0")
	})
}

// One that is down when it begins to drain is not said to be up: nobody looks.
func TestDrainWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		f.set("a", errDown)
		load := func(addrs string) {
			cfg := f.config(addrs)
			cfg.Check = &Check{Probe: f.probe}
			start(t, &table, cfg)
			synctest.Wait()
		}
		load("a b")
		expectStatus(t, &table, "a-0 b+0")
		f.expect(t, "0s a down: down")
		load("(a) b")
		expectStatus(t, &table, "a-d0 b+0")
		f.expect(t)
		f.set("a", nil)
		load("a b")
		expectStatus(t, &table, "a+0 b+0")
		f.expect(t, "0s a up")
	})
}
