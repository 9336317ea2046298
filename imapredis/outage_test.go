//go:build integration && unix

package imapredis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/redistest"
)

// most is how many wrong passwords of unknown sources config lets through.
const most = 3

// TestTogether has instances guess at the same accounts at the same time.
func TestTogether(t *testing.T) {
	server := redistest.Start(t)
	instances := []*instance{startInstance(t, server), startInstance(t, server), startInstance(t, server)}
	const users = 10
	asked := make([]atomic.Int32, users)
	var running [users]atomic.Int32
	var held atomic.Int32
	var wg sync.WaitGroup
	for _, in := range instances {
		for n := range 4 * users {
			wg.Go(func() {
				user := n % users
				v := in.guard.Open(context.Background(), config(), attempt(fmt.Sprint("user-", user)), func(context.Context, bool) login.Verdict {
					if running[user].Add(1) > most {
						t.Error("more are asked about at once than may fail")
					}
					asked[user].Add(1)
					time.Sleep(5 * time.Millisecond) // a backend takes its time
					running[user].Add(-1)
					return login.DeniedWith("")
				})
				if v.Result == login.Throttled && errors.Is(v.Err, guard.ErrHeld) {
					held.Add(1)
				} else if v.Result != login.Denied {
					t.Errorf("the verdict is %v: %v", v.Result, v.Err)
				}
			})
		}
	}
	wg.Wait()
	for n := range asked {
		if got := asked[n].Load(); got != most {
			t.Errorf("user %d: %d wrong passwords reached the backend, want %d", n, got, most)
		}
	}
	if want := int32(len(instances)*4*users - users*most); held.Load() != want {
		t.Errorf("%d were held, want %d", held.Load(), want)
	}
	for _, in := range instances {
		in.quiet()
	}
}

// quiet checks that nothing more was told of the store.
func (in *instance) quiet() {
	in.t.Helper()
	select {
	case err := <-in.changes:
		in.t.Errorf("something was told of the store: %v", err)
	default:
	}
}

// TestOutage has the server slow, and away, while instances guess: each goes on by
// its own count, no login takes long or fails, and when the server is back they
// agree again.
func TestOutage(t *testing.T) {
	for _, tc := range []struct {
		name       string
		stop, back func(*redistest.Server)
	}{
		{"slow", (*redistest.Server).Pause, (*redistest.Server).Resume},
		{"away", (*redistest.Server).Kill, (*redistest.Server).Restart},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			a, b := startInstance(t, server), startInstance(t, server)
			if got := a.guess("ann", nil) + b.guess("ann", nil); got != most {
				t.Fatalf("%d wrong passwords reached the backend, want %d", got, most)
			}

			a.hurry.Store(true)
			b.hurry.Store(true)
			tc.stop(server)
			var longest time.Duration
			for _, in := range []*instance{a, b} {
				for _, user := range []string{"ann", "bob"} {
					if got := in.guess(user, &longest); got > most {
						t.Errorf("without the server %d wrong passwords of %s reached the backend, want at most %d", got, user, most)
					}
				}
				t.Logf("told: %v", in.down())
			}
			// The guards look for the server meanwhile, and say nothing of that.
			granted := func(context.Context, bool) login.Verdict { return login.Verdict{Result: login.Granted} }
			for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
				start := time.Now()
				if v := a.guard.Open(context.Background(), config(), attempt("dave"), granted); v.Result != login.Granted {
					t.Fatalf("the verdict is %v: %v", v.Result, v.Err)
				}
				longest = max(longest, time.Since(start))
			}
			a.quiet()
			b.quiet()
			// The store may cost a login 50 ms, and the machine is busy.
			if longest > 150*time.Millisecond {
				t.Errorf("a login took %v", longest)
			}
			t.Logf("the longest login took %v", longest)
			a.hurry.Store(false)
			b.hurry.Store(false)
			tc.back(server)
			a.up()
			b.up()
			for _, user := range []string{"ann", "bob"} {
				if got := a.guess(user, nil) + b.guess(user, nil); got != 0 {
					t.Errorf("with the server back, %d wrong passwords of %s reached the backend, want 0", got, user)
				}
			}
			if got := a.guess("carol", nil) + b.guess("carol", nil); got != most {
				t.Errorf("with the server back, %d wrong passwords of carol reached the backend, want %d", got, most)
			}
			a.quiet()
			b.quiet()
		})
	}
}

// sluggish is a server that gives every answer, too late for a login.
type sluggish struct{ *counts }

func (s sluggish) late(ctx context.Context) error {
	select {
	case <-time.After(100 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s sluggish) Admit(ctx context.Context, a guard.Admission) (guard.Admitted, error) {
	if err := s.late(ctx); err != nil {
		return guard.Admitted{}, err
	}
	return s.counts.Admit(ctx, a)
}

func (s sluggish) Settle(ctx context.Context, told guard.Settlement) error {
	return errors.Join(s.late(ctx), s.counts.Settle(ctx, told))
}

// TestLost has the server lose all it knows between two logins, such that no
// connection breaks and no login is late.
func TestLost(t *testing.T) {
	server := redistest.Start(t)
	a, b := startInstance(t, server), startInstance(t, server)
	if got := a.guess("ann", nil) + b.guess("ann", nil); got != most {
		t.Fatalf("%d wrong passwords reached the backend, want %d", got, most)
	}
	server.Do("FLUSHALL")
	if got := a.guess("ann", nil); got != 0 {
		t.Errorf("%d more reached the backend", got)
	}
	if err := a.down(); !errors.Is(err, errLost) {
		t.Errorf("told: %v", err)
	}
	a.up()
	// The other one merges as well, since it may know what the first does not. Until
	// then it goes by its own count.
	if got := b.guess("ann", nil); got > most {
		t.Errorf("%d more reached the backend", got)
	}
	if err := b.down(); !errors.Is(err, errLost) {
		t.Errorf("told: %v", err)
	}
	b.up()
	if got := a.guess("bob", nil) + b.guess("bob", nil); got != most {
		t.Errorf("%d wrong passwords reached the backend, want %d", got, most)
	}
	a.quiet()
	b.quiet()
}

// TestMalformed pins that what somebody else has put into an account harms nobody.
func TestMalformed(t *testing.T) {
	server := redistest.Start(t)
	l := newLedger(t, open(t, server))
	l.settle(guard.Settlement{Ticket: 1, Account: ann, Source: src(1), Failed: true})
	server.Do("HSET", l.account(ann), "f2", "x", "f3", "", "k", "x", "g", "-", "h", "soon", "l", "never", "", "", "other", "1")
	server.Do("SET", l.ban(src(2)), "for ever")
	for n := range 2 {
		if !l.admit(10+n, ann, src(2)) {
			t.Errorf("attempt %d is not allowed", n)
		}
	}
	if l.admit(12, ann, src(2)) {
		t.Error("more than the budget is allowed")
	}
	l.settle(guard.Settlement{Ticket: 10, Account: ann, Source: src(2), Granted: true})
	l.settle(guard.Settlement{Ticket: 11, Account: ann, Source: src(2), Failed: true})
}

// TestReservationsTakenBack pins that logins during a pause of the server, with right
// passwords, leave nothing that counts there.
func TestReservationsTakenBack(t *testing.T) {
	server := redistest.Start(t)
	one, two := startInstance(t, server), startInstance(t, server)
	granted := func(context.Context, bool) login.Verdict { return login.Verdict{Result: login.Granted} }
	var warm sync.WaitGroup
	for i := range 64 { // so that there are connections
		warm.Go(func() { one.guard.Open(context.Background(), config(), attempt(fmt.Sprint("warm", i)), granted) })
	}
	warm.Wait()
	one.hurry.Store(true)
	server.Pause()
	var all sync.WaitGroup
	for range most + 2 {
		all.Go(func() {
			if v := one.guard.Open(context.Background(), config(), attempt("carol"), granted); v.Result != login.Granted {
				t.Errorf("the verdict is %v: %v", v.Result, v.Err)
			}
		})
	}
	all.Wait()
	server.Resume()
	t.Logf("told: %v", one.down())
	one.up()
	if v := two.guard.Open(context.Background(), config(), attempt("carol"), granted); v.Result != login.Granted {
		t.Errorf("at the other instance: %v", v.Err)
	}
}

// TestSluggish pins that a server that is always slow is not taken into use and out
// of it by turns, with a warning each time.
func TestSluggish(t *testing.T) {
	in := &instance{t: t, guard: guard.New(theSecret, guard.Events{}), changes: make(chan error, 100)}
	store := sluggish{open(t, redistest.Start(t))}
	detach := in.guard.Attach(store, func(_ bool, err error) { in.changes <- err })
	defer detach()
	t.Logf("told: %v", in.down())
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		in.guard.Open(context.Background(), config(), attempt("dave"), func(context.Context, bool) login.Verdict {
			return login.Verdict{Result: login.Granted}
		})
	}
	in.quiet()
}

// TestMergedKnown pins that what was merged is what both have counted: an instance
// that has counted nothing keeps to it.
func TestMergedKnown(t *testing.T) {
	server := redistest.Start(t)
	a := startInstance(t, server)
	server.Kill()
	if got := a.guess("ann", nil); got != most {
		t.Fatalf("%d wrong passwords reached the backend, want %d", got, most)
	}
	_ = a.down()
	server.Restart()
	a.up()
	b := startInstance(t, server)
	if got := b.guess("ann", nil); got != 0 {
		t.Errorf("%d wrong passwords reached the backend, want 0", got)
	}
}

// TestClientGone pins that a client that goes away is no fault of the server.
func TestClientGone(t *testing.T) {
	server := redistest.Start(t)
	in := startInstance(t, server)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 20 {
		in.guard.Open(ctx, config(), attempt("ann"), func(context.Context, bool) login.Verdict {
			return login.UnavailableFor(context.Canceled)
		})
	}
	in.quiet()
	if got := in.guess("ann", nil); got != most {
		t.Errorf("%d wrong passwords reached the backend, want %d", got, most)
	}
}

func BenchmarkLogin(b *testing.B) {
	granted := func(context.Context, bool) login.Verdict { return login.Verdict{Result: login.Granted} }
	cfg := config()
	run := func(b *testing.B, g *guard.Guard) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				n := attempts.Add(1)
				a := attempt(fmt.Sprint("user-", n%10000))
				if v := g.Open(context.Background(), cfg, a, granted); v.Result != login.Granted {
					b.Fatal(v.Result, v.Err)
				}
			}
		})
	}
	b.Run("local", func(b *testing.B) { run(b, guard.New(theSecret, guard.Events{})) })
	b.Run("redis", func(b *testing.B) { run(b, startInstance(b, redistest.Start(b)).guard) })
	b.Run("redis, one at a time", func(b *testing.B) {
		g := startInstance(b, redistest.Start(b)).guard
		b.ReportAllocs()
		for b.Loop() {
			n := attempts.Add(1)
			if v := g.Open(context.Background(), cfg, attempt(fmt.Sprint("user-", n%10000)), granted); v.Result != login.Granted {
				b.Fatal(v.Result, v.Err)
			}
		}
	})
}

// BenchmarkMerge merges all that an instance can have counted.
func BenchmarkMerge(b *testing.B) {
	c := open(b, redistest.Start(b))
	s := much(1<<18, 1<<20)
	for b.Loop() {
		if err := c.Merge(context.Background(), s); err != nil {
			b.Fatal(err)
		}
	}
}
