package imapauth

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

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

// deadline bounds a test that is not about time; it passes only in failure.
const deadline = 15 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}
