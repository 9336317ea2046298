package login

import (
	"errors"
	"slices"

	"github.com/emersion/go-sasl"
)

// Mechanisms are the SASL mechanisms that this package can serve, in the order
// in which they are offered by default.
var Mechanisms = []string{sasl.Plain, sasl.Login}

// ErrMechanism says that a mechanism is not one of Mechanisms.
var ErrMechanism = errors.New("unknown SASL mechanism")

// NewSASLServer returns the server side of a mechanism. When the exchange is
// complete, a holds the User, AuthzID and Secret that it carried; whether they
// are right is not asked here.
func NewSASLServer(mechanism string, a *Attempt) (sasl.Server, error) {
	if !slices.Contains(Mechanisms, mechanism) {
		return nil, ErrMechanism
	}
	a.Form, a.Mechanism = FormAuthenticate, mechanism
	if mechanism == sasl.Login {
		return &loginServer{attempt: a}, nil
	}
	return sasl.NewPlainServer(func(authzID, user, secret string) error {
		if authzID != user {
			a.AuthzID = authzID
		}
		a.User, a.Secret = user, Secret(secret)
		return nil
	}), nil
}

// loginServer serves LOGIN, which no RFC defines: the server asks for the user
// name and then for the password. A client may bring the name as its initial
// response.
type loginServer struct {
	attempt *Attempt
	step    int
}

// The two questions, as Dovecot and Exchange put them.
const (
	loginUsername = "Username:"
	loginPassword = "Password:"
)

var errLoginDone = errors.New("unexpected response after the password")

// Next implements sasl.Server.
func (s *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if s.step == 0 {
		s.step++
		if response == nil {
			return []byte(loginUsername), false, nil
		}
	}
	s.step++
	switch s.step {
	case 2:
		s.attempt.User = string(response)
		return []byte(loginPassword), false, nil
	case 3:
		s.attempt.Secret = Secret(response)
		return nil, true, nil
	default:
		return nil, false, errLoginDone
	}
}
