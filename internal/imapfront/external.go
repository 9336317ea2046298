package imapfront

import (
	"crypto/x509"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// certificate returns the client's certificate, if that can vouch for the client
// (RFC 4422 appendix A); nil if it cannot, or there is none. One that nobody has
// verified shows no more than that its owner has made it.
func (f *front) certificate() *x509.Certificate {
	if !f.cfg.External || f.tls == nil || len(f.tls.VerifiedChains) == 0 {
		return nil
	}
	return f.tls.VerifiedChains[0][0]
}

// withExternal adds EXTERNAL to the mechanisms for a client that can use it.
func (f *front) withExternal(mechanisms []string) []string {
	if f.certificate() == nil {
		return mechanisms
	}
	return append(mechanisms[:len(mechanisms):len(mechanisms)], login.External)
}
