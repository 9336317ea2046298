//go:build integration

package integration

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
)

// imapConn is a client that sends exactly what a test tells it to.
type imapConn struct {
	net.Conn
	t  *testing.T
	br *bufio.Reader
	n  int
}

// dialFrom connects from an address of the loopback.
func dialFrom(from, addr string) (net.Conn, error) {
	d := net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0)),
		Timeout:   patience,
	}
	return d.Dial("tcp", addr)
}

// dialIMAP connects without TLS and reads the greeting.
func dialIMAP(t *testing.T, addr string) *imapConn {
	t.Helper()
	conn, err := dialFrom("127.0.0.2", addr)
	if err != nil {
		t.Fatalf("connecting to the proxy: %v", err)
	}
	c := newIMAPConn(t, conn)
	if greeting := c.Line(); !strings.HasPrefix(greeting, "* OK [CAPABILITY ") {
		t.Fatalf("greeting %q", greeting)
	}
	return c
}

func newIMAPConn(t *testing.T, conn net.Conn) *imapConn {
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	return &imapConn{Conn: conn, t: t, br: bufio.NewReader(conn)}
}

// dialSecure connects, starts TLS and trusts anybody.
func dialSecure(t *testing.T, addr string) *imapConn {
	t.Helper()
	c := dialIMAP(t, addr)
	if _, err := c.StartTLS(insecureTLS()); err != nil {
		t.Fatalf("STARTTLS: %v", err)
	}
	return c
}

// Line reads one line.
func (c *imapConn) Line() string {
	c.t.Helper()
	line, err := c.br.ReadString('\n')
	if err != nil {
		c.t.Fatalf("reading a line: %v after %q", err, line)
	}
	return strings.TrimRight(line, "\r\n")
}

// Send writes the text as it is.
func (c *imapConn) Send(text string) {
	c.t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		c.t.Fatalf("writing: %v", err)
	}
}

// Cmd sends a command under a tag of its own and returns the untagged lines and
// what stands behind the tag in the end. A continuation is taken for the end,
// too.
func (c *imapConn) Cmd(format string, args ...any) (tagged string, untagged []string) {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("t%d", c.n)
	c.Send(tag + " " + fmt.Sprintf(format, args...) + "\r\n")
	return c.Answer()
}

// Answer reads the answer to the latest command.
func (c *imapConn) Answer() (tagged string, untagged []string) {
	c.t.Helper()
	tag := fmt.Sprintf("t%d ", c.n)
	for {
		line := c.Line()
		if text, ok := strings.CutPrefix(line, tag); ok {
			return text, untagged
		}
		if strings.HasPrefix(line, "+") {
			return line, untagged
		}
		untagged = append(untagged, line)
	}
}

// Want sends a command whose tagged answer must begin with the text.
func (c *imapConn) Want(prefix, format string, args ...any) {
	c.t.Helper()
	if tagged, _ := c.Cmd(format, args...); !strings.HasPrefix(tagged, prefix) {
		name, _, _ := strings.Cut(format, " ")
		c.t.Errorf("%s: got %q, want %q", name, tagged, prefix)
	}
}

// StartTLS sends STARTTLS and does the handshake.
func (c *imapConn) StartTLS(cfg *tls.Config) (tls.ConnectionState, error) {
	c.t.Helper()
	c.Want("OK", "STARTTLS")
	conn := tls.Client(c.Conn, cfg)
	if err := conn.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	c.Conn, c.br = conn, bufio.NewReader(conn)
	return conn.ConnectionState(), nil
}

// dialTLS connects and does the handshake, with the first byte or after STARTTLS.
func dialTLS(t *testing.T, addr string, implicit bool, cfg *tls.Config) (*imapConn, tls.ConnectionState, error) {
	t.Helper()
	if !implicit {
		c := dialIMAP(t, addr)
		state, err := c.StartTLS(cfg)
		return c, state, err
	}
	raw, err := dialFrom("127.0.0.2", addr)
	if err != nil {
		t.Fatalf("connecting to the proxy: %v", err)
	}
	c := newIMAPConn(t, raw)
	secure := tls.Client(raw, cfg)
	if err := secure.Handshake(); err != nil {
		return c, tls.ConnectionState{}, err
	}
	c.Conn, c.br = secure, bufio.NewReader(secure)
	if greeting := c.Line(); !strings.HasPrefix(greeting, "* OK [CAPABILITY ") || strings.Contains(greeting, "STARTTLS") {
		t.Errorf("greeting %q", greeting)
	}
	return c, secure.ConnectionState(), nil
}

// awaitCertificate waits until the proxy has a certificate to show, which Caddy
// gets in the background.
func awaitCertificate(t *testing.T, addr string) {
	t.Helper()
	eventually(t, "a certificate at "+addr, func() error {
		conn, err := dialFrom("127.0.0.1", addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		c := &imapConn{Conn: conn, t: t, br: bufio.NewReader(conn)}
		_ = conn.SetDeadline(time.Now().Add(patience))
		c.Line()
		_, err = c.StartTLS(insecureTLS())
		return err
	})
}

// openMailbox logs a real client in through the proxy, by STARTTLS.
func openMailbox(t *testing.T, addr, user, password string, options *imapclient.Options) *imapclient.Client {
	t.Helper()
	if options == nil {
		options = &imapclient.Options{}
	}
	options.TLSConfig = insecureTLS()
	c, err := imapclient.DialStartTLS(addr, options)
	if err != nil {
		t.Fatalf("connecting to the proxy: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(user, password).Wait(); err != nil {
		t.Fatalf("logging in through the proxy: %v", err)
	}
	return c
}
