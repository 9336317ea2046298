package caddyimap

import (
	"context"
	"errors"
	"sync"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// errTooManySessions says that max_sessions_per_user is reached.
var errTooManySessions = errors.New("the user has as many sessions as max_sessions_per_user allows")

// sessionCounts are the sessions of all users, whatever configuration they began
// with.
var sessionCounts = userSessions{counts: make(map[userKey]int)}

// userSessions counts the sessions of each user at each backend.
type userSessions struct {
	mu     sync.Mutex
	counts map[userKey]int
}

// userKey is a user, in the spelling that all spellings have in common.
type userKey struct{ backend, account string }

// begin counts a session, unless there are as many as there may be; a limit of 0
// is none. What it returns is to be called when the session is over.
func (u *userSessions) begin(key userKey, limit int) (end func(), ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if limit > 0 && u.counts[key] >= limit {
		return nil, false
	}
	u.counts[key]++
	return sync.OnceFunc(func() { u.end(key) }), true
}

func (u *userSessions) end(key userKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.counts[key]--; u.counts[key] == 0 {
		delete(u.counts, key)
	}
}

// beginSession counts a session of the attempt's user. Without a limit it is
// counted all the same, since the next configuration may have one. Of somebody whose name
// only the backend knows, nobody can tell how many he has.
func (b *Backend) beginSession(a *login.Attempt) (end func(), ok bool) {
	if a.Nameless {
		return func() {}, true
	}
	return sessionCounts.begin(userKey{b.name, b.guard.Domains.Account(a.User)}, b.MaxSessionsPerUser)
}

// openCounted logs a renamed attempt in, unless the user has too many sessions. Whose
// password was right before, the backend is not asked about one too many; some would
// say that the password is wrong. Anybody else is told of the limit only after he was
// let in, and takes no place before: else those who guess would learn who is logged
// in, and keep him out.
func (b *Backend) openCounted(ctx context.Context, a *login.Attempt, on *link, right bool) (session *login.Session, v login.Verdict) {
	var end func()
	defer func() {
		if session == nil && end != nil { // even after a panic
			end()
		}
	}()
	tooMany := login.ThrottledFor(imap.ResponseCodeLimit, 0, errTooManySessions)
	ok := false
	if right {
		if end, ok = b.beginSession(a); !ok {
			return nil, tooMany
		}
	}
	if session, v = b.openFor(ctx, a, imapauth.Keep, on); session == nil {
		return nil, v
	}
	if !right {
		if end, ok = b.beginSession(a); !ok {
			session.Close()
			return nil, tooMany
		}
	}
	session.Backend = b.name
	if b.extensions != nil {
		session.Owner = b.owner(a)
	}
	release := session.End
	session.End = func() {
		release()
		end()
	}
	return session, v
}
