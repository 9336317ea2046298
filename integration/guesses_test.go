//go:build integration

package integration

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// imapLogin has somebody at an address log in with TLS from the first byte, and
// returns what he is told. Unlike imapConn it can be used on any goroutine.
func imapLogin(from, addr, user, password string) (string, error) {
	raw, err := dialFrom(from, addr)
	if err != nil {
		return "", err
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(patience))
	conn := tls.Client(raw, insecureTLS())
	br := bufio.NewReader(conn)
	if _, err := br.ReadString('\n'); err != nil {
		return "", fmt.Errorf("reading the greeting: %w", err)
	}
	if _, err := fmt.Fprintf(conn, "a LOGIN %s %s\r\n", quote(user), quote(password)); err != nil {
		return "", err
	}
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("reading the answer to LOGIN: %w", err)
		}
		if text, ok := strings.CutPrefix(line, "a "); ok {
			return strings.TrimRight(text, "\r\n"), nil
		}
	}
}

// authReset is what authLogin returns for a connection that was reset.
const authReset = "(reset)"

// authLogin has a mail server ask for a client at an address, and returns what it
// is told, without the number of the request.
func authLogin(rip, addr, user, password string) (string, error) {
	conn, err := dialFrom("127.0.0.1", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = fmt.Fprintf(conn, "VERSION\t1\t1\nCPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\trip=%s\tresp=%s\n", rip, plain("", user, password))
	for br := bufio.NewReader(conn); err == nil; {
		var line string
		line, err = br.ReadString('\n')
		for _, word := range []string{"OK", "FAIL"} {
			if rest, ok := strings.CutPrefix(line, word+"\t1"); ok && err == nil {
				return word + strings.TrimRight(rest, "\n"), nil
			}
		}
	}
	if errors.Is(err, syscall.ECONNRESET) {
		return authReset, nil
	}
	return "", fmt.Errorf("asking about a password: %w", err)
}

// door is a way in.
type door struct {
	name string
	// login returns what somebody at an address is told.
	login func(from, user, password string) (string, error)
}

// doors are the two handlers of a server.
func doors(imaps, auth string) []door {
	return []door{
		{"imap", func(from, user, password string) (string, error) { return imapLogin(from, imaps, user, password) }},
		{"auth", func(from, user, password string) (string, error) { return authLogin(from, auth, user, password) }},
	}
}

// granted says whether an answer lets somebody in, and denied whether it says that
// his password is wrong. Anything else says that he shall come again later.
func granted(answer string) bool {
	return answer == "OK Logged in" || strings.HasPrefix(answer, "OK\tuser=")
}
func denied(answer string) bool {
	return answer == "NO [AUTHENTICATIONFAILED] Authentication failed" || strings.HasPrefix(answer, "FAIL\tuser=") && !strings.Contains(answer, "code=")
}

func later(answer string) bool {
	return answer == "NO [UNAVAILABLE] Too many logins, try again later." || answer == authReset
}

// wantIn has somebody let in.
func wantIn(t *testing.T, d door, from, user, password string) {
	t.Helper()
	if answer, err := d.login(from, user, password); err != nil || !granted(answer) {
		t.Errorf("%s from %s, by %s, is told %q, %v; want to be let in", user, from, d.name, answer, err)
	}
}

// want has somebody told what the function says.
func want(t *testing.T, d door, from, user, password, what string, is func(string) bool) {
	t.Helper()
	if answer, err := d.login(from, user, password); err != nil || !is(answer) {
		t.Errorf("%s from %s, by %s, is told %q, %v; want %s", user, from, d.name, answer, err, what)
	}
}

// attack is one who guesses the password of an account.
type attack struct {
	doors []door
	// spellings are those of the account.
	spellings []string
	// addresses is how many he has, and atOnce how many of them he uses at a time.
	addresses, atOnce int
}

// guessed is how many different passwords were guessed, so that no attack guesses
// those of another.
var guessed struct {
	sync.Mutex
	n int
}

func nextGuess() string {
	guessed.Lock()
	defer guessed.Unlock()
	guessed.n++
	return secret(fmt.Sprintf("Guess-%04d-Horse", guessed.n))
}

// run has each address guess once by each door, all of them different passwords,
// and counts the answers.
func (a attack) run(t *testing.T) (wrong, refused int) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, a.atOnce)
	for i := range a.addresses {
		from := fmt.Sprintf("127.0.%d.%d", 10+i/50, 1+i%50)
		for j, d := range a.doors {
			user, password := a.spellings[(i+2*j)%len(a.spellings)], nextGuess()
			slots <- struct{}{}
			all.Go(func() {
				defer func() { <-slots }()
				answer, err := d.login(from, user, password)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil && denied(answer):
					wrong++
				case err == nil && later(answer):
					refused++
				default:
					t.Errorf("%s from %s, by %s, is told %q, %v", user, from, d.name, answer, err)
				}
			})
		}
	}
	all.Wait()
	return wrong, refused
}

// Held returns what GET /imap/guard tells.
func (c *caddyServer) Held() (held struct {
	Accounts []struct{ User string }
	Sources  []struct{ Source string }
},
) {
	c.t.Helper()
	text := c.request(http.MethodGet, "/imap/guard", "application/json", "")
	if err := json.Unmarshal([]byte(text), &held); err != nil {
		c.t.Errorf("GET /imap/guard: %v", err)
	}
	return held
}

// dot returns an address of a network of 254.
func dot(network string, i int) string { return fmt.Sprintf("%s.%d", network, i) }
