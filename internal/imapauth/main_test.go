package imapauth

import (
	"context"
	"crypto/tls"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The credentials of most tests. The secret is long enough to be found in
// base64.
const (
	testUser   = "alice@example.org"
	testSecret = "correct horse battery staple"
)

// attempt is testUser in the form.
func attempt(form login.Form) *login.Attempt {
	return &login.Attempt{Service: "imap", User: testUser, Secret: testSecret, Form: form}
}

// patience bounds a test that is not about time; it passes only in failure.
const patience = 15 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// testCA is shared, since keys take time to make. Its directory is that of the
// first test that asks, but nobody needs its files here.
var testCA = struct {
	once           sync.Once
	server, client *tls.Config
}{}

// testTLS returns the configurations of a server and of a client that trusts it.
func testTLS(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	testCA.once.Do(func() {
		ca := imaptest.NewCA(t)
		testCA.server, testCA.client = ca.ServerTLS(), ca.ClientTLS("localhost")
	})
	return testCA.server, testCA.client
}

// starttls is the configuration for a server of testTLS.
func starttls(t testing.TB, addr string) *Config {
	_, client := testTLS(t)
	return &Config{Address: addr, Mode: StartTLS, TLS: client}
}

// openAt does both phases. A session is closed with the test.
func openAt(t testing.TB, cfg *Config, a *login.Attempt, command AuthCommand) (*login.Session, login.Verdict) {
	t.Helper()
	ctx := testContext(t)
	c, err := Dial(ctx, cfg, login.Ends{})
	if err != nil {
		return nil, Failure(err)
	}
	s, v := c.Open(ctx, a, command)
	if (s != nil) != (v.Result == login.Granted) {
		t.Errorf("session %v with verdict %s", s, summary(v))
	}
	if v.Upstream != cfg.Address {
		t.Errorf("upstream %q, want %q", v.Upstream, cfg.Address)
	}
	if s != nil {
		t.Cleanup(func() { _ = s.Conn.Close() })
	}
	return s, v
}

// checkAt does both phases of a check.
func checkAt(t testing.TB, cfg *Config, a *login.Attempt, command AuthCommand) login.Verdict {
	t.Helper()
	ctx := testContext(t)
	c, err := Dial(ctx, cfg, login.Ends{})
	if err != nil {
		return Failure(err)
	}
	return c.Check(ctx, a, command)
}
