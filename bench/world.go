//go:build linux

package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// world is what all measurements share: a directory with a certificate, and the
// servers that stand for a site's own.
type world struct {
	dir   string
	keep  bool // the directory
	caddy string
	// before is another build of it, or "".
	before string
	files  int // how many a process may have open

	plain, implicit, control, auth string // addresses

	backend, authHTTP *process
}

func newWorld(o *options) (w *world, err error) {
	w = &world{dir: o.keep, keep: o.keep != ""}
	if w.files, err = openFiles(); err != nil {
		return nil, err
	}
	// nginx has room for as many connections as there may be files, and uses it.
	w.files = min(w.files, 2*max(o.Sessions, o.Wake)+1000)
	if w.caddy, err = filepath.Abs(o.caddy); err != nil {
		return nil, fmt.Errorf("finding the product: %w", err)
	}
	if o.before != "" {
		if w.before, err = filepath.Abs(o.before); err != nil {
			return nil, fmt.Errorf("finding the other build: %w", err)
		}
	}
	if w.dir == "" {
		if w.dir, err = os.MkdirTemp("", "bench-"); err != nil {
			return nil, fmt.Errorf("making a directory: %w", err)
		}
	}
	if w.dir, err = filepath.Abs(w.dir); err != nil {
		return nil, fmt.Errorf("finding the directory: %w", err)
	}
	// The peers' processes have users of their own.
	for _, sub := range []string{"", "backend", "authhttp"} {
		dir := filepath.Join(w.dir, sub)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("making a directory: %w", err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return nil, fmt.Errorf("opening a directory: %w", err)
		}
	}
	if err := writeCertificate(w.dir); err != nil {
		return nil, err
	}
	for _, addr := range []*string{&w.plain, &w.implicit, &w.control, &w.auth} {
		if *addr, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	w.backend, err = start(filepath.Join(w.dir, "backend"), self, "backend", "-dir", w.dir,
		"-plain", w.plain, "-implicit", w.implicit, "-control", w.control)
	if err != nil {
		return nil, err
	}
	w.authHTTP, err = start(filepath.Join(w.dir, "authhttp"), self, "authhttp", "-listen", w.auth, "-backend", w.plain)
	if err != nil {
		return nil, err
	}
	for _, addr := range []string{w.plain, w.implicit, w.control} {
		if err := w.backend.awaitReady(func() error { return accepts(addr) }); err != nil {
			return nil, fmt.Errorf("starting the backend: %w", err)
		}
	}
	if err := w.authHTTP.awaitReady(func() error { return accepts(w.auth) }); err != nil {
		return nil, fmt.Errorf("starting the answers for nginx: %w", err)
	}
	return w, nil
}

func (w *world) close() {
	for _, p := range []*process{w.backend, w.authHTTP} {
		if p != nil {
			p.stop()
		}
	}
	if !w.keep {
		_ = os.RemoveAll(w.dir)
	}
}

// closeOn ends this program. The peer that runs is asked to end by the kernel.
// What was measured is in the file of results.
func (w *world) closeOn(signals <-chan os.Signal) {
	<-signals
	fmt.Fprintln(os.Stderr, "\nbench: interrupted; bench tables FILE shows what there is")
	w.close()
	os.Exit(130)
}

// wake has the backend tell all who idle of a message, and returns to how many
// and when it began.
func (w *world) wake() (woken int, begin time.Time, err error) {
	conn, err := net.Dial("tcp", w.control)
	if err != nil {
		return 0, begin, fmt.Errorf("waking: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(conn, "wake"); err != nil {
		return 0, begin, fmt.Errorf("waking: %w", err)
	}
	var first, last int64
	if _, err := fmt.Fscanln(bufio.NewReader(conn), &woken, &first, &last); err != nil {
		return 0, begin, fmt.Errorf("waking: %w", err)
	}
	return woken, time.Unix(0, first), nil
}

func certificateFiles(dir string) (cert, key string) {
	return filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
}

// bothFile has the key and the certificate, as HAProxy wants them.
func bothFile(dir string) string { return filepath.Join(dir, "both.pem") }

// writeCertificate makes one with ECDSA P-256, signed by itself, for all servers.
func writeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	cert, err := x509.CreateCertificate(rand.Reader, certTemplate(), certTemplate(), &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("making a certificate: %w", err)
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding a key: %w", err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyBytes})
	certFile, keyFile := certificateFiles(dir)
	for file, text := range map[string][]byte{certFile: certPEM, keyFile: keyPEM, bothFile(dir): append(keyPEM, certPEM...)} {
		// It is good for nothing but this; and some peers read it as another user.
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return fmt.Errorf("writing the certificate: %w", err)
		}
	}
	return nil
}

func certTemplate() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "localhost"},
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(30 * 24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
}
