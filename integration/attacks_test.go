//go:build integration

package integration

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// A client of TLS 1.2 that wants to renegotiate is cut off, whether it has logged in
// or not: what was said before could be taken for another's.
func TestRenegotiation(t *testing.T) {
	need(t, "openssl")
	password := secret("Once-Is-Enough-77")
	backend := imaptest.NewMemory(t, imaptest.Accounts{Passwords: map[string]string{"alice": password}})
	s := site{Backend: "\t\t\tupstream " + backend.Addr() + "\n\t\t\ttls off", IMAP: freeAddr(t), IMAPS: freeAddr(t)}
	startCaddy(t, s.String())
	awaitCertificate(t, s.IMAP)
	for addr, options := range map[string][]string{s.IMAP: {"-starttls", "imap"}, s.IMAPS: nil} {
		for _, loggedIn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%q, logged in %v", options, loggedIn), func(t *testing.T) {
				args := append([]string{"s_client", "-connect", addr, "-tls1_2", "-servername", "mail.internal"}, options...)
				cmd := exec.Command("openssl", args...)
				k := &keyboard{t: t}
				cmd.Stdout, cmd.Stderr = k, k
				in, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				k.in = in
				p := startProcess(t, "openssl", cmd)
				defer p.stop(t)
				k.Await("Secure Renegotiation IS supported")
				k.Await("Compression: NONE")
				if loggedIn {
					k.Type("a LOGIN alice " + password)
					k.Await("a OK Logged in")
				} else {
					k.Type("a NOOP")
					k.Await("a OK NOOP")
				}
				k.Type("R")
				k.Await("RENEGOTIATING")
				k.Await("unexpected message")
				<-p.done
			})
		}
	}
}

// A page has a browser send IMAP commands, and a password that it knows, to the ports.
func TestBrowser(t *testing.T) {
	password := secret("Lured-Here-78")
	backend := imaptest.NewMemory(t, imaptest.Accounts{Passwords: map[string]string{"alice": password}})
	s := site{Backend: "\t\t\tupstream " + backend.Addr() + "\n\t\t\ttls off", IMAP: freeAddr(t), IMAPS: freeAddr(t)}
	startCaddy(t, s.String())
	awaitCertificate(t, s.IMAP)
	body := "a LOGIN alice " + password + "\r\nb <script>alert(1)</script>\r\nc LOGOUT\r\n"
	for _, tt := range []struct {
		name, url string
		alpn      []string
		// want is in the browser's error, of which there are many.
		want string
	}{
		{"in clear text", "http://" + s.IMAP, nil, ""},
		{"with ALPN", "https://" + s.IMAPS, []string{"h2", "http/1.1"}, "no application protocol"},
		{"without ALPN", "https://" + s.IMAPS, nil, ""},
		{"with ALPN for IMAP", "https://" + s.IMAPS, []string{"imap"}, ""},
		{"TLS where STARTTLS is due", "https://" + s.IMAP, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := insecureTLS()
			cfg.NextProtos = tt.alpn
			transport := &http.Transport{TLSClientConfig: cfg, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			start := time.Now()
			for _, do := range []func() (*http.Response, error){
				func() (*http.Response, error) {
					return client.Post(tt.url+"/?b=<script>", "text/plain", strings.NewReader(body))
				},
				func() (*http.Response, error) { return client.Get(tt.url + "/<script>alert(1)</script>") },
			} {
				answer, err := do()
				if err == nil {
					_ = answer.Body.Close()
					t.Fatalf("the browser takes it for an answer: %v", answer.Status)
				}
				if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "BAD") {
					t.Errorf("the browser got %v, want %q", err, tt.want)
				}
			}
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
	if n := len(backend.Logins()); n != 0 {
		t.Errorf("%d logins have reached the backend", n)
	}
}

// Somebody who has logged in tries to guess others' passwords in his session, at a
// backend that would let him.
func TestGuessingAfterLogin(t *testing.T) {
	password, guess := secret("My-Own-Door-79"), secret("Your-Own-Door-80")
	ca := imaptest.NewCA(t)
	profile := imaptest.Profile{
		TLS: ca.ServerTLS("127.0.0.1"), Inside: "IMAP4rev1 AUTH=PLAIN SASL-IR", After: "IMAP4rev1 UNAUTHENTICATE LITERAL+ COMPRESS=DEFLATE",
		Announce: true,
	}
	backend := imaptest.NewFake(t, profile)
	s := site{Backend: upstream(backend.Addr(), ca), IMAP: freeAddr(t)}
	startCaddy(t, s.String())
	awaitCertificate(t, s.IMAP)
	attempts := "a UNAUTHENTICATE\r\nb LOGIN bob " + guess + "\r\nc AUTHENTICATE PLAIN " + plain("", "bob", guess) + "\r\n" +
		"d STARTTLS\r\ne COMPRESS DEFLATE\r\n"
	want := []string{"a BAD", "b BAD", "c BAD", "d BAD", "e NO"}
	for _, pipelined := range []bool{false, true} {
		t.Run(fmt.Sprintf("pipelined %v", pipelined), func(t *testing.T) {
			before := len(backend.Logins())
			conn := dialSecure(t, s.IMAP)
			login := "in LOGIN alice " + password + "\r\n"
			if pipelined {
				conn.Send(login + attempts)
			} else {
				conn.Send(login)
			}
			for {
				line := conn.Line()
				if strings.Contains(line, "UNAUTHENTICATE") {
					t.Errorf("the client is offered %q", line)
				}
				if strings.HasPrefix(line, "in ") {
					break
				}
			}
			if !pipelined {
				conn.Send(attempts)
			}
			for _, prefix := range want {
				if line := conn.Line(); !strings.HasPrefix(line, prefix) {
					t.Errorf("got %q, want %q", line, prefix)
				}
			}
			conn.Want("OK", "NOOP")
			if n := len(backend.Logins()) - before; n != 1 {
				t.Errorf("the backend saw %d logins, want 1", n)
			}
		})
	}
}
