package oauthlogin

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// What must not be seen again: they could be words of the protocol, so that nothing that
// is looked for in an answer filters them out.
const (
	echoPassword = "correcthorsebattery"
	echoSecret   = "clientsecretword"
)

// listens has connections served one by one.
func listens(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			serve(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return ln.Addr().String()
}

// quotes fails the test if a text has a secret in it, or where it was sent to.
func quotes(t *testing.T, where, text string) {
	t.Helper()
	for _, hidden := range []string{echoPassword, echoSecret, testUser, url.QueryEscape(testUser), "grant_type", "hidden=query"} {
		if strings.Contains(text, hidden) {
			t.Errorf("%s quotes %s: %s", where, hidden, text)
		}
	}
}

// logged is what is written into the standard log, which Caddy takes over.
func logged(t *testing.T) *bytes.Buffer {
	var b bytes.Buffer
	log.SetOutput(&b)
	t.Cleanup(func() { log.SetOutput(io.Discard) })
	return &b
}

// An endpoint that says what it was told, wherever it can, has none of it in an error or
// in the log.
func TestEcho(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	sized := func(status, body string) string {
		return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
	}
	for name, answer := range map[string]func(question, password string) string{
		"no HTTP":         func(q, _ string) string { return q + "\r\n\r\n" },
		"version":         func(q, _ string) string { return "HTTP/" + q + " 200 OK\r\n\r\n" },
		"status":          func(q, _ string) string { return "HTTP/1.1 " + q + " x\r\n\r\n" },
		"reason":          func(q, _ string) string { return "HTTP/1.1 400 " + q + "\r\n\r\n" },
		"header":          func(q, _ string) string { return "HTTP/1.1 200 OK\r\n" + q + "\r\n\r\n" },
		"header's name":   func(q, _ string) string { return "HTTP/1.1 200 OK\r\n" + q + ": x\r\n\r\n" },
		"continued line":  func(q, _ string) string { return "HTTP/1.1 200 OK\r\n " + q + "\r\n\r\n" },
		"interim answers": func(q, _ string) string { return strings.Repeat("HTTP/1.1 100 "+q+"\r\nX: "+q+"\r\n\r\n", 9) },
		"another protocol": func(q, _ string) string {
			return "HTTP/1.1 101 X\r\nUpgrade: " + q + "\r\nConnection: upgrade\r\n\r\n" + q
		},
		"location": func(q, _ string) string {
			return "HTTP/1.1 302 X\r\nLocation: http://x/%zz?" + q + "\r\nContent-Length: 0\r\n\r\n"
		},
		"location, 307": func(q, _ string) string {
			return "HTTP/1.1 307 X\r\nLocation: ://" + q + "\r\nContent-Length: 0\r\n\r\n"
		},
		"length":            func(q, _ string) string { return ok + "Content-Length: " + q + "\r\n\r\n" },
		"two lengths":       func(q, _ string) string { return ok + "Content-Length: 1\r\nContent-Length: " + q + "\r\n\r\n" },
		"transfer encoding": func(q, _ string) string { return ok + "Transfer-Encoding: " + q + "\r\n\r\n" },
		"chunk":             func(q, _ string) string { return ok + "Transfer-Encoding: chunked\r\n\r\n" + q + "\r\n" },
		"trailer":           func(q, _ string) string { return ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + q + "\r\n\r\n" },
		"no JSON":           func(q, _ string) string { return sized("200 OK", q) },
		"no JSON, 400":      func(q, _ string) string { return sized("400 X", q) },
		"no form":           func(q, _ string) string { return "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n%zz" + q },
		"error":             func(_, p string) string { return sized("400 X", `{"error":"`+p+`"}`) },
		"error, 200":        func(_, p string) string { return sized("200 OK", `{"error":"`+p+`"}`) },
		"description": func(q, p string) string {
			return sized("400 X", `{"error":"access_denied","error_description":"`+q+`","error_uri":"`+p+`"}`)
		},
		"Microsoft's": func(q, _ string) string {
			return sized("400 X", `{"error":"invalid_grant","error_description":"AADSTS50057: `+q+`"}`)
		},
		"type of a field":   func(_, p string) string { return sized("200 OK", `{"access_token":"x","expires_in":"`+p+`"}`) },
		"type of the token": func(_, p string) string { return sized("200 OK", `{"access_token":"x","token_type":"`+p+`"}`) },
		"token":             func(q, _ string) string { return sized("200 OK", `{"access_token":"`+q+` x","token_type":"Bearer"}`) },
		"behind the answer": func(q, _ string) string { return sized("400 X", `{"error":"slow_down"}`) + q },
	} {
		t.Run(name, func(t *testing.T) {
			addr := listens(t, func(conn net.Conn) {
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					t.Error(err)
					return
				}
				body, _ := io.ReadAll(r.Body)
				_, _ = io.WriteString(conn, answer(string(body), echoPassword))
			})
			out := logged(t)
			cfg := config("http://" + addr + "/token?hidden=query")
			cfg.ClientSecret = echoSecret
			_, v := newSource(t, cfg).Token(testContext(t), testUser, echoPassword)
			if v.Result == login.Granted || v.Err == nil {
				t.Fatalf("verdict %s (%v)", v.Result, v.Err)
			}
			quotes(t, "the error", v.Err.Error())
			quotes(t, "the log", out.String())
		})
	}
}

// What an endpoint says before it is asked is no answer, and not logged: it may have been
// told a secret before.
func TestUnasked(t *testing.T) {
	out := logged(t)
	addr := listens(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, echoPassword)
		_, _ = http.ReadRequest(bufio.NewReader(conn))
	})
	for range 20 {
		_, v := newSource(t, config("http://"+addr)).Token(testContext(t), testUser, testSecret)
		quotes(t, "the error", v.Err.Error())
	}
	quotes(t, "the log", out.String())
}

// Neither do the names in a certificate get into an error.
func TestEchoInCertificate(t *testing.T) {
	for name, tc := range map[string]struct {
		trusted bool
		until   time.Duration
		server  string
		want    string
	}{
		"another name":      {true, time.Hour, "login.example.org", "not valid for login.example.org"},
		"unknown authority": {false, time.Hour, echoPassword, "unknown authority"},
		"expired":           {true, -time.Hour, echoPassword, "has expired"},
	} {
		t.Run(name, func(t *testing.T) {
			cert, pool := named(t, echoPassword, tc.until)
			addr := listens(t, func(conn net.Conn) {
				_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
			})
			cfg := config("https://" + addr + "/token?hidden=query")
			cfg.TLS = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: tc.server}
			if tc.trusted {
				cfg.TLS.RootCAs = pool
			}
			_, v := newSource(t, cfg).Token(testContext(t), testUser, testSecret)
			if v.Unanswered || v.Result != login.Unavailable || !strings.Contains(v.Err.Error(), tc.want) {
				t.Errorf("verdict %+v, want %q", v, tc.want)
			}
			quotes(t, "the error", v.Err.Error())
		})
	}
	t.Run("no TLS", func(t *testing.T) {
		addr := listens(t, func(conn net.Conn) { _, _ = io.WriteString(conn, echoPassword) })
		_, v := newSource(t, config("https://"+addr)).Token(testContext(t), testUser, testSecret)
		if v.Err == nil || !strings.Contains(v.Err.Error(), "no TLS") {
			t.Errorf("verdict %+v", v)
		}
		quotes(t, "the error", v.Err.Error())
	})
}

// named returns a certificate whose only name and authority are called so.
func named(t *testing.T, name string, until time.Duration) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, BasicConstraintsValid: true, IsCA: true,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(until),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// Nor does the query of the URL, whatever is wrong with it, or a user in it.
func TestURLIsNotQuoted(t *testing.T) {
	for _, url := range []string{
		"http://login.example.org/?k=" + echoSecret, "ftp://login.example.org/?k=" + echoSecret, "https:///?k=" + echoSecret,
		"https:" + echoSecret, "mailto:x:" + echoSecret + "@y", "https://x:" + echoSecret + "@login.example.org/", echoSecret + "@login.example.org/",
		"https://login.example.org/?k=" + echoSecret + "#x", "https://login.example.org/?" + echoSecret + "={imap.tenant}",
		"https://login.example.org/{imap.tenant}?k=" + echoSecret, "https://l\u00f6gin.example.org/?k=" + echoSecret, "https://[::1/?k=" + echoSecret,
	} {
		_, err := New(config(url))
		if err == nil {
			t.Errorf("%s is taken", url)
			continue
		}
		quotes(t, url+": the error", err.Error())
	}
}
