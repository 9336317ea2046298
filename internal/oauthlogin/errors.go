package oauthlogin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// own returns the part of an error that is our own, or the system's: that a connection
// could not be made or kept, or is not trusted. It is nil if there is none: what else
// goes wrong with an answer may quote it, and the answer may quote the password. So may
// the names in a certificate.
func own(err error) error {
	var (
		broken  *net.OpError
		unknown *net.DNSError
		number  syscall.Errno
	)
	switch {
	case errors.As(err, &broken):
		return broken
	case errors.As(err, &unknown):
		return unknown
	case errors.As(err, &number):
		return number
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it has hung up")
	}
	return distrust(err)
}

// distrust says why TLS does not stand, without the names that the certificate has.
func distrust(err error) error {
	var (
		unverified *tls.CertificateVerificationError
		name       x509.HostnameError
		authority  x509.UnknownAuthorityError
		invalid    x509.CertificateInvalidError
		foreign    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &foreign):
		return errors.New("no TLS is spoken there")
	case errors.As(err, &name):
		return fmt.Errorf("its certificate is not valid for %s", name.Host)
	case errors.As(err, &authority):
		return errors.New("its certificate is signed by an unknown authority")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return errors.New("its certificate has expired, or is not valid yet")
	case errors.As(err, &unverified):
		return errors.New("its certificate is not valid")
	}
	return nil
}
