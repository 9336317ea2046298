package guard

import "slices"

// granted is a password that was right.
type granted struct {
	pair shortID
	// token says that it is a token, of which a client has a new one every hour.
	token bool
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

// isLatest says whether a password is the last that was right, or a token.
func (a *account) isLatest(t *ticket) bool {
	for _, g := range slices.Backward(a.granted) {
		if g.token == t.token {
			return g.pair == t.pair
		}
	}
	return false
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
		g.again != 0 && (now < g.again || g.wrong && !a.isLatest(t)):
		return false, false, false
	case g.asking:
		return false, false, true
	}
	g.asking = true
	return true, true, false
}

// grant remembers a right password and its source, and forgives what that source
// got wrong before.
func (a *account) grant(cfg *Config, t *ticket, now instant) {
	if !t.oneTime {
		a.keep(t, now)
	}
	a.failures = slices.DeleteFunc(a.failures, func(f failure) bool { return f.ticket == t.id })
	if t.hasSource {
		a.forgive(cfg, t, now)
		a.known = slices.DeleteFunc(a.known, func(k known) bool { return k.home == t.home })
		a.known = last(a.known, maxKnown, known{t.home, now})
	}
}

// keep remembers a right password, or a token. What is right only once is not kept: it
// would take the place of passwords. Neither do tokens.
func (a *account) keep(t *ticket, now instant) {
	g := granted{pair: t.pair, token: t.token, exact: t.exact, at: now, failed: never}
	if old := a.grantOf(t.pair); old != nil {
		g.failed, g.tries = old.failed, old.tries
	}
	if !slices.Contains(g.tries[:], t.try) {
		copy(g.tries[1:], g.tries[:])
		g.tries[0] = t.try
	}
	a.granted = slices.DeleteFunc(a.granted, func(old granted) bool { return old.pair == t.pair })
	alike := 0
	for i, old := range slices.Backward(a.granted) {
		if old.token == t.token {
			alike++
		}
		if alike == maxGranted {
			a.granted = slices.Delete(a.granted, i, i+1)
			break
		}
	}
	a.granted = append(a.granted, g)
	a.refused = slices.DeleteFunc(a.refused, func(r refused) bool { return r.try == t.try })
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
