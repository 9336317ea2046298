//go:build !linux

package caddyimap

// machineMemory returns 0: it is not known.
func machineMemory() uint64 { return 0 }
