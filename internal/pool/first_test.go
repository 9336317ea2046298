package pool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plan is how an upstream of a test behaves: it is ready, or fails, after some
// time. One that is deaf ignores that nobody waits for it any more.
type plan struct {
	after time.Duration
	err   error
	panic bool
	deaf  bool
}

// world is a set of upstreams, and what has happened to them.
type world struct {
	plans map[string]plan

	mu     sync.Mutex
	start  time.Time
	events []string
}

func (w *world) log(format string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf("%v ", time.Since(w.start))+fmt.Sprintf(format, a...))
}

func (w *world) open(ctx context.Context, addr string) (string, error) {
	w.log("open %s", addr)
	p := w.plans[addr]
	done := ctx.Done()
	if p.deaf {
		done = nil
	}
	select {
	case <-time.After(p.after):
	case <-done:
		w.log("cancelled %s", addr)
		return "", ctx.Err()
	}
	if p.panic {
		panic("boom")
	}
	if p.err != nil {
		return "", p.err
	}
	return "conn to " + addr, nil
}

func (w *world) discard(conn string) { w.log("discard %s", conn) }

// itself is the name of an upstream of these tests.
func itself(addr string) string { return addr }

var errDown = errors.New("down")

func TestFirst(t *testing.T) {
	const stagger = time.Second
	for _, tc := range []struct {
		name    string
		order   string
		plans   map[string]plan
		timeout time.Duration
		want    string   // the winner
		errs    []string // parts of the error, in order
		events  []string
	}{
		{
			name:   "one",
			order:  "a",
			plans:  map[string]plan{"a": {after: 5 * time.Second}},
			want:   "a",
			events: []string{"0s open a"},
		},
		{
			name:   "one that is down",
			order:  "a",
			plans:  map[string]plan{"a": {err: errDown}},
			errs:   []string{"upstream a: down"},
			events: []string{"0s open a"},
		},
		{
			name:   "the second is left alone while the first is quick",
			order:  "a b",
			plans:  map[string]plan{"a": {after: stagger - 1}, "b": {}},
			want:   "a",
			events: []string{"0s open a"},
		},
		{
			name:   "the second begins at once when the first fails",
			order:  "a b",
			plans:  map[string]plan{"a": {after: 300 * time.Millisecond, err: errDown}, "b": {after: time.Millisecond}},
			want:   "b",
			events: []string{"0s open a", "300ms open b"},
		},
		{
			name:   "the second begins after the stagger and wins; the first is cancelled",
			order:  "a b",
			plans:  map[string]plan{"a": {after: time.Hour}, "b": {after: 500 * time.Millisecond}},
			want:   "b",
			events: []string{"0s open a", "1s open b", "1.5s cancelled a"},
		},
		{
			name:   "the first goes on and wins after all",
			order:  "a b",
			plans:  map[string]plan{"a": {after: 1500 * time.Millisecond}, "b": {after: time.Hour}},
			want:   "a",
			events: []string{"0s open a", "1s open b", "1.5s cancelled b"},
		},
		{
			name:   "the stagger counts from the last begin",
			order:  "a b c",
			plans:  map[string]plan{"a": {after: 600 * time.Millisecond, err: errDown}, "b": {after: time.Hour}, "c": {after: time.Millisecond}},
			want:   "c",
			events: []string{"0s open a", "600ms open b", "1.6s open c", "1.601s cancelled b"},
		},
		{
			name:   "a loser that is ready too late is discarded",
			order:  "a b",
			plans:  map[string]plan{"a": {after: 3 * time.Second, deaf: true}, "b": {after: time.Millisecond}},
			want:   "b",
			events: []string{"0s open a", "1s open b", "3s discard conn to a"},
		},
		{
			name:  "all are down",
			order: "a b c",
			plans: map[string]plan{
				"a": {after: 2500 * time.Millisecond, err: errDown},
				"b": {err: errors.New("refused")},
				"c": {after: 5 * time.Second, err: errDown},
			},
			errs:   []string{"upstream a: down", "upstream b: refused", "upstream c: down"},
			events: []string{"0s open a", "1s open b", "1s open c"},
		},
		{
			name:    "time is up before the last was tried",
			order:   "a b c",
			plans:   map[string]plan{"a": {after: time.Hour}, "b": {after: time.Hour}, "c": {}},
			timeout: 1500 * time.Millisecond,
			errs:    []string{"upstream a: context deadline exceeded", "upstream b: context deadline exceeded"},
			events:  []string{"0s open a", "1s open b", "1.5s cancelled a", "1.5s cancelled b"},
		},
		{
			name:   "a panic is an error of its upstream",
			order:  "a b",
			plans:  map[string]plan{"a": {panic: true}, "b": {}},
			want:   "b",
			events: []string{"0s open a", "0s open b"},
		},
		{
			name:   "the same upstream twice is tried twice",
			order:  "a a",
			plans:  map[string]plan{"a": {err: errDown}},
			errs:   []string{"upstream a: down", "upstream a: down"},
			events: []string{"0s open a", "0s open a"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{plans: tc.plans, start: time.Now()}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tc.timeout > 0 {
					ctx, cancel = context.WithTimeout(ctx, tc.timeout)
					defer cancel()
				}
				got, err := first(ctx, strings.Fields(tc.order), stagger, itself, w.open, w.discard)
				if tc.want != "" && (err != nil || got != "conn to "+tc.want) {
					t.Errorf("got %q, %v; want %s", got, err, tc.want)
				}
				if tc.want == "" {
					checkErrors(t, err, tc.errs)
				}
				if got, want := sortedTies(w.events), sortedTies(tc.events); strings.Join(got, "; ") != strings.Join(want, "; ") {
					t.Errorf("events %q, want %q", got, want)
				}
			})
		})
	}
}

// sortedTies puts events of the same moment in a fixed order; they happen in
// different goroutines.
func sortedTies(events []string) []string {
	out := append([]string(nil), events...)
	for i := 1; i < len(out); i++ {
		for j := i; j > 0 && moment(out[j]) == moment(out[j-1]) && out[j] < out[j-1]; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	return out
}

func moment(event string) string {
	m, _, _ := strings.Cut(event, " ")
	return m
}

func checkErrors(t *testing.T, err error, parts []string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if got, want := err.Error(), strings.Join(parts, "\n"); got != want {
		t.Errorf("error %q, want %q", got, want)
	}
}

func TestFirstNoUpstream(t *testing.T) {
	_, err := first(t.Context(), []string(nil), time.Second, itself,
		func(context.Context, string) (int, error) { t.Error("opened"); return 0, nil },
		func(int) { t.Error("discarded") })
	if !errors.Is(err, ErrNoUpstream) {
		t.Errorf("error %v, want %v", err, ErrNoUpstream)
	}
}

// A panic with nobody left to take its place is reported with its origin, and
// the error of an upstream can be told by errors.Is.
func TestFirstErrors(t *testing.T) {
	open := func(_ context.Context, addr string) (int, error) {
		if addr == "b" {
			panic("boom")
		}
		return 0, errDown
	}
	_, err := first(t.Context(), []string{"a", "b"}, time.Second, itself, open, func(int) {})
	if !errors.Is(err, errDown) {
		t.Errorf("error %v does not wrap %v", err, errDown)
	}
	if err == nil || !strings.Contains(err.Error(), "upstream b: panic while opening: string\n") {
		t.Errorf("error %v does not name the panic", err)
	}
}
