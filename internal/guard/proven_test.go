package guard

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// A right password that is refused is remembered, and is no guess: not of the account, and
// not of the source.
func TestProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = func(a *login.Attempt) login.Verdict {
			v := login.DeniedWith(imap.ResponseCodeExpired)
			v.Proven = a.Secret == "right"
			return v
		}
		for i := range 2 * w.cfg.SourceFailures {
			w.expect("denied", fmt.Sprintf("user%d", i), "right", office)
		}
		// The same is asked about again as other refusals are, and never holds the account.
		for _, after := range []time.Duration{0, time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute} {
			time.Sleep(after)
			w.expect("denied", "alice", "right", home)
			w.expect("remembered", "alice", "right", home)
		}
		if w.bans != 0 || w.held != 0 {
			t.Errorf("%d bans, %d accounts held", w.bans, w.held)
		}
		// Wrong ones are counted as ever.
		for i := range 3 {
			w.expect("denied", "alice", fmt.Sprint("wrong", i), thief)
		}
		w.expect("held", "alice", "wrong3", thief)
	})
}
