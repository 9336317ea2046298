package imapext

import (
	"sync/atomic"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

const (
	// maxAllOrdered is how much memory what is put in order or looked through at a time may
	// take in all sessions together, in bytes, besides the cache.
	maxAllOrdered = 512 << 20
	// candidateSize is what a message takes while it is looked at, in bytes.
	candidateSize = 64
	// orderingSize is what a message takes besides its record while it is put in order, in
	// bytes: its places in lists and in threads.
	orderingSize = 200
)

// tooMuchNow is for what is beyond that.
var tooMuchNow = relay.Status{Text: "[UNAVAILABLE] Too much is being looked for at the moment; try again."}

// budget is what all sessions may take together.
type budget struct {
	limit int64
	used  atomic.Int64
}

// orderBudget is that of SORT, THREAD, and SEARCH where it is answered here.
var orderBudget = &budget{limit: maxAllOrdered}

// share is what one command has taken.
type share struct {
	*budget
	taken int64
}

// take takes more, if there is as much left.
func (s *share) take(n int64) bool {
	if s.used.Add(n) > s.limit {
		s.used.Add(-n)
		return false
	}
	s.taken += n
	return true
}

// giveBack gives all of it back.
func (s *share) giveBack() {
	s.used.Add(-s.taken)
	s.taken = 0
}
