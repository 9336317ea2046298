package pool

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const failDuration = 30 * time.Second

func passive(f *fleet, addrs string, maxFails int) Config {
	cfg := f.config(addrs)
	cfg.FailDuration = failDuration
	cfg.MaxFails = maxFails
	return cfg
}

// Failures bring an upstream down when there are enough of them in the time, and
// not those that are forgotten.
func TestMaxFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		p := start(t, &table, passive(f, "a b", 3))
		hold := p.Hold(p.Order(someone)[0])
		defer hold.Release()
		for range 10 { // two in any 30 s
			time.Sleep(failDuration / 2)
			hold.Failed(errDown)
		}
		hold.Succeeded() // does not excuse the failures: every second login may fail
		expectStatus(t, &table, "a+1 b+0")
		if s := table.Snapshot(); s[0].Fails != 2 || s[1].Fails != 0 {
			t.Errorf("%d and %d failures", s[0].Fails, s[1].Fails)
		}
		time.Sleep(time.Second)
		f.expect(t)
		hold.Failed(errDown)
		f.expect(t, "2m31s a down: down")
		hold.Failed(errors.New("something else"))
		f.expect(t)
		if s := table.Snapshot()[0]; !errors.Is(s.Err, errDown) || time.Since(s.Since) != 0 || s.Fails != 3 {
			t.Errorf("status %+v", s)
		}
	})
}

// Without fail_duration nothing is counted.
func TestPassiveOff(t *testing.T) {
	var table Table
	f := newFleet()
	p := start(t, &table, f.config("a b"))
	hold := p.Hold(p.Order(someone)[0])
	defer hold.Release()
	for range 100 {
		hold.Failed(errDown)
	}
	f.expect(t)
	expectStatus(t, &table, "a+1 b+0")
}

// An upstream that hangs costs the first login the stagger and then nothing, but
// for one login each time that it is tried again.
func TestDeadUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		p := start(t, &table, passive(f, "a b", 1))
		f.set("a", errHangs)
		var slow int
		for range 1000 { // ten minutes, one login each 600 ms
			addr, took := f.login(t, p, someone)
			switch {
			case addr != "b":
				t.Fatalf("logged in at %s", addr)
			case took == DefaultStagger:
				slow++
			case took != 0:
				t.Fatalf("a login took %v", took)
			}
			time.Sleep(600*time.Millisecond - took%600*time.Millisecond)
		}
		if slow < 19 || slow > 21 {
			t.Errorf("%d logins were slow", slow)
		}
		f.expect(t, "1s a down: not ready after 1s: context canceled") // and never up
		f.set("a", nil)
		time.Sleep(failDuration)
		if addr, took := f.login(t, p, someone); addr != "a" || took != 0 {
			t.Errorf("logged in at %s in %v", addr, took)
		}
		expectStatus(t, &table, "a+0 b+0")
	})
}

// Only one login tries. If it never says what came of it, another one does.
func TestTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		p := start(t, &table, passive(f, "a b", 2))
		hold := p.Hold(p.Order(someone)[0])
		defer hold.Release()
		expect := func(want ...string) {
			t.Helper()
			var got []string
			for range want {
				got = append(got, p.Order(someone)[0].Address)
			}
			if strings.Join(got, "") != strings.Join(want, "") {
				t.Errorf("first are %q, want %q", got, want)
			}
		}
		hold.Failed(errDown)
		hold.Failed(errDown)
		expect("b", "b")
		time.Sleep(failDuration - 1)
		expect("b", "b")
		time.Sleep(time.Nanosecond)
		expect("a", "b", "b")
		time.Sleep(trialTime)
		expect("a", "b", "b")
		hold.Failed(errDown) // once is enough now
		time.Sleep(trialTime)
		expect("b", "b")
		time.Sleep(failDuration - trialTime)
		expect("a", "b")
		hold.Succeeded()
		expect("a", "a")
		f.expect(t, "0s a down: down", "1m10s a up")
	})
}

// One that nobody has cared to try is not called down for ever.
func TestForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		p := start(t, &table, passive(f, "a b", 1))
		bringDown(p, "b")
		time.Sleep(2*failDuration - 1)
		for range 3 {
			if got := addresses(p.Order(someone)); got != "a b" {
				t.Errorf("order %s", got)
			}
		}
		expectStatus(t, &table, "a+0 b-0")
		f.expect(t, "0s b down: down")
		time.Sleep(time.Nanosecond)
		expectStatus(t, &table, "a+0 b+0")
		expectStatus(t, &table, "a+0 b+0")
		f.expect(t, "1m0s b up unseen")
	})
}

// If all are down, logins go on as if none were, and the first success counts.
func TestAllDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		p := start(t, &table, passive(f, "a b", 1))
		f.set("a", errDown)
		f.set("b", errDown)
		for range 3 {
			if got, took := f.login(t, p, someone); got != "upstream a: down\nupstream b: down" || took != 0 {
				t.Errorf("%q in %v", got, took)
			}
		}
		f.expect(t, "0s a down: down", "0s b down: down")
		f.set("b", nil)
		if got, took := f.login(t, p, someone); got != "b" || took != 0 {
			t.Errorf("%q in %v", got, took)
		}
		f.expect(t, "0s b up")
		expectStatus(t, &table, "a-0 b+0")
	})
}

// A client that hangs up early says nothing about an upstream; but the upstream
// on which it gave up after a long wait has failed.
func TestImpatientClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		f.set("a", errHangs)
		p := start(t, &table, passive(f, "a", 1))
		for _, tc := range []struct {
			patience time.Duration
			told     []string
		}{
			{DefaultStagger - 1, nil},
			{9 * time.Second, []string{"9.999999999s a down: not ready after 9s: context deadline exceeded"}},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), tc.patience)
			_, lease, err := Open(ctx, p, someone, f.open, func(string) {})
			cancel()
			if lease != nil || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("lease %v, error %v", lease, err)
			}
			f.expect(t, tc.told...)
		}
		expectStatus(t, &table, "a-0")
	})
}

// Every lease of those that are not used is released, and what they opened is
// discarded.
func TestOpenReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table
		f := newFleet()
		p := start(t, &table, passive(f, "a b c", 1))
		var discarded []string
		open := func(_ context.Context, e Endpoint) (string, error) {
			switch e.Address {
			case "a": // deaf, and ready when it is too late
				time.Sleep(5 * time.Second)
			case "b":
				panic("boom")
			case "c":
				expectStatus(t, &table, "a+1 b-0 c+1")
			}
			return e.Address, nil
		}
		got, lease, err := Open(t.Context(), p, someone, open, func(addr string) { discarded = append(discarded, addr) })
		if err != nil || got != "c" || lease.Address != "c" {
			t.Fatalf("got %s, %v, %v", got, lease, err)
		}
		if len(discarded) != 1 || discarded[0] != "a" {
			t.Errorf("discarded %v", discarded)
		}
		expectStatus(t, &table, "a+0 b-0 c+1")
		lease.Release()
		expectStatus(t, &table, "a+0 b-0 c+0")
	})
}

// A panic is a failure, also if there is only one upstream.
func TestOpenPanics(t *testing.T) {
	var table Table
	f := newFleet()
	p := start(t, &table, passive(f, "a", 1))
	_, lease, err := Open(t.Context(), p, someone, func(context.Context, Endpoint) (int, error) { panic("boom") }, func(int) {})
	if lease != nil || err == nil || !strings.HasPrefix(err.Error(), "upstream a: panic while opening: string\n") {
		t.Errorf("lease %v, error %v", lease, err)
	}
	expectStatus(t, &table, "a-0")
}
