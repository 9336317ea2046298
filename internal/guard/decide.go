package guard

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// inquiry is one attempt on its way through the guard.
type inquiry struct {
	cfg *Config
	ticket
	attempt *login.Attempt
	ask     Ask
}

func (g *Guard) decide(ctx context.Context, q inquiry) login.Verdict {
	if q.attempt.Certificate != nil {
		return g.vouched(ctx, &q)
	}
	now := time.Now()
	if q.hasSource && !q.exempt && g.memory.banned(q.source, now) {
		return refusal(ErrBanned)
	}
	until := now.Add(patience)
	for {
		f, leads := g.flights.join(q.try)
		if leads {
			return g.lead(ctx, f, &q, until)
		}
		if err := wait(ctx, f.landed, until); err != nil {
			return login.UnavailableFor(err)
		}
		switch {
		case f.verdict.Result == login.Denied:
			return remembered(f.verdict.Code)
		case !f.broken:
			// Whatever the other was told, this one has to hear for itself.
			return g.admit(ctx, &q, until)
		}
	}
}

// lead decides for all who try the same at this time, even if it ends in a panic.
func (g *Guard) lead(ctx context.Context, f *flight, q *inquiry, until time.Time) login.Verdict {
	defer g.flights.land(f, q.try)
	f.verdict = g.admit(ctx, q, until)
	f.broken = ctx.Err() != nil && f.verdict.Result == login.Unavailable
	return f.verdict
}

// refusal returns the verdict of a guard that does not ask now.
func refusal(why error) login.Verdict {
	return login.ThrottledFor(imap.ResponseCodeUnavailable, 0, why)
}

// remembered returns the verdict of a refusal that is known already.
func remembered(code imap.ResponseCode) login.Verdict {
	v := login.DeniedWith(code)
	v.Err = ErrRemembered
	return v
}

// admit asks the backend if that may be, and remembers what it said.
func (g *Guard) admit(ctx context.Context, q *inquiry, until time.Time) login.Verdict {
	defer g.memory.leave(q.cfg, q.id, &q.ticket)
	for {
		now := time.Now()
		d := g.memory.admit(q.cfg, &q.ticket, now)
		switch d.what {
		case answerMemory:
			return remembered(d.code)
		case grantMemory:
			return login.Verdict{Result: login.Granted}
		case heldOff:
			return refusal(ErrHeldOff)
		case refuseNow:
			g.noteRefusal(q, d, now)
			return refusal(d.why)
		case waitForOthers:
			if err := wait(ctx, d.settled, until); err != nil {
				return login.UnavailableFor(err)
			}
			continue
		case waitForSource:
			if v := g.awaitSource(ctx, q, d.settled, until); v != nil {
				return *v
			}
			continue
		case askFreely:
			g.memory.leave(q.cfg, q.id, &q.ticket)
			// Its failures count as one, whatever their number: else a device with
			// an old password would use up the budget of the new one.
			q.id = binary.LittleEndian.Uint64(q.pair[:])
			return g.ask(ctx, q, d)
		}
		// The shared count decides while there is one. What is counted here goes
		// on for the time when there is none, and for who tries the same again.
		if d.why == nil || !d.again {
			if why, counted := g.shared.admit(ctx, g.memory, q, d); counted {
				d.why = why
			}
		}
		if errors.Is(d.why, ErrCrowded) {
			g.memory.forget(&q.ticket)
			if v := g.awaitSource(ctx, q, nil, until); v != nil {
				return *v
			}
			continue
		}
		if d.why == nil {
			return g.ask(ctx, q, d)
		}
		g.memory.forget(&q.ticket)
		g.noteRefusal(q, d, now)
		return refusal(d.why)
	}
}

// awaitSource waits for others of the same source; for a moment, if nobody tells when
// they have made room. Its verdict is nil if it is worth to look again.
func (g *Guard) awaitSource(ctx context.Context, q *inquiry, come <-chan struct{}, until time.Time) *login.Verdict {
	end := until
	if pause := time.Now().Add(crowdedPause); come == nil && pause.Before(until) {
		end = pause
	}
	err := wait(ctx, come, end)
	if errors.Is(err, errPatience) && end.Before(until) {
		err = nil
	}
	var v login.Verdict
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		v = login.UnavailableFor(context.Cause(ctx))
	case err != nil:
		v = refusal(ErrCrowded)
	case g.memory.banned(q.source, time.Now()):
		v = refusal(ErrBanned)
	default:
		return nil
	}
	return &v
}

// errPanic is what a login that ended in a panic counts as: nothing.
var errPanic = errors.New("the login broke off")

// ask asks the backend, and gives the budget's reservation back even if that ends
// in a panic.
func (g *Guard) ask(ctx context.Context, q *inquiry, d decision) login.Verdict {
	v := login.UnavailableFor(errPanic)
	defer func() { g.settle(ctx, q, d, &v) }()
	v = q.ask(ctx, d.what == askFreely)
	return v
}

// settle remembers what the backend said.
func (g *Guard) settle(ctx context.Context, q *inquiry, d decision, v *login.Verdict) {
	now := time.Now()
	if v.Result == login.Granted || v.Result == login.Denied {
		q.cfg.Answers.note(now)
	}
	free := d.what == askFreely
	s := settlement{ticket: &q.ticket, result: v.Result, code: v.Code, suspect: v.Suspect, free: free, claimed: d.claimed,
		proven: v.Proven, stale: free || d.again, unanswered: v.Unanswered && q.cfg.Answers.lately(now)}
	if v.Result == login.Throttled && !q.nameless {
		s.backoff = min(max(v.Backoff, 0), maxBackoff)
	}
	o := g.memory.settle(q.cfg, &s, now)
	g.shared.settle(ctx, q.cfg, &s, now)
	g.note(q, &o, now)
}

// maxBackoff bounds what a backend can ask for.
const maxBackoff = 15 * time.Minute
