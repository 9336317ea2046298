package imapwire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// chunks are the ways in which bytes arrive.
var chunks = map[string]func(io.Reader) io.Reader{
	"at once":      func(r io.Reader) io.Reader { return r },
	"byte by byte": iotest.OneByteReader,
	"in halves":    iotest.HalfReader,
	"with the end": iotest.DataErrReader,
}

func TestReadLine(t *testing.T) {
	const limit = 10000
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, tc := range []struct {
		name, in string
		lines    []string // what is read, in order
		err      error    // what ends it
	}{
		{"nothing", "", nil, io.EOF},
		{"CRLF", "a\r\nb\r\n", []string{"a", "b"}, io.EOF},
		{"LF", "a\nb\n", []string{"a", "b"}, io.EOF},
		{"empty lines", "\r\n\n", []string{"", ""}, io.EOF},
		{"half a line", "a\r\nb", []string{"a"}, io.ErrUnexpectedEOF},
		{"a CR too many", "a\r\r\n", nil, ErrBadLine},
		{"a lone CR", "a\rb\r\n", nil, ErrBadLine},
		{"a NUL", "a\x00b\r\n", nil, ErrBadLine},
		{"a NUL at the end", "a\x00\r\n", nil, ErrBadLine},
		{"eight bits", "gr\xfcn\r\n", []string{"gr\xfcn"}, io.EOF},
		{"the buffer's size", x(bufferSize) + "\r\n", []string{x(bufferSize)}, io.EOF},
		{"the CR is the buffer's last", x(bufferSize-1) + "\r\na\r\n", []string{x(bufferSize - 1), "a"}, io.EOF},
		{"the LF is the buffer's last", x(bufferSize-2) + "\r\na\r\n", []string{x(bufferSize - 2), "a"}, io.EOF},
		{"the limit", x(limit) + "\r\n", []string{x(limit)}, io.EOF},
		{"the limit with LF", x(limit) + "\n", []string{x(limit)}, io.EOF},
		{"beyond the limit", x(limit+1) + "\r\n", nil, ErrLineTooLong},
		{"far beyond the limit", x(10*limit) + "\r\n", nil, ErrLineTooLong},
		{"half a long line", x(limit - 1), nil, io.ErrUnexpectedEOF},
	} {
		for how, chunk := range chunks {
			t.Run(tc.name+" "+how, func(t *testing.T) {
				r := NewReader(chunk(strings.NewReader(tc.in)))
				defer r.Release()
				for _, want := range tc.lines {
					got, err := r.ReadLine(limit)
					if err != nil || string(got) != want {
						t.Fatalf("%d bytes %.20q, %v; want %d", len(got), got, err, len(want))
					}
				}
				if got, err := r.ReadLine(limit); !errors.Is(err, tc.err) {
					t.Errorf("%d bytes, %v; want %v", len(got), err, tc.err)
				}
			})
		}
	}
}

// A limit holds to the byte wherever it lies beside the ends of the buffer.
func TestReadLineLimits(t *testing.T) {
	for _, limit := range []int{0, 1, 100, bufferSize - 2, bufferSize - 1, bufferSize, bufferSize + 1, 2*bufferSize - 1, 2 * bufferSize, 64 << 10} {
		for _, end := range []string{"\n", "\r\n"} {
			for _, over := range []int{-1, 0, 1} {
				n := limit + over
				if n < 0 {
					continue
				}
				r := NewReader(strings.NewReader(strings.Repeat("x", n) + end))
				got, err := r.ReadLine(limit)
				if over <= 0 && (err != nil || len(got) != n) {
					t.Errorf("limit %d, %d bytes and %q: %d bytes, %v", limit, n, end, len(got), err)
				}
				if over > 0 && !errors.Is(err, ErrLineTooLong) {
					t.Errorf("limit %d, %d bytes and %q: %d bytes, %v; want %v", limit, n, end, len(got), err, ErrLineTooLong)
				}
				r.Release()
			}
		}
	}
}

// A line that never ends costs no more memory than the limit.
func TestReadLineEndless(t *testing.T) {
	endless := &endlessReader{}
	r := NewReader(endless)
	defer r.Release()
	if _, err := r.ReadLine(8 << 10); !errors.Is(err, ErrLineTooLong) {
		t.Fatalf("error %v", err)
	}
	if endless.read > 8<<10+2*bufferSize {
		t.Errorf("%d bytes were read for a limit of %d", endless.read, 8<<10)
	}
}

type endlessReader struct{ read int }

func (e *endlessReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	e.read += len(p)
	return len(p), nil
}

// The limit may depend on the beginning of the line, which is there when it is
// asked for.
func TestReadLineFunc(t *testing.T) {
	limit := func(head []byte) int {
		if bytes.HasPrefix(head, []byte("A1 AUTHENTICATE ")) {
			return 20000
		}
		return 100
	}
	long := "A1 AUTHENTICATE PLAIN " + strings.Repeat("x", 12000)
	r := NewReader(strings.NewReader(long + "\r\nA2 NOOP " + strings.Repeat("x", 12000) + "\r\n"))
	defer r.Release()
	if got, err := r.ReadLineFunc(limit); err != nil || string(got) != long {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, err := r.ReadLineFunc(limit); !errors.Is(err, ErrLineTooLong) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// A bad line is consumed whole and what follows it can be read.
func TestReadLineAfterBad(t *testing.T) {
	r := NewReader(strings.NewReader("a\x00b\r\nA2 NOOP\r\n"))
	defer r.Release()
	if got, err := r.ReadLine(100); !errors.Is(err, ErrBadLine) || string(got) != "a\x00b" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := r.ReadLine(100); err != nil || string(got) != "A2 NOOP" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestReadLiteral(t *testing.T) {
	for how, chunk := range chunks {
		t.Run(how, func(t *testing.T) {
			big := strings.Repeat("y", 3*bufferSize)
			r := NewReader(chunk(strings.NewReader("{3}\r\na\r\n{0}\r\n" + big + "skipped\r\n")))
			defer r.Release()
			line := func(want string) {
				t.Helper()
				if got, err := r.ReadLine(100); err != nil || string(got) != want {
					t.Errorf("line %q, %v; want %q", got, err, want)
				}
			}
			literal := func(want string) {
				t.Helper()
				if got, err := r.ReadLiteral(len(want)); err != nil || string(got) != want {
					t.Errorf("literal of %d bytes %.20q, %v", len(got), got, err)
				}
			}
			line("{3}")
			literal("a\r\n")
			line("{0}")
			literal("")
			literal(big)
			if err := r.Discard(4); err != nil {
				t.Error(err)
			}
			line("ped")
			if _, err := r.ReadLiteral(1); !errors.Is(err, io.EOF) {
				t.Errorf("beyond the end: %v", err)
			}
		})
	}
	r := NewReader(strings.NewReader("ab"))
	defer r.Release()
	if _, err := r.ReadLiteral(3); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a literal: %v", err)
	}
}

// What was received and not asked for is given back, and belongs to the caller
// although the buffer goes on to serve others.
func TestRelease(t *testing.T) {
	r := NewReader(strings.NewReader("A1 LOGIN a b\r\nA2 SELECT INBOX\r\nA3"))
	if _, err := r.ReadLine(100); err != nil {
		t.Fatal(err)
	}
	if n := r.Buffered(); n != len("A2 SELECT INBOX\r\nA3") {
		t.Errorf("%d bytes are buffered", n)
	}
	rest := r.Release()
	other := NewReader(strings.NewReader(strings.Repeat("z", bufferSize-1) + "\n"))
	if _, err := other.ReadLine(bufferSize); err != nil {
		t.Fatal(err)
	}
	other.Release()
	if string(rest) != "A2 SELECT INBOX\r\nA3" {
		t.Errorf("released %q", rest)
	}
	if again := r.Release(); again != nil {
		t.Errorf("released again %q", again)
	}
	empty := NewReader(strings.NewReader("A1 NOOP\r\n"))
	if _, err := empty.ReadLine(100); err != nil {
		t.Fatal(err)
	}
	if rest := empty.Release(); rest != nil {
		t.Errorf("released %q", rest)
	}
}

// FuzzReader compares the reader with splitting the whole input at once.
func FuzzReader(f *testing.F) {
	for _, s := range []string{"a\r\nb\n", "a\rb\n\x00\n", "\n\n\r\n", "abc", strings.Repeat("x", 5000) + "\r\ny\n"} {
		f.Add([]byte(s), uint16(4000))
	}
	f.Fuzz(func(t *testing.T, in []byte, limit uint16) {
		r := NewReader(iotest.HalfReader(bytes.NewReader(in)))
		rest := in
		for {
			got, err := r.ReadLine(int(limit))
			line, after, found := bytes.Cut(rest, []byte{'\n'})
			if found {
				line = bytes.TrimSuffix(line, []byte{'\r'})
			}
			switch {
			case errors.Is(err, ErrLineTooLong):
				if len(line) <= int(limit) {
					t.Fatalf("a line of %d bytes is too long for %d", len(line), limit)
				}
				r.Release()
				return
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				if found || errors.Is(err, io.EOF) != (len(line) == 0) {
					t.Fatalf("%v with %q left", err, rest)
				}
				if left := r.Release(); left != nil {
					t.Fatalf("%q left at the end", left)
				}
				return
			}
			bad := bytes.ContainsAny(line, "\x00\r")
			if !found || len(line) > int(limit) || !bytes.Equal(got, line) || errors.Is(err, ErrBadLine) != bad || !bad && err != nil {
				t.Fatalf("got %q, %v; want %q", got, err, line)
			}
			rest = after
		}
	})
}
