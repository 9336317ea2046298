package imapext

import (
	"bytes"
	"compress/flate"
	"errors"
	"net"
	"strings"
	"sync"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// compressing is COMPRESS=DEFLATE (RFC 4978), between the client and us. Where something
// is answered here, this is as well, even if the backend knows it: we could not look into
// what the two say otherwise.
var compressing = &feature{
	name:     "COMPRESS=DEFLATE",
	commands: map[string]handler{"COMPRESS": {relay.Whole, compress}},
}

func compress(s *Session, c *command) func(*relay.Turn) error {
	args := c.args
	algorithm, err := args.atom()
	if err != nil || !args.end() {
		return c.bad()
	}
	return func(t *relay.Turn) error {
		switch {
		case s.compressed:
			return t.Tellf("%s NO [COMPRESSIONACTIVE] DEFLATE is active already.", c.tag)
		case !strings.EqualFold(algorithm, "DEFLATE"):
			return t.Tellf("%s NO [CANNOT] There is DEFLATE, and nothing else.", c.tag)
		}
		s.compressed = true
		_ = t.Tellf("%s OK DEFLATE active.", c.tag)
		return t.Wrap(func(conn net.Conn) net.Conn { return &deflated{Conn: conn} })
	}
}

// deflated is a client's connection on which everything is compressed. Nothing is kept of
// what was written, so that each write is compressed by itself; of what was read, what
// the client may refer to.
type deflated struct {
	net.Conn
	in  inflater
	buf *[inflateChunk]byte
}

// NetConn returns the connection below all others.
func (d *deflated) NetConn() net.Conn {
	if inner, ok := d.Conn.(interface{ NetConn() net.Conn }); ok {
		return inner.NetConn()
	}
	return d.Conn
}

// CloseWrite ends the sending side.
func (d *deflated) CloseWrite() error {
	if cw, ok := d.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// chunks are the buffers that no connection has.
var chunks = sync.Pool{New: func() any { return new([inflateChunk]byte) }}

// Read implements net.Conn.
func (d *deflated) Read(p []byte) (int, error) {
	for {
		if n, err := d.in.inflate(p); n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		if d.buf == nil {
			d.buf, _ = chunks.Get().(*[inflateChunk]byte)
		}
		n, err := d.Conn.Read(d.buf[:])
		if d.in.in = d.buf[:n]; n == 0 && err != nil {
			chunks.Put(d.buf)
			d.in.in, d.buf = nil, nil
			return 0, err
		}
	}
}

// packer is what compresses one write.
type packer struct {
	out bytes.Buffer
	w   *flate.Writer
}

var packers = sync.Pool{New: func() any {
	p := new(packer)
	p.w, _ = flate.NewWriter(&p.out, flate.BestSpeed) // fails for other levels only
	return p
}}

// Write implements net.Conn.
func (d *deflated) Write(p []byte) (int, error) {
	pack, _ := packers.Get().(*packer)
	defer packers.Put(pack)
	pack.out.Reset()
	pack.w.Reset(&pack.out)
	if _, err := pack.w.Write(p); err != nil {
		return 0, err
	}
	if err := pack.w.Flush(); err != nil {
		return 0, err
	}
	if _, err := d.Conn.Write(pack.out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}
