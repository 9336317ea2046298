//go:build integration

package integration

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// accountFailures and knownReserve are the guard's defaults.
const (
	accountFailures = 4
	knownReserve    = 1
)

// everySpelling has Dovecot know one account by all of its names.
const everySpelling = "auth_username_chars =\n"

// spellings are those of alice. Dovecot has no delegates; here the one with another's
// mailbox in it is a user of its own with the same password.
var spellings = []string{"alice", "ALICE", "alice@d", `D\alice`, "alice/shared"}

func passwordOfAll(password string) map[string]string {
	// In Dovecot names have no capitals, and in its file a backslash is two.
	return map[string]string{"alice": password, "alice@d": password, `d\\alice`: password, "alice/shared": password}
}

// A hundred addresses guess the password of one account, in all of its spellings and
// by both handlers at once. The backend hears of no more guesses than would lock the
// account, and the owner notices nothing.
func TestGuessing(t *testing.T) {
	password := secret("Owner-Of-Alice-71")
	ca := imaptest.NewCA(t)
	d := startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}}), Extra: everySpelling}, passwordOfAll(password))
	addr, imaps, auth := freeAddr(t), freeAddr(t), freeAddr(t)
	c := startCaddy(t, site{
		Backend: upstream(d.IMAP(), ca), IMAP: addr, IMAPS: imaps, Auth: auth, AuthOptions: "allow_delegates",
		Guard: "failure_delay 500ms",
	}.String())
	awaitCertificate(t, addr)
	ways := doors(imaps, auth)
	const home = "127.0.9.1"
	wantIn(t, ways[0], home, "alice", password)

	over := make(chan struct{})
	var owner sync.WaitGroup
	var owners int
	owner.Go(func() {
		for i := 0; ; i++ {
			for _, way := range ways {
				// From where he was, and from wherever he has not been.
				for _, from := range []string{home, dot("127.0.8", 1+i%200)} {
					wantIn(t, way, from, spellings[i%len(spellings)], password)
					owners++
				}
			}
			select {
			case <-over:
				return
			default:
			}
		}
	})
	start := time.Now()
	guesser := attack{doors: ways, spellings: spellings, addresses: 100, atOnce: 200}
	wrong, refused := guesser.run(t)
	took := time.Since(start)
	close(over)
	owner.Wait()
	const most = accountFailures - knownReserve
	got := d.Denied()
	if got != most || wrong != most {
		t.Errorf("Dovecot has refused %d guesses, and %d were told so; want %d of both", got, wrong, most)
	}
	figure(t, "%d guesses from %d addresses in %v: %d refused by Dovecot, %d told to come later; meanwhile the owner was let in %d times",
		wrong+refused, guesser.addresses, took.Round(100*time.Millisecond), got, refused, owners)
	if held := c.Held(); len(held.Accounts) != 1 || len(held.Sources) != 0 {
		t.Errorf("held are %+v, want one account and no source", held)
	}

	// What is left is kept for the owner, who mistypes.
	want(t, ways[1], "127.0.8.250", "alice", secret("Mistyped-Alice-70"), "to come later", later)
	want(t, ways[0], home, "alice", secret("Mistyped-Alice-72"), "that it is wrong", denied)
	want(t, ways[1], home, `D\alice`, secret("Mistyped-Alice-73"), "to come later", later)
	if got := d.Denied(); got != accountFailures {
		t.Errorf("Dovecot has refused %d logins, want %d", got, accountFailures)
	}
	for _, way := range ways {
		wantIn(t, way, home, "alice", password)
		wantIn(t, way, "127.0.8.251", "alice@d", password)
	}
	c.Stop()
}

// A backend that is told a part of the name only has one budget for all that become
// the same.
func TestGuessingByTemplate(t *testing.T) {
	t.Parallel()
	password := secret("Owner-Of-Alice-71")
	ca := imaptest.NewCA(t)
	d := startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}}), Extra: everySpelling}, map[string]string{"alice": password})
	addr, imaps, auth := freeAddr(t), freeAddr(t), freeAddr(t)
	startCaddy(t, site{
		Backend: upstream(d.IMAP(), ca) + "\n\t\t\tusername {imap.user.local}", IMAP: addr, IMAPS: imaps, Auth: auth,
		AuthOptions: "identity {imap.user.local}@example.org",
		Guard:       "failure_delay 1ms",
	}.String())
	awaitCertificate(t, addr)
	ways := doors(imaps, auth)
	wantIn(t, ways[0], "127.0.9.1", "alice", password)
	for i := range 40 {
		user := fmt.Sprintf(`z%d@x\alice`, i)
		if i%2 == 1 {
			user = fmt.Sprintf("z%d\uff20x\\alice", i)
		}
		if _, err := ways[i%2].login(fmt.Sprintf("127.0.8.%d", i+1), user, nextGuess()); err != nil {
			t.Error(err)
		}
	}
	if n := d.Denied(); n != accountFailures-knownReserve {
		t.Errorf("Dovecot has refused %d guesses for alice, want %d", n, accountFailures-knownReserve)
	}
	wantIn(t, ways[0], "127.0.8.200", "alice", password)
}
