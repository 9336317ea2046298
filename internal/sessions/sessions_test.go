package sessions

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// double is a connection that does what the test says.
type double struct {
	mu       sync.Mutex
	activity Activity
	kicks    []string
}

func (d *double) Activity() Activity {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.activity
}

func (d *double) Kick(text string, _ time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kicks = append(d.kicks, text)
}

func (d *double) set(a Activity) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.activity = a
}

func ids(list []*Entry) string {
	var s string
	for _, e := range list {
		s += e.ID + " "
	}
	return s
}

// TestList pins the order, and that an entry is there until it is removed.
func TestList(t *testing.T) {
	var r Registry
	var all []*Entry
	want := ""
	for i := range 50 {
		id := fmt.Sprint("s", i)
		all = append(all, r.Add(Info{ID: id, Kind: IMAP}, new(double)))
		want += id + " "
	}
	if got := ids(r.List(nil)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := ids(r.List(func(e *Entry) bool { return e.ID == "s7" || e.ID == "s3" })); got != "s3 s7 " {
		t.Errorf("got %s", got)
	}
	for _, e := range all[1:] {
		r.Remove(e)
		r.Remove(e)
	}
	if got := ids(r.List(nil)); got != "s0 " {
		t.Errorf("got %s", got)
	}
}

// TestTotals pins that nothing is lost of what has ended, or counted twice, and
// that each group has sums of its own.
func TestTotals(t *testing.T) {
	var r Registry
	if got := r.Totals(); len(got) != 0 {
		t.Errorf("got %v of nothing", got)
	}
	x, y := Group{IMAP, "x"}, Group{Auth, "x"}
	one, two, three := new(double), new(double), new(double)
	one.set(Activity{Idle: true, BytesIn: 1, BytesOut: 10, Commands: 100})
	two.set(Activity{Idle: true, Opaque: true, BytesIn: 2, BytesOut: 20, Commands: 200})
	three.set(Activity{Commands: 5})
	first := r.Add(Info{Kind: IMAP, Backend: "x"}, one)
	r.Add(Info{Kind: IMAP, Backend: "x"}, two)
	r.Add(Info{Kind: Auth, Backend: "x"}, three)
	want := func(g Group, want Totals) {
		t.Helper()
		if got := r.Totals()[g]; got != want {
			t.Errorf("%v: got %+v, want %+v", g, got, want)
		}
	}
	want(x, Totals{Live: 2, Idle: 1, BytesIn: 3, BytesOut: 30, Commands: 300})
	want(y, Totals{Live: 1, Commands: 5})
	one.set(Activity{BytesIn: 4, BytesOut: 40, Commands: 400})
	r.Remove(first)
	r.Remove(first)
	want(x, Totals{Live: 1, BytesIn: 6, BytesOut: 60, Commands: 600})
}

// TestConcurrent pins that all may be done at once, and that sums never go back.
func TestConcurrent(t *testing.T) {
	var r Registry
	var all sync.WaitGroup
	var stop atomic.Bool
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		var before int64
		for !stop.Load() {
			now := r.Totals()[Group{Kind: IMAP}].BytesIn
			if now < before {
				t.Errorf("%d bytes after %d", now, before)
			}
			before = now
			r.List(nil)
		}
	}()
	for range 8 {
		all.Go(func() {
			for range 200 {
				d := new(double)
				e := r.Add(Info{Kind: IMAP}, d)
				d.set(Activity{BytesIn: 3})
				r.Remove(e)
			}
		})
	}
	all.Wait()
	stop.Store(true)
	<-watch
	if got := r.Totals()[Group{Kind: IMAP}]; got != (Totals{BytesIn: 4800}) {
		t.Errorf("got %+v", got)
	}
}

func BenchmarkTotals(b *testing.B) {
	var r Registry
	for range 10_000 {
		r.Add(Info{Kind: IMAP, Backend: "x"}, new(double))
	}
	for b.Loop() {
		r.Totals()
	}
}
