//go:build integration && unix

package imapredis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/redistest"
)

// patience is how long something may take that is bound to happen.
const patience = 20 * time.Second

// open returns the counts in a server.
func open(t testing.TB, server *redistest.Server) *counts {
	t.Helper()
	return openWith(t, map[string]any{"addresses": []string{server.Addr}})
}

func openWith(t testing.TB, config map[string]any) *counts {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	s, err := provision(t, string(text))
	if err != nil {
		t.Fatal(err)
	}
	shared, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c := shared.(*counts)
	if err := c.join(t.Context()); err != nil {
		t.Logf("the server is not there yet: %v", err)
	}
	return c
}

// instance is a guard that counts in a server.
type instance struct {
	t     testing.TB
	guard *guard.Guard
	// changes are what was told of the store: nil if it is used from now on.
	changes chan error
	// hurry says that the server gets no more time than it has in earnest. Where
	// that is not what is tested, a machine that is busy must not be in the way.
	hurry atomic.Bool
}

// patient is a store that waits for the server.
type patient struct {
	*counts
	hurry *atomic.Bool
}

func (p patient) wait(ctx context.Context) (context.Context, context.CancelFunc) {
	if p.hurry.Load() {
		return ctx, func() {}
	}
	return context.WithTimeout(context.WithoutCancel(ctx), patience)
}

func (p patient) Admit(ctx context.Context, a guard.Admission) (guard.Admitted, error) {
	ctx, cancel := p.wait(ctx)
	defer cancel()
	return p.counts.Admit(ctx, a)
}

func (p patient) Settle(ctx context.Context, s guard.Settlement) error {
	ctx, cancel := p.wait(ctx)
	defer cancel()
	return p.counts.Settle(ctx, s)
}

var theSecret = []byte("the secret that the instances share")

// startInstance returns an instance that uses the server.
func startInstance(t testing.TB, server *redistest.Server) *instance {
	t.Helper()
	in := &instance{t: t, guard: guard.New(theSecret, guard.Events{}), changes: make(chan error, 100)}
	detach := in.guard.Attach(patient{open(t, server), &in.hurry}, func(up bool, err error) {
		if up != (err == nil) {
			err = fmt.Errorf("up %t, but the error is %w", up, err)
		}
		in.changes <- err
	})
	t.Cleanup(detach)
	in.up()
	return in
}

// up waits until the store is used, down until it is not.
func (in *instance) up() {
	in.t.Helper()
	if err := in.change(); err != nil {
		in.t.Fatalf("the store is not used: %v", err)
	}
}

func (in *instance) down() error {
	in.t.Helper()
	err := in.change()
	if err == nil {
		in.t.Fatal("the store is used")
	}
	return err
}

func (in *instance) change() error {
	in.t.Helper()
	select {
	case err := <-in.changes:
		return err
	case <-time.After(patience):
		in.t.Fatal("nothing was told of the store")
		return nil
	}
}

// config is what most tests use. Sources are not banned.
func config() *guard.Config {
	return &guard.Config{
		AccountFailures: 4, KnownReserve: 1, Window: 30 * time.Minute,
		SourceFailures: 1000, SourceBan: 15 * time.Minute,
	}
}

// attempts makes each password and source anew.
var attempts atomic.Uint32

func attempt(user string) *login.Attempt {
	n := attempts.Add(1)
	return &login.Attempt{
		User: user, Secret: login.Secret(fmt.Sprint("wrong-", n)), Start: time.Now(),
		Remote: netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}),
	}
}

// denied returns a backend that denies, and counts.
func denied(asked *atomic.Int32) guard.Ask {
	return func(context.Context, bool) login.Verdict {
		asked.Add(1)
		return login.DeniedWith("")
	}
}

// guess tries wrong passwords, one after another, until the guard lets no more
// through, and returns how many it has. The longest of them is noted.
func (in *instance) guess(user string, longest *time.Duration) int {
	in.t.Helper()
	var asked atomic.Int32
	for range 20 {
		start := time.Now()
		v := in.guard.Open(context.Background(), config(), attempt(user), denied(&asked))
		if took := time.Since(start); longest != nil {
			*longest = max(*longest, took)
		}
		switch {
		case v.Result == login.Denied:
		case v.Result == login.Throttled && errors.Is(v.Err, guard.ErrHeld):
			return int(asked.Load())
		default:
			in.t.Fatalf("the verdict is %v: %v", v.Result, v.Err)
		}
	}
	in.t.Fatal("the guard lets everything through")
	return 0
}
