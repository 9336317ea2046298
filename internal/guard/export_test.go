package guard

import (
	"encoding/binary"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Reference decides as one instance does on its own, in the words of a Store, for
// the tests of stores.
type Reference struct{ m *memory }

// NewReference returns an empty one.
func NewReference(now time.Time) Reference { return Reference{newMemory(now)} }

// Admit says whether the backend may be asked.
func (r Reference) Admit(a Admission) Admitted {
	t := referenceTicket(a.Ticket, a.Account, a.Source, a.Home)
	var got Admitted
	if t.hasSource && r.m.banned(t.source, a.Now) {
		s := r.m.lockSource(t.source)
		got.Banned = r.m.time(s.peek(t.source).banned)
		s.mu.Unlock()
	}
	if a.Again {
		s := r.m.lockAccount(t.account)
		s.get(t.account).refused = []refused{{try: t.try, next: never}}
		s.mu.Unlock()
	}
	t.exempt, t.backend = a.Exempt, a.Backend
	cfg := &Config{AccountFailures: a.AccountFailures, KnownReserve: a.KnownReserve, Window: a.Window, SourceFailures: a.SourceFailures}
	d := r.m.admit(cfg, t, a.Now)
	if got.Crowded = d.what == waitForSource; got.Crowded {
		r.m.leave(cfg, t.id, t)
	}
	got.Allowed = d.what == askWithin && d.why == nil || d.what == heldOff
	if d.what == heldOff {
		s := r.m.lockAccount(t.account)
		got.HeldOff = r.m.time(s.peek(t.account).pauses.until(t.backend))
		s.mu.Unlock()
	}
	return got
}

// Settle says what has come of it.
func (r Reference) Settle(told Settlement, budget int) {
	t := referenceTicket(told.Ticket, told.Account, told.Source, told.Home)
	t.guess, t.exempt, t.backend = told.Pair, told.Exempt, told.Backend
	s := &settlement{ticket: t, stale: told.Stale, result: login.Unavailable, backoff: max(0, told.HeldOff.Sub(told.Now))}
	switch {
	case told.Granted:
		s.result = login.Granted
	case told.Failed:
		s.result, s.suspect = login.Throttled, true
	}
	cfg := &Config{
		AccountFailures: budget, Window: told.Window,
		SourceFailures: told.SourceFailures, SourceBan: told.SourceBan,
	}
	r.m.settle(cfg, s, told.Now)
	// What is known of passwords is no matter of stores.
	sh := r.m.lockAccount(t.account)
	if a := sh.peek(t.account); a != nil {
		a.granted = nil
	}
	sh.mu.Unlock()
}

// LiftAccount and LiftSource forget.
func (r Reference) LiftAccount(id ID)     { r.m.liftAccount(id) }
func (r Reference) LiftSource(id [8]byte) { r.m.liftSource(id) }

func referenceTicket(id uint64, account ID, source, home shortID) *ticket {
	t := &ticket{id: id, account: account, source: source, home: home, hasSource: source != shortID{}}
	binary.LittleEndian.PutUint64(t.try[:], id)
	return t
}

func (m *memory) time(i instant) time.Time { return m.began.Add(time.Duration(i) * time.Millisecond) }
