package imapcmd

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/keptnet"
)

// setAddresses fills in the addresses that were not given. A unix socket without a mode
// gets one that lets its group connect: that of Caddy itself lets nobody.
func (o *options) setAddresses(imap, imaps, auth string) {
	for _, a := range []struct {
		field *string
		value string
	}{{&o.imap, imap}, {&o.imaps, imaps}, {&o.auth, auth}} {
		if *a.field == "" {
			*a.field = a.value
		}
		if path := unixPath(*a.field); path != "" && !strings.HasPrefix(path, "@") && !strings.Contains(*a.field, "|") {
			*a.field += "|0660"
		}
	}
}

// unixPath returns the path of a unix socket, without its mode, or "" if the address is
// of another kind.
func unixPath(addr string) string {
	path, found := strings.CutPrefix(strings.TrimPrefix(addr, "kept/"), "unix/")
	if !found {
		return ""
	}
	path, _, _ = strings.Cut(path, "|")
	return path
}

// claim is an address that one of the flags has.
type claim struct {
	flag string
	// at is a TCP address; text is of the others.
	at   netip.AddrPort
	text string
}

// checkAddresses refuses addresses that nobody can listen on, and those that
// somebody does. Caddy would share them with another Caddy, and connections would
// come to either.
func (o *options) checkAddresses() error {
	var seen []claim
	for _, a := range []struct{ flag, addr string }{{"--imap", o.imap}, {"--imaps", o.imaps}, {"--auth", o.auth}} {
		if a.addr == "" {
			continue
		}
		c, ln, err := tryAddress(a.addr)
		if ln != nil {
			defer ln.Close() // not before the last is tried: they may be the same
		}
		for _, other := range seen {
			if c.is(other) {
				return fmt.Errorf("%s %s: that is the address of %s, too", a.flag, a.addr, other.flag)
			}
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", a.flag, a.addr, err)
		}
		c.flag = a.flag
		seen = append(seen, c)
	}
	return nil
}

// tryAddress listens on an address if it is one of TCP. It returns what is known of it
// also with an error.
func tryAddress(text string) (c claim, ln net.Listener, err error) {
	addr, err := caddy.ParseNetworkAddress(text)
	if err == nil {
		addr, err = keptnet.Plain(addr)
	}
	switch {
	case err != nil:
		return c, nil, err
	case addr.IsUnixNetwork():
		path, _, _ := strings.Cut(addr.Host, "|")
		if strings.HasPrefix(path, "@") {
			return claim{text: "unix " + path}, nil, nil
		}
		return claim{text: "unix " + realPath(path)}, nil, keptnet.CheckFile(path)
	case addr.IsFdNetwork():
		return claim{text: "fd " + addr.Host}, nil, nil
	case addr.PortRangeSize() != 1 || addr.StartPort == 0:
		return c, nil, errors.New("must have a host and one port, or a port alone, as in 127.0.0.1:1143 or :1143")
	}
	host := addr.JoinHostPort(0)
	if tcp, err := net.ResolveTCPAddr(addr.Network, host); err == nil {
		c.at = tcp.AddrPort()
	}
	if ln, err = net.Listen(addr.Network, host); err != nil {
		return c, nil, fmt.Errorf("%w; %s", err, listenAdvice(err))
	}
	return c, ln, nil
}

// realPath returns a path by which two ways to write it can be compared.
func realPath(path string) string {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// is reports whether two addresses have something in common.
func (c claim) is(other claim) bool {
	if c.text != "" || other.text != "" {
		return c.text == other.text
	}
	one, two := c.at.Addr().Unmap(), other.at.Addr().Unmap()
	return c.at.Port() == other.at.Port() && c.at.Port() != 0 &&
		(one == two || !one.IsValid() || one.IsUnspecified() || !two.IsValid() || two.IsUnspecified())
}

// listenAdvice says what to do about an address that cannot be listened on.
func listenAdvice(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "a port below 1024 wants root or the capability CAP_NET_BIND_SERVICE, or choose a higher one"
	case errors.Is(err, syscall.EADDRINUSE):
		return "stop who listens there, or choose another address"
	default:
		return "choose an address of this machine"
	}
}
