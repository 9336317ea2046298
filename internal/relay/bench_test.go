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

// BenchmarkBulk sends a literal up (APPEND) or down (FETCH). "foreign" is TLS that
// is not ours. What the peers need for theirs is in the figures.
func BenchmarkBulk(b *testing.B) {
	const size = 4 << 20
	literal := make([]byte, size)
	for _, legs := range []struct {
		name        string
		front, back layer
	}{
		{"tls-plain", ours, plain},
		{"tls-tls", ours, ours},
		{"foreign-plain", foreign, plain},
		{"foreign-foreign", foreign, foreign},
		{"plain-plain", plain, plain},
	} {
		for _, way := range []string{"fetch", "append"} {
			b.Run(legs.name+"/"+way, func(b *testing.B) {
				client, front := link(b, legs.front)
				backend, back := link(b, legs.back)
				stats := make(chan Stats, 1)
				go func() { stats <- Run(Leg{Conn: front}, Leg{Conn: back}, time.Hour) }()
				from, to, head := backend, client, "* 1 FETCH (BODY[] {%d}\r\n%s)\r\n"
				if way == "append" {
					from, to, head = client, backend, "a APPEND x {%d+}\r\n%s\r\n"
				}
				message := fmt.Appendf(nil, head, size, literal)
				got := make([]byte, 1<<20)
				done := make(chan error, 1)
				b.SetBytes(size)
				b.ReportAllocs()
				before := cpu()
				b.ResetTimer()
				go func() {
					var err error
					for range b.N {
						_, err = from.Write(message)
					}
					done <- err
				}()
				for left := b.N * len(message); left > 0; {
					n, err := to.Read(got[:min(left, len(got))])
					if left -= n; err != nil {
						b.Fatal(err)
					}
				}
				if err := <-done; err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				b.ReportMetric(float64(cpu()-before)/float64(b.N)/(size/1e6)/1e3, "cpu-us/MB")
				_, _ = client.Close(), backend.Close()
				<-stats
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
			chunk := c.of(bulkSize)
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
	for name, e := range map[string]Extension{"alone": nil, "extension": sorting()} {
		b.Run(name, func(b *testing.B) {
			s := newScripted("", false)
			s.scan.gathered.extension = e
			chunk := []byte(line)
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			for b.Loop() {
				s.scan.next(chunk)
				s.ledger.complete(s.scan.hash, true)
			}
		})
	}
}

// BenchmarkIdleSession reports what a session holds while nothing is said: heap
// and stacks. The connections are not counted, but what their TLS needs more
// after a message has gone through is.
func BenchmarkIdleSession(b *testing.B) {
	for l, name := range [...]string{plain: "tcp", ours: "tls", foreign: "foreign"} {
		b.Run(name, func(b *testing.B) {
			var held int64
			for b.Loop() {
				held = holdIdle(b, layer(l))
			}
			b.ReportMetric(float64(held), "B/session")
		})
	}
}

func holdIdle(b *testing.B, l layer) int64 {
	const sessions = 500
	var conns [sessions][4]net.Conn
	for i := range conns {
		client, front := link(b, l)
		backend, back := link(b, l)
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
	// Large buffers go back after a moment of silence.
	time.Sleep(10 * warmTime)
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
