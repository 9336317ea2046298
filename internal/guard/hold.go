package guard

import (
	"context"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// answerMargin is left of the time that a caller gives, so that a held refusal
// still reaches its client as what it is.
const answerMargin = 250 * time.Millisecond

// Hold waits with everything but a grant until the delay has passed since the
// attempt began, or ctx is nearly over. A backend that is away is no reason to be
// quick: whoever tries again at once would keep it busy, and the log.
func Hold(ctx context.Context, a *login.Attempt, v login.Verdict, delay time.Duration) {
	if v.Result == login.Granted {
		return
	}
	until := a.Start.Add(delay)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-answerMargin).Before(until) {
		until = deadline.Add(-answerMargin)
	}
	wait := time.Until(until)
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
