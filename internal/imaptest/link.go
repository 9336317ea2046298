package imaptest

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// End is how a connection ends before its time.
type End int

// The ways in which it can.
const (
	// Never says that it does not.
	Never End = iota
	// Close closes both sockets, in the orderly way.
	Close
	// Reset resets both.
	Reset
	// Freeze lets the direction go silent, as a cable does that is pulled: what is
	// sent is lost, the end of the connection included. As soon as one side has
	// given up, both sockets are closed.
	Freeze
	// HalfClose ends the direction in the orderly way, and loses what is sent in it.
	HalfClose
)

func (e End) String() string {
	return [...]string{"never", "close", "reset", "freeze", "half-close"}[e]
}

// Fault is what befalls one direction of a Link. The zero value is nothing.
type Fault struct {
	// Latency is how long each piece is held back, and the next one with it.
	Latency time.Duration
	// Trickle sends each byte on its own.
	Trickle bool
	// Rate is how many bytes a second may pass. Default: as many as can.
	Rate int
	// End comes to pass when After bytes have passed, even before there is
	// another one.
	End   End
	After int64
}

// pause is how long n bytes are held back.
func (f *Fault) pause(n int) time.Duration {
	pause := f.Latency
	if f.Rate > 0 {
		pause += time.Duration(n) * time.Second / time.Duration(f.Rate)
	}
	return pause
}

// size is how many bytes may be read at once when so many have passed.
func (f *Fault) size(passed int64) int {
	size := int64(16 << 10)
	if f.Rate > 0 {
		size = min(size, int64(f.Rate/50+1))
	}
	if f.Trickle {
		size = 1
	}
	if f.End != Never {
		size = min(size, f.After-passed)
	}
	return int(size)
}

// Link joins two TCP connections, as a wire with faults would: up is from near to
// far, down the other way.
type Link struct {
	near, far *net.TCPConn
	up, down  atomic.Int64
	frozen    atomic.Bool
	left      atomic.Int32
	wg        sync.WaitGroup

	once, struckOnce sync.Once
	struck, done     chan struct{}
}

// NewLink joins two connections, and owns them from now on.
func NewLink(near, far *net.TCPConn, up, down Fault) *Link {
	l := &Link{near: near, far: far, struck: make(chan struct{}), done: make(chan struct{})}
	l.left.Store(2)
	l.wg.Add(2)
	go l.carry(near, far, up, &l.up)
	go l.carry(far, near, down, &l.down)
	return l
}

// Passed is how many bytes have passed in each direction.
func (l *Link) Passed() (up, down int64) { return l.up.Load(), l.down.Load() }

// Struck is closed when an End has come to pass.
func (l *Link) Struck() <-chan struct{} { return l.struck }

// Done is closed when both sockets are.
func (l *Link) Done() <-chan struct{} { return l.done }

// Close closes both sockets, and waits until nothing passes any more.
func (l *Link) Close() {
	l.end(false)
	l.wg.Wait()
}

func (l *Link) end(reset bool) {
	l.once.Do(func() {
		for _, c := range [...]*net.TCPConn{l.near, l.far} {
			if reset {
				_ = c.SetLinger(0)
			}
			_ = c.Close()
		}
		close(l.done)
	})
}

// carry copies until the source ends, or the fault comes to pass.
func (l *Link) carry(src, dst *net.TCPConn, f Fault, passed *atomic.Int64) {
	defer l.wg.Done()
	defer func() {
		if l.left.Add(-1) == 0 {
			l.end(false)
		}
	}()
	buf := make([]byte, f.size(0))
	for f.End == Never || passed.Load() < f.After {
		n, err := src.Read(buf[:min(len(buf), f.size(passed.Load()))])
		if n > 0 {
			if !l.wait(f.pause(n)) {
				return
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				l.end(true)
				return
			}
			passed.Add(int64(n))
		}
		if err != nil {
			l.ended(dst, err)
			return
		}
	}
	l.strike(src, dst, f.End)
}

// wait waits, unless the link ends meanwhile.
func (l *Link) wait(pause time.Duration) bool {
	if pause == 0 {
		return true
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.done:
		return false
	}
}

// ended hands on that a direction has ended.
func (l *Link) ended(dst *net.TCPConn, err error) {
	switch {
	case !errors.Is(err, io.EOF):
		l.end(true)
	case l.frozen.Load():
		l.end(false)
	default:
		_ = dst.CloseWrite()
	}
}

func (l *Link) strike(src, dst *net.TCPConn, how End) {
	switch how {
	case Close, Reset:
		l.end(how == Reset)
	case Freeze:
		l.frozen.Store(true)
	case HalfClose:
		_ = dst.CloseWrite()
	}
	l.struckOnce.Do(func() { close(l.struck) })
	_, err := io.Copy(io.Discard, onlyReader{src})
	if how == Freeze || err != nil {
		l.end(false)
	}
}

// onlyReader hides what would let io.Copy splice.
type onlyReader struct{ io.Reader }
