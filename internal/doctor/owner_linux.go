package doctor

import (
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// owner says whose process listens on a unix socket, which may be at a path that others
// can write to.
func owner(conn net.Conn) string {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return ""
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return ""
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return ""
	}
	name := strconv.FormatUint(uint64(cred.Uid), 10)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	program := "process " + strconv.FormatInt(int64(cred.Pid), 10)
	if comm, err := os.ReadFile("/proc/" + strconv.FormatInt(int64(cred.Pid), 10) + "/comm"); err == nil {
		program = strings.TrimSpace(string(comm))
	}
	return foreign("; " + program + " of the user " + name + " listens there")
}
