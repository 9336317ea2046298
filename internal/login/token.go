package login

import (
	"fmt"
	"strings"
)

// TokenMechanisms are those by which a token is shown.
var TokenMechanisms = []string{XOAuth2, OAuthBearer}

// WithToken returns the attempt as a client would make it that has a token and no
// password. Nobody is to be asked for more: the token is the proof. A name with a control
// character in it could make another message of it, and is ErrUnsafe.
//
// Who wants the mailbox of somebody else names that one; whose the token is, it says
// itself.
func (a *Attempt) WithToken(mechanism string, token Secret) (*Attempt, error) {
	user := a.User
	if a.AuthzID != "" {
		user = a.AuthzID
	}
	if strings.ContainsFunc(user, isControl) {
		return nil, ErrUnsafe
	}
	var message []byte
	switch mechanism {
	case XOAuth2:
		message = fmt.Appendf(nil, "user=%s\x01auth=Bearer %s\x01\x01", user, string(token))
	case OAuthBearer:
		message = fmt.Appendf(nil, "n,a=%s,\x01auth=Bearer %s\x01\x01", gs2Names.Replace(user), string(token))
	default:
		return nil, ErrMechanism
	}
	with := *a
	with.Mechanism, with.Form = mechanism, FormAuthenticate
	with.Secret = token
	with.Relay = &Relay{Proof: message}
	return &with, nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// gs2Names has what takes the place of commas and equals signs in a name (RFC 5801
// section 4).
var gs2Names = strings.NewReplacer("=", "=3D", ",", "=2C")
