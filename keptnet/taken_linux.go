package keptnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// connectTimeout bounds the connection to a unix socket that may be another's.
const connectTimeout = time.Second

// checkFree fails if another process listens at the address, which we are about to
// open. Caddy would not notice: it removes the file of a unix socket, also one that is
// served, and shares a port with other processes of its user. What this process itself
// has there is that of a configuration which is about to leave.
func checkFree(addr caddy.NetworkAddress) error {
	if !addr.IsUnixNetwork() {
		return checkPort(addr)
	}
	path, _ := file(addr.Host)
	if strings.HasPrefix(path, "@") {
		return nil // the kernel gives it to one
	}
	if _, err := os.Lstat(path); err != nil {
		return nil
	}
	own := listens(func(at syscall.Sockaddr) bool {
		unix, ok := at.(*syscall.SockaddrUnix)
		return ok && filepath.Clean(unix.Name) == filepath.Clean(path)
	})
	if own {
		return nil
	}
	conn, err := net.DialTimeout("unix", path, connectTimeout)
	switch {
	case err == nil:
		_ = conn.Close()
	case !errors.Is(err, syscall.EAGAIN): // which says that too many wait there already
		return nil
	}
	return errors.New("another process serves this socket (Dovecot?); stop it first")
}

// checkPort opens the port for a moment without SO_REUSEPORT, by which Caddy shares
// ports, and which is of use only while no other listener lacks it.
func checkPort(addr caddy.NetworkAddress) error {
	ln, err := new(net.ListenConfig).Listen(context.Background(), addr.Network, addr.JoinHostPort(0))
	if err == nil {
		return ln.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return nil // what else is wrong, the real one will tell
	}
	own := listens(func(at syscall.Sockaddr) bool {
		switch at := at.(type) {
		case *syscall.SockaddrInet4:
			return at.Port == int(addr.StartPort)
		case *syscall.SockaddrInet6:
			return at.Port == int(addr.StartPort)
		}
		return false
	})
	if own {
		return nil
	}
	return fmt.Errorf("another process listens there (Dovecot, or a second Caddy?); stop it first: %w", syscall.EADDRINUSE)
}

// listens says whether this process listens at an address like that already. Caddy
// cannot tell: it counts by the text of addresses, and unix sockets not at all.
func listens(like func(syscall.Sockaddr) bool) bool {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return true // nobody knows; do as Caddy does
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if on, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN); err != nil || on == 0 {
			continue
		}
		if at, err := syscall.Getsockname(fd); err == nil && like(at) {
			return true
		}
	}
	return false
}
