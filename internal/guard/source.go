package guard

import "slices"

// source is what is remembered of one source.
type source struct {
	// pairs are different wrong logins, the oldest first.
	pairs []pair
	// banned is until when it is.
	banned instant
	// crowd is nil if nothing is under way.
	crowd *crowd
}

type pair struct {
	mac shortID
	at  instant
}

// blame counts a wrong login, and says whether that bans the source. The same
// again counts once.
func (s *source) blame(cfg *Config, t *ticket, now instant) (banned bool) {
	s.expire(now.add(-cfg.Window))
	s.pairs = slices.DeleteFunc(s.pairs, func(p pair) bool { return p.mac == t.guess })
	s.pairs = last(s.pairs, cfg.SourceFailures, pair{t.guess, now})
	if len(s.pairs) < cfg.SourceFailures || t.exempt || now < s.banned {
		return false
	}
	s.banned = now.add(cfg.SourceBan)
	s.pairs = nil
	s.crowd.dismiss()
	return true
}

// pardon takes back what the source got wrong of an account to which it has logged in.
func (s *source) pardon(t *ticket) {
	s.pairs = slices.DeleteFunc(s.pairs, func(p pair) bool { return [half]byte(p.mac[:half]) == [half]byte(t.guess[:half]) })
}

// expire drops wrong logins from before a time.
func (s *source) expire(before instant) {
	s.pairs = slices.DeleteFunc(s.pairs, func(p pair) bool { return p.at <= before })
}

// empty says whether there is nothing to be remembered.
func (s *source) empty(now instant) bool {
	return len(s.pairs) == 0 && now >= s.banned && s.crowd == nil
}
