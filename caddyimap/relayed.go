package caddyimap

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-imap/v2"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/pool"
)

// link is a connection to an upstream on which an exchange goes on, or that there will
// be for it.
type link struct {
	// client is nil as long as there is none.
	client *imapauth.Client
	lease  *pool.Lease
	// used says that somebody else has taken over both.
	used bool
}

// drop gives up an exchange that nobody has gone on with.
func (l *link) drop(ctx context.Context) {
	if l.client == nil || l.used {
		return
	}
	defer l.lease.Release()
	l.client.Abort(ctx)
}

// linked returns the connection that there is, or another one as connect does.
func (b *Backend) linked(ctx context.Context, a *login.Attempt, on *link) (*imapauth.Client, *pool.Lease, login.Verdict) {
	if on == nil || on.client == nil {
		return b.connect(ctx, a)
	}
	on.used = true
	return on.client, on.lease, login.Verdict{}
}

// maxRounds is how many challenges an exchange may have. Of those that we know, none
// needs more than a few.
const maxRounds = 16

var errRounds = errors.New("the backend goes on asking the client, and does not come to an end")

// errRelayedName says that a backend wants other names than the client tells it itself.
var errRelayedName = errors.New("the option username makes other names of those that users type, which cannot be done " +
	"to a name in an exchange between client and backend; take it away, or the relayed mechanisms")

// relay has a client log in at the backend itself. Up to the proof, what both say goes
// to and fro, and the guard knows nothing of it: it may take as long as the client
// likes. Then the guard is asked, and the proof goes out or not.
func (b *Backend) relay(ctx context.Context, app *App, typed *login.Attempt, from entrance, ask ask) login.Verdict {
	// The guard would say so in the end, and by then the backend would have been
	// bothered.
	if app.Guard.banned(typed.Remote) {
		v := login.ThrottledFor(imap.ResponseCodeUnavailable, 0, guard.ErrBanned)
		b.tell(ctx, app, typed, from, v)
		return v
	}
	if !b.username.IsIdentity() {
		v := login.UnavailableFor(errRelayedName)
		b.tell(ctx, app, typed, from, v)
		return v
	}
	on := new(link)
	defer on.drop(ctx)
	early, err := b.approach(ctx, app, typed, on)
	if err != nil {
		if on.client != nil {
			b.countBroken(ctx, app, typed, err)
		}
		if errors.Is(err, errCrowded) || errors.Is(err, errDawdled) {
			return b.crowdedOut(ctx, app, typed, from, err)
		}
		app.logger.Debug("the client has broken off a login", zap.String("backend", b.name),
			zap.String("mechanism", typed.Mechanism), zap.String("session", typed.ID), zap.Error(err))
		return login.UnavailableFor(fmt.Errorf("waiting for the client: %w", err))
	}
	asked := early == nil
	if early != nil {
		if early.Result == login.Unavailable || early.Result == login.Throttled && typed.User == "" || errors.Is(early.Err, errDelegateRelay) {
			b.tell(ctx, app, typed, from, *early)
			return *early
		}
		// The backend refuses this user before it has seen a proof. That counts like a
		// wrong one, or who there is could be found out for nothing.
		typed.Unproven()
		ask = func(context.Context, *login.Attempt, *Backend, *link, bool) login.Verdict {
			asked = true
			return *early
		}
	}
	a := *typed
	a.Remote = plain(a.Remote)
	renamed, v := b.rename(&a)
	if renamed != nil {
		v = b.guarded(ctx, app, renamed, from == entranceAuth, func(ctx context.Context, right bool) login.Verdict {
			return ask(ctx, renamed, b, on, right)
		})
		if !asked && early.Result == login.Denied {
			// One of many side by side: the backend has refused more than the guard
			// would have let through.
			b.countSource(ctx, app, typed)
		}
	}
	b.tell(ctx, app, &a, from, v)
	return v
}

// approach carries an exchange on up to the proof, which is in the attempt then. If that
// is what the client says first, nobody is connected for it. If the backend comes to a
// verdict by itself, or there is no sense in asking it, that is early. The error is the
// client's.
func (b *Backend) approach(ctx context.Context, app *App, a *login.Attempt, on *link) (early *login.Verdict, err error) {
	message, proof, err := a.Relay.Start(ctx)
	for range maxRounds {
		if err != nil || proof {
			return nil, err
		}
		if b.needsDelegate(a) {
			v := delegateRelay()
			return &v, nil
		}
		if on.client == nil {
			if err := b.refuses(app, a); err != nil {
				v := login.ThrottledFor(imap.ResponseCodeUnavailable, 0, err)
				return &v, nil
			}
			if err := exchanges.hasRoom(b.name, app.exchangeSource(a)); err != nil {
				return nil, err
			}
		}
		challenge, v := b.advance(ctx, a, on, message)
		if challenge == nil {
			return &v, nil
		}
		message, proof, err = b.answer(ctx, app, a, challenge)
	}
	v := login.UnavailableFor(errRounds)
	return &v, nil
}

// refuses returns the guard's reason to let no proof of a client through that has said its
// name, so that the backend need not hear of it.
func (b *Backend) refuses(app *App, typed *login.Attempt) error {
	if app.Guard.Off || typed.User == "" {
		return nil
	}
	a := *typed
	a.Remote = plain(a.Remote)
	return app.Guard.current().Refuses(&b.guard, &a)
}

// countBroken has the guard count that a client has not gone on who has seen a challenge of
// the backend: who collects challenges, or finds out by them who there is, is banned like
// one who guesses.
func (b *Backend) countBroken(ctx context.Context, app *App, typed *login.Attempt, why error) {
	if app.Guard.Off || !errors.Is(why, login.ErrCancelled) && !errors.Is(why, login.ErrMessage) && !errors.Is(why, errDawdled) {
		return
	}
	b.countSource(ctx, app, typed)
}

// countSource counts a wrong login against the client's source alone; nobody's account is
// held for it. The client may be gone by now.
func (b *Backend) countSource(ctx context.Context, app *App, typed *login.Attempt) {
	a := *typed
	a.Remote, a.AuthzID = plain(a.Remote), ""
	a.User = "" // nobody, so that it counts against the source alone
	a.Unproven()
	// It says nothing about whether the backend answers to proofs.
	cfg := b.guard
	cfg.Answers = nil
	app.Guard.current().Check(context.WithoutCancel(ctx), &cfg, &a, func(context.Context, bool) login.Verdict { return login.DeniedWith("") })
}

// advance takes one step of an exchange, before the first of which the upstream is
// connected to. All of that has to be done in time.
func (b *Backend) advance(ctx context.Context, a *login.Attempt, on *link, message []byte) (challenge []byte, v login.Verdict) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(b.AuthTimeout))
	defer cancel()
	if on.client == nil {
		if on.client, on.lease, v = b.connect(ctx, a); on.client == nil {
			return nil, v
		}
	}
	challenge, v = on.client.Advance(ctx, a, message)
	if challenge == nil {
		learn(on.lease, v)
	}
	return challenge, v
}
