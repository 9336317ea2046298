package imaptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA is a certificate authority that lives as long as its test.
type CA struct {
	tb   testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

// Certificates are good at any time that a test may think it is: the clock of
// testing/synctest begins in 2000.
var (
	validFrom  = time.Date(1990, time.January, 1, 0, 0, 0, 0, time.UTC)
	expired    = time.Date(1999, time.January, 1, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(2049, time.December, 31, 0, 0, 0, 0, time.UTC)
)

// NewCA makes an authority with a key of its own. Two of them do not trust each
// other.
func NewCA(tb testing.TB) *CA {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatalf("generating the key of a test CA: %v", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial(tb),
		Subject:               pkix.Name{CommonName: "imaptest authority"},
		NotBefore:             validFrom,
		NotAfter:              validUntil,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatalf("signing a test CA: %v", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatalf("reading back a test CA: %v", err)
	}
	ca := &CA{tb: tb, dir: tb.TempDir(), cert: cert, key: key, pool: x509.NewCertPool()}
	ca.pool.AddCert(cert)
	ca.write("ca.pem", "CERTIFICATE", der)
	return ca
}

// File is the path of the authority's certificate as PEM.
func (ca *CA) File() string { return filepath.Join(ca.dir, "ca.pem") }

// Pool trusts this authority and no other.
func (ca *CA) Pool() *x509.CertPool { return ca.pool }

// Leaf says what a certificate is for. Its zero value is a server's, valid now,
// for 127.0.0.1 and localhost.
type Leaf struct {
	// Names are DNS names and IP addresses.
	Names []string
	// CommonName is that of the subject; if it is empty, it is the first of Names.
	CommonName string
	// Emails are addresses of e-mail. A certificate that has some needs no Names.
	Emails []string
	// Expired makes the certificate end an hour ago.
	Expired bool
	// Client makes it a client's certificate instead of a server's.
	Client bool
	// SelfSigned makes it its own issuer, so that no authority vouches for it.
	SelfSigned bool
}

// Certificate is a certificate with its key, in memory and as PEM files.
type Certificate struct {
	tls.Certificate
	CertFile, KeyFile string
}

// Issue makes a certificate.
func (ca *CA) Issue(leaf Leaf) *Certificate {
	ca.tb.Helper()
	if len(leaf.Names)+len(leaf.Emails) == 0 && leaf.CommonName == "" {
		leaf.Names = []string{"localhost", "127.0.0.1"}
	}
	template := &x509.Certificate{
		SerialNumber: serial(ca.tb),
		Subject:      pkix.Name{CommonName: leaf.CommonName},
		NotBefore:    validFrom,
		NotAfter:     validUntil,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if leaf.CommonName == "" && len(leaf.Names) > 0 {
		template.Subject.CommonName = leaf.Names[0]
	}
	template.EmailAddresses = leaf.Emails
	if leaf.Expired {
		template.NotAfter = expired
	}
	if leaf.Client {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	for _, name := range leaf.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.tb.Fatalf("generating the key of a test certificate: %v", err)
	}
	parent, signer := ca.cert, ca.key
	if leaf.SelfSigned {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		ca.tb.Fatalf("signing a test certificate: %v", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		ca.tb.Fatalf("encoding the key of a test certificate: %v", err)
	}
	stem := template.SerialNumber.Text(36)
	return &Certificate{
		Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		CertFile:    ca.write(stem+".pem", "CERTIFICATE", der),
		KeyFile:     ca.write(stem+"-key.pem", "PRIVATE KEY", pkcs8),
	}
}

// ServerConfig is for a server that shows this certificate.
func (c *Certificate) ServerConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c.Certificate}, MinVersion: tls.VersionTLS10}
}

// ServerTLS is short for the configuration of a server at the names; without
// any, at 127.0.0.1 and localhost.
func (ca *CA) ServerTLS(names ...string) *tls.Config {
	ca.tb.Helper()
	return ca.Issue(Leaf{Names: names}).ServerConfig()
}

// ClientTLS is for a client that trusts this authority and expects the name.
func (ca *CA) ClientTLS(serverName string) *tls.Config {
	return &tls.Config{RootCAs: ca.pool, ServerName: serverName, MinVersion: tls.VersionTLS12}
}

func (ca *CA) write(name, kind string, der []byte) string {
	ca.tb.Helper()
	path := filepath.Join(ca.dir, name)
	block := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		ca.tb.Fatalf("writing a test certificate: %v", err)
	}
	return path
}

func serial(tb testing.TB) *big.Int {
	tb.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		tb.Fatalf("drawing a serial number: %v", err)
	}
	return n
}
