//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// patience is how long a client waits for any answer.
const patience = 60 * time.Second

// endpoint is where clients go.
type endpoint struct {
	addr     string
	implicit bool // TLS from the first byte, else STARTTLS
	tls      *tls.Config
}

// clientTLS is the same for all peers: TLS 1.3, one group, and a whole handshake
// each time. Like mail programs, it asks for tickets.
// Certificates are not verified: it would cost the load generator CPU that the
// proxies want, and tell us nothing about them.
func clientTLS(group tls.CurveID) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true,
		ServerName:         "localhost",
		MinVersion:         tls.VersionTLS13,
		CurvePreferences:   []tls.CurveID{group},
		ClientSessionCache: forgetful{},
	}
}

// forgetful takes tickets and never has one. Without a cache, servers in Go would be
// spared the making of them, and others not.
type forgetful struct{}

func (forgetful) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (forgetful) Put(string, *tls.ClientSessionState)        {}

// client is one connection of the load generator.
type client struct {
	conn *tls.Conn
	r    *bufio.Reader
	tags int
}

// connect ends after the greeting, and with TLS.
func (e *endpoint) connect() (_ *client, err error) {
	raw, err := net.DialTimeout("tcp", e.addr, patience)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = raw.Close()
		}
	}()
	_ = raw.SetDeadline(time.Now().Add(patience))
	if !e.implicit {
		plain := bufio.NewReaderSize(raw, 2048)
		if err := greeting(plain); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(raw, "a STARTTLS\r\n"); err != nil {
			return nil, fmt.Errorf("asking for STARTTLS: %w", err)
		}
		line, err := plain.ReadString('\n')
		if err == nil && (!strings.HasPrefix(line, "a OK") || plain.Buffered() > 0) {
			err = fmt.Errorf("it says %q", line)
		}
		if err != nil {
			return nil, fmt.Errorf("asking for STARTTLS: %w", err)
		}
	}
	c := &client{conn: tls.Client(raw, e.tls)}
	if err := c.conn.Handshake(); err != nil {
		return nil, fmt.Errorf("shaking hands: %w", err)
	}
	c.r = bufio.NewReaderSize(c.conn, 2048)
	if e.implicit {
		return c, greeting(c.r)
	}
	return c, nil
}

func greeting(r *bufio.Reader) error {
	line, err := r.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "* OK") {
		err = fmt.Errorf("it says %q", line)
	}
	if err != nil {
		return fmt.Errorf("awaiting the greeting: %w", err)
	}
	return nil
}

// login connects and logs a user in.
func (e *endpoint) login(user int) (*client, error) {
	c, err := e.connect()
	if err != nil {
		return nil, err
	}
	if err := c.do(fmt.Sprintf("LOGIN u%06d %s", user, password)); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// logout waits for the server to close, so that the proxy has the last state of
// the connection, as it has in life.
func (c *client) logout() error {
	defer c.close()
	if err := c.do("LOGOUT"); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, c.r) // a reset ends it as well
	return nil
}

func (c *client) close() { _ = c.conn.Close() }

// do sends a command and waits until it is done.
func (c *client) do(command string) error {
	tag, err := c.send(command)
	if err != nil {
		return err
	}
	_, err = c.await(tag)
	return err
}

// send sends a command, and returns its tag.
func (c *client) send(command string) (tag string, err error) {
	c.tags++
	tag = "t" + strconv.Itoa(c.tags)
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.conn, tag+" "+command+"\r\n"); err != nil {
		return "", fmt.Errorf("sending %.6q: %w", command, err)
	}
	return tag, nil
}

// await reads on to the end of a command, past literals, and returns how many
// bytes came.
func (c *client) await(tag string) (read int64, err error) {
	for {
		line, err := c.line()
		if err != nil {
			return read, err
		}
		read += int64(len(line))
		if rest, ok := bytes.CutPrefix(line, []byte(tag+" ")); ok {
			if !bytes.HasPrefix(rest, []byte("OK")) {
				return read, fmt.Errorf("it says %q", line)
			}
			return read, nil
		}
		size, _, ok := literal(line)
		for ok && size > 0 {
			_ = c.conn.SetReadDeadline(time.Now().Add(patience))
			n, err := c.r.Discard(int(min(size, 1<<20)))
			if err != nil {
				return read, fmt.Errorf("reading a literal: %w", err)
			}
			size -= int64(n)
			read += int64(n)
		}
	}
}

// awaitLine reads on to a line that is as wanted.
func (c *client) awaitLine(is func(line []byte) bool) error {
	for {
		line, err := c.line()
		if err != nil || is(line) {
			return err
		}
		if bytes.HasPrefix(line, []byte("t")) || bytes.HasPrefix(line, []byte("* BYE")) {
			return fmt.Errorf("it says %q", line)
		}
	}
}

func (c *client) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("reading a line: %w", err)
	}
	return line, nil
}

// append stores one message with a literal that the server has to ask for.
func (c *client) append(size int64) error {
	tag, err := c.send(fmt.Sprintf("APPEND INBOX {%d}", size))
	if err != nil {
		return err
	}
	if err := c.awaitLine(func(line []byte) bool { return line[0] == '+' }); err != nil {
		return err
	}
	if err := writeMessage(c.conn, size); err != nil {
		return fmt.Errorf("sending a literal: %w", err)
	}
	if _, err := io.WriteString(c.conn, "\r\n"); err != nil {
		return fmt.Errorf("ending APPEND: %w", err)
	}
	_, err = c.await(tag)
	return err
}

// idle begins to wait for news.
func (c *client) idle() error {
	if _, err := c.send("IDLE"); err != nil {
		return err
	}
	return c.awaitLine(func(line []byte) bool { return line[0] == '+' })
}

// done ends idle.
func (c *client) done() error {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.conn, "DONE\r\n"); err != nil {
		return fmt.Errorf("ending IDLE: %w", err)
	}
	_, err := c.await("t" + strconv.Itoa(c.tags))
	return err
}

// literal tells whether a line announces a literal, and of what size.
func literal(line []byte) (size int64, plus, ok bool) {
	line, ok = bytes.CutSuffix(bytes.TrimRight(line, "\r\n"), []byte("}"))
	open := bytes.LastIndexByte(line, '{')
	if !ok || open < 0 {
		return 0, false, false
	}
	digits, plus := bytes.CutSuffix(line[open+1:], []byte("+"))
	size, err := strconv.ParseInt(string(digits), 10, 64)
	return size, plus, err == nil && size >= 0
}

// enlarge is for sessions with big messages. Nothing may have been read ahead.
func (c *client) enlarge() { c.r = bufio.NewReaderSize(c.conn, 64<<10) }

// readSlowly asks for the message of 1 GiB and reads some 300 KB of it a second
// until the time given.
func (c *client) readSlowly(end time.Time) error {
	// With the kernel's own buffers it could have megabytes at once.
	if tcp, ok := c.conn.NetConn().(*net.TCPConn); ok {
		if err := tcp.SetReadBuffer(64 << 10); err != nil {
			return fmt.Errorf("making the receive buffer small: %w", err)
		}
	}
	if _, err := c.send("FETCH 4 BODY.PEEK[]"); err != nil {
		return err
	}
	piece := make([]byte, 16<<10)
	for time.Now().Before(end) {
		if _, err := io.ReadFull(c.r, piece); err != nil {
			return fmt.Errorf("reading slowly: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}
