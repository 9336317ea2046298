// Package imapwire reads and writes the lines and literals of IMAP (RFC 3501
// and RFC 9051) within fixed bounds, on either side of a conversation.
//
// It knows how bytes are framed and quoted, and nothing of what they mean.
package imapwire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"
)

// Errors of the readers in this package. A limit that was hit leaves the
// stream in the middle of a line or literal: nothing more can be read from it.
var (
	ErrLineTooLong    = errors.New("line too long")
	ErrLiteralTooLong = errors.New("literal too long")
	ErrBadLine        = errors.New("line with a NUL or a lone CR")
)

// bufferSize is what a connection holds while it logs in. It fits every line
// that a client sends in practice; longer ones are put together on the heap.
const bufferSize = 4096

var bufferPool = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, bufferSize) }}

// Reader reads lines and literals. It is not safe for concurrent use.
type Reader struct {
	br *bufio.Reader
}

// NewReader returns a reader on r. Release gives its buffer back.
func NewReader(r io.Reader) *Reader {
	br := bufferPool.Get().(*bufio.Reader)
	br.Reset(r)
	return &Reader{br: br}
}

// Release returns what was read from the connection and not yet consumed, and
// ends the use of the reader. The bytes belong to the caller.
func (r *Reader) Release() []byte {
	if r.br == nil {
		return nil
	}
	var rest []byte
	if n := r.br.Buffered(); n > 0 {
		rest = make([]byte, n)
		_, _ = io.ReadFull(r.br, rest)
	}
	r.br.Reset(nil)
	bufferPool.Put(r.br)
	r.br = nil
	return rest
}

// Buffered returns the number of bytes that were received and not consumed.
func (r *Reader) Buffered() int { return r.br.Buffered() }

// ReadLine returns the next line without its CRLF or LF. The slice is valid
// until the next call. A line of more than limit bytes is ErrLineTooLong; one
// that holds a NUL or a CR in the middle is consumed whole and returned
// together with ErrBadLine.
func (r *Reader) ReadLine(limit int) ([]byte, error) {
	return r.ReadLineFunc(func([]byte) int { return limit })
}

// ReadLineFunc is ReadLine with a limit that may depend on how the line begins.
// It is asked whenever the line outgrows the buffer, and once at its end.
func (r *Reader) ReadLineFunc(limit func(head []byte) int) ([]byte, error) {
	line, err := r.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line, err = r.readLong(line, limit)
	}
	if err != nil {
		if errors.Is(err, io.EOF) && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	if len(line) > limit(line) {
		return nil, ErrLineTooLong
	}
	if bytes.IndexByte(line, 0) >= 0 || bytes.IndexByte(line, '\r') >= 0 {
		return line, ErrBadLine
	}
	return line, nil
}

// readLong goes on with a line that is longer than the buffer.
func (r *Reader) readLong(head []byte, limit func([]byte) int) ([]byte, error) {
	line := bytes.Clone(head)
	for {
		// A CR may be half of the line's end, which does not count.
		if len(bytes.TrimSuffix(line, []byte{'\r'})) > limit(line) {
			return nil, ErrLineTooLong
		}
		part, err := r.br.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// ReadLiteral returns the next size bytes, which the caller has found to be
// within its limits.
func (r *Reader) ReadLiteral(size int) ([]byte, error) {
	p := make([]byte, size)
	if _, err := io.ReadFull(r.br, p); err != nil {
		return nil, err
	}
	return p, nil
}

// Discard skips size bytes.
func (r *Reader) Discard(size int) error {
	_, err := r.br.Discard(size)
	return err
}
