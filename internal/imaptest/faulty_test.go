package imaptest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// echo is a server that says again what it hears, until the end of that.
func echo(t *testing.T) *Script {
	return NewScript(t, func(c *Conn) { _, _ = io.Copy(c.Conn, onlyReader{c.raw}) })
}

func through(t *testing.T, f *Faulty, up, down Fault) (*net.TCPConn, *Link) {
	t.Helper()
	began := f.Next(up, down)
	nc, err := net.Dial("tcp", f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	return nc.(*net.TCPConn), <-began
}

func TestFaultyEnds(t *testing.T) {
	f := NewFaulty(t, echo(t).Addr())
	for _, tc := range []struct {
		name     string
		up, down Fault
		want     string
		err      error
	}{
		{"nothing", Fault{}, Fault{}, "hello", nil},
		{"close up", Fault{End: Close, After: 3}, Fault{}, "", nil},
		{"close down", Fault{}, Fault{End: Close, After: 3}, "hel", nil},
		{"close at once", Fault{}, Fault{End: Close}, "", nil},
		{"reset down", Fault{}, Fault{End: Reset, After: 5}, "", syscall.ECONNRESET},
		{"half-close up", Fault{End: HalfClose, After: 2}, Fault{}, "he", nil},
		{"half-close down", Fault{}, Fault{End: HalfClose, After: 4}, "hell", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nc, l := through(t, f, tc.up, tc.down)
			_, _ = io.WriteString(nc, "hello")
			if tc.up.End != Never || tc.down.End != Never {
				<-l.Struck()
			}
			_ = nc.CloseWrite()
			got, err := io.ReadAll(nc)
			// A reset may throw away what has come, and so may a close with something
			// unread; what comes is never more.
			switch {
			case tc.name == "close up", tc.name == "close at once", tc.err != nil:
				if !strings.HasPrefix("hello", string(got)) || err != nil && !errors.Is(err, syscall.ECONNRESET) || tc.err != nil && err == nil {
					t.Errorf("got %q, %v", got, err)
				}
			case string(got) != tc.want || err != nil:
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
			<-l.Done()
		})
	}
}

func TestFaultyFreeze(t *testing.T) {
	f := NewFaulty(t, echo(t).Addr())
	nc, l := through(t, f, Fault{}, Fault{End: Freeze, After: 3})
	_, _ = io.WriteString(nc, "hello")
	if _, err := io.ReadFull(nc, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	<-l.Struck()
	_, _ = io.WriteString(nc, "still there?")
	_ = nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := nc.Read(make([]byte, 9)); n > 0 || err == nil || !err.(net.Error).Timeout() {
		t.Errorf("%d bytes came, %v", n, err)
	}
	_ = nc.Close()
	<-l.Done()
}

func TestFaultySlow(t *testing.T) {
	f := NewFaulty(t, echo(t).Addr())
	text := bytes.Repeat([]byte("0123456789"), 100)
	for name, tc := range map[string]struct {
		up, down Fault
		atLeast  time.Duration
	}{
		"latency":   {Fault{Latency: 20 * time.Millisecond}, Fault{Latency: 20 * time.Millisecond}, 40 * time.Millisecond},
		"trickle":   {Fault{Trickle: true}, Fault{Trickle: true}, 0},
		"bandwidth": {Fault{}, Fault{Rate: 10_000}, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			nc, l := through(t, f, tc.up, tc.down)
			start := time.Now()
			_, _ = nc.Write(text)
			_ = nc.CloseWrite()
			got, err := io.ReadAll(nc)
			if err != nil || !bytes.Equal(got, text) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if took := time.Since(start); took < tc.atLeast {
				t.Errorf("it took %v only", took)
			}
			if up, down := l.Passed(); up != 1000 || down != 1000 {
				t.Errorf("%d and %d bytes have passed", up, down)
			}
			<-l.Done()
		})
	}
}

// TestFaultyGone pins what becomes of a server that is not there.
func TestFaultyGone(t *testing.T) {
	s := echo(t)
	f := NewFaulty(t, s.Addr())
	s.Close()
	began := f.Next(Fault{}, Fault{})
	// The reset may come before the connection is known to stand.
	nc, err := net.Dial("tcp", f.Addr())
	if err == nil {
		defer func() { _ = nc.Close() }()
		_ = nc.SetDeadline(time.Now().Add(patience))
		_, err = io.ReadAll(nc)
	}
	if l := <-began; !errors.Is(err, syscall.ECONNRESET) || l != nil {
		t.Errorf("%v", err)
	}
}
