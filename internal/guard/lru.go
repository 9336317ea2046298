package guard

import "sync"

// shard is a part of what is remembered, in the order of its last use.
type shard[K comparable, V any] struct {
	mu      sync.Mutex
	max     int
	entries map[K]*entry[K, V]
	// ring's next is the latest and its previous the oldest entry.
	ring entry[K, V]
	// evicted is called with what makes room; nil is allowed.
	evicted func(*V)
}

type entry[K comparable, V any] struct {
	key        K
	value      V
	prev, next *entry[K, V]
}

func (s *shard[K, V]) init(most int, evicted func(*V)) {
	s.max, s.evicted = most, evicted
	s.entries = make(map[K]*entry[K, V])
	s.ring.prev, s.ring.next = &s.ring, &s.ring
}

// peek returns what there is, or nil.
func (s *shard[K, V]) peek(key K) *V {
	if e := s.entries[key]; e != nil {
		return &e.value
	}
	return nil
}

// get returns what there is, or something new, and makes it the latest. What was
// not used for longest makes room.
func (s *shard[K, V]) get(key K) *V {
	e := s.entries[key]
	if e == nil {
		if len(s.entries) >= s.max {
			oldest := s.ring.prev
			s.remove(oldest)
			if s.evicted != nil {
				s.evicted(&oldest.value)
			}
		}
		e = &entry[K, V]{key: key}
		s.entries[key] = e
	} else {
		e.prev.next, e.next.prev = e.next, e.prev
	}
	e.prev, e.next = &s.ring, s.ring.next
	e.prev.next, e.next.prev = e, e
	return &e.value
}

// dropIf removes what there is if that is empty, so that names that nobody has do
// not crowd out those that count.
func (s *shard[K, V]) dropIf(key K, empty bool) {
	if e := s.entries[key]; empty && e != nil {
		s.remove(e)
	}
}

func (s *shard[K, V]) remove(e *entry[K, V]) {
	e.prev.next, e.next.prev = e.next, e.prev
	delete(s.entries, e.key)
}

// sweep calls the function for all entries, the oldest first, and removes those
// that it does not want to keep.
func (s *shard[K, V]) sweep(keep func(K, *V) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.ring.prev; e != &s.ring; {
		newer := e.prev
		if !keep(e.key, &e.value) {
			s.remove(e)
		}
		e = newer
	}
}
