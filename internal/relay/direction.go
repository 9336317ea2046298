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
	// busySize is enough for most answers; bulkSize holds eight full TLS records,
	// which then cost one write.
	busySize = 8 << 10
	bulkSize = 128 << 10
	// idleSize is the buffer that a direction always has. It is enough for what
	// is said in IDLE, and for what a scanner holds back.
	idleSize = 256
	// warmTime is how long a direction keeps a large buffer without need.
	warmTime = 50 * time.Millisecond
)

// busyBuffers and bulkBuffers are the large ones.
var (
	busyBuffers = sync.Pool{New: func() any { b := make([]byte, busySize); return &b }}
	bulkBuffers = sync.Pool{New: func() any { b := make([]byte, bulkSize); return &b }}
)

func putBuffer(b *[]byte) {
	if len(*b) == busySize {
		busyBuffers.Put(b)
	} else {
		bulkBuffers.Put(b)
	}
}

// flow is what a direction carries.
type flow interface {
	// consume sends on what p holds, but for the end of it if more bytes are
	// needed to tell what that is.
	consume(d *direction, p []byte) (rest []byte, err error)
	// attend is called whenever the direction is about to wait for bytes.
	attend(d *direction) error
}

// direction copies from one leg to the other. It holds a large buffer only as
// long as there is much to read: it waits with a small one, and changes over to
// the next size whenever a single read fills what it has. Waiting for readability
// on the socket would do without any buffer, but TLS may hold bytes that the
// socket knows nothing of.
type direction struct {
	session  *Session
	src, dst net.Conn
	pending  []byte
	flow     flow
	// bytes counts what was received.
	bytes atomic.Int64
	// torn says that the destination has not got all that it was sent.
	torn atomic.Bool

	large *[]byte
	small [idleSize]byte
	// held is how much at the beginning of the buffer was not consumed yet.
	held int
}

// run copies until the source ends, and then ends the destination's sending
// side. If that cannot be done alone, or something failed, it ends the session.
func (d *direction) run() {
	s := d.session
	defer func() {
		if r := recover(); r != nil {
			s.end(panicked(r))
		}
	}()
	err := d.copy()
	if d == &s.down {
		s.silence()
	}
	cw, ok := d.dst.(closeWriter)
	if err != nil || !ok {
		s.end(err)
		return
	}
	s.touch()
	s.half.Store(true)
	// The other direction may be waiting for longer than it now should.
	s.wake()
	if err := d.prepareWrite(); err != nil {
		s.end(err)
		return
	}
	if err := cw.CloseWrite(); err != nil {
		s.end(fmt.Errorf("ending one direction: %w", err))
	}
}

func (d *direction) copy() (err error) {
	defer func() {
		d.cool()
		if r := recover(); r != nil {
			err = panicked(r)
		}
	}()
	rest, err := d.flow.consume(d, d.pending)
	if err != nil {
		return err
	}
	d.bytes.Add(int64(len(d.pending)))
	d.held = copy(d.small[:], rest)
	d.pending = nil
	for {
		n, err := d.read()
		if n > 0 {
			d.session.touch()
			d.bytes.Add(int64(n))
			if err := d.consume(n); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			// What was held back is no more than the beginning of a command or
			// of a word: without an end it is neither.
			return d.write(d.buffer()[:d.held])
		}
		if err != nil {
			return err
		}
	}
}

// panicked makes an error of a panic. Only its type is shown: its words might quote a
// secret.
func panicked(r any) error { return fmt.Errorf("%w: %T\n%s", ErrPanic, r, debug.Stack()) }

// buffer returns the buffer in use.
func (d *direction) buffer() []byte {
	if d.large != nil {
		return *d.large
	}
	return d.small[:]
}

// consume passes on what was held back, and n bytes behind it.
func (d *direction) consume(n int) error {
	buf := d.buffer()
	full := d.held+n == len(buf)
	rest, err := d.flow.consume(d, buf[:d.held+n])
	if err != nil {
		return err
	}
	d.held = copy(buf, rest)
	if full {
		d.grow()
	}
	return nil
}

// grow changes over to the next larger buffer, if there is one.
func (d *direction) grow() {
	old, next := d.large, &busyBuffers
	if old != nil {
		next = &bulkBuffers
	}
	buf := d.buffer()
	if len(buf) == bulkSize {
		return
	}
	d.large = next.Get().(*[]byte)
	copy(*d.large, buf[:d.held])
	if old != nil {
		putBuffer(old)
	}
}

// cool gives a large buffer back, if the small one is enough for what it holds.
func (d *direction) cool() {
	if d.large == nil || d.held > idleSize/2 {
		return
	}
	copy(d.small[:], (*d.large)[:d.held])
	putBuffer(d.large)
	d.large = nil
}

// read waits for bytes for as long as the session as a whole may.
//
// Each deadline is set first and what it was made from is looked at again
// afterwards, since deadlines are also set by whoever changes that.
func (d *direction) read() (int, error) {
	s := d.session
	for {
		changes := s.changes.Load()
		if err := d.flow.attend(d); err != nil {
			return 0, err
		}
		left, err := s.left()
		if err != nil {
			return 0, err
		}
		if d.large != nil {
			left = min(left, warmTime)
		}
		if err := d.src.SetReadDeadline(time.Now().Add(left)); err != nil {
			return 0, err
		}
		if s.changes.Load() != changes {
			continue
		}
		n, err := d.src.Read(d.buffer()[d.held:])
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		d.cool()
	}
}

func (d *direction) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if err := d.prepareWrite(); err != nil {
		return err
	}
	_, err := d.dst.Write(p)
	if err != nil {
		d.torn.Store(true)
	}
	return err
}

// prepareWrite sets the deadline, as read does.
func (d *direction) prepareWrite() error {
	s := d.session
	for {
		changes := s.changes.Load()
		if s.over.Load() {
			return errOver
		}
		if err := d.dst.SetWriteDeadline(time.Now().Add(s.patience())); err != nil {
			return err
		}
		if s.changes.Load() == changes {
			return nil
		}
	}
}

// hangUp ends a connection that was told BYE. What the client still sends is
// read: a connection that is closed with something unread is reset, and the BYE
// may be lost by that.
func (d *direction) hangUp() {
	cw, ok := d.src.(closeWriter)
	if !ok || d.src.SetDeadline(time.Now().Add(farewellTimeout)) != nil || cw.CloseWrite() != nil {
		return
	}
	for {
		if _, err := d.src.Read(d.small[:]); err != nil {
			return
		}
	}
}

// close closes the destination. A good-bye of TLS in the middle of a record would be
// taken for a part of it, and thus for a forgery.
func (d *direction) close() {
	if inner, ok := d.dst.(interface{ NetConn() net.Conn }); ok && d.torn.Load() {
		_ = inner.NetConn().Close()
	}
	_ = d.dst.Close()
}
