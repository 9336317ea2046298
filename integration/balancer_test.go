//go:build integration

package integration

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// balancerIP is where the load balancer of these tests is, and serverIP the address
// that its clients connect to.
const (
	balancerIP = "127.0.0.50"
	serverIP   = "192.0.2.1"
)

// balanced is a client behind the load balancer, or one that pretends to be.
type balanced struct{ from, client string }

// dial connects and says where the client is.
func (b balanced) dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := dialFrom(b.from, addr)
	if err != nil {
		t.Fatalf("connecting to the proxy: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(conn, "PROXY TCP4 %s %s 4000 143\r\n", b.client, serverIP); err != nil {
		t.Fatalf("sending a header: %v", err)
	}
	return conn
}

// logIn logs in with TLS from the first byte, or by STARTTLS, and returns the answer.
func (b balanced) logIn(t *testing.T, addr string, startTLS bool, user, password string) string {
	t.Helper()
	conn := b.dial(t, addr)
	if startTLS {
		c := newIMAPConn(t, conn)
		if greeting := c.Line(); !strings.HasPrefix(greeting, "* OK [CAPABILITY ") {
			return greeting
		}
		if _, err := c.StartTLS(insecureTLS()); err != nil {
			t.Fatalf("STARTTLS: %v", err)
		}
		answer, _ := c.Cmd("LOGIN %s %s", user, password)
		return answer
	}
	c := newIMAPConn(t, tls.Client(conn, insecureTLS()))
	c.Line()
	answer, _ := c.Cmd("LOGIN %s %s", user, password)
	return answer
}

// Behind a load balancer, configured as load-balancer.md has it, Caddy's log, the
// guard and Dovecot's log are about the client. Nobody else's header is believed.
func TestLoadBalancer(t *testing.T) {
	t.Parallel()
	good := secret("Behind-A-Balancer-61")
	d := startForwardDovecot(t, map[string]string{"alice": good, "bob": good, "carol": good})
	imap, imaps, closed := freeAddr(t), freeAddr(t), freeAddr(t)
	route := func(handler string) string {
		return "proxy_protocol {\nallow " + balancerIP + "/32\nfallback_policy reject\ntimeout 1s\n}\n" + handler
	}
	c := startCaddy(t, fmt.Sprintf(`
	imap {
		hostname mail.internal
		guard {
			failure_delay 1ms
			source_failures 2
		}
		backend exchange {
%s
		}
	}
	layer4 {
		%s {
			route {
				%s
			}
		}
		%s {
			route {
				%s
			}
		}
		%s {
			@balancer remote_ip %s
			route @balancer {
				%s
			}
		}
	}
`, d.backend("proxy_v2", "starttls"), imap, route("imap exchange"), imaps, route("imap exchange {\nimplicit_tls\n}"), closed, balancerIP, route("imap exchange")))
	awaitCertificate(t, imap)
	through := func(client string) balanced { return balanced{balancerIP, client} }
	logged := func(user, client string) {
		t.Helper()
		c.WaitLog(`"msg":"login"`, `"result":"granted"`, `"user":"`+user+`"`, `"remote_ip":"`+client+`"`)
		c.WaitLog(`"msg":"session ended"`, `"user":"`+user+`"`, `"remote":"`+client+`:4000"`)
		d.WaitLog("imap-login: Info: Login: user=<"+user+">", "rip="+client+",", "lip="+serverIP+",")
	}
	open := func(b balanced, addr string, startTLS bool, user string) {
		t.Helper()
		if answer := b.logIn(t, addr, startTLS, user, good); !strings.HasPrefix(answer, "OK") {
			t.Errorf("%s is told %q", user, answer)
		}
	}
	open(through("198.51.100.1"), imap, true, "alice")
	open(through("198.51.100.2"), imaps, false, "bob")
	open(through("198.51.100.3"), closed, true, "carol")

	// Who guesses is banned, at the greeting and for both ports, and nobody else is.
	for i := range 2 {
		answer := through("198.51.100.9").logIn(t, imap, true, fmt.Sprintf("guessed-%d", i), secret("Balancer-Guess-62"))
		if answer != imapWrong {
			t.Errorf("a guess is told %q", answer)
		}
	}
	if answer := through("198.51.100.9").logIn(t, imap, true, "alice", good); !strings.HasPrefix(answer, "* BYE Too many failed logins") {
		t.Errorf("who has guessed is told %q", answer)
	}
	if b, err := io.ReadAll(through("198.51.100.9").dial(t, imaps)); len(b) > 0 || err != nil {
		t.Errorf("who has guessed is told %q, %v", b, err)
	}
	open(through("198.51.100.10"), imap, true, "alice")

	// A header from anybody else is a bad command, or not even read.
	stranger := balanced{"127.0.0.51", "198.51.100.66"}
	br := bufio.NewReader(stranger.dial(t, imap))
	for _, want := range []string{"* OK [CAPABILITY ", "PROXY BAD "} {
		if line, err := br.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("a stranger with a header is told %q, %v; want %q", line, err, want)
		}
	}
	if b, err := io.ReadAll(stranger.dial(t, closed)); len(b) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a stranger is told %q, %v", b, err)
	}
	// What checks whether we are there may send no header, and holds nothing for long.
	silent, err := dialFrom(balancerIP, imap)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	start := time.Now()
	_ = silent.SetDeadline(start.Add(patience))
	if b, err := io.ReadAll(silent); len(b) > 0 || err != nil || time.Since(start) > 5*time.Second {
		t.Errorf("without a header one is told %q, %v, after %v", b, err, time.Since(start))
	}
	c.Stop()
	logged("alice", "198.51.100.1")
	logged("alice", "198.51.100.10")
	logged("bob", "198.51.100.2")
	logged("carol", "198.51.100.3")
	if lines := c.LogLines("198.51.100.66"); len(lines) != 0 {
		t.Errorf("what a stranger has said of himself is in the log: %q", lines)
	}
	for _, line := range c.LogLines(`"logger":"imap"`, balancerIP) {
		t.Errorf("a line is about the load balancer: %s", line)
	}
}
