package tlsio

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

const (
	// inSize is how much is read at once.
	inSize = 128 << 10
	// outSize is how much is written at once, and roomSize the part of it that a
	// record may take.
	outSize  = 136 << 10
	roomSize = maxRecord + 2<<10
	// headerSize is that of a record.
	headerSize = 5
	// sip is how much crypto/tls may have of what lies behind a record.
	sip = 512
)

var (
	inBuffers  = sync.Pool{New: func() any { return new([inSize]byte) }}
	outBuffers = sync.Pool{New: func() any { b := make([]byte, 0, outSize); return &b }}
)

// socket is what crypto/tls reads records from and writes records to.
//
// crypto/tls reads under one lock of its own, and writes under another. So both
// halves need no lock here.
type socket struct {
	net.Conn

	// many says that more may be read than was asked for; dry, that nothing is
	// waited for.
	many, dry bool
	// in, if it is there, has been filled by one read; the bytes from start to end
	// are still to be had.
	in         *[inSize]byte
	start, end int
	// frame knows where records end.
	frame frame

	// hold says that more records are about to come; held are those before.
	hold atomic.Bool
	held *[]byte
	// broken is why nothing may be written any more: what came next would be
	// taken for the rest of a record.
	broken error
}

// NetConn returns the connection beneath.
func (s *socket) NetConn() net.Conn { return s.Conn }

// release gives the buffer back if nothing is in it.
func (s *socket) release() {
	if s.in != nil && s.start == s.end {
		inBuffers.Put(s.in)
		s.in = nil
	}
}

// Read returns what belongs to one record, and no more than a sip of the next.
// crypto/tls would take what it got, find its buffer too small for the rest of
// that record, and have one twice as large for good.
func (s *socket) Read(p []byte) (n int, err error) {
	p = p[:min(len(p), s.frame.rest())]
	switch {
	case s.start < s.end:
	case s.dry:
		return 0, os.ErrDeadlineExceeded
	case !s.many || s.frame.atHeader():
		// Whoever waits for a record waits here, without a buffer.
		n, err = s.Conn.Read(p)
		s.frame.follow(p[:n])
		return n, err
	default:
		if s.in == nil {
			s.in = inBuffers.Get().(*[inSize]byte)
		}
		n, err := s.Conn.Read(s.in[:])
		if s.start, s.end = 0, n; n == 0 {
			return 0, err
		}
		// The next read finds the same error again.
	}
	n = copy(p, s.in[s.start:s.end])
	s.start += n
	s.frame.follow(p[:n])
	return n, nil
}

// frame follows the records in a stream.
type frame struct {
	// header counts the bytes of a header that went by, left those of its record
	// that did not.
	header, left int
}

func (f *frame) atHeader() bool { return f.header < headerSize }

// rest returns how much to read next.
func (f *frame) rest() int {
	if f.atHeader() {
		return sip
	}
	return f.left
}

func (f *frame) follow(p []byte) {
	for len(p) > 0 {
		if f.atHeader() {
			// The last two bytes are the length.
			f.left = (f.left<<8 | int(p[0])) & 0xffff
			f.header++
			p = p[1:]
		} else {
			n := min(f.left, len(p))
			f.left -= n
			p = p[n:]
		}
		if f.header == headerSize && f.left == 0 {
			f.header = 0
		}
	}
}

// Write writes a record, and before it those that are held; or holds it, too.
func (s *socket) Write(p []byte) (n int, err error) {
	hold := s.hold.Load()
	switch {
	case s.broken != nil:
		return 0, s.broken
	case s.held != nil:
	case hold:
		s.held = outBuffers.Get().(*[]byte)
	default:
		n, err = s.Conn.Write(p)
		return s.wrote(n, len(p), err)
	}
	before := len(*s.held)
	*s.held = append(*s.held, p...)
	if hold && len(*s.held)+roomSize <= outSize {
		return len(p), nil
	}
	n, err = s.Conn.Write(*s.held)
	n, err = s.wrote(n, before+len(p), err)
	*s.held = (*s.held)[:0]
	outBuffers.Put(s.held)
	s.held = nil
	return max(0, n-before), err
}

// wrote makes sure that nothing follows what was not written whole.
func (s *socket) wrote(n, want int, err error) (int, error) {
	if err == nil && n < want {
		err = io.ErrShortWrite
	}
	s.broken = err
	return n, err
}
