package oauthlogin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// answers connects to an endpoint that reads a question and gives one answer, and hangs up.
func answers(answer string) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			if r, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(theirs, answer)
			}
		}()
		return ours, nil
	}
}

// FuzzAnswer pins that whatever an endpoint answers, what comes of it is a token that
// fits into a message, or a verdict whose error quotes nothing.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "application/json", `{"access_token":"abc","token_type":"bearer","expires_in":3600}`)
	f.Add(200, "application/x-www-form-urlencoded", "access_token=abc&expires_in=9")
	f.Add(400, "application/json", `{"error":"invalid_grant"}`)
	f.Add(400, "application/json", entra("invalid_grant", 50076))
	f.Add(429, "text/plain", "120")
	f.Add(503, "text/html", "<html>")
	f.Fuzz(func(t *testing.T, status int, kind, body string) {
		s, err := New(config("http://127.0.0.1/token"))
		if err != nil {
			t.Fatal(err)
		}
		const mark = "Nobody-Else-Says-This"
		body = strings.ReplaceAll(body, testSecret, mark)
		s.cfg.dial = answers(fmt.Sprintf("HTTP/1.1 %03d %s\r\nContent-Type: %s\r\nRetry-After: %s\r\n\r\n%s", status, mark, kind, body, body))
		token, v := s.Token(context.Background(), testUser, testSecret)
		switch v.Result {
		case login.Granted:
			a := &login.Attempt{User: testUser, Secret: testSecret}
			with, err := a.WithToken(login.XOAuth2, token.Secret)
			if err != nil || with.Check() != nil || len(with.Relay.Proof) > login.MaxMessage ||
				strings.Count(string(with.Relay.Proof), "\x01") != 3 || status < 200 || status > 299 {
				t.Errorf("status %d: granted with %q, %v", status, string(token.Secret), err)
			}
		case login.Throttled:
			if v.Backoff < 0 || v.Backoff > maxBackoff {
				t.Errorf("held off for %s", v.Backoff)
			}
		}
		if v.Err != nil && strings.Contains(v.Err.Error(), mark) {
			t.Errorf("the error quotes the answer: %v", v.Err)
		}
		if v.Proven && v.Result != login.Denied {
			t.Errorf("%s, and the password is right", v.Result)
		}
	})
}
