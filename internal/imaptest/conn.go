package imaptest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Conn is one connection of a Script, seen from the server. It is used by the
// script's goroutine alone.
//
// A step that asks for something (Expect, ExpectMatch, Command) fails the test
// and ends the script if the client does something else. A step that only
// offers something (Send, ReadLine, Rest) does not mind a client that has gone:
// what the client should make of a hostile server is checked at the client.
type Conn struct {
	net.Conn // the socket, or the TLS on top of it

	// N says which connection of the server this is, from 1.
	N int

	s   *Script
	raw net.Conn
	br  *bufio.Reader
	// proxy and id are as in Login.
	proxy, id string
}

func newConn(s *Script, raw net.Conn, n int) *Conn {
	return &Conn{Conn: raw, N: n, s: s, raw: raw, br: bufio.NewReader(recorder{s, raw})}
}

// Send writes the text as it is, with nothing added. It ends the script if the
// client has gone.
func (c *Conn) Send(text string) {
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.Conn, text); err != nil {
		runtime.Goexit()
	}
}

// Sendf formats and writes one line, and adds its CRLF.
func (c *Conn) Sendf(format string, args ...any) { c.Send(fmt.Sprintf(format, args...) + "\r\n") }

// ReadLine returns the next line without its CRLF, and false once the client
// has gone.
func (c *Conn) ReadLine() (string, bool) {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	line, err := c.br.ReadString('\n')
	if err != nil {
		return line, false
	}
	bare, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		c.s.tb.Errorf("line of the client ends in a bare LF: %q", line)
	}
	return bare, true
}

// Expect reads a line that must begin with the prefix, whatever its case, and
// returns it.
func (c *Conn) Expect(prefix string) string {
	line := c.mustRead(prefix)
	if len(line) < len(prefix) || !strings.EqualFold(line[:len(prefix)], prefix) {
		c.fail("got line %q, expected %q", line, prefix)
	}
	return line
}

// ExpectMatch reads a line that must match the whole expression, and returns
// what its groups matched as regexp.FindStringSubmatch does.
func (c *Conn) ExpectMatch(expr string) []string {
	line := c.mustRead(expr)
	m := regexp.MustCompile(`(?is)\A(?:` + expr + `)\z`).FindStringSubmatch(line)
	if m == nil {
		c.fail("got line %q, expected a match of %q", line, expr)
	}
	return m
}

// Command reads a line that must be the command, whatever its tag, and returns
// the tag and what stands behind the command's name.
func (c *Conn) Command(name string) (tag, args string) {
	line := c.mustRead(name)
	tag, verb, args := SplitCommand(line)
	if !strings.EqualFold(verb, name) {
		c.fail("got line %q, expected command %s", line, name)
	}
	return tag, args
}

// SplitCommand takes a command line apart: tag, name, arguments.
func SplitCommand(line string) (tag, name, args string) {
	tag, rest, _ := strings.Cut(line, " ")
	name, args, _ = strings.Cut(rest, " ")
	return tag, name, args
}

// Bytes reads exactly n bytes, such as those of a literal.
func (c *Conn) Bytes(n int) []byte {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, n)
	if got, err := io.ReadFull(c.br, buf); err != nil {
		c.fail("reading a literal: %d of %d bytes: %v", got, n, err)
	}
	return buf
}

// Rest reads until the client has closed, and returns what came. Every read has
// the script's patience, so that it may also be used to keep silent.
func (c *Conn) Rest() []byte {
	var all bytes.Buffer
	buf := make([]byte, 4096)
	for {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		n, err := c.br.Read(buf)
		all.Write(buf[:n])
		if err != nil {
			return all.Bytes()
		}
	}
}

// StartTLS puts TLS on the connection, now. What the client has sent already is
// taken for the beginning of the handshake. A server of implicit TLS calls it
// first. The error is the handshake's.
func (c *Conn) StartTLS(cfg *tls.Config) error {
	early, _ := c.br.Peek(c.br.Buffered())
	conn := tls.Server(&prefixed{c.raw, io.MultiReader(bytes.NewReader(bytes.Clone(early)), c.raw)}, cfg)
	_ = conn.SetDeadline(time.Now().Add(patience))
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("handshake of the scripted server: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	c.Conn, c.br = conn, bufio.NewReader(conn)
	return nil
}

// TLS tells whether TLS stands.
func (c *Conn) TLS() bool {
	_, ok := c.Conn.(*tls.Conn)
	return ok
}

// CloseWrite ends our direction and leaves the other open.
func (c *Conn) CloseWrite() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// Reset cuts the connection with a TCP reset, and ends the script.
func (c *Conn) Reset() {
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.raw.Close()
	runtime.Goexit()
}

// Note records an attempt to log in, for Script.Logins.
func (c *Conn) Note(l Login) {
	l.TLS, l.Proxy, l.ID = c.TLS(), c.proxy, c.id
	c.s.mu.Lock()
	c.s.logins = append(c.s.logins, l)
	c.s.mu.Unlock()
	c.s.changed.Broadcast()
}

func (c *Conn) mustRead(want string) string {
	line, ok := c.ReadLine()
	if !ok {
		c.fail("client closed after %q, expected %q", line, want)
	}
	return line
}

// fail fails the test, unless the script is being torn down, and ends the
// script.
func (c *Conn) fail(format string, args ...any) {
	if !c.s.isClosed() {
		c.s.tb.Errorf("connection %d of the scripted server: %s", c.N, fmt.Sprintf(format, args...))
	}
	runtime.Goexit()
}

// prefixed is a connection with bytes already read from it put back in front.
type prefixed struct {
	net.Conn
	r io.Reader
}

func (p *prefixed) Read(b []byte) (int, error) { return p.r.Read(b) }
