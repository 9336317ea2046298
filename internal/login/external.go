package login

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-sasl"
)

// External is the SASL mechanism with which a client says that the certificate that
// it has shown in TLS is all there is to prove (RFC 4422 appendix A). It is not one
// of Mechanisms: there has to be a certificate.
const External = sasl.External

// newExternalServer returns the server side of EXTERNAL, which fills in whom the
// client wants to be, and nothing else.
func newExternalServer(a *Attempt) sasl.Server {
	a.Form, a.Mechanism = FormAuthenticate, External
	return sasl.NewExternalServer(func(identity string) error {
		a.AuthzID = identity
		return nil
	})
}

// checkVouched is Check for a name that a certificate vouches for.
func (a *Attempt) checkVouched() error {
	if a.Relay != nil || a.Secret != "" || len(a.User) > maxUser || len(a.AuthzID) > maxUser || !isPlainName(a.User) ||
		strings.ContainsFunc(a.AuthzID, unicode.IsControl) {
		return ErrUnsafe
	}
	return nil
}

// isPlainName says whether a name has nothing in it that could not be seen.
func isPlainName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.ContainsFunc(name, isHidden)
}

func isHidden(r rune) bool { return !unicode.IsPrint(r) }
