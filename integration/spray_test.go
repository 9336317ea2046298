//go:build integration

package integration

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// rush has many people log in at the same time by one door, from one address, each with
// his own name, and counts the answers. It returns how long the slowest has waited.
func rush(t *testing.T, d door, from string, people int, password string) (in, wrong, refused int, slowest time.Duration) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	start := time.Now()
	for i := range people {
		all.Go(func() {
			answer, err := d.login(from, fmt.Sprintf("%s%d", d.name, i), password)
			took := time.Since(start)
			mu.Lock()
			defer mu.Unlock()
			slowest = max(slowest, took)
			switch {
			case err == nil && granted(answer):
				in++
			case err == nil && denied(answer):
				wrong++
			case err == nil && later(answer):
				refused++
			default:
				t.Errorf("by %s: %q, %v", d.name, answer, err)
			}
		})
	}
	all.Wait()
	return in, wrong, refused, slowest
}

// TestSpraying has one address try a password on many accounts at the same time, at a
// backend that is slow. And it has as many come in the morning who are right.
func TestSpraying(t *testing.T) {
	password := secret("Everybody-In-The-Office-9")
	ca := imaptest.NewCA(t)
	backend := imaptest.NewFake(t, imaptest.Profile{
		TLS: ca.ServerTLS(),
		Login: func(l imaptest.Login) string {
			if l.Secret == password {
				time.Sleep(50 * time.Millisecond)
				return "OK Logged in."
			}
			time.Sleep(500 * time.Millisecond)
			return "NO [AUTHENTICATIONFAILED] Authentication failed."
		},
	})
	addr, imaps, auth := freeAddr(t), freeAddr(t), freeAddr(t)
	startCaddy(t, site{
		Backend: upstream(backend.Addr(), ca), IMAP: addr, IMAPS: imaps, Auth: auth, Guard: "failure_delay 100ms",
	}.String())
	awaitCertificate(t, addr)
	for i, d := range doors(imaps, auth) {
		before := len(backend.Logins())
		guess := nextGuess()
		_, wrong, refused, _ := rush(t, d, fmt.Sprint("127.0.20.", 1+i), 150, guess)
		asked := 0
		for _, l := range backend.Logins()[before:] {
			if l.Secret == guess {
				asked++
			}
		}
		if asked != 20 || wrong != 20 || refused != 130 {
			t.Errorf("by %s: %d guesses reached the backend; %d were told that they are wrong, %d to come later", d.name, asked, wrong, refused)
		}
		from := fmt.Sprint("127.0.30.", 1+i)
		for _, when := range []string{"for the first time", "again"} {
			in, _, _, slowest := rush(t, d, from, 200, password)
			if in != 200 {
				t.Errorf("by %s: %d of 200 were let in", d.name, in)
			}
			figure(t, "200 people behind one address log in by %s %s, each of whom the backend takes 50ms: the slowest is in after %v",
				d.name, when, slowest.Round(10*time.Millisecond))
		}
	}
}
