package imapredis

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Caddy's logging and certmagic start a few at import.
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}
