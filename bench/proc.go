//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// processes reads what the kernel says of all processes.
func processes() (map[int]stat, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	all := make(map[int]stat)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		if all[pid], err = parseStat(text); err != nil {
			return nil, fmt.Errorf("reading /proc/%d/stat: %w", pid, err)
		}
	}
	return all, nil
}

// cpuOf returns the seconds that a process, what is below it, and what of that
// has ended, have worked.
func cpuOf(all map[int]stat, pid int) (sum float64) {
	for _, p := range descendants(all, pid) {
		sum += processClock(p, all[p].own) + all[p].reaped
	}
	return sum
}

// processClock is the same number as utime and stime together, but to the
// nanosecond; of a process that has just ended it is what was read before.
func processClock(pid int, before float64) float64 {
	// clock_getcpuclockid(3) in the words of the kernel: CPUCLOCK_SCHED of all
	// threads.
	id := ^pid<<3 | 2
	var t syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(int32(id)), uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return before
	}
	return float64(t.Nano()) / 1e9
}

// memoryOf returns the bytes of memory of a process and what is below it. What
// several share counts once.
func memoryOf(pid int) (sum int64, err error) {
	all, err := processes()
	if err != nil {
		return 0, err
	}
	for _, p := range descendants(all, pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("reading memory of %d, for which one has to be root: %w", p, err)
		}
		pss, err := parsePSS(text)
		if err != nil {
			return 0, fmt.Errorf("reading memory of %d: %w", p, err)
		}
		sum += pss
	}
	return sum, nil
}

// openFiles lets us, and what we start, have as many files open as the system
// allows, and returns how many that is.
func openFiles() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("reading the limit of open files: %w", err)
	}
	l.Cur = l.Max
	// Even if it is the same, or the Go runtime would lower it for our children.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("raising the limit of open files: %w", err)
	}
	return int(min(l.Max, 1<<20)), nil
}
