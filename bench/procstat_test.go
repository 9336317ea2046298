//go:build linux

package main

import (
	"os"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	text := []byte("4711 (imap (login) x) S 12 4711 4711 0 -1 4194560 100 200 0 0 150 50 1000 23 20 0 1 0 99 1 2 3\n")
	got, err := parseStat(text)
	if want := (stat{parent: 12, own: 2, reaped: 10.23}); err != nil || got != want {
		t.Errorf("parseStat = %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "1 sh S 1 2", "1 (sh) S 1 2", "1 (sh) S x 1 1 0 0 0 0 0 0 0 1 1 1 1 0"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("parseStat(%q) has no error", bad)
		}
	}
}

func TestParsePSS(t *testing.T) {
	got, err := parsePSS([]byte("00400000-7fff [rollup]\nRss:     200 kB\nPss:      64 kB\nPss_Anon: 1 kB\n"))
	if err != nil || got != 64<<10 {
		t.Errorf("parsePSS = %d, %v, want 64 KiB", got, err)
	}
	if _, err := parsePSS([]byte("Rss: 200 kB\n")); err == nil {
		t.Error("parsePSS without the line has no error")
	}
}

func TestParseIdle(t *testing.T) {
	got, err := parseIdle([]byte("cpu  100 20 30 9999 888 7 3 5 0 0\ncpu0 1 2 3\n"))
	if err != nil || got != 108.87 {
		t.Errorf("parseIdle = %v, %v, want 108.87", got, err)
	}
	if _, err := parseIdle([]byte("intr 1 2 3")); err == nil {
		t.Error("parseIdle of something else has no error")
	}
}

func TestDescendants(t *testing.T) {
	all := map[int]stat{1: {parent: 0}, 10: {parent: 1}, 11: {parent: 10}, 12: {parent: 11}, 20: {parent: 1}}
	got := descendants(all, 10)
	slices.Sort(got)
	if want := []int{10, 11, 12}; !slices.Equal(got, want) {
		t.Errorf("descendants = %v, want %v", got, want)
	}
	if got := descendants(all, 99); len(got) != 0 {
		t.Errorf("descendants of nobody = %v", got)
	}
}

// What a child has used counts while it runs and when it has ended.
func TestCPUOfChildren(t *testing.T) {
	p, err := start(t.TempDir(), "/bin/sh", "-c", `i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done & wait; exec sleep 60`)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	deadline := time.Now().Add(30 * time.Second)
	for {
		all, err := processes()
		if err != nil {
			t.Fatal(err)
		}
		if all[p.pid()].reaped > 0 {
			if got := cpuOf(all, p.pid()); got < all[p.pid()].reaped {
				t.Errorf("cpuOf = %v, want %v at least", got, all[p.pid()].reaped)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a child that worked and ended has used no CPU")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestProcessClock(t *testing.T) {
	before := processClock(os.Getpid(), -1)
	for begin := time.Now(); time.Since(begin) < 20*time.Millisecond; {
	}
	if after := processClock(os.Getpid(), -1); before < 0 || after <= before {
		t.Errorf("our clock went from %v to %v", before, after)
	}
	if got := processClock(1<<22+1, 7); got != 7 { // more than there can be
		t.Errorf("the clock of nobody is %v, want what was read before", got)
	}
}

func TestMemoryOf(t *testing.T) {
	got, err := memoryOf(os.Getpid())
	if err != nil || got < 1<<20 {
		t.Errorf("our memory is %d bytes, %v", got, err)
	}
}
