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
	// heldOff is until when the backend wants to be left alone.
	heldOff instant
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

type unanswered struct {
	pair shortID
	at   instant
}

type known struct {
	home shortID
	at   instant
}

type granted struct {
	pair shortID
	// tries and exact are how it was spelled, the latest first, and at is when;
	// never if it has failed since.
	tries [4]shortID
	exact shortID
	at    instant
	// again is when it may be asked about whatever the budget is, and failed when
	// it was not right lately; asking says that it is being asked about so.
	again, failed instant
	// asking says that it is being asked about so; wrong, that the backend has
	// plainly refused it.
	asking, wrong bool
}

type refused struct {
	try  shortID
	code imap.ResponseCode
	// times is how often it was refused; next is when it may be asked about again.
	times int
	next  instant
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

// refusalOf returns what is remembered of a refusal; nil if there was none.
func (a *account) refusalOf(try shortID) *refused {
	for i := range a.refused {
		if a.refused[i].try == try {
			return &a.refused[i]
		}
	}
	return nil
}

// grantOf returns what is remembered of a password that was right; nil if it was
// not.
func (a *account) grantOf(pair shortID) *granted {
	for i := range a.granted {
		if a.granted[i].pair == pair {
			return &a.granted[i]
		}
	}
	return nil
}

// isLatest says whether a password is the last that was right.
func (a *account) isLatest(pair shortID) bool {
	n := len(a.granted)
	return n > 0 && a.granted[n-1].pair == pair
}

// freely says whether an attempt may be asked about whatever the budget is, since
// the password was right before: always, if it is spelled as it was then and has not
// failed since. A minute after it has failed, and in another spelling that has not
// failed lately, it may be asked about once at a time, which is claimed: who knows an
// old password, or that of a namesake, could else have it asked as often as there are
// spellings. If another one has claimed it, it is worth to wait.
func (a *account) freely(cfg *Config, t *ticket, now instant) (free, claimed, wait bool) {
	g := a.grantOf(t.pair)
	switch {
	case g == nil:
		return false, false, false
	case g.again == 0 && slices.Contains(g.tries[:], t.try):
		return true, false, false
	case g.again == 0 && now.since(g.failed) < cfg.Window,
		g.again != 0 && (now < g.again || g.wrong && !a.isLatest(t.pair)):
		return false, false, false
	case g.asking:
		return false, false, true
	}
	g.asking = true
	return true, true, false
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

// grant remembers a right password and its source, and forgives what that source
// got wrong before.
func (a *account) grant(cfg *Config, t *ticket, now instant) {
	g := granted{pair: t.pair, exact: t.exact, at: now, failed: never}
	if old := a.grantOf(t.pair); old != nil {
		g.failed, g.tries = old.failed, old.tries
	}
	if !slices.Contains(g.tries[:], t.try) {
		copy(g.tries[1:], g.tries[:])
		g.tries[0] = t.try
	}
	a.granted = slices.DeleteFunc(a.granted, func(old granted) bool { return old.pair == t.pair })
	a.granted = last(a.granted, maxGranted, g)
	a.refused = slices.DeleteFunc(a.refused, func(r refused) bool { return r.try == t.try })
	a.failures = slices.DeleteFunc(a.failures, func(f failure) bool { return f.ticket == t.id })
	if t.hasSource {
		a.forgive(cfg, t, now)
		a.known = slices.DeleteFunc(a.known, func(k known) bool { return k.home == t.home })
		a.known = last(a.known, maxKnown, known{t.home, now})
	}
}

// forgive forgets what a source got wrong before it has logged in: somebody has
// mistyped. What others got wrong still counts, or each login of the owner would be
// a new budget for those who guess. They may be behind the same source, so not more
// than the budget is forgiven until a window has passed without. An exempt source
// may be many people, such as a company or its webmail: nothing is forgiven there.
func (a *account) forgive(cfg *Config, t *ticket, now instant) {
	if now.since(a.forgave) >= cfg.Window {
		a.forgiven = 0
	}
	a.failures = slices.DeleteFunc(a.failures, func(f failure) bool {
		if f.home != t.home || f.stale || t.exempt || a.forgiven >= cfg.AccountFailures {
			return false
		}
		a.forgiven++
		a.forgave = now
		return true
	})
	for i := range a.failures {
		if f := &a.failures[i]; f.home == t.home {
			f.stale = true
		}
	}
}

// doubt remembers that a password has failed that may have been right before. In
// another spelling it is not what was right.
func (a *account) doubt(t *ticket, wrong bool, now instant) {
	g := a.grantOf(t.pair)
	if g == nil {
		return
	}
	g.failed = now
	if g.again != 0 || slices.Contains(g.tries[:], t.try) {
		g.at, g.again, g.wrong = never, now.add(grantedAgain), g.wrong || wrong
	}
}

// wonder remembers whether the backend owes an answer about a password. If it was
// right before, the owner has it.
func (a *account) wonder(cfg *Config, s *settlement, now instant) {
	switch {
	case s.decided():
		a.unanswered = slices.DeleteFunc(a.unanswered, func(u unanswered) bool { return u.pair == s.pair })
	case s.unanswered && !s.free:
		a.unanswered = slices.DeleteFunc(a.unanswered, func(u unanswered) bool { return u.pair == s.pair })
		a.unanswered = last(a.unanswered, 2*cfg.AccountFailures, unanswered{s.pair, now})
	}
}

// wonders returns for how long not to ask about a password, since the backend owes an
// answer about it, or about as many others as the limit; 0 if there is no such
// reason. The same one may be asked about again after a minute.
func (a *account) wonders(cfg *Config, t *ticket, limit int, now instant) time.Duration {
	a.unanswered = slices.DeleteFunc(a.unanswered, func(u unanswered) bool { return now.since(u.at) >= cfg.Window })
	for _, u := range a.unanswered {
		if u.pair == t.pair {
			return max(0, unansweredAgain-now.since(u.at))
		}
	}
	if excess := len(a.unanswered) - limit; excess >= 0 {
		return cfg.Window - now.since(a.unanswered[excess].at)
	}
	return 0
}

// refuse remembers a wrong password. If it was right before, and is the last that
// was, the account may be locked or the password expired, and it is asked about
// again soon; if another was right since, it has been changed.
func (a *account) refuse(t *ticket, code imap.ResponseCode, now instant) {
	r := refused{try: t.try, code: code, times: 1}
	if old := a.refusalOf(t.try); old != nil {
		r.times += old.times
	}
	if a.isLatest(t.pair) {
		r.next = now.add(grantedAgain)
	} else {
		r.next = now.add(refusedAgain[min(r.times, len(refusedAgain))-1])
	}
	a.refused = slices.DeleteFunc(a.refused, func(old refused) bool { return old.try == t.try })
	a.refused = last(a.refused, maxRefused, r)
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
	// backoff is for how long the backend wants to be left alone with the user.
	backoff time.Duration
}

// counts says whether it is a failure.
func (s *settlement) counts() bool {
	return s.result == login.Denied || s.suspect && s.result == login.Throttled
}

// decided says whether the backend has said what is to be thought of the password.
func (s *settlement) decided() bool { return s.result == login.Granted || s.counts() }

func (a *account) settle(cfg *Config, s *settlement, now instant) {
	if !s.free {
		a.unreserve(s.id)
	}
	if g := a.grantOf(s.pair); g != nil && s.claimed {
		g.asking = false
	}
	if s.backoff > 0 {
		a.heldOff = max(a.heldOff, now.add(s.backoff))
	}
	if s.counts() {
		a.count(failure{s.id, s.home, now, s.stale}, 2*cfg.AccountFailures)
		a.doubt(s.ticket, s.result == login.Denied, now)
	}
	a.wonder(cfg, s, now)
	switch s.result {
	case login.Granted:
		a.grant(cfg, s.ticket, now)
	case login.Denied:
		a.refuse(s.ticket, s.code, now)
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
		now >= a.heldOff && a.settled == nil
}

// last appends an element to at most so many.
func last[T any](s []T, most int, e T) []T {
	if extra := len(s) + 1 - most; extra > 0 {
		s = slices.Delete(s, 0, extra)
	}
	return append(s, e)
}
