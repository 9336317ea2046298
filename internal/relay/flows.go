package relay

import (
	"errors"
	"fmt"
	"io"
)

// upward is what the client says.
type upward struct {
	session *Session
	scan    commands
}

func (u *upward) attend(*direction) ([]byte, error) { return nil, nil }

func (u *upward) consume(d *direction, p []byte) ([]byte, error) {
	for len(p) > 0 {
		pass, skip, ev := u.scan.next(p)
		if err := d.write(p[:pass]); err != nil {
			return nil, err
		}
		p = p[pass+skip:]
		if ev == short {
			return p, nil
		}
		var err error
		if ev == gathered {
			p, err = u.carryOut(d, p)
		} else {
			err = u.handle(ev)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// carryOut has a command that was withheld carried out, or passes it on. Of what the
// client has sent behind it, it returns what is left.
func (u *upward) carryOut(d *direction, rest []byte) ([]byte, error) {
	s, g := u.session, &u.scan.gathered
	command := g.take()
	if plan := g.extension.Plan(command); plan != nil {
		var err error
		if rest, command, err = s.takeTurn(plan, rest); err != nil {
			return nil, err
		}
	} else if w, ok := g.extension.(Watcher); ok {
		if f := w.Watch(command); f != nil {
			s.ledger.watch(command, f)
		}
	}
	if command == nil {
		s.ledger.commands.Add(1)
		return rest, nil
	}
	g.forwarding = true
	defer func() { g.forwarding = false }()
	left, err := u.consume(d, command)
	if err == nil && len(left) > 0 {
		err = errForward
	}
	return rest, err
}

// errForward says that an extension has had something passed on that is no command.
var errForward = errors.New("no whole command is to be passed on")

// handle attends to what the scanner has stopped at.
func (u *upward) handle(ev event) error {
	s := u.session
	switch ev {
	case crowded:
		if !s.ledger.awaitRoom(u.scan.hash) {
			return errUnanswered
		}
	case awaits:
		a := s.ledger.await()
		if a == orphaned {
			return errUnanswered
		}
		return u.handle(u.scan.resume(a))
	case inviting:
		return s.say([]byte("+ OK\r\n"))
	case answered:
		return s.say(u.scan.tagged(u.scan.answer.Text))
	case faulty:
		return u.dismiss()
	}
	return nil
}

// errUnanswered says that the backend has ended without the answer that the
// client's next bytes depend on.
var errUnanswered = fmt.Errorf("waiting for the backend's answer: %w", io.ErrUnexpectedEOF)

// dismiss has the client told what is wrong with it. It returns once the session
// is over, so that nothing else reaches the backend.
func (u *upward) dismiss() error {
	s := u.session
	err := fmt.Errorf("%w: %s", ErrClient, u.scan.fault)
	s.dismiss(err, u.scan.fault, faultGrace)
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.over.Load() && !s.mute.Load() {
		s.said.Wait()
	}
	return err
}

// tagged returns an answer to the command.
func (c *commands) tagged(text string) []byte {
	tag := c.tag[:c.tagLen]
	if len(tag) == 0 {
		tag = []byte{'*'}
	}
	return fmt.Appendf(nil, "%s %s\r\n", tag, text)
}

// say has a line sent to the client between two responses of the backend. It
// waits while the client does not take those before.
func (s *Session) say(line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.answers) > maxAnswers && !s.over.Load() && !s.mute.Load() {
		s.said.Wait()
	}
	if s.over.Load() || s.mute.Load() {
		return errOver
	}
	s.answers = append(s.answers, line...)
	s.due.Store(true)
	s.wake()
	return nil
}

// silence notes that nothing can be said to the client any more, and nothing be
// answered by the backend.
func (s *Session) silence() {
	s.ledger.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute.Store(true)
	s.said.Broadcast()
}

// maxAnswers is how many bytes may wait to be said.
const maxAnswers = 1024

// downward is what the backend says.
type downward struct {
	session *Session
	scan    responses
}

// attend says what is due, if it can be said here.
func (w *downward) attend(d *direction) ([]byte, error) { return w.attendTo(d, nil) }

// attendTo does so before the bytes that have come already.
func (w *downward) attendTo(d *direction, rest []byte) ([]byte, error) {
	s := w.session
	for s.due.Load() && w.scan.atBoundary() {
		s.mu.Lock()
		lines, bye, turn := s.answers, s.bye, s.turn
		s.answers, s.turn = nil, nil
		s.due.Store(false)
		s.said.Broadcast()
		s.mu.Unlock()
		err := d.write(append(lines, bye...))
		if err == nil && bye != nil {
			err = ErrKicked
		}
		if turn != nil {
			rest, err = turn.carryOut(w, d, rest, err)
		}
		if err != nil {
			return nil, err
		}
	}
	return rest, nil
}

func (w *downward) consume(d *direction, p []byte) ([]byte, error) {
	for len(p) > 0 {
		pass, skip := w.scan.next(p, w.session.due.Load())
		if err := d.write(p[:pass]); err != nil {
			return nil, err
		}
		if p = p[pass+skip:]; pass+skip == 0 {
			return p, nil
		}
		var err error
		if p, err = w.attendTo(d, p); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
