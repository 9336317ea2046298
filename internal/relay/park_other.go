//go:build !linux

package relay

import (
	"net"
	"syscall"
)

// spot is nothing: a direction keeps its goroutine.
type spot struct{}

func socketOf(net.Conn) syscall.RawConn { return nil }

func (d *direction) park() bool { return false }

func (d *direction) unpark() {}

func (d *direction) leaveLot() {}
