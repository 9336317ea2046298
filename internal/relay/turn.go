package relay

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// turnTimeout is how long a backend may say nothing while an extension waits for
	// it. Looking through all the texts of a mailbox takes its time.
	turnTimeout = 10 * time.Minute
	// maxResponse is the size of the largest response that an extension reads: the
	// numbers of a million messages take half of it.
	maxResponse = 16 << 20
	// flushSize is how much is collected for the client before it is sent.
	flushSize = 32 << 10
	// prefixLength is that of the random part of tags.
	prefixLength = 6
)

// Errors of a Turn.
var (
	// ErrTurnTimeout says that the backend has said nothing for too long.
	ErrTurnTimeout = errors.New("the backend does not answer a command of ours")
	// ErrResponse says that a response is too long, or no response.
	ErrResponse = errors.New("the backend sent what cannot be read")
	// ErrClientTimeout says that the client has sent nothing for as long as it might.
	ErrClientTimeout = errors.New("the client has sent nothing")
)

// Turn is the session while an extension carries out a command: no other command is
// under way, the backend hears the extension and nobody else, and the client waits.
// It is used by one goroutine, and not after the plan has returned. A plan that fails
// ends the session.
type Turn struct {
	session  *Session
	plan     func(*Turn) error
	up, down *direction
	scan     *responses
	prefix   string
	commands int

	// backend and client are what either has said already.
	backend, client input
	// whole is a response that does not come in one piece.
	whole []byte
	// in is for the backend, out for the client.
	in, out []byte
	// forward is what is to be passed on when the turn is over.
	forward []byte

	err  error
	done bool
}

// takeTurn has a plan carried out, by the goroutine that is on the backend's side. rest is
// what the client has sent behind the command; it returns what is left of it, and what
// is to be passed on.
func (s *Session) takeTurn(plan func(*Turn) error, rest []byte) (left, forward []byte, err error) {
	if !s.ledger.awaitQuiet() {
		return nil, nil, errUnanswered
	}
	defer s.ledger.endTurn()
	t := &Turn{session: s, plan: plan, up: &s.up, down: &s.down, client: input{held: rest}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn = t
	s.due.Store(true)
	s.wake()
	// Once it has begun, what it was given is in use until it is done.
	for !t.done && !(s.turn == t && (s.over.Load() || s.mute.Load())) {
		s.said.Wait()
	}
	if !t.done {
		s.turn = nil
		return nil, nil, errOver
	}
	for t.err != nil && !s.over.Load() {
		s.said.Wait() // who has the error ends the session, and may say why before
	}
	return t.client.held, t.forward, t.err
}

// run carries the plan out, unless there is an error already. rest is what the backend
// has said; what is left of it is returned.
func (t *Turn) run(w *downward, d *direction, rest []byte, err error) (left []byte, _ error) {
	s := t.session
	t.err = errOver // unless it comes to an end
	defer func() {
		d.armed, t.up.armed = false, false // other deadlines hold
		t.backend.release()
		t.client.release()
		s.mu.Lock()
		t.done = true
		s.said.Broadcast()
		s.mu.Unlock()
	}()
	t.scan, t.backend.held = &w.scan, rest
	if err == nil {
		err = t.plan(t)
	}
	if err == nil {
		err = t.Flush()
	}
	if err != nil && !errors.Is(err, ErrKicked) {
		err = fmt.Errorf("carrying out a command: %w", err)
	}
	if errors.Is(err, ErrTurnTimeout) || errors.Is(err, ErrResponse) {
		s.dismiss(err, "The mail server is not available.", faultGrace)
	}
	if err != nil && t.kicked() {
		// Nothing was said in part, so that BYE can follow.
		t.err = ErrKicked
		return t.backend.held, nil
	}
	t.err = err
	return t.backend.held, err
}

// kicked says that a BYE is due.
func (t *Turn) kicked() bool {
	t.session.mu.Lock()
	defer t.session.mu.Unlock()
	return t.session.bye != nil
}

// Forward has a command passed on when the turn is over, in the place of the client's
// and under its tag. Literals in it are announced in the form that needs no invitation.
func (t *Turn) Forward(command []byte) { t.forward = command }

// Tell says something to the client: whole responses, with their line ends.
func (t *Turn) Tell(p []byte) error {
	t.out = append(t.out, p...)
	if len(t.out) >= flushSize {
		return t.Flush()
	}
	return nil
}

// Tellf says one line to the client.
func (t *Turn) Tellf(format string, a ...any) error {
	t.out = append(fmt.Appendf(t.out, format, a...), '\r', '\n')
	if len(t.out) >= flushSize {
		return t.Flush()
	}
	return nil
}

// Pass says a response of the backend to the client, but for what clients must not see.
func (t *Turn) Pass(response []byte) error {
	for len(response) > 0 {
		pass, skip := t.scan.next(response, false)
		t.out = append(t.out, response[:pass]...)
		if pass+skip == 0 {
			return ErrResponse
		}
		response = response[pass+skip:]
	}
	if len(t.out) >= flushSize {
		return t.Flush()
	}
	return nil
}

// Flush sends what was said to the client.
func (t *Turn) Flush() error {
	out := t.out
	t.out = t.out[:0]
	return t.down.write(out)
}

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
// untagged responses, with their line ends, one at a time; it may keep no part of
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

// Begin begins a command to the backend, under a tag of its own. What is written is sent
// when an answer is waited for.
func (t *Turn) Begin(text string) (tag string) {
	if t.prefix == "" {
		t.prefix = rand.Text()[:prefixLength]
	}
	t.commands++
	tag = t.prefix + strconv.Itoa(t.commands)
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
		case r[0] == '*':
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

// ClientLine returns the next line of the client, with its end, which is valid until the
// next call. If nothing comes for as long as given, the error is ErrClientTimeout; what
// has come is kept.
func (t *Turn) ClientLine(within time.Duration) ([]byte, error) {
	in := &t.client
	until := time.Now().Add(within)
	for {
		if i := bytes.IndexByte(in.held, '\n'); i >= 0 {
			line := in.held[:i+1]
			in.held = in.held[i+1:]
			return line, nil
		}
		room, err := in.room(busySize)
		if err != nil {
			return nil, err
		}
		n, err := t.read(t.up, room, until, ErrClientTimeout)
		if err != nil {
			return nil, err
		}
		t.session.touch()
		in.add(n)
	}
}

// CopyLiteral sends the backend so many bytes of the client.
func (t *Turn) CopyLiteral(size int64) error {
	if err := t.Flush(); err != nil {
		return err
	}
	in := &t.client
	for {
		n := int(min(size, int64(len(in.held))))
		t.in = append(t.in, in.held[:n]...)
		in.held, size = in.held[n:], size-int64(n)
		if size == 0 {
			return nil
		}
		if err := t.send(); err != nil {
			return err
		}
		class := busySize
		if size > busySize {
			class = bulkSize
		}
		room, err := in.room(class)
		if err != nil {
			return err
		}
		n, err = t.read(t.up, room, time.Now().Add(turnTimeout), ErrClientTimeout)
		if err != nil {
			return err
		}
		t.session.touch()
		in.add(n)
	}
}

// Wrap has everything that client and session say from now on go through what is put
// around the client's connection. What was said to the client until now is sent before.
func (t *Turn) Wrap(wrap func(net.Conn) net.Conn) error {
	if err := t.Flush(); err != nil {
		return err
	}
	conn := wrap(&heldConn{Conn: t.up.src, held: bytes.Clone(t.client.held)})
	t.client.held = nil
	t.up.src, t.down.dst = conn, conn
	return nil
}

// heldConn is a connection of which something was read already.
type heldConn struct {
	net.Conn
	held []byte
}

// Read implements net.Conn.
func (c *heldConn) Read(p []byte) (int, error) {
	if len(c.held) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.held)
	c.held = c.held[n:]
	return n, nil
}

// CloseWrite ends the sending side.
func (c *heldConn) CloseWrite() error {
	if cw, ok := c.Conn.(closeWriter); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// response returns the next response of the backend, with its literals and its line end.
// It is valid until the next call.
func (t *Turn) response() ([]byte, error) {
	in := &t.backend
	if i := bytes.IndexByte(in.held, '\n'); i >= 0 {
		// Most are one line that is there already.
		if _, more := announced(in.held[:i]); !more {
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
		size, more := announced(t.whole[start : len(t.whole)-1])
		if !more || !mayHaveLiteral(t.whole) {
			return t.whole, nil
		}
		if err := t.readLiteral(size); err != nil {
			return nil, err
		}
	}
}

// mayHaveLiteral says whether a response is data, and not text in which anything may
// stand.
func mayHaveLiteral(r []byte) bool {
	word, found := bytes.CutPrefix(r, []byte("* "))
	if !found {
		return false
	}
	if i := bytes.IndexAny(word, " \r\n"); i >= 0 {
		word = word[:i]
	}
	for _, status := range [...]string{"OK", "NO", "BAD", "BYE", "PREAUTH", capability} {
		if equalFold(word, status) {
			return false
		}
	}
	return true
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
	room, err := t.backend.room(bulkSize)
	if err != nil {
		return err
	}
	n, err := t.read(t.down, room, time.Now().Add(turnTimeout), ErrTurnTimeout)
	t.backend.add(n)
	return err
}

// read waits for bytes for as long as the session may, and not longer than until.
func (t *Turn) read(d *direction, p []byte, until time.Time, late error) (int, error) {
	s := t.session
	for {
		changes := s.changes.Load()
		left, err := s.left()
		switch {
		case err != nil:
			return 0, err
		case t.kicked():
			return 0, ErrKicked
		}
		now := time.Now()
		if !now.Before(until) {
			return 0, late
		}
		if err := d.src.SetReadDeadline(now.Add(min(left, until.Sub(now)))); err != nil {
			return 0, err
		}
		if s.changes.Load() != changes {
			continue
		}
		n, err := d.src.Read(p)
		if n > 0 {
			d.bytes.Add(int64(n))
			return n, nil
		}
		switch {
		case errors.Is(err, io.EOF):
			return 0, io.ErrUnexpectedEOF
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		}
	}
}

// input is what one side has said and nobody has looked at yet.
type input struct {
	// held may be part of buf, or of a buffer of somebody else.
	held []byte
	buf  *[]byte
}

// room returns where more can be read to, behind what is held, in a buffer of at least a
// size.
func (in *input) room(size int) ([]byte, error) {
	if len(in.held) >= size {
		return nil, ErrResponse
	}
	if in.buf == nil || len(in.held) == 0 && len(*in.buf) < size {
		old := in.buf
		in.buf = getBuffer(slices.Index(sizes[:], size))
		in.held = (*in.buf)[:copy(*in.buf, in.held)]
		if old != nil {
			putBuffer(old)
		}
	} else {
		in.held = (*in.buf)[:copy(*in.buf, in.held)]
	}
	if len(in.held) == len(*in.buf) {
		return nil, ErrResponse
	}
	return (*in.buf)[len(in.held):], nil
}

// add notes that so many bytes were read.
func (in *input) add(n int) { in.held = (*in.buf)[:len(in.held)+n] }

// release gives the buffer back.
func (in *input) release() {
	if in.buf == nil {
		return
	}
	in.held = bytes.Clone(in.held)
	putBuffer(in.buf)
	in.buf = nil
}
