package guard

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"
)

// How much is kept. What was not used for longest makes room.
const (
	shardCount  = 64
	maxAccounts = 1 << 18
	maxSources  = 1 << 20
)

// instant is a time, in milliseconds since the memory began. It goes by a clock
// that nobody sets.
type instant int64

// never is long ago.
const never instant = math.MinInt64 / 2

// longest is the longest time that a Duration can hold.
const longest = instant(math.MaxInt64 / time.Millisecond)

func (i instant) add(d time.Duration) instant { return i + instant(d.Milliseconds()) }

func (i instant) since(earlier instant) time.Duration {
	return time.Duration(min(i-earlier, longest)) * time.Millisecond
}

// memory is what one instance has counted.
type memory struct {
	began    time.Time
	accounts [shardCount]shard[ID, account]
	sources  [shardCount]shard[shortID, source]
	// window is how long failures count, in nanoseconds, for when there is no
	// configuration at hand: the longest that was in use.
	window atomic.Int64
	// changes counts what a snapshot would have to be written for.
	changes atomic.Uint64
}

func newMemory(now time.Time) *memory {
	m := &memory{began: now}
	for i := range shardCount {
		m.accounts[i].init(maxAccounts/shardCount, (*account).wake)
		m.sources[i].init(maxSources/shardCount, func(s *source) { s.crowd.dismiss() })
	}
	return m
}

func (m *memory) instant(t time.Time) instant { return instant(t.Sub(m.began).Milliseconds()) }

// lockAccount locks the part of the memory that an account is in.
func (m *memory) lockAccount(id ID) *shard[ID, account] {
	s := &m.accounts[binary.LittleEndian.Uint64(id[:])%shardCount]
	s.mu.Lock()
	return s
}

// lockSource locks the part of the memory that a source is in.
func (m *memory) lockSource(id shortID) *shard[shortID, source] {
	s := &m.sources[binary.LittleEndian.Uint64(id[:])%shardCount]
	s.mu.Lock()
	return s
}

// banned says whether a source is.
func (m *memory) banned(id shortID, at time.Time) bool {
	s := m.lockSource(id)
	defer s.mu.Unlock()
	src := s.peek(id)
	return src != nil && m.instant(at) < src.banned
}

// knows says whether anybody has logged in to an account.
func (m *memory) knows(id ID) bool {
	s := m.lockAccount(id)
	defer s.mu.Unlock()
	a := s.peek(id)
	return a != nil && len(a.granted)+len(a.known) > 0
}

// liftAccount forgets what keeps an account from being asked about, and says
// whether there was anything.
func (m *memory) liftAccount(id ID) bool {
	s := m.lockAccount(id)
	defer s.mu.Unlock()
	a := s.peek(id)
	if a == nil {
		return false
	}
	lifted := len(a.failures) > 0 || len(a.unanswered) > 0 || len(a.refused) > 0 || len(a.pauses) > 0
	a.failures, a.unanswered, a.refused, a.pauses = nil, nil, nil, nil
	a.wake()
	m.changes.Add(1)
	return lifted
}

// liftSource forgets what counts against a source, and says whether there was
// anything.
func (m *memory) liftSource(id shortID) bool {
	s := m.lockSource(id)
	defer s.mu.Unlock()
	src := s.peek(id)
	if src == nil {
		return false
	}
	lifted := len(src.pairs) > 0 || src.banned > 0
	src.pairs, src.banned = nil, 0
	src.crowd.dismiss() // there may be room for all now
	m.changes.Add(1)
	return lifted
}
