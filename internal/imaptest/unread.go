package imaptest

import (
	"net"
	"slices"
	"sync"
)

// Unread is a connection in memory whose writes wait for nobody, as those of small
// things do on a socket.
type Unread struct {
	net.Conn
	mu     sync.Mutex
	queue  [][]byte
	more   chan struct{}
	closed bool
}

// NewUnread makes one of a connection that it then owns, such as one of net.Pipe.
func NewUnread(conn net.Conn) *Unread {
	u := &Unread{Conn: conn, more: make(chan struct{}, 1)}
	go u.drain()
	return u
}

func (u *Unread) drain() {
	for range u.more {
		u.mu.Lock()
		pieces := u.queue
		u.queue = nil
		u.mu.Unlock()
		for _, piece := range pieces {
			if _, err := u.Conn.Write(piece); err != nil {
				return
			}
		}
	}
}

// Write never blocks.
func (u *Unread) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return 0, net.ErrClosed
	}
	u.queue = append(u.queue, slices.Clone(p))
	select {
	case u.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

// Close drops what was not read yet. More than one call is one.
func (u *Unread) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.closed {
		u.closed = true
		close(u.more)
	}
	return u.Conn.Close()
}
