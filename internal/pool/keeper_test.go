package pool

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func active(f *fleet, addrs string, fall, rise int) Config {
	cfg := f.config(addrs)
	cfg.Check = &Check{Probe: f.probe, Interval: 10 * time.Second, Fall: fall, Rise: rise}
	return cfg
}

// sleep lets time pass and everything that happens in it happen.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestFallAndRise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		f.set("a", errDown)
		p := start(t, &table, active(f, "a b", 3, 2))
		p.Start()       // once more does not check twice
		synctest.Wait() // the first check is at once
		sleep(10 * time.Second)
		expectStatus(t, &table, "a+0 b+0")
		f.set("a", nil) // one good one, and it begins anew
		sleep(10 * time.Second)
		f.set("a", errDown)
		sleep(20 * time.Second)
		f.expect(t)
		sleep(10 * time.Second)
		f.expect(t, "50s a down: down")
		if got, took := f.login(t, p, someone); got != "b" || took != 0 {
			t.Errorf("logged in at %s in %v", got, took)
		}
		f.set("a", nil)
		sleep(10 * time.Second)
		f.set("a", errDown)
		sleep(10 * time.Second)
		f.set("a", nil)
		sleep(10 * time.Second)
		expectStatus(t, &table, "a-0 b+0")
		sleep(10 * time.Second)
		f.expect(t, "1m30s a up")
		sleep(time.Hour)
		f.expect(t)
		if n := f.probed("b"); n != 370 {
			t.Errorf("b was checked %d times", n)
		}
		p.Stop()
		sleep(time.Hour)
		if n := f.probed("b"); n != 370 {
			t.Errorf("b was checked %d times, some after the end", n)
		}
	})
}

// A probe that hangs or panics is a failed one. Stop ends one that runs, which
// says nothing.
func TestProbeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		cfg := active(f, "hangs panics", 1, 1)
		cfg.Check.Probe = func(ctx context.Context, e Endpoint) error {
			if e.Address == "panics" {
				panic("boom")
			}
			<-ctx.Done()
			return errHangs
		}
		p := start(t, &table, cfg)
		sleep(DefaultCheckTimeout - 1)
		expectStatus(t, &table, "hangs+0 panics-0")
		if err := table.Snapshot()[1].Err; err == nil || !strings.HasPrefix(err.Error(), "panic while checking: string\n") {
			t.Errorf("error %v", err)
		}
		f.mu.Lock()
		f.told = nil
		f.mu.Unlock()
		sleep(1)
		f.expect(t, "5s hangs down: hangs")
		cfg.Upstreams = cfg.Upstreams[:1]
		p.Stop()
		p = start(t, &table, cfg)
		sleep(time.Second)
		p.Stop()
		f.expect(t)
	})
}

// Stop waits even for a probe that does not care that it shall end.
func TestStopWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		cfg := active(newFleet(), "a b", 1, 1)
		cfg.Check.Probe = func(context.Context, Endpoint) error {
			time.Sleep(time.Minute)
			return nil
		}
		begin := time.Now()
		p := start(t, &table, cfg)
		synctest.Wait()
		p.Stop()
		if waited := time.Since(begin); waited != time.Minute {
			t.Errorf("waited for %v", waited)
		}
	})
}

// A state that checks have brought about survives a reload with checks, and the
// first check of the new pool is at once.
func TestReloadWithChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		f.set("a", errDown)
		old := start(t, &table, active(f, "a b", 1, 2))
		synctest.Wait()
		expectStatus(t, &table, "a-0 b+0")
		f.set("a", nil)
		start(t, &table, active(f, "a b", 1, 2))
		old.Stop()
		synctest.Wait()
		expectStatus(t, &table, "a-0 b+0")
		sleep(10 * time.Second)
		f.expect(t, "0s a down: down", "10s a up")
	})
}

// Checks and failures are two opinions: a good check does not excuse a failure
// at once, since it sees no throttling, but saves the login that would try.
func TestChecksAndFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		cfg := active(f, "a b", 1, 1)
		cfg.FailDuration = failDuration
		p := start(t, &table, cfg)
		sleep(5 * time.Second)
		bringDown(p, "a") // until 35 s
		f.expect(t, "5s a down: down")
		sleep(29 * time.Second)
		expectStatus(t, &table, "a-0 b+0")
		f.set("a", errDown)
		sleep(6 * time.Second)
		f.set("a", nil)
		if got := addresses(p.Order(someone)); got != "b a" {
			t.Errorf("order %s", got)
		}
		f.expect(t)
		sleep(10 * time.Second)
		f.expect(t, "50s a up")
	})
}
