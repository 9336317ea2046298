//go:build integration

package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// runGuesses has somebody guess by each mechanism. He has the budget that passwords have,
// at both doors together, and the owner of the account is still let in.
func runGuesses(crew *crew, d *mechDovecot, p *mechProxy) {
	doors := p.Doors()
	for i, mechanism := range append(challenges, tokens...) {
		crew.Run("hold "+mechanism, func(t *testing.T) { testMechHold(t, d, doors, mechanism, fmt.Sprintf("127.0.%d", 30+i)) })
		crew.Run("again "+mechanism, func(t *testing.T) { testMechAgain(t, d, doors, mechanism, fmt.Sprintf("127.0.%d.1", 40+i)) })
		crew.Run("cancelled "+mechanism, func(t *testing.T) { testMechCancelled(t, d, p, mechanism) })
	}
	crew.Run("ban", func(t *testing.T) { testMechBan(t, d, p, doors) })
}

// testMechHold has many addresses guess the secret of one account.
func testMechHold(t *testing.T, d *mechDovecot, doors []mechDoor, mechanism, network string) {
	user, _, good := d.Secrets(mechanism)
	home := network + ".1"
	in := func() {
		t.Helper()
		for _, way := range doors {
			if answer, err := way.login(home, newSASL(mechanism, user, good)); err != nil || !granted(answer) {
				t.Errorf("by %s the owner is told %q, %v", way.name, answer, err)
			}
		}
	}
	in()
	var wrong, refused atomic.Int32
	var all sync.WaitGroup
	for i := range 10 {
		way, client := doors[i%2], newSASL(mechanism, user, nextGuess())
		all.Go(func() {
			answer, err := way.login(fmt.Sprintf("%s.%d", network, 10+i), client)
			switch {
			case err == nil && denied(answer):
				wrong.Add(1)
			case err == nil && later(answer):
				refused.Add(1)
			default:
				t.Errorf("by %s the guesser is told %q, %v", way.name, answer, err)
			}
		})
	}
	all.Wait()
	const most = accountFailures - knownReserve
	if wrong.Load() != most || refused.Load() != 10-most {
		t.Errorf("%d guesses were denied and %d refused, want %d and %d", wrong.Load(), refused.Load(), most, 10-most)
	}
	eventually(t, "Dovecot to have refused all", func() error {
		if n, _ := d.Failed(user); n < most {
			return fmt.Errorf("it has refused %d", n)
		}
		return nil
	})
	in()
	if n, _ := d.Failed(user); n != most {
		t.Errorf("Dovecot has refused %d guesses, want %d", n, most)
	}
}

// testMechAgain has somebody try the same again. What is wrong is known again where it is
// the same on the wire, and what is right is asked about each time.
func testMechAgain(t *testing.T, d *mechDovecot, doors []mechDoor, mechanism, from string) {
	user, bad, good := d.Secrets(mechanism)
	for _, way := range doors {
		if answer, err := way.login(from, newSASL(mechanism, user, bad)); err != nil || !denied(answer) {
			t.Errorf("by %s a wrong secret is told %q, %v", way.name, answer, err)
		}
	}
	for range 2 {
		for _, way := range doors {
			if answer, err := way.login(from, newSASL(mechanism, user, good)); err != nil || !granted(answer) {
				t.Errorf("by %s the right secret is told %q, %v", way.name, answer, err)
			}
		}
	}
	want := 2
	if slices.Contains(tokens, mechanism) {
		want = 1
		if n := d.tokens.Asked(bad); n != 1 {
			t.Errorf("Dovecot was shown the wrong token %d times", n)
		}
		if n := d.tokens.Asked(good); n != 4 {
			t.Errorf("Dovecot was shown the right token %d times, want 4", n)
		}
	}
	d.WantLogins(user, 4)
	eventually(t, "Dovecot to have refused all", func() error {
		if n, _ := d.Failed(user); n < want {
			return fmt.Errorf("it has refused %d", n)
		}
		return nil
	})
	if n, _ := d.Failed(user); n != want {
		t.Errorf("Dovecot has refused %d logins, want %d", n, want)
	}
}

// testMechCancelled has a client end an exchange at the first challenge, and log in on
// the same connection then. Nobody has guessed anything.
func testMechCancelled(t *testing.T, d *mechDovecot, p *mechProxy, mechanism string) {
	user, _, good := d.Secrets(mechanism)
	client := newSASL(mechanism, user, good)
	_, first, err := client.Start()
	if err != nil {
		t.Fatal(err)
	}
	c := dialSecure(t, p.imap)
	c.Want("+ ", "AUTHENTICATE %s", mechanism)
	if len(first) > 0 && !slices.Contains(tokens, mechanism) {
		c.Send(b64(string(first)) + "\r\n")
		if line := c.Line(); !strings.HasPrefix(line, "+ ") || len(line) < 10 {
			t.Errorf("challenge %q", line)
		}
	}
	c.Send("*\r\n")
	if answer, _ := c.Answer(); !strings.HasPrefix(answer, "BAD") {
		t.Errorf("a client that cancels is told %q", answer)
	}
	if !slices.Contains(tokens, mechanism) {
		eventually(t, "Dovecot to hear that", func() error {
			if !strings.Contains(d.Log(), "(client didn't finish SASL auth, waited 0 secs): user=<>, method="+mechanism) {
				return errors.New("it has not")
			}
			return nil
		})
	}
	c.Want("OK", "AUTHENTICATE PLAIN %s", plain("", user, d.passwords[user]))
	d.WantLogins(user, 1)
	if n, methods := d.Failed(user); n != 0 {
		t.Errorf("Dovecot has refused %d logins with %q", n, methods)
	}
	for _, held := range p.Held().Accounts {
		if held.User == user {
			t.Errorf("%s is held", user)
		}
	}
}

// testMechBan has somebody guess at many accounts by all mechanisms.
func testMechBan(t *testing.T, d *mechDovecot, p *mechProxy, doors []mechDoor) {
	const from = "127.0.50.1"
	all := append(challenges, tokens...)
	var guesses sync.WaitGroup
	for i := range 12 {
		mechanism := all[i%len(all)]
		user, bad, _ := d.Secrets(mechanism)
		guesses.Go(func() {
			if answer, err := doors[i%2].login(from, newSASL(mechanism, user, bad)); err != nil || !denied(answer) {
				t.Errorf("guess %d, by %s with %s, is told %q, %v", i, doors[i%2].name, mechanism, answer, err)
			}
		})
	}
	guesses.Wait()
	banned := func(source struct{ Source string }) bool { return strings.HasPrefix(source.Source, from) }
	if held := p.Held(); !slices.ContainsFunc(held.Sources, banned) {
		t.Errorf("held are %+v, want %s", held, from)
	}
	for i, mechanism := range all {
		user, _, good := d.Secrets(mechanism)
		if answer, err := doors[i%2].login(from, newSASL(mechanism, user, good)); err == nil && granted(answer) {
			t.Errorf("a banned source is told %q", answer)
		}
		if n := d.Logins(user); n != 0 {
			t.Errorf("Dovecot has let %s in", user)
		}
	}
}
