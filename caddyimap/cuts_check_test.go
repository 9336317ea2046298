package caddyimap

import (
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestCutsCheck cuts the backend off at each byte of a login for a mail server. It
// says yes only to the right password and no only to a wrong one, or that it cannot
// say.
func TestCutsCheck(t *testing.T) {
	w := newWorld(t)
	p := w.profile()
	p.Clear, p.Before, p.Inside = true, "IMAP4rev1 AUTH=PLAIN", "IMAP4rev1 AUTH=PLAIN"
	fake := w.start(p)
	faulty := imaptest.NewFaulty(t, fake.Addr())
	app, b := w.pooled(faulty.Addr())
	b.TLSMode, b.TLS = "off", nil
	c := w.running(app)
	for secret, want := range map[string]login.Result{testSecret: login.Granted, "wrong-battery": login.Denied} {
		ask := func(up, down imaptest.Fault) (login.Result, *imaptest.Link) {
			began := faulty.Next(up, down)
			a := attempt()
			a.Secret = login.Secret(secret)
			v := c.ref("").Check(t.Context(), a)
			return v.Result, <-began
		}
		got, link := ask(imaptest.Fault{}, imaptest.Fault{})
		if got != want {
			t.Fatalf("%s: %v, want %v", secret, got, want)
		}
		<-link.Done()
		up, down := link.Passed()
		answered := 0
		for _, end := range []imaptest.End{imaptest.Close, imaptest.Reset, imaptest.HalfClose} {
			for n := range max(up, down) + 1 {
				f := imaptest.Fault{End: end, After: n}
				for i, faults := range [][2]imaptest.Fault{{f, {}}, {{}, f}} {
					if n > []int64{up, down}[i] {
						continue
					}
					got, link := ask(faults[0], faults[1])
					if got != want && got != login.Unavailable {
						t.Errorf("%s, %v after %d bytes in direction %d: %v", secret, end, n, i, got)
					}
					if got == want {
						answered++
					}
					<-link.Done()
				}
			}
		}
		// What is lost behind the answer does no harm.
		if answered == 0 {
			t.Errorf("%s: no login was cut off behind its answer", secret)
		}
	}
	fake.WaitIdle()
	noSessions(t)
	for name, value := range c.metrics().only("caddy_imap_upstream_sessions") {
		if value != 0 {
			t.Errorf("%s has %v sessions", name, value)
		}
	}
}
