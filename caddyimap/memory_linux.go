package caddyimap

import "syscall"

// machineMemory returns how many bytes of memory the machine has, or 0 if that is not known.
func machineMemory() uint64 {
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}
