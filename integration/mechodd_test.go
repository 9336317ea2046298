//go:build integration

package integration

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// runOddities tries what the usual clients do not do.
func runOddities(crew *crew, d *mechDovecot, p *mechProxy) {
	for _, mechanism := range append(challenges, tokens...) {
		crew.Run("oddities of "+mechanism, func(t *testing.T) {
			user, _, good := d.Secrets(mechanism)
			// Some want the server's last word in the answer.
			answer, err := authSASL("127.0.60.1", p.auth, "\tfinal-resp-ok", newSASL(mechanism, user, good))
			if err != nil || answer != "OK\tuser="+user {
				t.Errorf("with final-resp-ok: %q, %v", answer, err)
			}
			// Dovecot does not mind in which letters a name is.
			answer, err = authSASL("127.0.60.1", p.auth, "", newSASL(mechanism, strings.ToUpper(user), good))
			if err != nil || answer != "OK\tuser="+user {
				t.Errorf("in capitals: %q, %v", answer, err)
			}
			// A backend without SASL-IR asks for what the client has said already.
			for _, way := range []mechDoor{
				{"imap", func(from string, client saslClient) (string, error) { return imapSASL(from, p.plainIMAP, client) }},
				{"auth", func(from string, client saslClient) (string, error) { return authSASL(from, p.plainAuth, "", client) }},
			} {
				if answer, err := way.login("127.0.60.1", newSASL(mechanism, user, good)); err != nil || !granted(answer) {
					t.Errorf("at a backend without SASL-IR, by %s: %q, %v", way.name, answer, err)
				}
			}
		})
	}
	for _, mechanism := range []string{login.ScramSHA1, login.ScramSHA256} {
		crew.Run("delegates "+mechanism, func(t *testing.T) { testMechDelegates(t, d, p, mechanism) })
	}
	for _, mechanism := range challenges {
		crew.Run("nobody "+mechanism, func(t *testing.T) {
			for i, way := range p.Doors() {
				user := fmt.Sprintf("nobody%d-%s@example.test", i, strings.ToLower(mechanism))
				if answer, err := way.login("127.0.63.1", newSASL(mechanism, user, nextGuess())); err != nil || !denied(answer) {
					t.Errorf("by %s: %q, %v", way.name, answer, err)
				}
				d.WantFailed(t, user, mechanism)
			}
		})
	}
	for _, mechanism := range tokens {
		crew.Run("token of another "+mechanism, func(t *testing.T) {
			_, _, good := d.Secrets(mechanism)
			for _, way := range p.Doors() {
				user, _, _ := d.Secrets(mechanism)
				client := newSASL(mechanism, user, good)
				if answer, err := way.login("127.0.63.2", client); err != nil || !denied(answer) {
					t.Errorf("by %s: %q, %v", way.name, answer, err)
				}
				if fault := client.(*tokenClient).fault; !strings.HasPrefix(fault, "{") {
					t.Errorf("by %s the client is told %q of its token", way.name, fault)
				}
				d.WantFailed(t, user, mechanism)
			}
		})
		crew.Run("remembered "+mechanism, func(t *testing.T) {
			// What is known to be wrong is refused without a word about the token.
			user, bad, good := d.Secrets(mechanism)
			for _, c := range mechClients {
				if !slices.Contains(c.mechanisms, mechanism) {
					continue
				}
				if out, err := c.login(t, p.Place(mechanism), false, mechanism, user, bad); err == nil {
					t.Errorf("%s gets in:\n%s", c.name, out)
				}
				if out, err := c.login(t, p.Place(mechanism), false, mechanism, user, good); err != nil {
					t.Errorf("%s: %v\n%s", c.name, err, out)
				}
			}
			if n := d.tokens.Asked(bad); n != 1 {
				t.Errorf("Dovecot was shown the wrong token %d times", n)
			}
		})
	}
	crew.Run("tokens only", func(t *testing.T) { testTokensOnly(t, d, p) })
	crew.Run("long tokens", func(t *testing.T) { testLongTokens(t, d, p) })
	crew.Run("doveadm", func(t *testing.T) { testDoveadm(t, d, p) })
}

// testMechDelegates has somebody ask for the mailbox of another. Where that is not
// allowed, Dovecot is shown no proof.
func testMechDelegates(t *testing.T, d *mechDovecot, p *mechProxy, mechanism string) {
	other, _, _ := d.Secrets(mechanism)
	for _, way := range []struct {
		name  string
		login func(saslClient) (string, error)
		asked int
	}{
		{"imap", func(client saslClient) (string, error) { return imapSASL("127.0.61.1", p.imaps, client) }, 1},
		{"auth", func(client saslClient) (string, error) { return authSASL("127.0.61.2", p.auth, "", client) }, 0},
		{"auth with allow_delegates", func(client saslClient) (string, error) {
			return authSASL("127.0.61.3", p.delegates, "", client)
		}, 1},
	} {
		user, _, good := d.Secrets(mechanism)
		client := newSASL(mechanism, user, good).(*scramClient)
		client.authzID = other
		if answer, err := way.login(client); err != nil || !denied(answer) {
			t.Errorf("%s: %q, %v", way.name, answer, err)
		}
		if way.asked == 1 {
			d.WantFailed(t, user, mechanism)
			continue
		}
		if client.step > 1 {
			t.Errorf("%s: Dovecot has answered to the proof", way.name)
		}
	}
}

// testTokensOnly talks to a handler that has no mechanism with a password.
func testTokensOnly(t *testing.T, d *mechDovecot, p *mechProxy) {
	user, _, good := d.Secrets(login.ScramSHA256)
	c := dialIMAP(t, p.tokens)
	c.Want("NO [PRIVACYREQUIRED]", "AUTHENTICATE XOAUTH2")
	if _, caps := c.Cmd("CAPABILITY"); strings.Contains(strings.Join(caps, ""), "AUTH=") {
		t.Errorf("without TLS there is %q", caps)
	}
	if _, err := c.StartTLS(insecureTLS()); err != nil {
		t.Fatal(err)
	}
	_, caps := c.Cmd("CAPABILITY")
	if all := strings.Join(caps, "") + " "; strings.Count(all, "AUTH=") != 1 || !strings.Contains(all, " AUTH=XOAUTH2 ") || !strings.Contains(all, " LOGINDISABLED ") {
		t.Errorf("inside TLS there is %q", caps)
	}
	c.Want("NO", "LOGIN %s %s", user, good)
	c.Want("NO", "AUTHENTICATE PLAIN %s", plain("", user, good))
	c.Want("NO", "AUTHENTICATE SCRAM-SHA-256")
	if n := d.Logins(user); n != 0 {
		t.Errorf("Dovecot has let %s in", user)
	}
}

// testLongTokens logs in with tokens longer than a line of most mail programs, and with
// some that are too long for Dovecot, which says nothing about what they are worth.
func testLongTokens(t *testing.T, d *mechDovecot, p *mechProxy) {
	for i, mechanism := range tokens {
		user, _, _ := d.Secrets(mechanism)
		for size, want := range map[int][]string{
			5 << 10:  {imapGranted, "OK\tuser=" + user},
			11 << 10: {imapAway, authReset}, // one line of the auth protocol
			40 << 10: {imapAway, authReset}, // too long for that, too
		} {
			token := d.tokens.Issue(user, fmt.Sprintf("Long-Token-%d-%d-%s", i, size, strings.Repeat("z", size)))
			for j, way := range p.Doors() {
				if answer, err := way.login("127.0.62.1", newSASL(mechanism, user, token)); err != nil || answer != want[j] {
					t.Errorf("%s with %d bytes, by %s: %q, %v; want %q", mechanism, size, way.name, answer, err, want[j])
				}
			}
		}
		if n, methods := d.Failed(user); n != 0 {
			t.Errorf("Dovecot has refused %d logins with %q", n, methods)
		}
	}
	if held := p.Held(); slices.ContainsFunc(held.Sources, func(s struct{ Source string }) bool { return s.Source == "127.0.62.1" }) {
		t.Errorf("held are %+v", held)
	}
}

// testDoveadm has Dovecot's own client, which is strict about the greeting, ask about a
// password.
func testDoveadm(t *testing.T, d *mechDovecot, p *mechProxy) {
	user, bad, good := d.Secrets(login.CramMD5)
	for password, want := range map[string]int{good: 0, bad: 77} {
		cmd := exec.Command("doveadm", "auth", "test", "-a", p.socket, "-x", "rip=127.0.70.1", user, password)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("doveadm ends with %d, want %d:\n%s", code, want, out)
		}
	}
}
