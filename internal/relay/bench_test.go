package relay

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// contents are what a backend may send a lot of. Bare bytes cost the scanner
// nothing but to see that they are no line; short lines cost it most.
var contents = []struct {
	name string
	of   func(size int) []byte
}{
	{"bare", func(size int) []byte { return make([]byte, size) }},
	{"literals", func(size int) []byte { return fill(size, fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n", size/2)) }},
	{"lines", func(size int) []byte {
		return bytes.Repeat([]byte("* 12345 FETCH (UID 23456 FLAGS (\\Seen \\Recent) X 123456789012)\r\n"), size/64)
	}},
}

// fill puts a literal of half the size behind its announcement, and a line that
// fills the rest.
func fill(size int, head string) []byte {
	b := append([]byte(head), bytes.Repeat([]byte{'x'}, size/2)...)
	rest := size - len(b)
	if rest < 3 {
		return make([]byte, size)
	}
	return append(b, strings.Repeat(" ", rest-3)+")\r\n"...)
}

// BenchmarkRelay sends so many bytes to a client and waits until it has them.
func BenchmarkRelay(b *testing.B) {
	for _, size := range []int{64, 16 << 10, 256 << 10} {
		for _, c := range contents {
			b.Run(fmt.Sprintf("%d/%s", size, c.name), func(b *testing.B) {
				r := start(b, "", "", time.Hour)
				chunk, got := c.of(size), make([]byte, size)
				_ = r.backend.SetDeadline(time.Time{})
				_ = r.client.SetDeadline(time.Time{})
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := r.backend.Write(chunk); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(r.client, got); err != nil {
						b.Fatal(err)
					}
				}
				_, _ = r.client.Close(), r.backend.Close()
				<-r.stats
			})
		}
	}
}

// BenchmarkPingPong is a command and its answer.
func BenchmarkPingPong(b *testing.B) {
	r := start(b, "", "", time.Hour)
	cmd, answer := []byte("a001 NOOP\r\n"), []byte("a001 OK NOOP completed.\r\n")
	got := make([]byte, len(answer))
	_ = r.backend.SetDeadline(time.Time{})
	_ = r.client.SetDeadline(time.Time{})
	b.ReportAllocs()
	for b.Loop() {
		_, err1 := r.client.Write(cmd)
		_, err2 := io.ReadFull(r.backend, got[:len(cmd)])
		_, err3 := r.backend.Write(answer)
		if _, err := io.ReadFull(r.client, got); err != nil {
			b.Fatal(err1, err2, err3, err)
		}
	}
	_, _ = r.client.Close(), r.backend.Close()
	<-r.stats
}

// BenchmarkResponses and BenchmarkCommands are the scanners alone.
func BenchmarkResponses(b *testing.B) {
	for _, c := range contents {
		b.Run(c.name, func(b *testing.B) {
			h := newHeard()
			chunk := c.of(bufferSize)
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			for b.Loop() {
				for p := chunk; len(p) > 0; {
					pass, skip := h.scan.next(p, false)
					p = p[pass+skip:]
				}
			}
		})
	}
}

func BenchmarkCommands(b *testing.B) {
	const line = "a001 UID FETCH 1:100 (UID FLAGS BODY.PEEK[HEADER.FIELDS (From)])\r\n"
	s := newScripted("", false)
	chunk := []byte(line)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		s.scan.next(chunk)
		s.ledger.complete(s.scan.hash, true)
	}
}

// BenchmarkIdleSession reports what a session holds while nothing is said: heap
// and stacks. The connections are not counted, but what their TLS needs more
// after a message has gone through is.
func BenchmarkIdleSession(b *testing.B) {
	for _, name := range []string{"tcp", "tls"} {
		b.Run(name, func(b *testing.B) {
			var held int64
			for b.Loop() {
				held = holdIdle(b, name == "tls")
			}
			b.ReportMetric(float64(held), "B/session")
		})
	}
}

func holdIdle(b *testing.B, overTLS bool) int64 {
	const sessions = 500
	var conns [sessions][4]net.Conn
	for i := range conns {
		client, front := connect(b, overTLS)
		backend, back := connect(b, overTLS)
		conns[i] = [...]net.Conn{client, front, back, backend}
	}
	before := inUse()
	stats := make(chan Stats, sessions)
	for _, c := range conns {
		go func() { stats <- Run(Leg{Conn: c[1]}, Leg{Conn: c[2]}, time.Hour) }()
	}
	line := append(bytes.Repeat([]byte("x"), 60<<10), '\n')
	got := make([]byte, len(line))
	for _, c := range conns {
		go func() { _, _ = c[3].Write(line) }()
		if _, err := io.ReadFull(c[0], got); err != nil {
			b.Fatal(err)
		}
	}
	// Large buffers go back after a second of silence.
	time.Sleep(2 * time.Second)
	held := (inUse() - before) / sessions
	for _, c := range conns {
		_, _ = c[0].Close(), c[3].Close()
	}
	for range conns {
		<-stats
	}
	return held
}

func inUse() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
