//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ticks is how many the kernel counts in a second of CPU, on all systems there
// are.
const ticks = 100

// stat is what /proc/PID/stat says of a process.
type stat struct {
	parent int
	own    float64 // seconds of CPU, in steps of 10 ms
	reaped float64 // and those of its children that have ended
}

func parseStat(text []byte) (s stat, err error) {
	// The name of the program is in parentheses, and may have some in it.
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return s, errors.New("no name of a program")
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 15 {
		return s, fmt.Errorf("%d fields behind the name", len(fields))
	}
	var n [5]int
	for i, at := range []int{1, 11, 12, 13, 14} {
		if n[i], err = strconv.Atoi(fields[at]); err != nil {
			return s, fmt.Errorf("reading field %d behind the name: %w", at, err)
		}
	}
	return stat{parent: n[0], own: float64(n[1]+n[2]) / ticks, reaped: float64(n[3]+n[4]) / ticks}, nil
}

// parsePSS returns the bytes of a smaps_rollup that are this process's share.
func parsePSS(text []byte) (int64, error) {
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "Pss:" && fields[2] == "kB" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("no line Pss")
}

// parseIdle returns the seconds that the CPUs of a /proc/stat have not worked. What
// they did otherwise is counted less well there, and what another machine took from
// this one is a part of it.
func parseIdle(text []byte) (float64, error) {
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[0] != "cpu" {
		return 0, fmt.Errorf("the first line is %q", line)
	}
	sum := 0
	for _, at := range []int{4, 5} { // idle, and waiting for a disk
		n, err := strconv.Atoi(fields[at])
		if err != nil {
			return 0, fmt.Errorf("reading field %d: %w", at, err)
		}
		sum += n
	}
	return float64(sum) / ticks, nil
}

// descendants returns the processes and all below them.
func descendants(all map[int]stat, roots ...int) (pids []int) {
	children := make(map[int][]int)
	for pid, s := range all {
		children[s.parent] = append(children[s.parent], pid)
	}
	for len(roots) > 0 {
		pid := roots[0]
		if _, ok := all[pid]; ok {
			pids = append(pids, pid)
		}
		roots = append(roots[1:], children[pid]...)
	}
	return pids
}
