package caddyimap

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"go.uber.org/zap"
)

// CertificateFiles is a certificate that somebody else gets and renews. The files
// are read when the configuration is loaded.
type CertificateFiles struct {
	// The file with the certificate, and below it those of the authorities that
	// stand between it and one that clients know, as PEM.
	Certificate string `json:"certificate,omitempty"`

	// The file with the key, as PEM and without a password.
	Key string `json:"key,omitempty"`
}

// expiresSoon is how long before its end a certificate in files is warned about.
// Those who renew by themselves do so a month before.
const expiresSoon = 14 * 24 * time.Hour

// alpnACME is the only protocol that an authority offers when it looks for the
// answer to its challenge (RFC 8737 section 3).
const alpnACME = "acme-tls/1"

// provisionCertificates reads the files.
func (a *App) provisionCertificates() error {
	for _, files := range a.Certificates {
		cert, err := files.load(caddy.NewReplacer())
		if err != nil {
			return fmt.Errorf("certificate %s %s: %w", files.Certificate, files.Key, err)
		}
		if time.Until(cert.Leaf.NotAfter) < expiresSoon {
			a.logger.Warn("a certificate has expired or will soon, and clients refuse it then; renew its file, and reload",
				zap.String("file", files.Certificate), zap.Time("expires", cert.Leaf.NotAfter))
		}
		a.files = append(a.files, cert)
	}
	return nil
}

func (f CertificateFiles) load(repl *caddy.Replacer) (cert tls.Certificate, err error) {
	for _, path := range []*string{&f.Certificate, &f.Key} {
		if *path, err = repl.ReplaceOrErr(*path, true, true); err != nil {
			return cert, err
		}
	}
	if f.Certificate == "" || f.Key == "" {
		return cert, errors.New("must be two files, the certificate and its key")
	}
	certPEM, err := os.ReadFile(f.Certificate)
	if err != nil {
		return cert, fmt.Errorf("reading the certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(f.Key)
	if err != nil {
		return cert, fmt.Errorf("reading the key: %w", err)
	}
	if bytes.Contains(keyPEM, []byte("ENCRYPTED")) {
		return cert, errors.New("the key has a password; openssl pkey writes it without one")
	}
	cert, err = tls.X509KeyPair(certPEM, keyPEM)
	if err != nil && strings.Contains(err.Error(), "does not match public key") {
		err = fmt.Errorf("%w; is the server's own certificate the first in its file?", err)
	}
	return cert, err
}

// hasFileFor reports whether a certificate in files is valid for the name.
func (a *App) hasFileFor(name string) bool {
	return slices.ContainsFunc(a.files, func(cert tls.Certificate) bool {
		return cert.Leaf.VerifyHostname(name) == nil
	})
}

// showFiles has the policy show certificates in files to those who ask for one of
// their names, and the first to those for whom there is no other. The tls app can
// be told of files as well, but not from a Caddyfile without a web site.
func (a *App) showFiles(policy *caddytls.ConnectionPolicy) {
	if len(a.files) == 0 {
		return
	}
	managed := policy.TLSConfig.GetCertificate
	policy.TLSConfig.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if slices.Equal(hello.SupportedProtos, []string{alpnACME}) {
			return managed(hello)
		}
		if name := cmp.Or(hello.ServerName, policy.DefaultSNI); name != "" {
			if cert := a.fileFor(hello, name); cert != nil {
				return cert, nil
			}
		}
		if cert, err := managed(hello); err == nil && len(cert.Certificate) > 0 {
			return cert, nil
		}
		return cmp.Or(a.fileFor(hello, policy.FallbackSNI), a.fileFor(hello, ""), &a.files[0]), nil
	}
}

// noteMissing has the log tell of the first client for whom there is no certificate,
// where no option of the app says for whom there are some. The rest of what clients
// do wrong is not worth an operator's while, but this may concern them all.
func (a *App) noteMissing(policy *caddytls.ConnectionPolicy, logger *zap.Logger) {
	if len(a.Hostnames) > 0 || len(a.files) > 0 {
		return
	}
	managed := policy.TLSConfig.GetCertificate
	var once sync.Once
	policy.TLSConfig.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := managed(hello)
		if err != nil {
			once.Do(func() {
				logger.Warn("there is no certificate for a client, which cannot log in; this is told once: "+
					"name the server with the option hostname of the imap app, or a certificate's files with its option certificate, "+
					"or one that there is with default_sni and fallback_sni in a connection_policy",
					zap.String("server_name", printable(hello.ServerName)), zap.String("error", printable(err.Error())))
			})
		}
		return cert, err
	}
}

// fileFor returns the first certificate that is valid for the name, any if that is
// empty, and that the client understands, or nil.
func (a *App) fileFor(hello *tls.ClientHelloInfo, name string) *tls.Certificate {
	asked := *hello
	asked.ServerName = name
	for i := range a.files {
		if asked.SupportsCertificate(&a.files[i]) == nil {
			return &a.files[i]
		}
	}
	return nil
}
