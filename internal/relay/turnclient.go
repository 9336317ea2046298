package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// maxClientLine is the length of the longest line that an extension reads of a client.
const maxClientLine = 8 << 10

// ClientLine returns the next line of the client, with its end, which is valid until the
// next call. If it does not come for as long as given, the error is ErrClientTimeout;
// what has come is kept. What was told is not sent before.
func (t *Turn) ClientLine(within time.Duration) ([]byte, error) {
	in := &t.client
	until := time.Now().Add(within)
	for {
		if i := bytes.IndexByte(in.held, '\n'); i >= 0 {
			line := in.held[:i+1]
			in.held = in.held[i+1:]
			// Others may take it for a line's end, as in the lines that pass.
			if bytes.ContainsAny(bytes.TrimSuffix(line[:i], []byte{'\r'}), "\x00\r") {
				return nil, fmt.Errorf("%w: %s", ErrClient, faultCR)
			}
			return line, nil
		}
		if len(in.held) > maxClientLine {
			return nil, fmt.Errorf("%w: %s", ErrClient, faultLine)
		}
		if err := t.listen(until); err != nil {
			return nil, err
		}
	}
}

// listen waits for more of the client.
func (t *Turn) listen(until time.Time) error {
	err := t.read(t.up, &t.client, until, ErrClientTimeout)
	if errors.Is(err, io.EOF) {
		return ErrClientGone
	}
	if err == nil {
		t.session.touch()
	}
	return err
}

// ClientLiteral reads so many bytes of the client. each gets them piece by piece, and may
// keep none. What was told is sent before.
func (t *Turn) ClientLiteral(size int64, each func(p []byte) error) error {
	if err := t.Flush(); err != nil {
		return err
	}
	in := &t.client
	for {
		n := int(min(size, int64(len(in.held))))
		if n > 0 {
			if err := each(in.held[:n]); err != nil {
				return err
			}
		}
		in.held, size = in.held[n:], size-int64(n)
		if size == 0 {
			return nil
		}
		if err := t.listen(time.Now().Add(turnTimeout)); err != nil {
			return err
		}
	}
}

// CopyLiteral sends the backend so many bytes of the client. It returns how many of them are
// missing after an error.
func (t *Turn) CopyLiteral(size int64) (left int64, err error) {
	if err := t.send(); err != nil {
		return size, err
	}
	left = size
	err = t.ClientLiteral(size, func(p []byte) error {
		left -= int64(len(p))
		return t.up.write(p)
	})
	return left, err
}

// Wrap has everything that client and session say from now on go through what is put
// around the client's connection. What was said to the client until now is sent before.
func (t *Turn) Wrap(wrap func(net.Conn) net.Conn) error {
	if err := t.Flush(); err != nil {
		return err
	}
	conn := wrap(&heldConn{Conn: t.up.src, held: bytes.Clone(t.client.held)})
	t.client.held = nil
	t.up.src, t.down.dst = conn, conn
	return nil
}

// heldConn is a connection of which something was read already.
type heldConn struct {
	net.Conn
	held []byte
}

// Read implements net.Conn.
func (c *heldConn) Read(p []byte) (int, error) {
	if len(c.held) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.held)
	c.held = c.held[n:]
	return n, nil
}

// NetConn returns the connection below all others.
func (c *heldConn) NetConn() net.Conn {
	if inner, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		return inner.NetConn()
	}
	return c.Conn
}

// CloseWrite ends the sending side.
func (c *heldConn) CloseWrite() error {
	if cw, ok := c.Conn.(closeWriter); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}
