package imapext

import (
	"bufio"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// step is what a client says and gets, and what a backend is asked meanwhile.
type step struct {
	says string
	asks []ask
	gets string
}

// ask is a command to the backend, without its tag, and what it says: untagged lines, and
// what follows the tag.
type ask struct{ gets, says, done string }

var announced = regexp.MustCompile(`\{(\d+)\+\}$`)

// dialog has a session whose backend lacks the extensions named.
func dialog(t *testing.T, names string, steps ...step) {
	t.Helper()
	dialogBefore(t, "IMAP4rev1 LITERAL+", names, steps...)
}

// dialogTime is when dialogs take place.
var dialogTime = time.Date(2026, 11, 24, 0, 30, 0, 0, time.UTC)

// dialogBefore has one with a backend of these capabilities.
func dialogBefore(t *testing.T, caps, names string, steps ...step) {
	t.Helper()
	backend := imaptest.NewScript(t, func(c *imaptest.Conn) {
		for _, s := range steps {
			for _, a := range s.asks {
				line := whole(c)
				tag, rest, _ := strings.Cut(line, " ")
				if rest != a.gets {
					t.Errorf("after %q the backend was asked\n%q, want\n%q", s.says, rest, a.gets)
				}
				c.Send(a.says + tag + " " + a.done + "\r\n")
			}
		}
		c.Rest()
	})
	cfg := &Config{Names: strings.Fields(names)}
	session := NewSession(cfg.Offer(strings.Fields(caps)))
	session.clock = func() time.Time { return dialogTime }
	client := relayTo(t, backend.Addr(), session)
	for _, s := range steps {
		client.send(s.says)
		client.expect(s.gets)
	}
	client.end()
}

// whole reads a command with its literals.
func whole(c *imaptest.Conn) string {
	line, _ := c.ReadLine()
	for {
		m := announced.FindStringSubmatch(line)
		if m == nil {
			return line
		}
		size, _ := strconv.Atoi(m[1])
		literal := c.Bytes(size)
		more, _ := c.ReadLine()
		line += "\r\n" + string(literal) + more
	}
}

// dialogClient is the client of a session.
type dialogClient struct {
	net.Conn
	tb   testing.TB
	br   *bufio.Reader
	done chan relay.Stats
}

// relayTo begins a session with a backend.
func relayTo(tb testing.TB, addr string, e relay.Extension) *dialogClient {
	tb.Helper()
	back, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	front, err := ln.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	c := &dialogClient{conn, tb, bufio.NewReader(conn), make(chan relay.Stats, 1)}
	session := relay.New(relay.Leg{Conn: front}, relay.Leg{Conn: back}, relay.Options{Extension: e, LiteralPlus: true, Idle: time.Minute})
	go func() { c.done <- session.Run() }()
	tb.Cleanup(func() {
		_ = conn.Close()
		<-c.done
	})
	return c
}

func (c *dialogClient) send(text string) {
	c.tb.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.tb.Fatal(err)
	}
}

// expect reads exactly what is wanted.
func (c *dialogClient) expect(want string) {
	c.tb.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(c.br, got)
	if string(got[:n]) != want {
		rest, _ := c.br.Peek(c.br.Buffered())
		c.tb.Fatalf("the client got\n%q%q, %v; want\n%q", got[:n], rest, err, want)
	}
}

// end reads what is left: nothing.
func (c *dialogClient) end() {
	c.tb.Helper()
	_ = c.Conn.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(c.br); err != nil || len(rest) > 0 {
		c.tb.Fatalf("the client got %q, %v; want the end", rest, err)
	}
}
