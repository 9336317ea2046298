package imapext

import (
	"container/list"
	"slices"
	"sync"
	"sync/atomic"
)

// Cache remembers what SORT and THREAD need of messages, for all sessions of the process.
// It holds nothing that can change, and only memory. What has not been asked for the
// longest goes first, by whole mailboxes.
type Cache struct {
	hits, misses, evicted atomic.Uint64

	mu       sync.Mutex
	limit    int64
	size     int64
	shelves  map[shelfKey]*list.Element
	byRecent list.List // of *shelf, the latest first
}

// shelfKey says whose messages and which they are.
type shelfKey struct {
	owner, mailbox string
	validity       uint64
}

// shelf holds the records of a mailbox.
type shelf struct {
	key  shelfKey
	size int64
	// known is never changed, but replaced.
	known []known
}

// known is a record with the UID of its message. Lists of them are in order of UIDs.
type known struct {
	uid uint32
	*record
}

// shelfSize is what a mailbox takes besides its records, in bytes.
const shelfSize = 256

// NewCache returns a cache of so many bytes.
func NewCache(limit int64) *Cache {
	return &Cache{limit: limit, shelves: make(map[shelfKey]*list.Element)}
}

// SetLimit changes how many bytes it may hold.
func (c *Cache) SetLimit(limit int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = limit
	c.shrink()
}

// CacheStats is how a Cache is used.
type CacheStats struct {
	// Hits and Misses count messages that were known and that had to be asked for.
	Hits, Misses uint64
	// Evicted counts mailboxes that had to go.
	Evicted uint64
	// Bytes is about how much it holds now, and Mailboxes of how many.
	Bytes, Mailboxes int64
}

// Stats returns how it was used since the process began.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CacheStats{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Evicted: c.evicted.Load(),
		Bytes: c.size, Mailboxes: int64(c.byRecent.Len()),
	}
}

// get returns what is known of a mailbox. It must not be changed.
func (c *Cache) get(key shelfKey) []known {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.shelves[key]
	if e == nil {
		return nil
	}
	c.byRecent.MoveToFront(e)
	return e.Value.(*shelf).known
}

// put adds records, in order of UIDs, to what is known of a mailbox. Of those with UIDs
// up to the last in present, the others are forgotten, if it is not nil.
func (c *Cache) put(key shelfKey, added []known, present []uint32) {
	if len(added) == 0 {
		return
	}
	for {
		old := c.get(key)
		merged, size := merge(old, added, present)
		if c.replace(key, old, merged, size+shelfSize+int64(len(key.owner)+len(key.mailbox))) {
			return
		}
	}
}

// count notes how many messages were known, and how many were not.
func (c *Cache) count(hits, misses int) {
	c.hits.Add(uint64(hits))
	c.misses.Add(uint64(misses))
}

// replace sets what is known of a mailbox if it is still what it was.
func (c *Cache) replace(key shelfKey, old, merged []known, size int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.shelves[key]
	if e == nil {
		if old != nil {
			return false
		}
		if size > c.limit {
			return true // there is no room for it
		}
		e = c.byRecent.PushFront(&shelf{key: key})
		c.shelves[key] = e
	}
	s := e.Value.(*shelf)
	if len(s.known) != len(old) || len(old) > 0 && &s.known[0] != &old[0] {
		return false
	}
	c.size += size - s.size
	s.known, s.size = merged, size
	c.byRecent.MoveToFront(e)
	c.shrink()
	return true
}

// shrink makes mailboxes go until the others have room.
func (c *Cache) shrink() {
	for c.size > c.limit {
		e := c.byRecent.Back()
		s := c.byRecent.Remove(e).(*shelf)
		delete(c.shelves, s.key)
		c.size -= s.size
		c.evicted.Add(1)
	}
}

// merge returns what is in either list, and about how many bytes that is.
func merge(old, added []known, present []uint32) (merged []known, size int64) {
	merged = make([]known, 0, len(old)+len(added))
	last := uint32(0)
	if len(present) > 0 {
		last = present[len(present)-1]
	}
	keep := func(k known) {
		if k.uid <= last {
			if _, found := slices.BinarySearch(present, k.uid); !found {
				return
			}
		}
		merged = append(merged, k)
		size += int64(k.cost())
	}
	for len(old) > 0 || len(added) > 0 {
		switch {
		case len(added) == 0 || len(old) > 0 && old[0].uid < added[0].uid:
			keep(old[0])
			old = old[1:]
		case len(old) == 0 || added[0].uid < old[0].uid:
			keep(added[0])
			added = added[1:]
		default:
			keep(known{added[0].uid, old[0].with(added[0].record)})
			old, added = old[1:], added[1:]
		}
	}
	return merged, size
}
