package guard

import (
	"slices"
	"time"
)

// unanswered is a password of which the backend has not said whether it is right.
type unanswered struct {
	pair shortID
	at   instant
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
