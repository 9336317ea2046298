// Package relay carries an IMAP session after login: whatever one side sends
// reaches the other, byte for byte, until both have ended.
package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// bufferSize holds two full TLS records.
	bufferSize = 32 << 10
	// writeTimeout is how long a peer may refuse to take a buffer's worth of
	// bytes before its session is given up.
	writeTimeout = 5 * time.Minute
	// lingerTimeout is the idle timeout once one side has ended its sending half.
	lingerTimeout = time.Minute
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// Leg is one side of a session.
type Leg struct {
	Conn net.Conn
	// Pending was read from Conn already and goes to the other side first.
	Pending []byte
}

// Stats says what a session has carried and how it ended.
type Stats struct {
	// FromClient and FromBackend count bytes.
	FromClient, FromBackend int64
	// Err is why the session ended; nil if both sides closed in order.
	Err error
}

// ErrIdle says that neither side has sent anything for the idle timeout.
var ErrIdle = errors.New("idle for too long")

// closeWriter is a connection that can end its sending side alone.
type closeWriter interface{ CloseWrite() error }

// Run relays between the two legs until both directions have ended, or neither
// side has sent anything for the idle timeout. A side that ends only its sending
// half still receives what the other has to say. Both connections are closed,
// and no goroutine of Run is left, when it returns.
func Run(client, backend Leg, idle time.Duration) Stats {
	s := &session{idle: idle}
	s.touch()
	up := &direction{session: s, src: client, dst: backend.Conn}
	down := &direction{session: s, src: backend, dst: client.Conn}

	done := make(chan struct{})
	go func() {
		defer close(done)
		down.run()
	}()
	up.run()
	<-done

	_ = client.Conn.Close()
	_ = backend.Conn.Close()
	return Stats{FromClient: up.bytes, FromBackend: down.bytes, Err: s.err}
}

// session is what both directions share.
type session struct {
	idle time.Duration
	// active is when anything was last received, in nanoseconds since base.
	active atomic.Int64
	// half says that one direction has ended; over, that both have to.
	half, over atomic.Bool

	fail sync.Once
	err  error
}

// base is the origin of monotonic times in this package.
var base = time.Now()

func (s *session) touch() { s.active.Store(int64(time.Since(base))) }

// left returns how long the session may stay silent from now on.
func (s *session) left() time.Duration {
	limit := s.idle
	if s.half.Load() {
		limit = min(limit, lingerTimeout)
	}
	return limit - (time.Since(base) - time.Duration(s.active.Load()))
}

// end gives up the session: the other direction, wherever it blocks, ends too.
func (s *session) end(err error, conns ...net.Conn) {
	s.fail.Do(func() { s.err = err })
	s.over.Store(true)
	for _, c := range conns {
		_ = c.SetDeadline(time.Unix(1, 0))
	}
}

// direction copies from one leg to the other.
type direction struct {
	session *session
	src     Leg
	dst     net.Conn
	bytes   int64
}

// run copies until the source ends, and then ends the destination's sending
// side. If that cannot be done alone, or something failed, it ends the session.
func (d *direction) run() {
	err := d.copy()
	cw, ok := d.dst.(closeWriter)
	if err != nil || !ok {
		d.session.end(err, d.src.Conn, d.dst)
		return
	}
	d.session.touch()
	d.session.half.Store(true)
	// The other direction may be waiting for longer than it now should.
	_ = d.dst.SetReadDeadline(time.Now().Add(lingerTimeout))
	_ = d.dst.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err := cw.CloseWrite(); err != nil {
		d.session.end(err, d.src.Conn, d.dst)
	}
}

func (d *direction) copy() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in the relay: %T\n%s", r, debug.Stack())
		}
	}()
	if len(d.src.Pending) > 0 {
		if err := d.write(d.src.Pending); err != nil {
			return err
		}
		d.src.Pending = nil
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := d.read(buf[:])
		if n > 0 {
			d.session.touch()
			if werr := d.write(buf[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// errOver ends a direction because the other one has failed.
var errOver = errors.New("the session is over")

// read waits for bytes for as long as the session as a whole is not idle.
//
// Each deadline is set first and what it was made from is looked at again
// afterwards, since the other direction sets deadlines on this connection when
// it ends.
func (d *direction) read(p []byte) (int, error) {
	s := d.session
	for {
		half, left := s.half.Load(), s.left()
		if left <= 0 {
			return 0, ErrIdle
		}
		if err := d.src.Conn.SetReadDeadline(time.Now().Add(left)); err != nil {
			return 0, err
		}
		if s.over.Load() {
			return 0, errOver
		}
		if s.half.Load() != half {
			continue
		}
		n, err := d.src.Conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

func (d *direction) write(p []byte) error {
	if err := d.dst.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if d.session.over.Load() {
		return errOver
	}
	n, err := d.dst.Write(p)
	d.bytes += int64(n)
	return err
}
