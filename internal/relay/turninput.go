package relay

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"time"
)

// read waits for bytes for as long as the session may, and not longer than until, when
// the error is late. What has come is held by in, in a buffer that grows with what comes
// at once.
func (t *Turn) read(d *direction, in *input, until time.Time, late error) error {
	s := t.session
	room := in.room()
	for {
		changes := s.changes.Load()
		left, err := s.left()
		switch {
		case err != nil:
			return err
		case !t.finishing && t.kicked():
			return ErrKicked
		}
		now := time.Now()
		if !now.Before(until) {
			return late
		}
		if err := d.src.SetReadDeadline(now.Add(min(left, until.Sub(now)))); err != nil {
			return err
		}
		if s.changes.Load() != changes {
			continue
		}
		n, err := d.src.Read(room)
		if n > 0 {
			d.bytes.Add(int64(n))
			in.add(n)
			return nil
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// input is what one side has said and nobody has looked at yet.
type input struct {
	// held may be part of buf, or of a buffer of somebody else.
	held []byte
	buf  *[]byte
	// filled says that the last read has filled the buffer.
	filled bool
}

// room returns where more can be read to, behind what is held.
func (in *input) room() []byte {
	class := 0
	if in.buf != nil {
		class = slices.Index(sizes[:], len(*in.buf))
		if in.filled {
			class = min(class+1, len(sizes)-1)
		}
	}
	for class < len(sizes)-1 && len(in.held) >= sizes[class] {
		class++
	}
	if old := in.buf; old == nil || len(*old) < sizes[class] {
		in.buf = getBuffer(class)
		in.held = (*in.buf)[:copy(*in.buf, in.held)]
		if old != nil {
			putBuffer(old)
		}
	} else {
		in.held = (*in.buf)[:copy(*in.buf, in.held)]
	}
	return (*in.buf)[len(in.held):]
}

// add notes that so many bytes were read.
func (in *input) add(n int) {
	in.held = (*in.buf)[:len(in.held)+n]
	in.filled = len(in.held) == len(*in.buf)
}

// release gives the buffer back. What is held goes into one of its own.
func (in *input) release() {
	if in.buf == nil {
		return
	}
	in.held = bytes.Clone(in.held)
	putBuffer(in.buf)
	in.buf, in.filled = nil, false
}
