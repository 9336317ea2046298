package relay

import (
	"errors"
	"fmt"
	"io"
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
	// prefixLength is that of the random part of tags, which is a session's.
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
	// ErrClientGone says that the client has hung up. A plan that returns it ends the
	// session in order.
	ErrClientGone = errors.New("the client has hung up")
)

// Turn is the session while an extension carries out a command: no other command is
// under way, the backend hears the extension and nobody else, and the client waits.
// It is used by one goroutine, and not after the plan has returned. A plan that fails
// ends the session.
//
// The session's idle timeout counts from what the client has said last, so that no turn
// is longer, whatever the backend says.
type Turn struct {
	session  *Session
	plan     func(*Turn) error
	up, down *direction
	scan     *responses

	// backend and client are what either has said already.
	backend, client input
	// whole is a response that does not come in one piece.
	whole []byte
	// streams says of a response that begins with such a line whether it is passed on as
	// it comes; nil is no.
	streams func(line []byte) bool
	// in is for the backend, out for the client.
	in, out []byte
	// forward is what is to be passed on when the turn is over.
	forward []byte

	// finishing says that the plan goes on after a Kick.
	finishing bool

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
	defer s.ledger.setTurning(false)
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

// carryOut carries the plan out, unless there is an error already. rest is what the backend
// has said; what is left of it is returned.
func (t *Turn) carryOut(w *downward, d *direction, rest []byte, err error) (left []byte, _ error) {
	s := t.session
	t.err = errOver // unless it comes to an end
	defer func() {
		d.armed, t.up.armed = false, false // other deadlines hold
		t.backend.release()
		t.client.release()
		left = t.backend.held // which is not in a buffer any more
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
	if errors.Is(err, io.ErrUnexpectedEOF) {
		_ = t.Flush() // in which there may be a BYE
	}
	switch {
	case errors.Is(err, ErrClientGone):
		s.mu.Lock()
		s.settle(nil)
		s.mu.Unlock()
	case err != nil && !errors.Is(err, ErrKicked):
		err = fmt.Errorf("carrying out a command: %w", err)
	}
	switch {
	case errors.Is(err, ErrClient):
		s.dismiss(err, faultLine, faultGrace)
	case errors.Is(err, ErrTurnTimeout), errors.Is(err, ErrResponse):
		s.dismiss(err, "The mail server is not available.", faultGrace)
	}
	if err != nil && t.kicked() {
		// Nothing was said in part, so that BYE can follow.
		t.err = ErrKicked
		return nil, nil
	}
	t.err = err
	return nil, err
}

// Rest says whether the session is to count as idle although a command is carried out,
// as in an IDLE.
func (t *Turn) Rest(resting bool) { t.session.ledger.setTurning(!resting) }

// Finish says whether what follows is not to be left half done, such as a MOVE between
// copying and removing: the idle timeout begins anew, and after a Kick the plan goes on as
// long as the session may.
func (t *Turn) Finish(finishing bool) {
	if t.finishing = finishing; finishing {
		t.session.touch()
	}
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
