package relay

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestNeverReads pins that a side that takes nothing ends the session when it has had
// the time for it, and that until then the other is not read from any further. It
// runs on the fake clock of a bubble.
func TestNeverReads(t *testing.T) {
	for _, name := range []string{"client", "backend"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, front := net.Pipe()
				back, backend := net.Pipe()
				s := New(Leg{Conn: front}, Leg{Conn: back}, Options{Idle: time.Hour})
				done := make(chan Stats, 1)
				go func() { done <- s.Run() }()
				var from net.Conn = backend
				first := "* 1 FETCH (BODY[] {1073741824}\r\n"
				if name == "backend" {
					from, first = client, "a APPEND x {1073741824+}\r\n"
				}
				var sent atomic.Int64
				over := make(chan struct{})
				go func() {
					defer close(over)
					for p := []byte(first); ; p = []byte(strings.Repeat("x", 1<<10)) {
						n, err := from.Write(p)
						if sent.Add(int64(n)); err != nil {
							return
						}
					}
				}()
				start := time.Now()
				stats := <-done
				if took := time.Since(start); took != writeTimeout || !errors.Is(stats.Err, os.ErrDeadlineExceeded) {
					t.Errorf("ended after %v with %v, want %v", took, stats.Err, writeTimeout)
				}
				<-over
				if sent.Load() > bulkSize {
					t.Errorf("%d bytes were taken that nobody reads", sent.Load())
				}
				_, _ = client.Close(), backend.Close()
			})
		})
	}
}

// TestNeverReadsMemory has the backend send a gigabyte to clients that read nothing,
// over real sockets.
func TestNeverReadsMemory(t *testing.T) {
	const sessions, size = 6, 1 << 30
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // pools give things back at the second one only
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	overBoth(t, Options{}, func(t *testing.T, first *relayed) {
		all := []*relayed{first}
		for range sessions - 1 {
			all = append(all, relay(t, Options{}, strings.HasSuffix(t.Name(), "tls")))
		}
		before := heap()
		var sent atomic.Int64
		stalled := make(chan struct{}, sessions)
		for _, r := range all {
			go func() {
				defer func() { stalled <- struct{}{} }()
				r.backend.send("* 1 FETCH (BODY[] {1073741824}\r\n")
				for n := 0; n < size; n += 1 << 16 {
					// It goes on until nothing has been taken for a while.
					_ = r.backend.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
					m, err := r.backend.Write(block)
					if sent.Add(int64(m)); err != nil {
						return
					}
				}
				t.Error("a gigabyte was taken that nobody reads")
			}()
		}
		for range all {
			<-stalled
		}
		each := (heap() - before) / sessions
		t.Logf("of %d MiB each, %d KiB were taken before the sockets were full; the heap grew by %d KiB a session",
			size>>20, sent.Load()/sessions>>10, each>>10)
		if each > 512<<10 {
			t.Errorf("a session holds %d KiB", each>>10)
		}
		for _, r := range all {
			r.Kick("Bye.", time.Millisecond)
			r.finish(t, ErrKicked)
			_, _ = r.client.Close(), r.backend.Close()
		}
		if left := heap() - before; left > 1<<20 {
			t.Errorf("%d KiB are left of the sessions", left>>10)
		}
	})
}

// block is what is sent of a mail at once.
var block = []byte(strings.Repeat("0123456789abcdef", 1<<12))
