//go:build integration && unix

package imapredis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/redistest"
)

// TestKeys pins that every key expires, and that the server is told nothing but
// hashes.
func TestKeys(t *testing.T) {
	const user, password, address = "ann.example@example.org", "correct horse", "203.0.113.77"
	server := redistest.Start(t)
	in := startInstance(t, server)
	verdicts := []login.Verdict{
		{Result: login.Granted}, login.DeniedWith(""), login.DeniedWith(""),
		login.ThrottledFor("UNAVAILABLE", time.Minute, nil),
	}
	cfg := config()
	cfg.SourceFailures = 2
	for n, v := range verdicts {
		a := &login.Attempt{User: user, Secret: login.Secret(password + strconv.Itoa(n)), Remote: netip.MustParseAddr(address)}
		in.guard.Open(context.Background(), cfg, a, func(context.Context, bool) login.Verdict { return v })
	}
	cfg.SourceFailures = 100
	in.guard.Open(context.Background(), cfg, attempt("bob"), func(context.Context, bool) login.Verdict { return login.DeniedWith("") })
	// One that goes on while the keys are looked at.
	ctx, cancel := context.WithCancel(context.Background())
	asked, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		in.guard.Open(ctx, cfg, attempt("dora"), func(ctx context.Context, _ bool) login.Verdict {
			close(asked)
			<-ctx.Done()
			return login.Verdict{}
		})
	}()
	<-asked
	defer func() { cancel(); <-over }()
	if _, err := in.guard.LiftAccount(context.Background(), cfg, "carol"); err != nil {
		t.Fatal(err)
	}

	kinds := make(map[string]int)
	var dump strings.Builder
	for key := range strings.Lines(server.Do("KEYS", "*")) {
		key = strings.TrimSpace(key)
		kind, id, _ := strings.Cut(strings.TrimPrefix(key, "{caddy-imap}:"), ":")
		if _, err := hex.DecodeString(id); err != nil || (kind == "generation") != (id == "") {
			t.Errorf("key %s", key)
		}
		kinds[kind]++
		ttl, err := strconv.Atoi(server.Do("TTL", key))
		if err != nil || ttl <= 0 || ttl > int(generationFor.Seconds()) {
			t.Errorf("key %s expires in %d s, %v", key, ttl, err)
		}
		dump.WriteString(key + "\n")
		command := map[string][]string{"account": {"HGETALL", key}, "ban": {"GET", key}, "crowd": {"HGETALL", key}, "generation": {"GET", key}, "source": {"ZRANGE", key, "0", "-1"}}[kind]
		dump.WriteString(server.Do(command...) + "\n")
	}
	if fmt.Sprint(kinds) != "map[account:4 ban:1 crowd:1 generation:1 source:1]" {
		t.Errorf("keys: %v", kinds)
	}
	for _, s := range []string{user, "ann", password, "correct", address, "wrong", string(netip.MustParseAddr(address).AsSlice())} {
		for _, form := range []string{s, hex.EncodeToString([]byte(s)), base64.StdEncoding.EncodeToString([]byte(s))} {
			if strings.Contains(dump.String(), form) {
				t.Errorf("the server knows %q", s)
			}
		}
	}
}

// TestConnections pins that all ways to a server work.
func TestConnections(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	acl := []string{"--user", "proxy", "on", ">hunter2", "~{caddy-imap}:*", "+@all", "--requirepass", "hunter3"}
	secured := []string{"--tls-port", "0", "--tls-cert-file", dir + "/cert.pem", "--tls-key-file", dir + "/key.pem", "--tls-auth-clients", "no"}
	for _, tc := range []struct {
		name   string
		server []string
		config func(*redistest.Server) map[string]any
		// err is what a merge fails with; none if it is empty.
		err string
	}{
		{"plain", nil, func(s *redistest.Server) map[string]any { return nil }, ""},
		{"unix socket", nil, func(s *redistest.Server) map[string]any {
			return map[string]any{"addresses": []string{"unix/" + s.Socket}}
		}, ""},
		{"database", nil, func(s *redistest.Server) map[string]any { return map[string]any{"db": 3} }, ""},
		{"no such database", nil, func(s *redistest.Server) map[string]any { return map[string]any{"db": 99} }, "DB index is out of range"},
		{"password", acl, func(s *redistest.Server) map[string]any { return map[string]any{"password": "hunter3"} }, ""},
		{"user", acl, func(s *redistest.Server) map[string]any {
			return map[string]any{"username": "proxy", "password": "hunter2"}
		}, ""},
		{"wrong password", acl, func(s *redistest.Server) map[string]any {
			return map[string]any{"username": "proxy", "password": "hunter3"}
		}, "WRONGPASS"},
		{"no password", acl, func(s *redistest.Server) map[string]any { return nil }, "NOAUTH"},
		{"cluster", []string{"--cluster-enabled", "yes"}, func(s *redistest.Server) map[string]any {
			s.Do("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
			for deadline := time.Now().Add(patience); !strings.Contains(s.Do("CLUSTER", "INFO"), "cluster_state:ok"); {
				if time.Now().After(deadline) {
					t.Fatal("the cluster does not come up")
				}
				time.Sleep(10 * time.Millisecond)
			}
			return map[string]any{"addresses": []string{s.Addr, "127.0.0.1:1"}}
		}, ""},
		{"tls", secured, func(s *redistest.Server) map[string]any {
			return map[string]any{"tls": map[string]any{"ca": map[string]any{"provider": "file", "pem_files": []string{dir + "/cert.pem"}}}}
		}, ""},
		{"tls, unknown authority", secured, func(s *redistest.Server) map[string]any {
			return map[string]any{"tls": map[string]any{}}
		}, "certificate signed by unknown authority"},
		{"tls, another name", secured, func(s *redistest.Server) map[string]any {
			return map[string]any{"tls": map[string]any{"server_name": "example.org", "ca": map[string]any{"provider": "file", "pem_files": []string{dir + "/cert.pem"}}}}
		}, "certificate is not valid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := redistest.Start(t, tc.server...)
			settings := map[string]any{"addresses": []string{server.Addr}}
			if tc.server != nil && tc.server[0] == "--tls-port" {
				settings["addresses"] = []string{secure(t, server)}
			}
			for key, value := range tc.config(server) {
				settings[key] = value
			}
			l := newLedger(t, openWith(t, settings))
			err := l.Merge(context.Background(), much(100, 100))
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "hunter") {
					t.Errorf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := l.fail(1, ann); got != 3 {
				t.Errorf("%d were let through, want 3", got)
			}
			if err := l.LiftAccount(context.Background(), ann); err != nil {
				t.Error(err)
			}
			if err := l.LiftSource(context.Background(), src(1)); err != nil {
				t.Error(err)
			}
		})
	}
}

// secure has the server listen with TLS, and returns where.
func secure(t *testing.T, server *redistest.Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	_ = ln.Close()
	if got := server.Do("CONFIG", "SET", "tls-port", port); got != "OK" {
		t.Fatalf("switching TLS on: %s", got)
	}
	return "127.0.0.1:" + port
}

// certificate writes one that has signed itself.
func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert},
		"key.pem":  {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestScriptsForgotten pins that a server that has forgotten the scripts is told
// them again.
func TestScriptsForgotten(t *testing.T) {
	server := redistest.Start(t)
	l := newLedger(t, open(t, server))
	flush := func() { server.Do("SCRIPT", "FLUSH") }
	flush()
	if !l.admit(1, ann, src(1)) {
		t.Error("not allowed")
	}
	flush()
	l.settle(guard.Settlement{Ticket: 1, Account: ann, Source: src(1), Failed: true})
	flush()
	l.merge(much(1000, 1000))
	flush()
	if err := l.LiftAccount(context.Background(), ann); err != nil {
		t.Error(err)
	}
}
