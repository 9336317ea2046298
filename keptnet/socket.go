package keptnet

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

const (
	// retryAfter is how long nothing is accepted after the kernel has refused to.
	// It does so where the process has too many files open.
	retryAfter = 100 * time.Millisecond
	// complainAfter is how long that is not said in the log again.
	complainAfter = 10 * time.Second
)

// socket is an open socket. One goroutine accepts its connections and hands them
// to the oldest of the listeners that share it. So a listener that is closed is woken
// without the help of the socket, and no connection is lost on it: either it has
// been handed over, and is served, or the next listener gets it.
type socket struct {
	net.Listener
	key caddy.NetworkAddress
	// file is that of a unix socket, or nil.
	file   fs.FileInfo
	conns  chan net.Conn // unbuffered: nothing is in it when a listener goes
	closed chan struct{}
	ended  chan struct{} // closed when nothing is accepted any more

	mu sync.Mutex
	// queue are the listeners in the order in which they came.
	queue []*listener
}

// open opens a socket at the address, which has one port. Caddy's own way to do
// it lets a configuration that is about to leave have the address besides: one
// where it was not kept. It would also share it with, or take it from, another process.
func open(ctx context.Context, key, addr caddy.NetworkAddress, cfg net.ListenConfig) (*socket, error) {
	path := ""
	if addr.IsUnixNetwork() {
		if !strings.HasPrefix(key.Host, "@") {
			path = key.Host
		}
		if err := CheckFile(path); err != nil {
			return nil, err
		}
		if err := checkFree(addr); err != nil {
			return nil, err
		}
	} else {
		// Caddy has the right to open a port below 1024 only then, if it has to take it.
		control := cfg.Control
		cfg.Control = func(network, address string, conn syscall.RawConn) error {
			if err := checkFree(addr); err != nil || control == nil {
				return err
			}
			return control(network, address, conn)
		}
	}
	ln, err := addr.Listen(ctx, 0, cfg)
	if err != nil {
		return nil, err
	}
	var info fs.FileInfo
	if path != "" {
		if info, err = os.Lstat(path); err != nil {
			_ = ln.(net.Listener).Close()
			return nil, fmt.Errorf("looking at the socket's file: %w", err)
		}
	}
	return newSocket(key, info, ln.(net.Listener)), nil
}

// CheckFile fails if there is something else than a socket at the path of a unix
// socket that is to be opened: Caddy would remove it.
func CheckFile(path string) error {
	if path == "" {
		return nil
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s is there already and is no socket, and would be lost; take it away, or choose another path", path)
	}
	return nil
}

func newSocket(key caddy.NetworkAddress, file fs.FileInfo, ln net.Listener) *socket {
	s := &socket{
		Listener: ln,
		key:      key,
		file:     file,
		conns:    make(chan net.Conn),
		closed:   make(chan struct{}),
		ended:    make(chan struct{}),
	}
	go s.accept()
	return s
}

// Destruct closes the socket; the last of its listeners has gone.
func (s *socket) Destruct() error {
	close(s.closed)
	err := s.Close()
	<-s.ended
	return err
}

// accept hands out connections until the socket is closed. It does not give up:
// layer4, for one, would stop listening at the first error for good. Nor does it
// recover from panics: nothing that a client sends is looked at here, and a server
// that listens but never answers is worse than one that ends.
func (s *socket) accept() {
	defer close(s.ended)
	var complained time.Time
	for {
		conn, err := s.Accept()
		if err == nil {
			select {
			case s.conns <- conn:
				continue
			case <-s.closed:
				_ = conn.Close()
				return
			}
		}
		select {
		case <-s.closed:
			return
		default:
		}
		if time.Since(complained) >= complainAfter {
			complained = time.Now()
			logger().Error("cannot accept connections for now; if too many files are open, raise that limit (LimitNOFILE in a systemd unit)",
				zap.String("address", s.key.String()), zap.Error(err))
		}
		select {
		case <-time.After(retryAfter):
		case <-s.closed:
			return
		}
	}
}

// listener is what one configuration has of a socket.
type listener struct {
	socket *socket
	once   sync.Once
	closed chan struct{}
	// turn is closed when those before it have gone.
	turn chan struct{}
	// mode is that of the file of a unix socket.
	mode fs.FileMode
}

// newListener lines up for the connections of a socket.
func newListener(s *socket, mode fs.FileMode) *listener {
	l := &listener{socket: s, closed: make(chan struct{}), turn: make(chan struct{}), mode: mode}
	s.mu.Lock()
	s.queue = append(s.queue, l)
	first := len(s.queue) == 1
	s.mu.Unlock()
	if first {
		l.begin()
	}
	return l
}

// begin is called when it is the listener's turn, and the mode is its own from now on.
func (l *listener) begin() {
	close(l.turn)
	if l.mode == 0 {
		return
	}
	err := l.socket.checkOwn()
	if err == nil {
		err = os.Chmod(l.socket.key.Host, l.mode)
	}
	if err != nil {
		logger().Error("cannot set the mode of a unix socket's file; restart Caddy", zap.Error(err))
	}
}

// checkOwn fails if the file of a unix socket is not the one that was made for it: what
// somebody has put there instead is not ours to change.
func (s *socket) checkOwn() error {
	info, err := os.Lstat(s.key.Host)
	if err == nil && !os.SameFile(info, s.file) {
		err = fmt.Errorf("%s: another file has taken its place", s.key.Host)
	}
	return err
}

// leave makes way for the next one.
func (l *listener) leave() {
	s := l.socket
	s.mu.Lock()
	first := s.queue[0] == l
	s.queue = slices.DeleteFunc(s.queue, func(other *listener) bool { return other == l })
	var next *listener
	if first && len(s.queue) > 0 {
		next = s.queue[0]
	}
	s.mu.Unlock()
	if next != nil {
		next.begin()
	}
}

// Addr returns the address of the socket.
func (l *listener) Addr() net.Addr { return l.socket.Addr() }

// Accept returns the next connection, as soon as it is the listener's turn.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.turn:
	case <-l.closed:
	}
	select {
	case <-l.closed:
		return nil, l.errClosed()
	default:
	}
	select {
	case conn := <-l.socket.conns:
		return conn, nil
	case <-l.closed:
		return nil, l.errClosed()
	}
}

func (l *listener) errClosed() error {
	return &net.OpError{Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: net.ErrClosed}
}

// Close closes the listener, and the socket where it was the last. Doing so again
// does nothing: it would take the socket from another.
func (l *listener) Close() (err error) {
	l.once.Do(func() {
		close(l.closed)
		l.leave()
		if _, err = sockets.Delete(l.socket.key); err != nil {
			err = fmt.Errorf("closing the socket at %s: %w", l.socket.key, err)
		}
	})
	return err
}

// Interface guards
var (
	_ caddy.Destructor = (*socket)(nil)
	_ net.Listener     = (*listener)(nil)
)
