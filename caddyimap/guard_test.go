package caddyimap

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestHold pins when an answer leaves, counted from the start of the login. The
// backend answers after answered.
func TestHold(t *testing.T) {
	const (
		ms    = time.Millisecond
		delay = 2 * time.Second
	)
	for _, tc := range []struct {
		name     string
		result   login.Result
		answered time.Duration
		// deadline and canceled are when the context ends; 0 if it does not.
		deadline, canceled time.Duration
		want               time.Duration
	}{
		{"denied at once", login.Denied, 0, 0, 0, delay},
		{"denied soon", login.Denied, 300 * ms, 0, 0, delay},
		{"denied in time", login.Denied, delay, 0, 0, delay},
		{"denied late", login.Denied, delay + ms, 0, 0, delay + ms},
		{"throttled", login.Throttled, 300 * ms, 0, 0, delay},
		{"throttled late", login.Throttled, 3 * time.Second, 0, 0, 3 * time.Second},
		{"unavailable", login.Unavailable, 300 * ms, 0, 0, delay},
		{"granted", login.Granted, 300 * ms, 0, 0, 300 * ms},

		// The caller's answer has to reach its client before the deadline.
		{"denied, far deadline", login.Denied, 0, 8 * time.Second, 0, delay},
		{"denied, deadline as the delay", login.Denied, 0, delay, 0, delay - 250*time.Millisecond},
		{"denied, near deadline", login.Denied, 0, time.Second, 0, time.Second - 250*time.Millisecond},
		{"denied, deadline within the margin", login.Denied, 900 * ms, time.Second, 0, 900 * ms},
		{"denied, deadline over", login.Denied, 1500 * ms, time.Second, 0, 1500 * ms},

		{"denied, client gone", login.Denied, 0, 0, 700 * ms, 700 * ms},
		{"throttled, client gone before", login.Throttled, 900 * ms, 0, 700 * ms, 900 * ms},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				guard := &Guard{FailureDelay: caddy.Duration(delay)}
				ctx := t.Context()
				cancel := context.CancelFunc(func() {})
				switch {
				case tc.deadline > 0:
					ctx, cancel = context.WithTimeout(ctx, tc.deadline)
				case tc.canceled > 0:
					ctx, cancel = context.WithCancel(ctx)
					time.AfterFunc(tc.canceled, cancel)
				}
				defer cancel()
				a := &login.Attempt{Start: time.Now()}
				time.Sleep(tc.answered)
				guard.hold(ctx, a, login.Verdict{Result: tc.result})
				if got := time.Since(a.Start); got != tc.want {
					t.Errorf("left after %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// TestGuardDefaults pins the default and the limits of failure_delay. That 11s is
// too long is tested with a Caddyfile.
func TestGuardDefaults(t *testing.T) {
	w := newWorld(t)
	app := w.app(w.backend("127.0.0.1:1"))
	app.Guard = nil
	if got := time.Duration(w.load(app).app.Guard.FailureDelay); got != 2*time.Second {
		t.Errorf("default failure_delay %v, want 2s", got)
	}
	app.Guard = &Guard{FailureDelay: caddy.Duration(10 * time.Second)}
	if got := time.Duration(w.load(app).app.Guard.FailureDelay); got != 10*time.Second {
		t.Errorf("failure_delay %v, want 10s", got)
	}
	app.Guard = &Guard{FailureDelay: -1}
	if _, err := w.tryLoad(app); err == nil {
		t.Error("a negative failure_delay is taken")
	}
}
