package dovecotauth

import (
	"errors"

	"github.com/emersion/go-sasl"
)

// loginServer is the server of the LOGIN mechanism
// (draft-murchison-sasl-login), which go-sasl has only a client of.
type loginServer struct {
	// named is told the user name as soon as it is known.
	named func(user string) error
	// authenticate is told both.
	authenticate func(user, password string) error

	state loginState
	user  string
}

type loginState uint8

const (
	loginStart loginState = iota
	loginUser
	loginPassword
	loginDone
)

var errUnexpectedResponse = errors.New("response after the end of the exchange")

// Next implements sasl.Server. A nil response means that there was no initial
// one.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch l.state {
	case loginStart:
		l.state = loginUser
		if response == nil {
			return []byte("Username:"), false, nil
		}
		fallthrough
	case loginUser:
		l.state = loginDone
		l.user = string(response)
		if err := l.named(l.user); err != nil {
			return nil, false, err
		}
		l.state = loginPassword
		return []byte("Password:"), false, nil
	case loginPassword:
		l.state = loginDone
		return nil, true, l.authenticate(l.user, string(response))
	default:
		return nil, false, errUnexpectedResponse
	}
}

// exchange returns the server of the request's mechanism. Once it is done
// without an error, the request's attempt and identity are filled in.
func (s *Server) exchange(r *request) sasl.Server {
	if r.attempt.Mechanism == "LOGIN" {
		return &loginServer{
			named: func(user string) error {
				r.attempt.User = user
				return s.admit(r)
			},
			authenticate: func(_, password string) error {
				return r.secret(password)
			},
		}
	}
	return sasl.NewPlainServer(func(authzid, user, password string) error {
		r.attempt.User = user
		if authzid != user {
			r.attempt.AuthzID = authzid
		}
		if err := s.admit(r); err != nil {
			return err
		}
		return r.secret(password)
	})
}

// Interface guard.
var _ sasl.Server = (*loginServer)(nil)
