package relay

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Status is how a command of ours was completed.
type Status struct {
	// OK says that it succeeded, Bad that the backend does not understand it.
	OK, Bad bool
	// Text is what follows, with a response code if there is one.
	Text string
}

// String returns what would follow the tag.
func (s Status) String() string {
	switch {
	case s.OK:
		return "OK " + s.Text
	case s.Bad:
		return "BAD " + s.Text
	}
	return "NO " + s.Text
}

// Ask puts a command to the backend and returns how it was completed. each gets the
// untagged responses, with their line ends, one at a time, and lines that begin with a
// bracket, as Exchange has them; it may keep no part of
// them. All are read, even if it returns an error, which Ask then returns. Without each
// they go to the client.
//
// The parts are text and literals in turns, beginning and ending with text.
func (t *Turn) Ask(each func(response []byte) error, parts ...string) (Status, error) {
	tag := t.Begin(parts[0])
	for i := 1; i+1 < len(parts); i += 2 {
		invited, status, err := t.Offer(tag, int64(len(parts[i])), each)
		if err != nil || !invited {
			return status, err
		}
		t.Write(parts[i], parts[i+1])
	}
	t.Write("\r\n")
	return t.Complete(tag, each)
}

// Stream is like Ask, but responses with literals go to the client as they come, so that
// they may have any size, unless each gets them: streams says of the first line of one
// whether it is passed on.
func (t *Turn) Stream(streams func(line []byte) bool, each func(response []byte) error, parts ...string) (Status, error) {
	t.streams = streams
	defer func() { t.streams = nil }()
	return t.Ask(each, parts...)
}

// Begin begins a command to the backend, under a tag of its own. What is written is sent
// when an answer is waited for.
func (t *Turn) Begin(text string) (tag string) {
	if t.scan.own == "" {
		t.scan.own = rand.Text()[:prefixLength]
	}
	t.session.asked++
	tag = t.scan.own + strconv.FormatUint(t.session.asked, 10)
	t.Write(tag, " ", text)
	return tag
}

// Write goes on with a command to the backend.
func (t *Turn) Write(texts ...string) {
	for _, text := range texts {
		t.in = append(t.in, text...)
	}
}

// Offer announces a literal to the backend, and waits until it is invited where that
// has to be. If it is not, the command is completed by the status; each is as in Ask.
func (t *Turn) Offer(tag string, size int64, each func(response []byte) error) (invited bool, s Status, err error) {
	if !t.up.flow.(*upward).scan.gathered.polite {
		t.in = fmt.Appendf(t.in, "{%d+}\r\n", size)
		return true, Status{}, nil
	}
	t.in = fmt.Appendf(t.in, "{%d}\r\n", size)
	return t.await(tag, each, true)
}

// Complete waits until a command is completed; each is as in Ask.
func (t *Turn) Complete(tag string, each func(response []byte) error) (Status, error) {
	_, s, err := t.await(tag, each, false)
	return s, err
}

// await reads responses until the command is completed, or a literal is invited.
func (t *Turn) await(tag string, each func(response []byte) error, invitation bool) (invited bool, s Status, err error) {
	if each == nil {
		each = t.Pass
	}
	if err := t.send(); err != nil {
		return false, Status{}, err
	}
	defer func() {
		if len(t.backend.held) == 0 {
			t.backend.release() // the next wait may be long
		}
	}()
	var failed error
	for {
		r, err := t.response()
		if err != nil {
			return false, Status{}, err
		}
		switch {
		case r[0] == '+':
			if invitation {
				return true, Status{}, failed
			}
		case r[0] == '*', r[0] == '[':
			if failed == nil {
				failed = each(r)
			}
		case len(r) > len(tag) && string(r[:len(tag)]) == tag && r[len(tag)] == ' ':
			return false, statusOf(r[len(tag)+1:]), failed
		default:
			failed = errors.Join(failed, t.Pass(r))
		}
	}
}

// statusOf reads what is behind a tag.
func statusOf(r []byte) Status {
	word, text, _ := strings.Cut(strings.TrimRight(string(r), "\r\n"), " ")
	return Status{OK: strings.EqualFold(word, "OK"), Bad: strings.EqualFold(word, "BAD"), Text: text}
}

// send sends the backend what was written.
func (t *Turn) send() error {
	err := t.up.write(t.in)
	t.in = t.in[:0]
	return err
}

// response returns the next response of the backend, with its literals and its line end.
// It is valid until the next call.
func (t *Turn) response() ([]byte, error) {
	in := &t.backend
	if i := bytes.IndexByte(in.held, '\n'); i >= 0 {
		// Most are one line that is there already.
		if _, more := announced(tail(data(in.held[:i]))); !more {
			line := in.held[:i+1]
			in.held = in.held[i+1:]
			return line, nil
		}
	}
	t.whole = t.whole[:0]
	for {
		start := len(t.whole)
		if err := t.readLine(); err != nil {
			return nil, err
		}
		line := t.whole[start : len(t.whole)-1]
		if start == 0 {
			line = data(line)
		}
		size, more := announced(tail(line))
		if !more {
			return t.whole, nil
		}
		if start == 0 && t.streams != nil && t.streams(t.whole) {
			if err := t.stream(size); err != nil {
				return nil, err
			}
			continue
		}
		if err := t.readLiteral(size); err != nil {
			return nil, err
		}
	}
}

// stream passes on a response of which the first line was read, and a literal of so many
// bytes is to come. If it fails, the relay can go on where it has ended.
func (t *Turn) stream(size int64) (err error) {
	in := &t.backend
	defer func() {
		if err != nil {
			_ = t.Pass(t.whole)
			_ = t.Flush()
		}
		t.whole = t.whole[:0]
	}()
	for more := true; ; {
		if err := t.Pass(t.whole); err != nil {
			return err
		}
		if t.whole = t.whole[:0]; !more {
			return nil
		}
		for {
			n := int(min(size, int64(len(in.held))))
			if err := t.Pass(in.held[:n]); err != nil {
				return err
			}
			if in.held, size = in.held[n:], size-int64(n); size == 0 {
				break
			}
			if err := t.hear(); err != nil {
				return err
			}
		}
		if err := t.readLine(); err != nil {
			return err
		}
		size, more = announced(tail(t.whole[:len(t.whole)-1]))
	}
}

// tail returns the part of a line that may announce a literal, as the scanner has it.
func tail(line []byte) []byte { return line[max(0, len(line)-maxAnnouncement):] }

// data returns the part of a response's first line that is data, and not text in which
// anything may stand.
func data(line []byte) []byte {
	rest, found := bytes.CutPrefix(line, []byte("* "))
	switch {
	case !found:
		return nil
	case len(rest) > 0 && '0' <= rest[0] && rest[0] <= '9':
		return rest
	}
	n := bytes.IndexAny(rest[:min(len(rest), len(capability)+1)], capabilityEnds)
	if n < 0 && len(rest) > len(capability) {
		return rest[len(capability):] // no word that matters is longer
	}
	if n < 0 {
		n = len(rest)
	}
	for _, status := range [...]string{"OK", "NO", "BAD", "BYE", "PREAUTH", capability} {
		if equalFold(rest[:n], status) {
			return nil
		}
	}
	return rest[n:]
}

// readLine adds a line to what there is of a response.
func (t *Turn) readLine() error {
	in := &t.backend
	for {
		n := bytes.IndexByte(in.held, '\n') + 1
		ends := n > 0
		if !ends {
			n = len(in.held)
		}
		if len(t.whole)+n > maxResponse {
			return ErrResponse
		}
		t.whole = append(t.whole, in.held[:n]...)
		if in.held = in.held[n:]; ends {
			return nil
		}
		if err := t.hear(); err != nil {
			return err
		}
	}
}

// readLiteral adds so many bytes to it.
func (t *Turn) readLiteral(size int64) error {
	in := &t.backend
	if size > maxResponse-int64(len(t.whole)) {
		return ErrResponse
	}
	for {
		n := int(min(size, int64(len(in.held))))
		t.whole = append(t.whole, in.held[:n]...)
		in.held, size = in.held[n:], size-int64(n)
		if size == 0 {
			return nil
		}
		if err := t.hear(); err != nil {
			return err
		}
	}
}

// hear waits for more of the backend.
func (t *Turn) hear() error {
	err := t.read(t.down, &t.backend, time.Now().Add(turnTimeout), ErrTurnTimeout)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
