package guard

import (
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// How much is kept of one account.
const (
	maxKnown   = 32
	maxGranted = 16
	maxRefused = 16

	// knownFor is for how long a source is known that does not log in again.
	knownFor = 90 * 24 * time.Hour
	// grantedAgain is how soon after a failure a password that was right before
	// is asked about again.
	grantedAgain = time.Minute
	// unansweredAgain is the same for one about which the backend said nothing.
	unansweredAgain = time.Minute
	// refusedFor is for how long it is remembered how often a password was
	// refused that nobody tries again.
	refusedFor = 24 * time.Hour
)

// refusedAgain is how long after each refusal the same password is asked about
// again; the last is for all that follow.
var refusedAgain = [...]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute}

// account is what is remembered of one account.
type account struct {
	// failures are the wrong passwords that reached the backend lately, the
	// oldest first; pending are the tickets of those that are being asked about.
	failures []failure
	pending  []uint64
	// forgiven is how many failures were forgotten because their source has
	// logged in, and forgave is when that was last.
	forgiven int
	forgave  instant
	// unanswered are passwords that reached the backend while it was there, and
	// about which it has not said whether they are right, the oldest first.
	unanswered []unanswered
	// pauses are of the backends that want to be left alone.
	pauses pauses
	// known are sources that have logged in, granted the passwords that were
	// right, refused those that were wrong; the latest come last.
	known   []known
	granted []granted
	refused []refused
	// settled is closed when an attempt under way is over; nil if nobody waits.
	settled chan struct{}
}

type failure struct {
	ticket uint64
	home   shortID
	at     instant
	// stale says that it was not just mistyped, since the password was tried, or
	// was right, before; or that enough was forgiven.
	stale bool
}

type known struct {
	home shortID
	at   instant
}

// expire drops failures from before a time.
func (a *account) expire(before instant) {
	a.failures = slices.DeleteFunc(a.failures, func(f failure) bool { return f.at <= before })
}

func (a *account) knows(t *ticket, now instant) bool {
	return t.hasSource && slices.ContainsFunc(a.known, func(k known) bool {
		return k.home == t.home && now.since(k.at) < knownFor
	})
}

// unreserve gives a reservation back.
func (a *account) unreserve(id uint64) {
	if i := slices.Index(a.pending, id); i >= 0 {
		a.pending = slices.Delete(a.pending, i, i+1)
	}
}

// wake has those look again who wait.
func (a *account) wake() {
	if a.settled != nil {
		close(a.settled)
		a.settled = nil
	}
}

// count adds a failure, and keeps at most so many. One with a ticket that has
// failed before takes its place.
func (a *account) count(f failure, most int) {
	a.failures = slices.DeleteFunc(a.failures, func(old failure) bool { return old.ticket == f.ticket })
	a.failures = last(a.failures, most, f)
}

// settlement is what the backend said.
type settlement struct {
	*ticket
	result login.Result
	code   imap.ResponseCode
	// suspect says that it counts as a wrong password, although it may be none.
	suspect bool
	// free says that there is no reservation, and claimed is as freely has said;
	// stale is as in failure; unanswered says that the backend has the password
	// and does not say whether it is right, although it answers others.
	free, claimed, stale, unanswered bool
	// proven says that the password was right although it was refused; expired, that
	// it is a token that was right before.
	proven, expired bool
	// backoff is for how long the backend wants to be left alone with the user.
	backoff time.Duration
}

// wrong says whether it was refused as such.
func (s *settlement) wrong() bool {
	return s.result == login.Denied && !s.proven || s.suspect && s.result == login.Throttled
}

// counts says whether it is a failure. Who has a token that was right is nobody who
// guesses, and every client presents one once it has expired.
func (s *settlement) counts() bool { return s.wrong() && !s.expired }

// decided says whether the backend has said what is to be thought of the password.
func (s *settlement) decided() bool {
	return s.result == login.Granted || s.result == login.Denied || s.wrong()
}

func (a *account) settle(cfg *Config, s *settlement, now instant) {
	if !s.free {
		a.unreserve(s.id)
	}
	g := a.grantOf(s.pair)
	if g != nil && s.claimed {
		g.asking = false
	}
	s.expired = g != nil && g.token && s.token
	if s.backoff > 0 {
		a.pauses.add(s.backend, now.add(s.backoff), now)
	}
	if s.counts() {
		a.count(failure{s.id, s.home, now, s.stale}, 2*cfg.AccountFailures)
	}
	if s.wrong() {
		a.doubt(s.ticket, s.result == login.Denied, now)
	}
	a.wonder(cfg, s, now)
	switch s.result {
	case login.Granted:
		a.grant(cfg, s.ticket, now)
	case login.Denied:
		if !s.oneTime {
			a.refuse(s.ticket, s.code, now)
		}
	}
	a.wake()
}

// prune forgets what means nothing any more, and says whether that is all.
func (a *account) prune(now instant, window time.Duration) (empty bool) {
	a.expire(now.add(-window))
	a.known = slices.DeleteFunc(a.known, func(k known) bool { return now.since(k.at) >= knownFor })
	a.refused = slices.DeleteFunc(a.refused, func(r refused) bool { return now.since(r.next) >= refusedFor })
	a.unanswered = slices.DeleteFunc(a.unanswered, func(u unanswered) bool { return now.since(u.at) >= window })
	return a.empty(now)
}

// empty says whether there is nothing to be remembered.
func (a *account) empty(now instant) bool {
	return len(a.failures)+len(a.pending)+len(a.unanswered)+len(a.known)+len(a.granted)+len(a.refused) == 0 &&
		!a.pauses.any(now) && a.settled == nil
}

// last appends an element to at most so many.
func last[T any](s []T, most int, e T) []T {
	if extra := len(s) + 1 - most; extra > 0 {
		s = slices.Delete(s, 0, extra)
	}
	return append(s, e)
}
