package guard

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestShard(t *testing.T) {
	var s shard[int, string]
	var evicted []string
	s.init(3, func(v *string) { evicted = append(evicted, *v) })
	for i := range 3 {
		*s.get(i) = fmt.Sprint(i)
	}
	s.get(0)  // 1 is the oldest now
	s.peek(1) // and still is
	*s.get(3) = "3"
	*s.get(4) = "4"
	if fmt.Sprint(evicted) != "[1 2]" || s.peek(1) != nil || s.peek(2) != nil || *s.peek(0) != "0" {
		t.Errorf("evicted %v", evicted)
	}
	var order []int
	sweep := func(keep func(int) bool) {
		order = nil
		s.sweep(func(k int, v *string) bool {
			if *v != fmt.Sprint(k) {
				t.Errorf("%d is %s", k, *v)
			}
			order = append(order, k)
			return keep(k)
		})
	}
	sweep(func(k int) bool { return k != 3 })
	if fmt.Sprint(order) != "[0 3 4]" || len(s.entries) != 2 {
		t.Errorf("order %v, then %d", order, len(s.entries))
	}
	*s.get(5) = "5"
	*s.get(6) = "6"
	sweep(func(int) bool { return false })
	if fmt.Sprint(order) != "[4 5 6]" || len(s.entries) != 0 || s.ring.next != &s.ring {
		t.Errorf("order %v, then %d", order, len(s.entries))
	}
	*s.get(7) = "7"
	sweep(func(int) bool { return true })
	if fmt.Sprint(order) != "[7]" {
		t.Errorf("order %v", order)
	}
}

// TestManySources pins that the memory has an end, whoever comes.
func TestManySources(t *testing.T) {
	m := newMemory(time.Now())
	cfg := testConfig()
	for i := range 2 * maxSources {
		s := source{}
		s.blame(cfg, &ticket{}, 0)
		id := shortID{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)}
		*m.lockSource(id).get(id) = s
		m.sources[id[0]%shardCount].mu.Unlock()
	}
	n := 0
	for i := range m.sources {
		n += len(m.sources[i].entries)
	}
	if n != maxSources {
		t.Errorf("%d sources are kept, want %d", n, maxSources)
	}
}

// TestEvicted pins that who waits for an account that makes room goes on, and that
// an attempt under way then counts all the same.
func TestEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = time.Second
		for i := range 3 {
			go w.open("alice", fmt.Sprint(i), home)
		}
		synctest.Wait()
		go w.open("alice", "waits", home)
		synctest.Wait()
		id := w.keys.account("alice")
		s := w.memory.lockAccount(id)
		for i := range s.max {
			s.get(ID{id[0], 0, 0, 0, 0, 0, 0, 0, 1, byte(i), byte(i >> 8)})
		}
		if s.peek(id) != nil || len(s.entries) != s.max {
			t.Error("it was not evicted")
		}
		s.mu.Unlock()
		time.Sleep(1500 * time.Millisecond)
		w.expectAsked(4)
		w.expect("held", "alice", "x", home)
		w.expectNothingPending(w.Guard)
	})
}
