package caddyimap

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	dto "github.com/prometheus/client_model/go"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

func init() { caddy.RegisterModule(new(testStore)) }

// testStore is a store that a test watches.
type testStore struct {
	Name string `json:"name,omitempty"`
}

// storeState is what a test sees of a store. Stores of one name have one.
type storeState struct {
	// openError, if it is set, is what Open says.
	openError error
	// allowed is the answer to all questions.
	allowed bool
	merged  chan struct{}

	mu                  sync.Mutex
	opened, closed      int
	admissions, settled int
	liftError           error
	lifted              []string
}

var storeStates sync.Map

func newStoreState(tb testing.TB, name string) *storeState {
	s := &storeState{allowed: true, merged: make(chan struct{}, 100)}
	storeStates.Store(name, s)
	tb.Cleanup(func() { storeStates.Delete(name) })
	return s
}

// CaddyModule returns the Caddy module information.
func (*testStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "imap.guard.stores.imap_test", New: func() caddy.Module { return new(testStore) }}
}

func (m *testStore) state() *storeState { s, _ := storeStates.Load(m.Name); return s.(*storeState) }

func (m *testStore) Open() (SharedCounts, error) {
	s := m.state()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	return s, s.openError
}

func (m *testStore) Close() error {
	s := m.state()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

func (s *storeState) Admit(context.Context, GuardAdmission) (GuardAdmitted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admissions++
	return GuardAdmitted{Allowed: s.allowed}, nil
}

func (s *storeState) Settle(context.Context, GuardSettlement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled++
	return nil
}

func (s *storeState) Merge(context.Context, *GuardSnapshot) error {
	s.merged <- struct{}{}
	return nil
}

func (s *storeState) LiftAccount(context.Context, GuardID) error { return s.lift("account") }
func (s *storeState) LiftSource(context.Context, [8]byte) error  { return s.lift("source") }

func (s *storeState) lift(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifted = append(s.lifted, what)
	return s.liftError
}

// asked is how often the store was asked about a login.
func (s *storeState) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.admissions
}

// counted pins how often the store was opened and closed.
func (s *storeState) counted(t *testing.T, opened, closed int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened != opened || s.closed != closed {
		t.Errorf("opened %d times and closed %d times, want %d and %d", s.opened, s.closed, opened, closed)
	}
}

// used waits until the store is in use.
func (s *storeState) used(t *testing.T, c *config, times int) {
	t.Helper()
	select {
	case <-s.merged:
	case <-time.After(patience):
		t.Fatal("the store is not used")
	}
	// The guard says so behind the merge.
	for deadline := time.Now().Add(patience); len(c.log.lines("info", "the guard's store is used")) < times; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the store is not used")
		}
	}
}

// stored is a guard with the store of that name.
func stored(name string) *Guard {
	g := strict()
	g.StoreRaw = caddyconfig.JSON(map[string]any{"store": "imap_test", "name": name}, nil)
	return g
}

// TestStore pins that a store decides, and is ended with its configuration.
func TestStore(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	state := newStoreState(t, "one")
	c := w.load(w.guarded(stored("one"), fake.Addr()))
	state.counted(t, 0, 0) // opening it is left to the start
	c.start()
	state.used(t, c, 1)
	check(t, c.ref(""), from("192.0.2.1", "alice", "guess"), login.Denied)
	state.mu.Lock()
	state.allowed = false
	state.mu.Unlock()
	check(t, c.ref(""), from("192.0.2.1", "alice", "another guess"), login.Throttled)
	if n := wrong(fake); n != 1 {
		t.Errorf("the backend was asked %d times, want once", n)
	}
	families, err := c.ctx.GetMetricsRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	up := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "caddy_imap_guard_store_up" })
	if up < 0 || families[up].GetMetric()[0].GetGauge().GetValue() != 1 {
		t.Error("the metrics do not say that the store is used")
	}
	state.counted(t, 1, 0)
	c.stop()
	state.counted(t, 1, 1)
}

// TestStoreReload pins whose store is used while configurations change: that of the
// one that started last and still runs.
func TestStoreReload(t *testing.T) {
	w := newWorld(t)
	w.storage = newStorage(t)
	fake := w.anyAlice()
	one, two := newStoreState(t, "one"), newStoreState(t, "two")
	n := 0
	uses := func(c *config, want *storeState) {
		t.Helper()
		before := want.asked()
		n++
		c.ref("").Check(t.Context(), from("192.0.2.1", "alice", "guess"+string(rune('a'+n))))
		if want.asked() != before+1 {
			t.Errorf("the store was asked %d times, want %d", want.asked(), before+1)
		}
	}
	first := w.load(w.guarded(stored("one"), fake.Addr()))
	first.start()
	one.used(t, first, 1)
	uses(first, one)

	second := w.load(w.guarded(stored("two"), fake.Addr()))
	second.start()
	two.used(t, second, 1)
	uses(first, two)

	// The second configuration fails to start as a whole, after its imap app.
	second.stop()
	one.used(t, first, 2)
	uses(first, one)
	two.counted(t, 1, 1)

	third := w.load(w.guarded(stored("two"), fake.Addr()))
	third.start()
	first.stop()
	two.used(t, third, 1)
	uses(third, two)
	third.stop()
	one.counted(t, 1, 1)
	two.counted(t, 2, 2)
}

// TestStoreOpen pins that a store that cannot be opened fails the start, and that
// nothing is left of that.
func TestStoreOpen(t *testing.T) {
	w := newWorld(t)
	w.storage = newStorage(t)
	state := newStoreState(t, "one")
	state.openError = errors.New("no such network")
	c := w.load(w.guarded(stored("one"), "127.0.0.1:1"))
	if err := c.app.Start(); err == nil || err.Error() != "guard: opening the store: no such network" {
		t.Errorf("error %v", err)
	}
	c.cancel()
	if apps.newest.Load() != nil || len(w.storage.uses()) != 0 {
		t.Errorf("something is left: %v, %q", apps.newest.Load(), w.storage.uses())
	}
	state.counted(t, 1, 0)
}
