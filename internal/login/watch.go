package login

import (
	"fmt"
	"strings"
)

// watcher returns who reads the client's messages of a mechanism, and fills in the
// attempt; nil for a mechanism that is not relayed.
func watcher(mechanism string, a *Attempt) Watcher {
	switch mechanism {
	case XOAuth2:
		return &xoauth2Watcher{attempt: a}
	case OAuthBearer:
		return &bearerWatcher{attempt: a}
	case ScramSHA1, ScramSHA256:
		return &scramWatcher{attempt: a}
	case CramMD5:
		return &cramWatcher{attempt: a}
	case NTLM:
		return &ntlmWatcher{attempt: a}
	case GSSAPI:
		return &gssapiWatcher{attempt: a}
	}
	return nil
}

// ending is a Watcher for whom nothing is due any more after the proof, or after a
// message that was none.
type ending struct {
	Watcher
	over bool
}

// Next implements Watcher.
func (e *ending) Next(message []byte) (proof bool, err error) {
	if e.over {
		return false, fmt.Errorf("%w: the exchange is over", ErrMessage)
	}
	proof, err = e.Watcher.Next(message)
	e.over = proof || err != nil
	return proof, err
}

// names fills in who the client is, and who it wants to be. The names go to the
// backend as they are, often long before the proof. They are kept for as long as the
// session is, and would keep the whole message with them if they were parts of it.
func (a *Attempt) names(user, authzID string) error {
	if authzID == user {
		authzID = ""
	}
	named := Attempt{User: user, AuthzID: authzID, Secret: "unknown"}
	if named.Check() != nil {
		return fmt.Errorf("%w: a name is %w", ErrMessage, ErrUnsafe)
	}
	a.User, a.AuthzID = strings.Clone(user), strings.Clone(authzID)
	return nil
}
