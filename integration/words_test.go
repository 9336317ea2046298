//go:build integration

package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// Whatever the reason for a refusal is, it is told in the same words about users that
// there are and users that there are not, and never before the delay is over.
func TestSameWords(t *testing.T) {
	need(t, "dovecot", "postfix", "swaks")
	ca := imaptest.NewCA(t)
	d := startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}})},
		map[string]string{"alice": secret("Real-Alice-11")})
	const delay = 100 * time.Millisecond
	addr, imaps, auth := freeAddr(t), freeAddr(t), freeAddr(t)
	c := startCaddy(t, site{
		Guard:   fmt.Sprintf("failure_delay %v\nsource_failures 9\nexempt 127.0.0.0/8", delay),
		Backend: upstream(d.IMAP(), ca), IMAP: addr, IMAPS: imaps, Auth: auth,
	}.String())
	awaitCertificate(t, addr)
	p := startPostfix(t, "inet:"+auth)
	ways := []door{
		// The address of an IMAP client is that of its socket.
		{"imap", func(_, user, password string) (string, error) { return imapLogin("127.0.9.1", imaps, user, password) }},
		{"auth", func(from, user, password string) (string, error) { return authLogin(from, auth, user, password) }},
		{"imap, AUTHENTICATE", func(_, user, password string) (string, error) {
			c := dialSecure(t, addr)
			defer c.Close()
			got, _ := c.Cmd("AUTHENTICATE PLAIN %s", plain("", user, password))
			return got, nil
		}},
		{"postfix", func(_, user, password string) (string, error) {
			code, text := p.Auth("PLAIN", user, password)
			return fmt.Sprint(code, " ", text), nil
		}},
	}

	// told is what each way says to a user at one step of a guesser's way, his name
	// left out.
	told := func(user, from, password string) (all []string) {
		for _, way := range ways {
			start := time.Now()
			answer, err := way.login(from, user, password)
			if took := time.Since(start); err != nil || took < delay {
				t.Errorf("%s by %s: %q after %v, %v; want a refusal after %v", user, way.name, answer, took, err, delay)
			}
			all = append(all, way.name+": "+strings.ReplaceAll(answer, user, "U"))
		}
		return all
	}
	first, second, third, fourth := nextGuess(), nextGuess(), nextGuess(), nextGuess()
	steps := []struct{ name, from, password, imap, postfix string }{
		{"wrong, then remembered", "198.51.100.1", first, imapWrong, "535 "},
		{"wrong again", "198.51.100.1", second, imapWrong, "535 "},
		{"wrong for the last time", "198.51.100.1", third, imapWrong, "535 "},
		{"held", "198.51.100.1", fourth, imapLater, "454 "},
		{"remembered while held", "198.51.100.2", first, imapWrong, "535 "},
	}
	for _, step := range steps {
		real, none := told("alice", step.from, step.password), told("nosuch", step.from, step.password)
		for i := range real {
			if real[i] != none[i] {
				t.Errorf("%s: a user that there is is told\n%s\nand one that there is not\n%s", step.name, real[i], none[i])
			}
		}
		if got, _ := strings.CutPrefix(real[0], "imap: "); got != step.imap {
			t.Errorf("%s: told %q, want %q", step.name, got, step.imap)
		}
		if got, _ := strings.CutPrefix(real[3], "postfix: "); !strings.HasPrefix(got, step.postfix) {
			t.Errorf("%s: told %q, want %s", step.name, got, step.postfix)
		}
		if real[2] != "imap, AUTHENTICATE: "+step.imap {
			t.Errorf("%s: told %q, want %q as for LOGIN", step.name, real[2], step.imap)
		}
	}
	if got := d.Denied(); got != 2*(accountFailures-knownReserve) {
		t.Errorf("Dovecot has refused %d guesses, want %d", got, 2*(accountFailures-knownReserve))
	}

	// A source that is banned is told the same about all.
	const banned = "198.51.100.66"
	for i := 0; len(c.Held().Sources) == 0; i++ {
		if i > 9 {
			t.Fatal("the source is not banned")
		}
		_, _ = ways[1].login(banned, fmt.Sprintf("somebody-%d", i), nextGuess())
	}
	for _, user := range []string{"alice", "nosuch", "another"} {
		start := time.Now()
		answer, err := ways[1].login(banned, user, nextGuess())
		if took := time.Since(start); err != nil || answer != authReset || took < delay {
			t.Errorf("%s from a banned source: %q after %v, %v; want a reset after %v", user, answer, took, err, delay)
		}
	}
}
