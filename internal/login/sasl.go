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

// NewSASLServer returns the server side of a mechanism. The exchange fills in
// a: User and AuthzID once they are known, and Secret at its end, when Next says
// done without an error. Whether they are right, or even safe, is not asked here.
//
// If named is not nil, it is called between the two, so that it can refuse a
// user before a password is asked for: its error ends the exchange. EXTERNAL has no
// password, and only says whom the client wants to be.
func NewSASLServer(mechanism string, a *Attempt, named func() error) (sasl.Server, error) {
	if mechanism == External {
		return newExternalServer(a), nil
	}
	if !slices.Contains(Mechanisms, mechanism) {
		return nil, ErrMechanism
	}
	if named == nil {
		named = anybody
	}
	a.Form, a.Mechanism = FormAuthenticate, mechanism
	if mechanism == sasl.Login {
		return &loginServer{attempt: a, named: named}, nil
	}
	return sasl.NewPlainServer(func(authzID, user, secret string) error {
		a.User, a.AuthzID = user, authzID
		if authzID == user {
			a.AuthzID = ""
		}
		if err := named(); err != nil {
			return err
		}
		a.Secret = Secret(secret)
		return nil
	}), nil
}

func anybody() error { return nil }

// loginServer serves LOGIN (draft-murchison-sasl-login), which go-sasl has only
// a client of: the server asks for the user name and then for the password. A
// client may bring the name as its initial response.
type loginServer struct {
	attempt *Attempt
	named   func() error
	state   loginState
}

type loginState uint8

const (
	loginStart loginState = iota
	loginUser
	loginPassword
	loginDone
)

// The two questions, as Dovecot and Exchange put them.
const (
	askUser     = "Username:"
	askPassword = "Password:"
)

// Next implements sasl.Server. A nil response means that there was no initial
// one.
func (s *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	// Whatever goes wrong below is the end.
	state := s.state
	s.state = loginDone
	switch state {
	case loginStart:
		if response == nil {
			s.state = loginUser
			return []byte(askUser), false, nil
		}
		fallthrough
	case loginUser:
		s.attempt.User = string(response)
		if err := s.named(); err != nil {
			return nil, false, err
		}
		s.state = loginPassword
		return []byte(askPassword), false, nil
	case loginPassword:
		s.attempt.Secret = Secret(response)
		return nil, true, nil
	default:
		return nil, false, sasl.ErrUnexpectedClientResponse
	}
}

// Interface guard.
var _ sasl.Server = (*loginServer)(nil)
