// Package tlsio is TLS that asks the system for little: many records for one
// read(2), many for one write(2).
//
// crypto/tls reads and writes record by record, 16 KiB at most, and keeps whatever
// buffer that has once taken. A Conn is one of its connections with a socket of
// ours beneath, which does the collecting, in buffers that it shares with others.
package tlsio

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
)

// maxRecord is how much a record holds (RFC 8446 section 5.1).
const maxRecord = 16 << 10

// Conn is a tls.Conn that one goroutine may read from and one may write to at a
// time. Records are as large as they may be, and thus few, if the tls.Config has
// DynamicRecordSizingDisabled set.
type Conn struct {
	*tls.Conn
	under *socket
}

// Server returns the server's side of TLS on a connection.
func Server(conn net.Conn, cfg *tls.Config) *Conn {
	under := &socket{Conn: conn}
	return &Conn{Conn: tls.Server(under, cfg), under: under}
}

// Client returns the client's side of TLS on a connection.
func Client(conn net.Conn, cfg *tls.Config) *Conn {
	under := &socket{Conn: conn}
	return &Conn{Conn: tls.Client(under, cfg), under: under}
}

// Read waits for a record. If p has room for more than one, it reads on for as long
// as there is something that need not be waited for.
func (c *Conn) Read(p []byte) (int, error) {
	c.under.many = len(p) > maxRecord
	n, err := c.Conn.Read(p)
	c.under.dry = true
	for c.under.many && err == nil && n < len(p) {
		var m int
		m, err = c.Conn.Read(p[n:])
		n += m
	}
	c.under.dry = false
	c.under.release()
	if n > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, err
}

// Write writes p. If it takes several records they leave together; if they cannot,
// it is not known how many did, and n is 0.
func (c *Conn) Write(p []byte) (n int, err error) {
	last := max(0, len(p)-1) / maxRecord * maxRecord
	if last > 0 {
		c.under.hold.Store(true)
		_, err = c.Conn.Write(p[:last])
		c.under.hold.Store(false)
		if err != nil {
			return 0, err
		}
	}
	n, err = c.Conn.Write(p[last:])
	if err != nil && last > 0 {
		return 0, err
	}
	return last + n, err
}
