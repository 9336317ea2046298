package tlsio

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"
)

// text returns bytes none of which is like the one before it.
func text(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> (i & 3))
	}
	return b
}

// TestFewCalls pins what all this is for.
func TestFewCalls(t *testing.T) {
	overVersions(t, func(t *testing.T, version uint16) {
		client, server, c, s := wires(t, version)
		// Tickets are read, and buffers that are kept have their size.
		buf, sent := make([]byte, 128<<10), text(100<<10)
		for range 2 {
			_, _ = client.Write([]byte{0})
			if _, err := io.ReadFull(server, buf[:1]); err != nil {
				t.Fatal(err)
			}
			c.writes, s.reads = 0, 0
			if n, err := client.Write(sent); n != len(sent) || err != nil {
				t.Fatal(n, err)
			}
			n, err := server.Read(buf)
			if err != nil || !bytes.Equal(buf[:n], sent) {
				t.Fatalf("got %d bytes, %v", n, err)
			}
			if c.writes != 1 || s.reads != 2 {
				t.Errorf("%d writes, %d reads", c.writes, s.reads)
			}
			if server.under.in != nil || client.under.held != nil {
				t.Error("a buffer is kept")
			}
		}
	})
}

// TestLargeWrite pins that no more is held than has room.
func TestLargeWrite(t *testing.T) {
	client, server, c, _ := wires(t, tls.VersionTLS13)
	sent := text(1<<20 + 1)
	c.writes = 0
	if n, err := client.Write(sent); n != len(sent) || err != nil {
		t.Fatal(n, err)
	}
	if c.writes != 9 { // for 65 records
		t.Errorf("%d writes", c.writes)
	}
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(server, got); err != nil || !bytes.Equal(got, sent) {
		t.Error("something else arrived", err)
	}
	if cap(*outBuffers.Get().(*[]byte)) != outSize {
		t.Error("a buffer was too small")
	}
}

// TestRandomCuts writes and reads pieces of any size, over a connection that cuts
// what is read anywhere.
func TestRandomCuts(t *testing.T) {
	overVersions(t, func(t *testing.T, version uint16) {
		for seed := range uint64(20) {
			client, server, _, s := wires(t, version)
			rnd := rand.New(rand.NewPCG(seed, 1))
			size := func() int { return 1 + rnd.IntN(1<<(1+rnd.IntN(17))) }
			s.cut = func(n int) int { return min(n, size()) }
			sent, got := text(1<<20), []byte(nil)
			done := make(chan struct{})
			go func() {
				defer close(done)
				rnd := rand.New(rand.NewPCG(seed, 2))
				for b := sent; len(b) > 0; {
					n := min(1+rnd.IntN(1<<(1+rnd.IntN(17))), len(b))
					if m, err := client.Write(b[:n]); m != n || err != nil {
						t.Error(m, err)
						return
					}
					b = b[n:]
				}
				if err := client.CloseWrite(); err != nil {
					t.Error(err)
				}
			}()
			buf := make([]byte, 1<<17)
			for {
				n, err := server.Read(buf[:size()])
				got = append(got, buf[:n]...)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil || n == 0 {
					t.Fatal(n, err)
				}
			}
			<-done
			if !bytes.Equal(got, sent) {
				t.Fatalf("got %d bytes, not what was sent", len(got))
			}
			if server.under.in != nil {
				t.Error("a buffer is kept")
			}
		}
	})
}

// TestSizes pins that what is left of a record, or of a buffer, is not lost when the
// next read is small.
func TestSizes(t *testing.T) {
	client, server, _, _ := wires(t, tls.VersionTLS13)
	sent := text(200 << 10)
	_, _ = client.Write(sent)
	var got []byte
	for _, n := range []int{maxRecord + 1, 5, maxRecord, 3 * maxRecord, 1, maxRecord + 5} {
		buf := make([]byte, n)
		n, err := server.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
	}
	rest := make([]byte, len(sent)-len(got))
	if _, err := io.ReadFull(server, rest); err != nil || !bytes.Equal(append(got, rest...), sent) {
		t.Error("something else arrived", err)
	}
}

// TestBrokenWrite pins that an error is told, and that nothing follows on what was cut.
func TestBrokenWrite(t *testing.T) {
	broken := errors.New("broken")
	for _, tc := range []struct {
		name string
		size int
		take int
		err  error
		want error
	}{
		{"nothing", 100 << 10, 0, broken, broken},
		{"in a header", 100 << 10, 3, broken, broken},
		{"in the middle", 100 << 10, 50 << 10, broken, broken},
		{"in a second flush", 200 << 10, 1, broken, broken},
		{"in one record", 100, 1, broken, broken},
		{"all, and an error", 100 << 10, 101 << 10, broken, broken},
		{"short", 100 << 10, 1000, nil, io.ErrShortWrite},
		{"short record", 100, 1, nil, io.ErrShortWrite},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client, _, c, _ := wires(t, tls.VersionTLS13)
			if tc.name == "in a second flush" {
				c.take = func(n int) (int, error) { c.take = taking(tc.take, tc.err); return n, nil }
			} else {
				c.take = taking(tc.take, tc.err)
			}
			if n, err := client.Write(text(tc.size)); n != 0 || !errors.Is(err, tc.want) {
				t.Errorf("Write: %d, %v", n, err)
			}
			c.take, c.writes = nil, 0
			if n, err := client.Write([]byte("x")); n != 0 || !errors.Is(err, tc.want) {
				t.Errorf("Write again: %d, %v", n, err)
			}
			if err := client.CloseWrite(); !errors.Is(err, tc.want) {
				t.Errorf("CloseWrite: %v", err)
			}
			_ = client.Close()
			if c.writes != 0 {
				t.Errorf("%d more writes", c.writes)
			}
			if client.under.held != nil {
				t.Error("a buffer is kept")
			}
		})
	}
}

func taking(most int, err error) func(int) (int, error) {
	return func(n int) (int, error) { return min(n, most), err }
}

// TestDeadlines pins that both ends of a stalled connection can be woken, that a read
// goes on after that, and that closing from elsewhere ends a write.
func TestDeadlines(t *testing.T) {
	client, server := overTCP(t)
	buf := make([]byte, 128<<10)
	_ = server.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := server.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Read: %d, %v", n, err)
	}
	_ = server.SetReadDeadline(time.Time{})
	_, _ = client.Write([]byte("x"))
	if n, err := server.Read(buf); n != 1 || err != nil {
		t.Fatalf("Read: %d, %v", n, err)
	}

	stall := func(wake func()) error {
		done := make(chan error)
		go func() {
			for {
				if _, err := client.Write(buf); err != nil {
					done <- err
					return
				}
			}
		}()
		wake()
		return <-done
	}
	if err := stall(func() { _ = client.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) }); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write: %v", err)
	}
	client, _ = overTCP(t)
	if err := stall(func() { _ = client.Close() }); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
}

// TestReaderWrites has the reading side send an alert while the other one writes.
func TestReaderWrites(t *testing.T) {
	for range 20 {
		client, server := overTCP(t)
		done := make(chan error)
		go func() {
			buf := make([]byte, 128<<10)
			for {
				if _, err := server.Write(buf); err != nil {
					done <- err
					return
				}
			}
		}()
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			_, _ = io.Copy(io.Discard, client)
		}()
		_, _ = client.NetConn().(*socket).Conn.Write([]byte("\x17\x03\x03\x00\x20no record of TLS at all, of 32 b."))
		if _, err := server.Read(make([]byte, 64<<10)); err == nil {
			t.Error("a forged record was taken")
		}
		if err := <-done; err == nil {
			t.Error("no error")
		}
		_ = server.Close()
		<-drained
	}
}

func overTCP(t *testing.T) (client, server *Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return secure(t, c, s, tls.VersionTLS13)
}
