package doctor

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
)

// expiresSoon is when a certificate is warned about.
const expiresSoon = 14 * 24 * time.Hour

// chain is what a server shows, and what it is measured by.
type chain struct {
	certs []*x509.Certificate
	roots *x509.CertPool
	// name is what the certificate must be valid for; empty if it does not matter.
	name string
	now  time.Time
}

// refused returns the certificates of a handshake that failed because of them.
func refused(err error) []*x509.Certificate {
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) {
		return verification.UnverifiedCertificates
	}
	return nil
}

// problems are all that is wrong with the chain, not only the first of it as a
// handshake tells. How says what to do about an authority that is not known.
func (c chain) problems(how func(c chain) finding) (all []finding) {
	leaf := c.certs[0]
	valid := c.verify(c.now) == nil
	for i, cert := range c.certs {
		// One that is there for old clients may have expired long ago.
		if f, bad := c.timeProblem(cert, i == 0); bad && !valid {
			all = append(all, f)
		}
	}
	if c.name != "" && leaf.VerifyHostname(c.name) != nil {
		all = append(all, finding{
			fault:   CertName,
			message: fmt.Sprintf("it is not valid for %s, but for %s", c.name, names(leaf)),
			advice:  []string{nameAdvice(leaf)},
		})
	}
	err := c.verify(c.goodTime())
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		all = append(all, finding{fault: TLSFailed, message: "it is not a certificate for servers (extended key usage)",
			advice: []string{"have one made that is for servers"}})
	default:
		all = append(all, how(c))
	}
	return all
}

// goodTime is now, or a time at which the certificate was good: that it no longer is has
// nothing to do with who has signed it.
func (c chain) goodTime() time.Time {
	if leaf := c.certs[0]; c.now.After(leaf.NotAfter) || c.now.Before(leaf.NotBefore) {
		return leaf.NotAfter
	}
	return c.now
}

// verify looks for a way from the certificate to an authority that is trusted.
func (c chain) verify(at time.Time) error {
	intermediates := x509.NewCertPool()
	for _, cert := range c.certs[1:] {
		intermediates.AddCert(cert)
	}
	_, err := c.certs[0].Verify(x509.VerifyOptions{Roots: c.roots, Intermediates: intermediates, CurrentTime: at})
	return err
}

func (c chain) timeProblem(cert *x509.Certificate, leaf bool) (finding, bool) {
	whose, renew := "it", "have the server's certificate renewed"
	if !leaf {
		whose, renew = "the certificate of "+subject(cert)+" in its chain", "have the server send the authority's newer certificate"
	}
	switch {
	case c.now.After(cert.NotAfter):
		return finding{fault: CertExpired, message: fmt.Sprintf("%s has expired on %s", whose, day(cert.NotAfter)), advice: []string{renew}}, true
	case c.now.Before(cert.NotBefore):
		return finding{fault: CertExpired, message: fmt.Sprintf("%s is not valid before %s", whose, day(cert.NotBefore)),
			advice: []string{"check the clock of this machine, and that of the server's authority"}}, true
	}
	return finding{}, false
}

// describe says whose a certificate is.
func (c chain) describe() string {
	leaf := c.certs[0]
	return fmt.Sprintf("for %s, signed by %s, %s", names(leaf), issuer(leaf), c.left())
}

// validity says for whom and how long a certificate is.
func (c chain) validity() string {
	return fmt.Sprintf("it is for %s, %s", names(c.certs[0]), c.left())
}

// left says how much time a certificate has.
func (c chain) left() string {
	end := c.certs[0].NotAfter
	left := end.Sub(c.now)
	if left >= 0 && left < 2*24*time.Hour {
		return fmt.Sprintf("%d hours left (until %s UTC)", int(left/time.Hour), end.UTC().Format("2006-01-02 15:04"))
	}
	return fmt.Sprintf("%d days left (until %s)", int(left/(24*time.Hour)), day(end))
}

func (c chain) expiresSoon() bool { return c.certs[0].NotAfter.Sub(c.now) < expiresSoon }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// names are what a certificate is valid for.
func names(cert *x509.Certificate) string {
	all := append([]string{}, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no name at all"
	}
	return foreign(strings.Join(all, ", "))
}

func nameAdvice(cert *x509.Certificate) string {
	for _, name := range cert.DNSNames {
		// What somebody has put into a certificate is not to be copied to a shell unseen.
		if name = strings.TrimPrefix(name, "*."); hostName.MatchString(name) && len(name) < 254 {
			return "if this is the right server, set tls_server_name " + name + " (with --to: --tls-server-name), or name the upstream so"
		}
	}
	return "have the server's certificate made for its name"
}

// hostName is what the name of a host may be.
var hostName = regexp.MustCompile(`^([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?\.)*[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

func subject(cert *x509.Certificate) string { return called(cert.Subject.String()) }
func issuer(cert *x509.Certificate) string  { return called(cert.Issuer.String()) }

func called(name string) string {
	if name == "" {
		return "an authority without a name"
	}
	return foreign(name)
}

// privateCA tells how to trust the authority of a backend.
func privateCA(address string, mode imapauth.TLSMode) func(chain) finding {
	return func(c chain) finding {
		last := c.certs[len(c.certs)-1]
		f := finding{fault: CAUnknown, message: "signed by " + issuer(last) + ", which is not trusted here"}
		fetch := "$ openssl s_client -connect " + address + starttls(mode) + " -showcerts </dev/null"
		if isSelfSigned(last) {
			f.advice = []string{
				"the server sends the authority's certificate: save the last that this prints as /etc/ssl/corp-ca.pem:",
				fetch,
				"compare its SHA-256 fingerprint with what those say who run the server: " + fingerprint(last),
			}
			if len(c.certs) == 1 {
				f.advice[0] = "the certificate signs itself: save what this prints as /etc/ssl/corp-ca.pem:"
			}
		} else {
			f.advice = []string{
				"get the certificate of that authority as PEM, and save it as /etc/ssl/corp-ca.pem; the server does not send it; at a Windows authority:",
				"$ certutil -ca.cert ca.cer && openssl x509 -inform der -in ca.cer -out corp-ca.pem",
				"if it is a public authority, the server does not send the certificates between, and should; see what it sends:",
				fetch,
			}
		}
		f.advice = append(f.advice, "then write into the backend: tls_trust_pool file /etc/ssl/corp-ca.pem (with --to: --tls-trust-pool /etc/ssl/corp-ca.pem)")
		return f
	}
}

// starttls is what openssl has to be told.
func starttls(mode imapauth.TLSMode) string {
	if mode == imapauth.StartTLS {
		return " -starttls imap"
	}
	return ""
}

func isSelfSigned(cert *x509.Certificate) bool {
	return cert.CheckSignatureFrom(cert) == nil || string(cert.RawIssuer) == string(cert.RawSubject)
}

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}
