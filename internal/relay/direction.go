package relay

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// busySize is enough for most answers; bulkSize holds eight full TLS records,
	// which then cost one write.
	busySize = 8 << 10
	bulkSize = 128 << 10
	// idleSize is the buffer that a direction waits with. It is enough for what
	// is said in IDLE, and for what a scanner holds back.
	idleSize = 256
	// warmTime is how long a direction keeps a large buffer without need, and
	// parkTime its goroutine; it may be twice as long.
	warmTime = 10 * time.Millisecond
	parkTime = 250 * time.Millisecond
)

var sizes = [...]int{idleSize, busySize, bulkSize}

// buffers are those that no direction has, by size.
var buffers [len(sizes)]sync.Pool

func getBuffer(class int) *[]byte {
	if b, ok := buffers[class].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, sizes[class])
	return &b
}

func putBuffer(b *[]byte) { buffers[slices.Index(sizes[:], len(*b))].Put(b) }

// flow is what a direction carries.
type flow interface {
	// consume sends on what p holds, but for the end of it if more bytes are
	// needed to tell what that is.
	consume(d *direction, p []byte) (rest []byte, err error)
	// attend is called whenever the direction is about to wait for bytes. What it
	// returns has come already, and was not consumed.
	attend(d *direction) (rest []byte, err error)
}

// direction copies from one leg to the other. It holds a large buffer only as
// long as there is much to read: it waits with a small one, and changes over to
// the next size whenever a single read fills what it has. When nothing comes for a
// while it is parked, where that can be done: then it has neither buffer nor
// goroutine.
type direction struct {
	session  *Session
	src, dst net.Conn
	pending  []byte
	flow     flow
	spot
	// raw is the socket under src; nil if the direction cannot be parked.
	raw syscall.RawConn
	// bytes counts what was received.
	bytes atomic.Int64
	// torn says that the destination has not got all that it was sent.
	torn atomic.Bool

	// buf is nil while the direction is parked, unless something is held.
	buf *[]byte
	// held is how much at the beginning of the buffer was not consumed yet.
	held int

	// armed says that the read deadline need not be set again before it is over,
	// unless changes are not what they were then; stirred, that something was
	// read since.
	armed, stirred bool
	seen           uint32
	// writeBy is the write deadline, in nanoseconds since base, if changes are
	// still writeSeen; 0 before the first.
	writeBy   time.Duration
	writeSeen uint32
}

// run copies until the source ends, and then ends the destination's sending
// side. If that cannot be done alone, or something failed, it ends the session.
// If it returns because the direction is parked, it is called again by unpark.
func (d *direction) run() {
	err := d.copy()
	if errors.Is(err, errParked) {
		return // and it may be running again
	}
	s := d.session
	defer s.running.Done()
	defer func() {
		if r := recover(); r != nil {
			s.end(panicked(r))
		}
	}()
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

// errParked ends a run that another one will go on from.
var errParked = errors.New("parked")

func (d *direction) copy() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicked(r)
		}
		if !errors.Is(err, errParked) {
			d.dropBuffer()
		}
	}()
	if d.buf == nil {
		d.buf = getBuffer(0)
	}
	if d.pending != nil {
		if err := d.begin(); err != nil {
			return err
		}
	}
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
			return d.write((*d.buf)[:d.held])
		}
		if err != nil {
			return err
		}
	}
}

// panicked makes an error of a panic. Only its type is shown: its words might quote a
// secret.
func panicked(r any) error { return fmt.Errorf("%w: %T\n%s", ErrPanic, r, debug.Stack()) }

// begin passes on what was there before the relay.
func (d *direction) begin() error {
	rest, err := d.flow.consume(d, d.pending)
	if err != nil {
		return err
	}
	d.bytes.Add(int64(len(d.pending)))
	d.held = copy(*d.buf, rest)
	d.pending = nil
	return nil
}

// consume passes on what was held back, and n bytes behind it.
func (d *direction) consume(n int) error {
	buf := *d.buf
	full := d.held+n == len(buf)
	rest, err := d.flow.consume(d, buf[:d.held+n])
	if err != nil {
		return err
	}
	d.held = copy(buf, rest)
	if full && len(buf) < bulkSize {
		d.change(slices.Index(sizes[:], len(buf)) + 1)
	}
	return nil
}

// change changes over to a buffer of another size.
func (d *direction) change(class int) {
	old := d.buf
	d.buf = getBuffer(class)
	copy(*d.buf, (*old)[:d.held])
	putBuffer(old)
	d.armed = false // other deadlines hold
}

func (d *direction) dropBuffer() {
	if d.buf != nil {
		putBuffer(d.buf)
		d.buf, d.held = nil, 0
	}
}

// read waits for bytes for as long as the session as a whole may. It returns
// errParked if the direction was parked meanwhile; nothing of it may be touched
// then.
//
// A deadline that was set lasts for many reads: the end of the time can only move
// away, but for what is counted in changes. These are looked at before and after,
// since deadlines are also set by whoever changes something.
func (d *direction) read() (int, error) {
	s := d.session
	for {
		if changes := s.changes.Load(); !d.armed || d.seen != changes {
			if err := d.attend(); err != nil {
				return 0, err
			}
			left, err := s.left()
			if err != nil {
				return 0, err
			}
			if err := d.src.SetReadDeadline(time.Now().Add(min(left, d.pause()))); err != nil {
				return 0, err
			}
			d.armed, d.stirred, d.seen = true, false, changes
			if s.changes.Load() != changes {
				continue
			}
		}
		n, err := d.src.Read((*d.buf)[d.held:])
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			d.stirred = true
			if n > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
				err = nil // crypto/tls has looked for an alert behind the bytes
			}
			return n, err
		}
		d.armed = false
		switch {
		case d.stirred:
		case len(*d.buf) > idleSize:
			if d.held <= idleSize/2 {
				d.change(0)
			}
		case d.park():
			return 0, errParked
		}
	}
}

// attend does what is due, and consumes what has come meanwhile.
func (d *direction) attend() error {
	rest, err := d.flow.attend(d)
	if err == nil && len(rest) > 0 {
		if rest, err = d.flow.consume(d, rest); err == nil {
			d.held = copy(*d.buf, rest)
		}
	}
	return err
}

// pause is for how long nothing may come before the direction gives something up.
func (d *direction) pause() time.Duration {
	switch {
	case len(*d.buf) > idleSize:
		return warmTime
	case d.raw != nil:
		return d.session.parkTime
	}
	return math.MaxInt64
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

// prepareWrite sets the deadline, as read does. One that was set a moment ago is
// good enough.
func (d *direction) prepareWrite() error {
	s := d.session
	for {
		changes := s.changes.Load()
		now := time.Since(base)
		if d.writeBy != 0 && d.writeSeen == changes && d.writeBy-now > writeTimeout-writeSlack {
			return nil
		}
		if s.over.Load() {
			return errOver
		}
		by := now + s.patience()
		if err := d.dst.SetWriteDeadline(base.Add(by)); err != nil {
			return err
		}
		d.writeBy, d.writeSeen = by, changes
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
	buf := make([]byte, idleSize)
	for {
		if _, err := d.src.Read(buf); err != nil {
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
