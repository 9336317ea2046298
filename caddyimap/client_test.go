package caddyimap

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// What a client is told before it has logged in, and how it does that.
const (
	greetingClear  = "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID STARTTLS LOGINDISABLED] Caddy ready."
	greetingSecure = "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN AUTH=LOGIN] Caddy ready."
	loginGood      = "in LOGIN " + testUser + " " + testSecret
	loggedIn       = "in OK Logged in"
)

// client is played by a test.
type client struct {
	tb   testing.TB
	conn net.Conn
	br   *bufio.Reader
	// handled is what the handlers returned, once they have.
	handled chan error
}

// dial connects to an address.
func dial(tb testing.TB, addr string) *client {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	return &client{tb: tb, conn: conn, br: bufio.NewReader(conn), handled: make(chan error, 1)}
}

// serve has a connection over the loopback served by handlers, as layer4 does it.
func serve(tb testing.TB, handlers ...layer4.NextHandler) *client {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	c := dial(tb, ln.Addr().String())
	theirs, err := ln.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		cx := layer4.WrapConnection(theirs, make([]byte, 0), zap.NewNop())
		c.handled <- layer4.Handlers(handlers).Compile().Handle(cx)
		_ = theirs.Close()
	}()
	tb.Cleanup(func() {
		_ = c.conn.Close()
		<-done
	})
	return c
}

// send writes text as it is.
func (c *client) send(text string) {
	c.tb.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.tb.Fatalf("sending: %v", err)
	}
}

// line reads a line without its CRLF.
func (c *client) line() (string, error) {
	c.tb.Helper()
	text, err := c.br.ReadString('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.tb.Fatalf("still waiting for a line, with %q", text)
	}
	if _, measuring := c.tb.(*testing.B); !measuring {
		for _, found := range imaptest.Revealed([]byte(text), testSecret) {
			c.tb.Errorf("the client was told %s", found)
		}
	}
	return strings.TrimSuffix(text, "\r\n"), err
}

// expect reads lines that must begin with these.
func (c *client) expect(want ...string) {
	c.tb.Helper()
	for _, w := range want {
		if got, err := c.line(); err != nil || !strings.HasPrefix(got, w) {
			c.tb.Fatalf("got  %q, %v\nwant %q", got, err, w)
		}
	}
}

// ask sends a line and expects the answer.
func (c *client) ask(text string, want ...string) {
	c.tb.Helper()
	c.send(text + "\r\n")
	c.expect(want...)
}

// handshake puts TLS on the connection.
func (c *client) handshake(cfg *tls.Config) error {
	conn := tls.Client(c.conn, cfg)
	if err := conn.Handshake(); err != nil {
		return err
	}
	c.conn, c.br = conn, bufio.NewReader(conn)
	return nil
}

// secure asks for TLS and begins it.
func (c *client) secure(cfg *tls.Config) {
	c.tb.Helper()
	c.expect(greetingClear)
	c.ask("tls STARTTLS", "tls OK")
	if err := c.handshake(cfg); err != nil {
		c.tb.Fatal(err)
	}
}

// logIn logs testUser in.
func (c *client) logIn() {
	c.tb.Helper()
	c.ask(loginGood, "* CAPABILITY ", loggedIn)
}

// closed expects the end of the connection, hangs up and waits for the handlers.
func (c *client) closed() {
	c.tb.Helper()
	if got, err := c.line(); err == nil {
		c.tb.Errorf("got %q, want the end", got)
	}
	_ = c.conn.Close()
	c.wait()
}

// wait waits for the handlers to return. Whatever a client does is no error of
// theirs.
func (c *client) wait() {
	c.tb.Helper()
	select {
	case err := <-c.handled:
		if err != nil {
			c.tb.Errorf("the handler returned %v", err)
		}
	case <-time.After(patience):
		c.tb.Fatal("the handler does not return")
	}
}

// tls trusts the world's authority, and wants the server's name.
func (w *world) tls(name string) *tls.Config {
	cfg := w.ca.ClientTLS(name)
	cfg.NextProtos = []string{"imap"}
	return cfg
}
