package login

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The placeholders of a CertificateTemplate.
const (
	placeholderEmail        = "imap.certificate.email"
	placeholderEmailLocal   = placeholderEmail + localPart
	placeholderEmailDomain  = placeholderEmail + domainPart
	placeholderCommonName   = "imap.certificate.common_name"
	placeholderCommonLocal  = placeholderCommonName + localPart
	placeholderCommonDomain = placeholderCommonName + domainPart
	placeholderDNS          = "imap.certificate.dns"

	localPart, domainPart = ".local", ".domain"
)

// separators part a user's name from a domain or a mailbox; which, backends do not
// agree on. To some, % is another @.
const separators = `@\/*%`

// ErrCertificate says that a certificate does not have what a template needs, or has
// more than one of it.
var ErrCertificate = errors.New("the certificate does not name one user")

// CertificateTemplate makes a user name out of a client's certificate, such as
// "{imap.certificate.email}".
//
// A CertificateTemplate is immutable and safe for concurrent use.
type CertificateTemplate struct {
	pieces []piece
}

// ParseCertificateTemplate reads a template. Its placeholders are
// {imap.certificate.email}, the one address of e-mail among the alternative names
// (RFC 5280 section 4.2.1.6); {imap.certificate.common_name}, that of the subject;
// both also with .local and .domain behind, for what stands before and behind their
// @; and {imap.certificate.dns}, the one name of a host. A template with any other
// placeholder, or with none, is an error.
func ParseCertificateTemplate(s string) (*CertificateTemplate, error) {
	pieces, err := parsePieces(s, placeholderEmail, placeholderEmailLocal, placeholderEmailDomain,
		placeholderCommonName, placeholderCommonLocal, placeholderCommonDomain, placeholderDNS)
	if err != nil {
		return nil, err
	}
	return &CertificateTemplate{pieces: pieces}, nil
}

// Expand returns the name that a certificate stands for. The error is
// ErrCertificate, or wraps it, if there is not exactly one of what the template
// needs, or if it could be read in more than one way. It holds nothing of the
// certificate.
func (t *CertificateTemplate) Expand(cert *x509.Certificate) (string, error) {
	var b strings.Builder
	whole := len(t.pieces) == 1 && t.pieces[0].text == ""
	for _, p := range t.pieces {
		b.WriteString(p.text)
		if p.placeholder == "" {
			continue
		}
		value, err := certified(cert, p.placeholder)
		if err == nil && !whole && p.placeholder == placeholderCommonName && strings.ContainsAny(value, separators) {
			err = errSeparator // the rest of the template would mean something else
		}
		if err != nil {
			return "", fmt.Errorf("%w: {%s}: %w", ErrCertificate, p.placeholder, err)
		}
		b.WriteString(value)
	}
	name := b.String()
	if !isPlainName(name) || IsDelegate(name) || strings.ContainsAny(name, "*%") || strings.Count(name, "@") > 1 {
		return "", fmt.Errorf("%w: the name has a character that cannot be seen, or could be read in more than one way", ErrCertificate)
	}
	return name, nil
}

var (
	errNotOne    = errors.New("there has to be exactly one")
	errEmpty     = errors.New("it is empty")
	errParts     = errors.New("it has not exactly one @, with something before and behind it")
	errSeparator = errors.New("it has a separator of names in it")
)

// certified returns what a certificate has for a placeholder.
func certified(cert *x509.Certificate, placeholder string) (string, error) {
	if whole, ok := strings.CutSuffix(placeholder, localPart); ok {
		local, _, err := certifiedParts(cert, whole)
		return local, err
	}
	if whole, ok := strings.CutSuffix(placeholder, domainPart); ok {
		_, domain, err := certifiedParts(cert, whole)
		return domain, err
	}
	switch placeholder {
	case placeholderEmail:
		local, domain, err := certifiedParts(cert, placeholder)
		return local + "@" + domain, err
	case placeholderDNS:
		name, err := only(cert.DNSNames)
		if err == nil && strings.ContainsAny(name, separators) {
			err = errSeparator
		}
		return name, err
	default:
		return commonName(cert)
	}
}

// certifiedParts returns the two parts of an address.
func certifiedParts(cert *x509.Certificate, placeholder string) (local, domain string, err error) {
	address := ""
	if placeholder == placeholderEmail {
		address, err = only(cert.EmailAddresses)
	} else {
		address, err = commonName(cert)
	}
	if err != nil {
		return "", "", err
	}
	local, domain, _ = strings.Cut(address, "@")
	switch {
	case local == "" || domain == "" || strings.Contains(domain, "@"):
		return "", "", errParts
	case strings.ContainsAny(local+domain, separators):
		return "", "", errSeparator
	}
	return local, domain, nil
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// commonName returns the subject's common name. Of several, crypto/x509 gives the
// last.
func commonName(cert *x509.Certificate) (string, error) {
	var names []string
	for _, attribute := range cert.Subject.Names {
		if slices.Equal(attribute.Type, oidCommonName) {
			name, _ := attribute.Value.(string)
			names = append(names, name)
		}
	}
	return only(names)
}

func only(values []string) (string, error) {
	switch {
	case len(values) != 1:
		return "", errNotOne
	case values[0] == "":
		return "", errEmpty
	}
	return values[0], nil
}
