//go:build unix

package caddyimap

import "syscall"

// openFiles returns how many files the process may have open, or 0 if that is not
// known. Go has raised it to what the system allows.
func openFiles() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}
