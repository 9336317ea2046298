package caddyimap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

var (
	// errTokenRefused says that the backend does not take a token that is new.
	errTokenRefused = errors.New("the password was right, but the backend has refused the new token: see that the user has a mailbox " +
		"there that may be used with IMAP, that he may open the one that he has asked for if it is another, and that the scopes and permissions of oauth2 are for IMAP")
	// errOwnMailbox says that nobody has checked whether the user may have a mailbox.
	errOwnMailbox = errors.New("with client_credentials a user can log in at his own mailbox only, and not by a name with a slash or backslash in it")
)

// openFor logs a renamed attempt in with what the backend takes: the password, or a
// token that is got for it. It is otherwise like open.
func (b *Backend) openFor(ctx context.Context, a *login.Attempt, command imapauth.AuthCommand, on *link) (session *login.Session, v login.Verdict) {
	if b.OAuth2 == nil || a.Relay != nil {
		return b.open(ctx, a, command, on)
	}
	v = b.byToken(ctx, a, func(ctx context.Context, a *login.Attempt) (v login.Verdict) {
		session, v = b.open(ctx, a, command, nil)
		return v
	})
	return session, v
}

// checkFor is to check what openFor is to open.
func (b *Backend) checkFor(ctx context.Context, a *login.Attempt, command imapauth.AuthCommand, on *link) login.Verdict {
	if b.OAuth2 == nil || a.Relay != nil {
		return b.check(ctx, a, command, on)
	}
	return b.byToken(ctx, a, func(ctx context.Context, a *login.Attempt) login.Verdict {
		return b.check(ctx, a, command, nil)
	})
}

// byToken gets a token for a renamed attempt and shows it, all within auth_timeout.
//
// Whether the password is right has been said by whoever gave the token. What the
// backend says then is never about the password, and no guess is counted for it. A token
// that was kept from a login before may be bad by now: then the endpoint is asked, with
// the password that was presented, and the backend once more.
func (b *Backend) byToken(ctx context.Context, a *login.Attempt, show func(context.Context, *login.Attempt) login.Verdict) login.Verdict {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(b.AuthTimeout))
	defer cancel()
	if v := b.OAuth2.verified(ctx, a); v.Result != login.Granted {
		return v
	}
	for again := false; ; again = true {
		start := time.Now()
		token, v := b.OAuth2.source.Token(ctx, a.User, a.Secret)
		if !token.Kept {
			since(loginPhases.WithLabelValues(b.name, "token"), start)
		}
		if v.Result != login.Granted {
			return v
		}
		with, err := a.WithToken(b.OAuth2.Mechanism, token.Secret)
		if err != nil {
			v := login.DeniedWith("")
			v.Err = err
			return v
		}
		v = show(ctx, with)
		v.Final, v.Suspect, v.Unanswered = nil, false, false
		if v.Result != login.Denied {
			return v
		}
		b.OAuth2.source.Drop(token)
		if token.Kept && !again {
			continue
		}
		v.Proven, v.Err = true, errTokenRefused
		if v.Code == imap.ResponseCodeAuthenticationFailed {
			v.Code = imap.ResponseCodeAuthorizationFailed
		}
		return v
	}
}

// opensOthers says whether an attempt is for the mailbox of somebody else, or could be,
// where the token opens all of them. Nobody is asked about that.
func (o *OAuth2) opensOthers(a *login.Attempt) bool {
	return o != nil && o.Verify != "" && a.Relay == nil && (a.AuthzID != "" || strings.ContainsAny(a.User, `/\`))
}

// verified has the password checked by somebody else where the token does not say that
// it is right. The guard has let the attempt through already, and counts it once.
func (o *OAuth2) verified(ctx context.Context, a *login.Attempt) login.Verdict {
	if o.Verify == "" {
		return login.Verdict{Result: login.Granted}
	}
	asked := *a
	asked.User = o.verifier.username.Expand(a.User)
	if asked.Check() != nil {
		return login.UnavailableFor(fmt.Errorf("checking the password at the backend %s: %w", o.verifier.name, errRename))
	}
	v := o.verifier.checkFor(ctx, &asked, imapauth.Keep, nil)
	if v.Err != nil {
		v.Err = fmt.Errorf("checking the password at the backend %s: %w", o.verifier.name, v.Err)
	}
	return v
}
