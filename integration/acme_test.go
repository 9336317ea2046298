//go:build integration

package integration

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// acmeTools builds Pebble, an ACME server for tests, and its DNS server, unless
// PEBBLE_BIN names a directory where they are already. They are a module of their
// own, so that ours depends on neither.
var acmeTools = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("PEBBLE_BIN"); dir != "" {
		return dir, nil
	}
	dir, err := filepath.Abs("../bin")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-C", "tools", "-o", dir+string(filepath.Separator), "tool")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Pebble: %w\n%s", err, out)
	}
	return dir, nil
})

// pebble is a private authority. Every name that it looks up is at 127.0.0.1, unless
// the options of its DNS server say otherwise.
type pebble struct {
	t                 *testing.T
	dir               string
	p                 *process
	ca                *imaptest.CA
	addr, manage      string
	httpPort, tlsPort int
}

// pebbleLifetime is that of its certificates, in seconds, like that of the
// authority that most use.
const pebbleLifetime = 90 * 24 * 60 * 60

func startPebble(t *testing.T, dnsOptions ...string) *pebble {
	t.Helper()
	bin, err := acmeTools()
	if err != nil {
		t.Fatal(err)
	}
	a := &pebble{
		t: t, dir: shortDir(t), ca: imaptest.NewCA(t), addr: freeAddr(t), manage: freeAddr(t), httpPort: freePort(t), tlsPort: freePort(t),
	}
	dns := freeAddr(t)
	resolver := a.start("dns", bin, "pebble-challtestsrv", append([]string{
		"-dnsserver", dns, "-management", freeAddr(t), "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "",
	}, dnsOptions...)...)
	t.Cleanup(func() { _ = resolver.stop(t) })

	own := a.ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.1"}})
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": a.addr, "managementListenAddress": a.manage, "certificate": own.CertFile, "privateKey": own.KeyFile,
		"httpPort": a.httpPort, "tlsPort": a.tlsPort, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "for tests", "validityPeriod": pebbleLifetime}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, filepath.Join(a.dir, "config.json"), string(config))
	a.p = a.start("log", bin, "pebble", "-config", file, "-dnsserver", dns)
	t.Cleanup(a.Stop)
	for _, addr := range []string{dns, a.addr, a.manage} {
		eventually(t, "Pebble at "+addr, func() error { return accepts("tcp", addr) })
	}
	return a
}

func (a *pebble) start(log, bin, program string, args ...string) *process {
	a.t.Helper()
	out, err := os.Create(filepath.Join(a.dir, log))
	if err != nil {
		a.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(bin, program), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = a.dir, out, out
	// It waits some seconds before it looks at a challenge otherwise.
	cmd.Env = []string{"PEBBLE_VA_NOSLEEP=1"}
	return startProcess(a.t, program, cmd)
}

// Stop makes the authority unreachable.
func (a *pebble) Stop() {
	_ = a.p.stop(a.t)
	if a.t.Failed() {
		a.t.Logf("log of Pebble:\n%s", a.log())
	}
}

func (a *pebble) log() string {
	b, err := os.ReadFile(filepath.Join(a.dir, "log"))
	if err != nil {
		a.t.Errorf("reading the log of Pebble: %v", err)
	}
	return string(b)
}

// Orders is how many certificates it was asked for.
func (a *pebble) Orders() int { return strings.Count(a.log(), "Added order ") }

func (a *pebble) WantOrders(want int) {
	a.t.Helper()
	if got := a.Orders(); got != want {
		a.t.Errorf("the authority was asked for %d certificates, want %d", got, want)
	}
}

// Globals has Caddy ask this authority.
func (a *pebble) Globals() string {
	return fmt.Sprintf("\tacme_ca https://%s/dir\n\tacme_ca_root %s\n\tdefault_bind 127.0.0.1\n\thttp_port %d\n\thttps_port %d\n",
		a.addr, a.ca.File(), a.httpPort, a.tlsPort)
}

// Roots is what clients have to trust. Pebble makes it anew at each start.
func (a *pebble) Roots() *x509.CertPool {
	a.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: a.ca.ClientTLS("127.0.0.1")}}
	resp, err := client.Get("https://" + a.manage + "/roots/0")
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(b) {
		a.t.Fatalf("the root of Pebble: %v, %q", err, b)
	}
	return pool
}

// From nothing to mail programs that verify the certificate, on both ports, by
// either challenge. It listens on the port of the challenge by itself.
func TestACME(t *testing.T) {
	t.Parallel()
	password := secret("From-Nothing-91")
	backend := imaptest.NewMemory(t, imaptest.Accounts{Passwords: map[string]string{"alice": password}})
	authority := startPebble(t)
	roots := authority.Roots()
	// Since the authority is not a public one, it signs for names that are not.
	names := []string{"mail.example.org", "imap.example.org", "mail.internal"}
	for challenge, other := range map[string]string{"http-01": "disable_tlsalpn_challenge", "tls-alpn-01": "disable_http_challenge"} {
		t.Run(challenge, func(t *testing.T) {
			before := authority.Orders()
			imap, imaps := freeAddr(t), freeAddr(t)
			c := startCaddy(t, site{
				Hostnames: strings.Join(names, " "), Globals: authority.Globals() + "\tcert_issuer acme {\n\t\t" + other + "\n\t}\n",
				Backend: "\t\t\tupstream " + backend.Addr() + "\n\t\t\ttls off", IMAP: imap, IMAPS: imaps,
			}.String())
			for _, name := range names {
				eventually(t, "a certificate of "+name, func() error {
					_, _, err := dialTLS(t, imap, false, &tls.Config{ServerName: name, RootCAs: roots})
					return err
				})
				for _, implicit := range []bool{false, true} {
					addr := map[bool]string{false: imap, true: imaps}[implicit]
					conn, state, err := dialTLS(t, addr, implicit, &tls.Config{ServerName: name, RootCAs: roots, NextProtos: []string{"imap"}})
					if err != nil {
						t.Fatalf("implicit %v: %v", implicit, err)
					}
					if state.NegotiatedProtocol != "imap" || len(state.PeerCertificates) < 2 {
						t.Errorf("implicit %v: protocol %q, %d certificates", implicit, state.NegotiatedProtocol, len(state.PeerCertificates))
					}
					conn.Want("OK Logged in", "LOGIN alice %s", password)
				}
			}
			if used := c.LogLines(`"challenge_type":"` + challenge + `"`); len(used) == 0 {
				t.Error("the challenge was not used")
			}
			if got := authority.Orders() - before; got != len(names) {
				t.Errorf("the authority was asked for %d certificates, want %d", got, len(names))
			}
		})
	}
}

// Instances that share their storage share their certificates: one of them asks,
// at the start as at a renewal, and one that comes later asks for nothing. A session
// that is open meanwhile keeps what it has.
func TestACMEInstances(t *testing.T) {
	t.Parallel()
	const name = "mail.example.org"
	password := secret("One-For-All-92")
	backend := imaptest.NewMemory(t, imaptest.Accounts{Passwords: map[string]string{"alice": password}})
	authority := startPebble(t)
	roots := authority.Roots()
	globals := authority.Globals() + "\tstorage file_system " + shortDir(t) + "\n\trenew_interval 1s\n"
	config := func(addr, more string) string {
		return site{
			Hostnames: name, Globals: globals + more, Backend: "\t\t\tupstream " + backend.Addr() + "\n\t\t\ttls off", IMAP: addr,
		}.String()
	}
	// shown is the certificate that a new client gets.
	shown := func(addr string) (*x509.Certificate, *imapConn, error) {
		conn, state, err := dialTLS(t, addr, false, &tls.Config{ServerName: name, RootCAs: roots})
		if err != nil {
			return nil, nil, err
		}
		return state.PeerCertificates[0], conn, nil
	}
	await := func(addr string, good func(*x509.Certificate) bool) (found *x509.Certificate) {
		t.Helper()
		eventually(t, "a certificate at "+addr, func() (err error) {
			if found, _, err = shown(addr); err == nil && !good(found) {
				err = fmt.Errorf("it is number %v", found.SerialNumber)
			}
			return err
		})
		return found
	}
	anyOne := func(*x509.Certificate) bool { return true }

	var addrs []string
	var instances []*caddyServer
	for range 2 { // the second mostly starts while the first still asks
		addrs = append(addrs, freeAddr(t))
		instances = append(instances, startCaddy(t, config(addrs[len(addrs)-1], "")))
	}
	first := await(addrs[0], anyOne)
	same := func(c *x509.Certificate) bool { return c.Equal(first) }
	await(addrs[1], same)
	authority.WantOrders(1)

	addrs = append(addrs, freeAddr(t))
	instances = append(instances, startCaddy(t, config(addrs[2], "")))
	await(addrs[2], same)
	authority.WantOrders(1)
	if lines := instances[2].LogLines("obtaining certificate"); len(lines) > 0 {
		t.Errorf("the instance that came later asked for a certificate: %s", lines[0])
	}

	_, session, err := shown(addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	session.Want("OK Logged in", "LOGIN alice %s", password)
	// The first is old in a while, and the second for as long as that not yet.
	old := time.Since(first.NotBefore) + 8*time.Second
	early := fmt.Sprintf("\trenewal_window_ratio %.9f\n", 1-old.Seconds()/pebbleLifetime)
	for i, c := range instances {
		c.reload(config(addrs[i], early))
	}
	second := await(addrs[0], func(c *x509.Certificate) bool { return !same(c) })
	for _, addr := range addrs[1:] {
		await(addr, second.Equal)
	}
	authority.WantOrders(2)
	session.Want("OK", "NOOP")
	if state := session.Conn.(*tls.Conn).ConnectionState(); !same(state.PeerCertificates[0]) {
		t.Error("the session has another certificate")
	}
	session.Want("OK", "LOGOUT")
	for i, c := range instances {
		c.reload(config(addrs[i], ""))
	}

	// Without the authority: reloads leave no gap, and a restart finds the
	// certificate in the storage.
	authority.Stop()
	for i := range 5 {
		instances[0].reload(config(addrs[0], fmt.Sprintf("\tgrace_period %ds\n", i+1)))
		if c, _, err := shown(addrs[0]); err != nil || !c.Equal(second) {
			t.Errorf("at once after reload %d: %v", i, err)
		}
	}
	instances[1].Stop()
	startCaddy(t, config(addrs[1], ""))
	await(addrs[1], second.Equal)
	authority.WantOrders(2)
	figure(t, "four starts of three instances and a renewal: %d certificates asked for", authority.Orders())
}

// Several machines behind one name: the authority comes to one of them, while
// another has asked. With a site on its port, and the storage in common, the one
// answers for the other.
func TestACMEChallengeElsewhere(t *testing.T) {
	t.Parallel()
	const elsewhere = "127.0.0.5"
	password := secret("Answer-For-Me-98")
	backend := imaptest.NewMemory(t, imaptest.Accounts{Passwords: map[string]string{"alice": password}})
	authority := startPebble(t, "-defaultIPv4", elsewhere)
	storage := "\tstorage file_system " + shortDir(t) + "\n"
	s := site{Backend: "\t\t\tupstream " + backend.Addr() + "\n\t\t\ttls off"}

	there := s
	own := imaptest.NewCA(t).Issue(imaptest.Leaf{Names: []string{"mail.internal"}})
	there.Hostnames = "mail.internal\n\t\tcertificate " + own.CertFile + " " + own.KeyFile
	there.Globals, there.IMAP = strings.ReplaceAll(authority.Globals(), "default_bind 127.0.0.1", "default_bind "+elsewhere)+storage, freeAddr(t)
	// The brace that closes the options closes the web site instead.
	answers := startCaddy(t, there.String()+"}\nhttp:// {\n\tabort\n")

	s.Hostnames, s.Globals, s.IMAP = "mail.example.org", authority.Globals()+storage+"\tcert_issuer acme {\n\t\tdisable_tlsalpn_challenge\n\t}\n", freeAddr(t)
	startCaddy(t, s.String())
	s.awaitVerified(t, "mail.example.org", authority.Roots())
	answers.WaitLog("served key authentication", "mail.example.org", `"distributed":true`)
	authority.WantOrders(1)
}
