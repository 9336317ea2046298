//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

// values are what a measurement found, by the keys of the mode's columns.
type values map[string]float64

// span is a stretch of time, and who has worked in it. CPU is in seconds.
type span struct {
	t     *target
	begin time.Time
	wall  float64 // seconds of the measurement
	all   float64 // and with the time in which processes end

	proxy   float64
	helper  float64 // what answers nginx
	backend float64
	self    float64
	idle    float64 // of the whole machine
	procs   int     // of the proxy
}

func (t *target) beginSpan() (*span, error) {
	s := &span{t: t}
	if err := s.read(); err != nil {
		return nil, err
	}
	s.begin = time.Now()
	return s, nil
}

func (s *span) read() error {
	all, err := processes()
	if err != nil {
		return err
	}
	if p := s.t.process; p != nil {
		s.proxy, s.procs = cpuOf(all, p.pid()), len(descendants(all, p.pid()))
	}
	s.helper, s.backend = cpuOf(all, s.t.authHTTP.pid()), cpuOf(all, s.t.world.backend.pid())
	s.self = processClock(os.Getpid(), 0)
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return fmt.Errorf("reading the CPU of the machine: %w", err)
	}
	if s.idle, err = parseIdle(text); err != nil {
		return fmt.Errorf("reading the CPU of the machine: %w", err)
	}
	return nil
}

// end makes the numbers those of the time since the beginning. A peer with a
// process for each session is given a moment to end them; it is not part of wall.
func (s *span) end() error {
	wall := time.Since(s.begin).Seconds()
	last := &span{t: s.t}
	for deadline := time.Now().Add(time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err := last.read(); err != nil {
			return err
		}
		if last.procs <= s.procs || time.Now().After(deadline) {
			break
		}
	}
	*s = span{
		t: s.t, begin: s.begin, wall: wall, all: time.Since(s.begin).Seconds(),
		proxy: last.proxy - s.proxy, helper: last.helper - s.helper, backend: last.backend - s.backend,
		self: last.self - s.self, idle: last.idle - s.idle,
	}
	return nil
}

// other is the share of the machine, in percent, that somebody else has used.
func (s *span) other() float64 {
	cpus := float64(runtime.NumCPU()) * s.all
	busy := cpus - s.idle - s.proxy - s.helper - s.backend - s.self
	return min(100, max(0, 100*busy/cpus))
}
