package guard

import (
	"context"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// vouched asks about somebody whom a certificate vouches for. That is no guess: no
// budget keeps him out, nothing counts against him, and nothing is remembered that
// would let a password in. A source that is banned stays so, and a backend that
// wants to be left alone with a user is.
func (g *Guard) vouched(ctx context.Context, q *inquiry) login.Verdict {
	now := time.Now()
	if q.hasSource && !q.exempt && g.memory.banned(q.source, now) {
		return refusal(ErrBanned)
	}
	if g.memory.heldOff(&q.ticket, now) {
		return refusal(ErrHeldOff)
	}
	v := q.ask(ctx, true)
	if v.Result == login.Throttled && v.Backoff > 0 {
		g.memory.holdOff(&q.ticket, min(v.Backoff, maxBackoff), time.Now())
	}
	return v
}
