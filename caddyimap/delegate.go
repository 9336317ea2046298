package caddyimap

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Reasons why nobody's mailbox but the user's own can be asked for.
var (
	errDelegateAccount = errors.New("the option delegate makes a name of this one that counts as another account than the user's own; " +
		"tell the guard with its option domain which domains are the same")
	errDelegateRelay = errors.New("the option delegate cannot change what a client itself tells the backend; " +
		"use PLAIN for the mailboxes of others")
)

func (b *Backend) provisionDelegate() (err error) {
	if b.Delegate == "" {
		return nil
	}
	if b.delegate, err = glue.DelegateTemplate(caddy.NewReplacer(), b.Delegate); err != nil {
		return fmt.Errorf("delegate: %w", err)
	}
	return nil
}

// nameDelegate puts the name with which the mailbox of somebody else is asked for
// into the renamed attempt, as its authorization identity; User stays who has the
// password, whom the guard and the limits count. A name that the guard would count as
// somebody else's is not asked about: passwords of that one could be guessed with it.
func (b *Backend) nameDelegate(renamed, typed *login.Attempt) (*login.Attempt, login.Verdict) {
	switch {
	case b.delegate == nil || typed.AuthzID == "":
		return renamed, login.Verdict{}
	case strings.EqualFold(typed.AuthzID, typed.User):
		renamed.AuthzID = ""
		return renamed, login.Verdict{}
	case typed.NoDelegates:
		return nil, login.DeniedWith(imap.ResponseCodeAuthorizationFailed)
	case typed.Relay != nil:
		return nil, delegateRelay()
	}
	name, err := b.delegate.Expand(typed.User, typed.AuthzID)
	if err != nil {
		v := login.DeniedWith(imap.ResponseCodeAuthorizationFailed)
		v.Err = err
		return nil, v
	}
	if b.guard.Domains.Account(name) != b.guard.Domains.Account(renamed.User) {
		return nil, login.UnavailableFor(errDelegateAccount)
	}
	renamed.AuthzID = name
	if renamed.Check() != nil {
		return nil, login.UnavailableFor(errRename)
	}
	return renamed, login.Verdict{}
}

// needsDelegate says whether somebody asks for a mailbox by a name that is to be made.
func (b *Backend) needsDelegate(typed *login.Attempt) bool {
	return b.delegate != nil && typed.AuthzID != "" && !strings.EqualFold(typed.AuthzID, typed.User)
}

// delegateRelay is the verdict for somebody who does so in a relayed exchange.
func delegateRelay() login.Verdict {
	v := login.DeniedWith(imap.ResponseCodeAuthorizationFailed)
	v.Err = errDelegateRelay
	return v
}

// asDelegate returns a renamed attempt as the backend is asked.
func (b *Backend) asDelegate(renamed *login.Attempt) *login.Attempt {
	if b.delegate == nil || renamed.AuthzID == "" {
		return renamed
	}
	asked := *renamed
	asked.User, asked.AuthzID = renamed.AuthzID, ""
	return &asked
}
