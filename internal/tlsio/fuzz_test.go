package tlsio

import (
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// FuzzFrame compares where records end with what their headers say, in any pieces.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x17\x03\x03\x00\x02ab\x17\x03\x03\x00\x00\x17\x03\x03\xff\xff"), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		// boundary[i] says that a record begins at i, left[i] how much of one is to come.
		boundary, left := make([]bool, len(in)+1), make([]int, len(in)+1)
		for at := 0; at <= len(in); {
			boundary[at] = true
			if at+headerSize > len(in) {
				break
			}
			length := int(binary.BigEndian.Uint16(in[at+3:]))
			for i := 0; i < length && at+headerSize+i <= len(in); i++ {
				left[at+headerSize+i] = length - i
			}
			at += headerSize + length
		}
		var fr frame
		for at := 0; at < len(in); {
			n := min(1+int(size), len(in)-at)
			fr.follow(in[at : at+n])
			at += n
			if fr.left != left[at] && !fr.atHeader() {
				t.Fatalf("at %d of %x: %d left, want %d", at, in, fr.left, left[at])
			}
			if boundary[at] && fr.header != 0 || !boundary[at] && fr.header == 0 {
				t.Fatalf("at %d of %x: header %d, boundary %v", at, in, fr.header, boundary[at])
			}
		}
	})
}

// FuzzServer has a client say anything instead of TLS, before the handshake or after
// it. No byte of it ever is data.
func FuzzServer(f *testing.F) {
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"), false)
	f.Add([]byte("\x17\x03\x03\x00\x02ab"), true)
	f.Add([]byte("a NOOP\r\n"), true)
	f.Add([]byte("\x14\x03\x03\x00\x01\x01\x15\x03\x03\x00\x02\x01\x00"), true)
	ca := imaptest.NewCA(f)
	server, client := ca.ServerTLS("localhost"), ca.ClientTLS("localhost")
	f.Fuzz(func(t *testing.T, said []byte, after bool) {
		up, down := newPipe(), newPipe()
		c, s := &silent{wire{in: down, out: up}}, &silent{wire{in: up, out: down}}
		conn := Server(s, server)
		shaken := make(chan error, 1)
		go func() { shaken <- conn.Handshake() }()
		if after {
			if err := Client(c, client).Handshake(); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = c.Write(said)
		c.end(up)
		if err := <-shaken; (err == nil) != after {
			t.Fatalf("handshake: %v", err)
		}
		if n, err := io.Copy(io.Discard, conn); n > 0 {
			t.Errorf("%d bytes, %v, of %x", n, err, said)
		}
		_ = s.Close()
	})
}

// silent is a wire that takes deadlines, none of which passes.
type silent struct{ wire }

func (*silent) SetDeadline(time.Time) error     { return nil }
func (*silent) SetReadDeadline(time.Time) error { return nil }
