package relay

import (
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// A direction that nothing comes for gives up its goroutine, and with it a stack of
// 4 or 8 KiB. Its socket is watched in an epoll set of ours. It is there besides
// that of the runtime, in which it stays.
//
// That nothing is left anywhere above the socket is known from the read before,
// which has waited in vain: whatever TLS or another wrapper still has, it has not
// been able to make a byte of without more from the socket.

// spot is a direction's place in the lot.
type spot struct {
	// mu is held by who parks a direction and who has it run again.
	mu     sync.Mutex
	parked bool
	// times counts how often it was parked.
	times int
	// set is the epoll set that the socket was added to, if it was, and id the
	// direction's name there.
	set *set
	id  uint64
}

// set is an epoll set. It exists as long as it has members.
type set struct {
	file *os.File
	fd   int
	// logger is that of the first member.
	logger *zap.Logger
	// ended is closed when the goroutine has ended.
	ended  chan struct{}
	events [64]syscall.EpollEvent
	woken  []*direction
}

// lot has the set in use.
var lot struct {
	mu      sync.Mutex
	set     *set
	last    uint64
	members map[uint64]*direction
}

// socketOf returns the socket under a connection and its wrappers, or nil if there
// is none that could be watched.
func socketOf(c net.Conn) syscall.RawConn {
	for {
		wrapped, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = wrapped.NetConn()
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// park returns true if the direction was parked. It must not be touched any more
// then: whoever has it run again may have done so by now.
func (d *direction) park() bool {
	if d.raw == nil {
		return false
	}
	if d.session.setAlarm() != nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	// Who changes something counts it first, and looks for who is parked then.
	if d.session.changes.Load() != d.seen {
		return false
	}
	if !d.watch() {
		d.raw = nil
		return false
	}
	if d.held == 0 {
		d.dropBuffer()
	}
	// TLS may have to write by itself while the other direction reads: it is not to
	// find a deadline that is long over.
	_ = d.dst.SetWriteDeadline(time.Time{})
	d.writeBy = 0
	d.parked, d.times = true, d.times+1
	return true
}

// unpark has the direction run again if it is parked.
func (d *direction) unpark() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.parked {
		d.parked = false
		go d.run()
	}
}

// watch has the set tell, once, that the socket can be read from, or that it could
// be all the time.
func (d *direction) watch() bool {
	op := syscall.EPOLL_CTL_MOD
	if d.set == nil {
		op = syscall.EPOLL_CTL_ADD
		if !d.enterLot() {
			return false
		}
	}
	event := syscall.EpollEvent{
		Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT,
		Fd:     int32(d.id), Pad: int32(d.id >> 32),
	}
	var failed error
	err := d.raw.Control(func(fd uintptr) { failed = syscall.EpollCtl(d.set.fd, op, int(fd), &event) })
	return err == nil && failed == nil
}

func (d *direction) enterLot() bool {
	lot.mu.Lock()
	defer lot.mu.Unlock()
	if lot.set == nil {
		s, err := newSet(d.session.logger)
		if err != nil {
			return false
		}
		lot.set, lot.members = s, make(map[uint64]*direction)
		go s.serve()
	}
	lot.last++
	d.set, d.id = lot.set, lot.last
	lot.members[d.id] = d
	return true
}

// leaveLot is for a direction that has ended. The kernel takes sockets out of the
// set when they are closed.
func (d *direction) leaveLot() {
	if d.set == nil {
		return
	}
	lot.mu.Lock()
	delete(lot.members, d.id)
	last := len(lot.members) == 0
	if last {
		lot.set = nil
	}
	lot.mu.Unlock()
	if last {
		_ = d.set.file.Close()
		<-d.set.ended
	}
}

func newSet(logger *zap.Logger) (*set, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making an epoll set: %w", err)
	}
	// So that the runtime waits for it like for any socket, without a thread.
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("setting up an epoll set: %w", err)
	}
	file := os.NewFile(uintptr(fd), "epoll")
	// The runtime does not say by itself that it cannot wait for a file.
	if err := file.SetReadDeadline(time.Time{}); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("waiting for an epoll set: %w", err)
	}
	return &set{file: file, fd: fd, logger: logger, ended: make(chan struct{})}, nil
}

// serve has directions run again, until the set is closed.
func (s *set) serve() {
	defer close(s.ended)
	raw, err := s.file.SyscallConn()
	for err == nil {
		err = s.wake(raw)
	}
}

// wake waits for events, and has the directions that they are for run again. One that
// does already is left alone, and one that came here after the event looks in vain.
// After a panic the others go on; whose wake was lost is woken by the alarm.
func (s *set) wake(raw syscall.RawConn) error {
	defer func() {
		if r := recover(); r != nil {
			s.logger.Error("panic while having sessions run again; those that it was about are late",
				zap.String("panic", fmt.Sprintf("%T", r)), zap.ByteString("stack", debug.Stack()))
		}
	}()
	n := 0
	err := raw.Read(func(fd uintptr) bool {
		n, _ = syscall.EpollWait(int(fd), s.events[:], 0)
		return n > 0
	})
	for _, d := range s.named(max(0, n)) {
		d.unpark()
	}
	clear(s.woken)
	return err
}

// named returns the directions that n events are for.
func (s *set) named(n int) []*direction {
	lot.mu.Lock()
	defer lot.mu.Unlock()
	s.woken = s.woken[:0]
	for _, e := range s.events[:n] {
		if d := lot.members[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]; d != nil {
			s.woken = append(s.woken, d)
		}
	}
	return s.woken
}
