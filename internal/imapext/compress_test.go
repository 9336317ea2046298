package imapext

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// inflateAll decompresses what comes in pieces, into pieces of a size.
func inflateAll(in []byte, seed uint64, size int) (out []byte, err error) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	var z inflater
	p := make([]byte, size)
	for {
		n, err := z.inflate(p)
		out = append(out, p[:n]...)
		if err != nil {
			return out, err
		}
		if n < len(p) {
			if len(z.in) > 0 {
				return out, errors.New("input was left over")
			}
			if len(in) == 0 {
				return out, io.ErrUnexpectedEOF
			}
			n := min(1+rnd.IntN(1<<rnd.IntN(12)), len(in))
			z.in, in = in[:n], in[n:]
		}
	}
}

func TestInflate(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed, flate.DefaultCompression, flate.BestCompression} {
		var packed, plain bytes.Buffer
		w, err := flate.NewWriter(&packed, level)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			text := make([]byte, rnd.IntN(1<<rnd.IntN(14)))
			for i := range text {
				text[i] = "abcdefgh FETCH (UID 12345 FLAGS (\\Seen))\r\n\x00\xff"[rnd.IntN(1+rnd.IntN(44))]
			}
			plain.Write(text)
			_, _ = w.Write(text)
			if rnd.IntN(2) == 0 {
				_ = w.Flush()
			}
		}
		_ = w.Flush()
		for _, size := range []int{1, 100, 1 << 17} {
			if got, err := inflateAll(packed.Bytes(), uint64(size), size); !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(got, plain.Bytes()) {
				t.Errorf("level %d in pieces of %d: %d bytes of %d, %v", level, size, len(got), plain.Len(), err)
			}
		}
		_ = w.Close()
		if got, err := inflateAll(packed.Bytes(), 1, 1000); !errors.Is(err, io.EOF) || !bytes.Equal(got, plain.Bytes()) {
			t.Errorf("level %d to the end: %d bytes of %d, %v", level, len(got), plain.Len(), err)
		}
	}
}

// FuzzInflate compares what comes of any bytes with what compress/flate makes of them. At
// the end of them we may have made more of the last ones.
func FuzzInflate(f *testing.F) {
	for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed, flate.BestCompression} {
		var packed bytes.Buffer
		w, err := flate.NewWriter(&packed, level)
		if err != nil {
			f.Fatal(err)
		}
		for i := range 20 {
			_, _ = io.WriteString(w, strings.Repeat("a NOOP\r\n", i)+"b FETCH 1:* (FLAGS)\r\n")
			_ = w.Flush()
		}
		f.Add(packed.Bytes(), uint64(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		want, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(in)), 1<<20))
		if len(want) == 1<<20 {
			return
		}
		got, gotErr := inflateAll(in, seed, 1000)
		var corrupt flate.CorruptInputError
		switch {
		case err == nil && (!errors.Is(gotErr, io.EOF) || !bytes.Equal(got, want)),
			errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(gotErr, errDeflate) && (!errors.Is(gotErr, err) || len(got) < len(want)),
			errors.As(err, &corrupt) && !errors.Is(gotErr, errDeflate):
			t.Fatalf("got %d bytes, %v; want %d, %v", len(got), gotErr, len(want), err)
		}
		if n := min(len(got), len(want)); !bytes.Equal(got[:n], want[:n]) {
			t.Fatal("got other bytes")
		}
	})
}

func TestCompress(t *testing.T) {
	r := rig(t, only("COMPRESS=DEFLATE"), "IMAP4rev1 UNAUTHENTICATE LITERAL+")
	say := func(conn io.Writer, text string) {
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
	}
	say(r.client, "a COMPRESS LZ4\r\nb COMPRESS\r\nc COMPRESS deflate\r\n")
	hears(t, "client", r.client, "a NO [CANNOT] There is DEFLATE, and nothing else.\r\nb BAD Invalid arguments.\r\nc OK DEFLATE active.\r\n")
	w, err := flate.NewWriter(r.client, flate.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	in := flate.NewReader(r.client)
	send := func(text string) {
		say(w, text)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	send("d COMPRESS DEFLATE\r\n")
	hears(t, "client", in, "d NO [COMPRESSIONACTIVE] DEFLATE is active already.\r\n")
	for range 100 {
		send("e FETCH 1:* (FLAGS)\r\n")
		hears(t, "backend", r.backend, "e FETCH 1:* (FLAGS)\r\n")
		answer := strings.Repeat("* 1 FETCH (FLAGS (\\Seen))\r\n", 100) + "e OK done\r\n"
		say(r.backend, answer)
		hears(t, "client", in, answer)
	}
	if s := r.State(); s.Opaque || !s.Idle {
		t.Errorf("state %+v", s)
	}
	// It is still a session that commands can be refused in, and that can be told BYE.
	send("f UNAUTHENTICATE\r\n")
	hears(t, "client", in, "f BAD UNAUTHENTICATE is not supported.\r\n")
	r.Kick("enough", time.Minute)
	hears(t, "client", in, "* BYE enough\r\n")
	_, _ = r.client.Close(), r.backend.Close()
	if s := <-r.stats; !errors.Is(s.Err, relay.ErrKicked) {
		t.Errorf("ended with %v", s.Err)
	}
}

func TestCompressCorrupt(t *testing.T) {
	r := rig(t, only("COMPRESS=DEFLATE"), "IMAP4rev1")
	_, _ = io.WriteString(r.client, "c COMPRESS DEFLATE\r\n")
	hears(t, "client", r.client, "c OK DEFLATE active.\r\n")
	_, _ = io.WriteString(r.client, "d NOOP\r\n")
	if s := <-r.stats; !errors.Is(s.Err, errDeflate) {
		t.Errorf("ended with %v", s.Err)
	}
	_, _ = r.client.Close(), r.backend.Close()
}

// TestCompressAnyway pins that the backend's own COMPRESS is not used where we have to
// look into what is said.
func TestCompressAnyway(t *testing.T) {
	o := only("IDLE").Offer([]string{"IMAP4rev1", "COMPRESS=DEFLATE"})
	if NewSession(o).Wants([]byte("COMPRESS")) != relay.Whole || o.answers("COMPRESS=DEFLATE") {
		t.Error("COMPRESS is left to the backend, or is listed twice")
	}
	if o := only("IDLE").Offer([]string{"IDLE", "COMPRESS=DEFLATE"}); !o.IsEmpty() {
		t.Error("COMPRESS is kept from the backend without need")
	}
	if o := only("IDLE").Offer([]string{"IMAP4rev1"}); NewSession(o).Wants([]byte("COMPRESS")) != relay.Pass {
		t.Error("COMPRESS is answered and not offered")
	}
}

// silent is a connection on which something comes, and then nothing.
type silent struct {
	net.Conn
	said []byte
}

func (s *silent) Read(p []byte) (int, error) {
	if len(s.said) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, s.said)
	s.said = s.said[n:]
	return n, nil
}

// BenchmarkCompressedIdle reports what a connection holds after a client has said some
// hundred commands.
func BenchmarkCompressedIdle(b *testing.B) {
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, flate.DefaultCompression)
	for range 100 {
		_, _ = io.WriteString(w, "a123 UID FETCH 1:1000 (FLAGS)\r\n")
		_ = w.Flush()
	}
	const conns = 1000
	held := make([]*deflated, conns)
	p := make([]byte, 256)
	for b.Loop() {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := range held {
			held[i] = &deflated{Conn: &silent{said: packed.Bytes()}}
			for err := error(nil); err == nil; {
				_, err = held[i].Read(p)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/conns, "B/conn")
		clear(held)
	}
}

func BenchmarkInflate(b *testing.B) {
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, flate.DefaultCompression)
	rnd := rand.New(rand.NewPCG(1, 2))
	const size = 1 << 20
	text := make([]byte, size)
	for i := range text {
		text[i] = "abcdefgh ijklmnop qrstuvwxyz 0123456789\r\n"[rnd.IntN(41)]
	}
	_, _ = w.Write(text)
	_ = w.Flush()
	p := make([]byte, 32<<10)
	b.SetBytes(size)
	for b.Loop() {
		z := inflater{in: packed.Bytes()}
		for len(z.in) > 0 {
			if _, err := z.inflate(p); err != nil {
				b.Fatal(err)
			}
		}
	}
}
