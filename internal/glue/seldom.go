package glue

import (
	"sync"
	"time"
)

// seldomEvery is the time from one line in the log to the next of the same kind.
const seldomEvery = time.Minute

// Seldom says of something that may happen very often when it is worth a line in
// the log again. The zero value is ready to use.
type Seldom struct {
	mu    sync.Mutex
	next  time.Time
	since int
}

// Due counts that it has happened. If a line is due, it says how often it has
// happened since the last one, this time included.
func (s *Seldom) Due() (n int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since++
	now := time.Now()
	if now.Before(s.next) {
		return 0, false
	}
	n, s.since, s.next = s.since, 0, now.Add(seldomEvery)
	return n, true
}
