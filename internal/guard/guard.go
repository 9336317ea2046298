// Package guard makes password guessing hard, without helping anybody to lock the
// accounts of others.
//
// It stands between a login and the backend. It lets only few wrong passwords for
// one account through, fewer than the directory behind the backend would lock the
// account for; it answers the same wrong password from memory; and it bans
// sources that try many. A right password gets through all the same, if it was
// right before.
//
// What it counts by are keyed hashes. Nothing that is stored has a name, an
// address or a password in it; names and addresses are in memory alone, for the
// list of holds.
package guard

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Config says how strict a guard is. It is not changed once in use.
type Config struct {
	// Backend is the name of the one that is asked. Accounts and sources are the
	// same for all, but what one has refused or granted, another has not.
	Backend string
	// AccountFailures is how many wrong passwords for one account reach the
	// backend within Window. KnownReserve of them, and not all, are for sources
	// that have logged in to that account before.
	AccountFailures, KnownReserve int
	// Window is for how long a wrong password counts.
	Window time.Duration
	// SourceFailures is how many different wrong logins, each an account with a
	// password, a source may have within Window before it is banned, for
	// SourceBan. It is at least 1.
	SourceFailures int
	SourceBan      time.Duration
	// Exempt are sources that are never banned.
	Exempt []netip.Prefix
	// Domains says which spellings are one account.
	Domains Domains
	// PositiveCache is for how long a right password is right without asking,
	// for those who only want to know; 0 means not at all.
	PositiveCache time.Duration
	// Answers is what is known of the backend; nil is as if it never answered.
	Answers *Answers
}

// Answers says when a backend was last heard to say whether a password is right, by
// a clock that nobody sets.
type Answers struct{ last atomic.Int64 }

// began is when that clock did.
var began = time.Now()

// answering is for how long a backend that has said so is believed to be there. A
// login that gets no answer may take half as long to find out.
const answering = 20 * time.Second

func (a *Answers) note(now time.Time) {
	if a != nil {
		a.last.Store(int64(now.Sub(began)))
	}
}

// lately says whether the backend has answered, so that it is there.
func (a *Answers) lately(now time.Time) bool {
	if a == nil {
		return false
	}
	last := a.last.Load()
	return last != 0 && now.Sub(began)-time.Duration(last) < answering
}

// Events are told to the operator. The functions must not block.
type Events struct {
	// AccountHeld says that an account's budget is used up, except for what is
	// kept for known sources. It is told once each time that this comes to be.
	AccountHeld func(a *login.Attempt, failures int)
	// SourceBanned says that a source was banned.
	SourceBanned func(a *login.Attempt, until time.Time)
}

// Reasons for which a guard answers itself.
var (
	ErrHeld       = errors.New("too many wrong passwords for this account lately, so that no more reach the backend")
	ErrUnanswered = errors.New("too many passwords for this account lately of which the backend has not said whether they are right")
	ErrBanned     = errors.New("too many wrong logins from this address lately")
	ErrHeldOff    = errors.New("the backend wants to be left alone with this user")
	ErrRemembered = errors.New("the backend has refused this password before, and is not asked again so soon")
)

// Guard is all that is remembered. There is one for the process, whatever its
// configuration. It is safe for concurrent use.
type Guard struct {
	keys    keys
	memory  *memory
	flights flights
	events  Events
	shared  failover
	holds   holds
}

// New returns an empty guard. The secret makes the hashes that stores are given;
// instances that share a store share it.
func New(secret []byte, events Events) *Guard {
	return &Guard{
		keys:    newKeys(secret),
		memory:  newMemory(time.Now()),
		flights: flights{running: make(map[shortID]*flight)},
		events:  events,
		holds:   holds{accounts: make(map[ID]AccountHold), sources: make(map[shortID]SourceHold)},
	}
}

// Ask is how the backend is asked. It has to come to an end on its own. It is told
// whether the password was right before.
type Ask func(ctx context.Context, right bool) login.Verdict

// Open decides about an attempt of somebody who wants a session: from memory, by
// refusing to decide now, or by asking. Only what was asked is ever granted.
func (g *Guard) Open(ctx context.Context, cfg *Config, a *login.Attempt, ask Ask) login.Verdict {
	return g.decide(ctx, inquiry{cfg, g.keys.ticket(cfg, a, false), a, ask})
}

// Check decides about an attempt of somebody who only wants to know.
func (g *Guard) Check(ctx context.Context, cfg *Config, a *login.Attempt, ask Ask) login.Verdict {
	return g.decide(ctx, inquiry{cfg, g.keys.ticket(cfg, a, true), a, ask})
}

// Refuses returns the reason for which an attempt would be refused whatever it proves, if
// that is good for once; nil if there is none. Nothing is counted. It is for those who
// have said their name, so that the backend does not hear of them.
func (g *Guard) Refuses(cfg *Config, a *login.Attempt) error {
	t := g.keys.ticket(cfg, a, false)
	return g.memory.refuses(cfg, &t, time.Now())
}

// Banned says whether a source is banned now. A connection from it need not even
// be greeted.
func (g *Guard) Banned(cfg *Config, source netip.Addr) bool {
	if !source.IsValid() || exempt(cfg, source) {
		return false
	}
	return g.memory.banned(g.keys.source(source), time.Now())
}

// Knows says whether somebody has logged in with a user name, in whatever
// spelling, but for one with another's mailbox in it. It is a name then, and not
// a password that somebody typed into the wrong field.
func (g *Guard) Knows(cfg *Config, user string) bool {
	name := cfg.Domains.read(user)
	return !name.delegate && g.memory.knows(g.keys.account(name.account))
}

func exempt(cfg *Config, source netip.Addr) bool {
	source = plain(source)
	return slices.ContainsFunc(cfg.Exempt, func(p netip.Prefix) bool { return p.Contains(source) })
}
