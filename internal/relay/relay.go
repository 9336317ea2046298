// Package relay carries an IMAP session after login: whatever one side sends
// reaches the other, byte for byte, until both have ended.
//
// It follows where lines and literals end, without holding them, and so knows
// where a line of ours can be put in, which commands are under way, and which
// bytes are a command at all. Of those, a few are answered here and not by the
// backend, which must not be talked into running them by other means: see
// Interceptor and commands.
package relay

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// writeTimeout is how long a peer may refuse to take a buffer's worth of
	// bytes before its session is given up.
	writeTimeout = 5 * time.Minute
	// writeSlack is how much less than that it may be.
	writeSlack = 15 * time.Second
	// lingerTimeout is the idle timeout once one side has ended its sending half.
	lingerTimeout = time.Minute
	// deafTimeout is the same once it is the backend that has: the client may read
	// what it was sent, and will never be answered again.
	deafTimeout = 5 * time.Second
	// faultGrace is how long a client that cannot be relayed any further may take
	// to be told so.
	faultGrace = 10 * time.Second
	// farewellTimeout is how long a client that was told BYE may take to hang up.
	farewellTimeout = time.Second
	// maxText bounds the text of a BYE.
	maxText = 200
)

// Leg is one side of a session.
type Leg struct {
	Conn net.Conn
	// Pending was read from Conn already and goes to the other side first.
	Pending []byte
}

// Options are what can be chosen for a session.
type Options struct {
	// Idle is how long neither side may send anything before the session ends.
	Idle time.Duration
	// Unauthenticate says that the backend has the capability UNAUTHENTICATE (RFC
	// 8437). No way around the relay's refusal of that command is left then:
	// COMPRESS (RFC 4978) is refused, and of a literal without invitation (RFC
	// 7888) the backend is asked whether it takes it. It is set by itself when a
	// capability list that passes names UNAUTHENTICATE.
	Unauthenticate bool
	// Interceptor, if not nil, is asked about the commands that the relay does not
	// answer in any case.
	Interceptor Interceptor
	// Extension, if not nil, may have other commands put to the backend in the place of
	// those of the client.
	Extension Extension
	// LiteralPlus says that the backend takes literals without invitation (RFC 7888).
	// With an Extension it is asked about each of them otherwise, so that the client may
	// send them in any case.
	LiteralPlus bool
	// Stray, if not nil, is called when the backend first completes a command of the
	// Extension once more, which the client does not get to see.
	Stray func()
	// Logger gets faults of ours that no session ends with. Default: none.
	Logger *zap.Logger
}

// Stats says what a session has carried and how it ended.
type Stats struct {
	// FromClient and FromBackend count bytes.
	FromClient, FromBackend int64
	// Err is why the session ended; nil if both sides closed in order.
	Err error
}

// State is a session at a glance.
type State struct {
	// Idle says that no command is under way, or only an IDLE.
	Idle bool
	// Opaque says that both directions are compressed (RFC 4978), so that Idle
	// and Commands are not known any more.
	Opaque bool
	// Commands counts the client's commands, FromClient and FromBackend what was
	// received, in bytes.
	Commands, FromClient, FromBackend int64
}

// Errors that a session may end with.
var (
	// ErrIdle says that neither side has sent anything for the idle timeout.
	ErrIdle = errors.New("idle for too long")
	// ErrKicked says that Kick was called.
	ErrKicked = errors.New("ended from outside")
	// ErrClient says that the client sent what is no IMAP, or what the backend
	// might understand in another way.
	ErrClient = errors.New("the client sent what cannot be relayed")
	// ErrDeaf says that the backend has ended the session, and that the client did
	// not hang up after it.
	ErrDeaf = errors.New("the backend has ended the session")
	// ErrPanic says that the session met with a fault of ours.
	ErrPanic = errors.New("panic in the relay")
	// errOver ends a direction because the other one has failed.
	errOver = errors.New("the session is over")
)

// closeWriter is a connection that can end its sending side alone.
type closeWriter interface{ CloseWrite() error }

// Session is a session that is relayed. Kick and State may be called at any time
// and from anywhere.
type Session struct {
	client, backend net.Conn
	idle, parkTime  time.Duration
	ledger          *ledger
	logger          *zap.Logger
	strict          atomic.Bool
	up, down        direction

	// active is when anything was last received, in nanoseconds since base.
	active atomic.Int64
	// half says that one direction has ended; over, that both have to; mute, that
	// nothing can be said to the client any more.
	half, over, mute atomic.Bool
	// due says that something is to be said to the client; leave, if not 0, is
	// when the session ends in any case, in nanoseconds since base.
	due   atomic.Bool
	leave atomic.Int64
	// changes counts whatever a deadline depends on, but for active.
	changes atomic.Uint32

	// asked counts our own commands to the backend. It is of the goroutine that is on the
	// backend's side.
	asked uint64

	// running counts the directions that have not ended.
	running sync.WaitGroup

	mu sync.Mutex
	// alarm wakes directions that are parked, when the session may be idle for
	// too long.
	alarm *time.Timer
	// answers are lines for the client, bye the last one; turn is what waits for all
	// commands to be completed.
	answers, bye []byte
	turn         *Turn
	said         sync.Cond
	// err is why the session ends, once settled; ended says that it has.
	err            error
	settled, ended bool
}

// base is the origin of monotonic times in this package.
var base = time.Now()

// New returns a session between two legs that are logged in. It does nothing, and
// owns nothing, until Run or Begin is called.
func New(client, backend Leg, o Options) *Session {
	s := &Session{client: client.Conn, backend: backend.Conn, idle: o.Idle, parkTime: parkTime, ledger: newLedger(), logger: o.Logger}
	if s.logger == nil {
		s.logger = zap.NewNop()
	}
	s.said.L = &s.mu
	s.strict.Store(o.Unauthenticate)
	s.up = direction{
		session: s, src: client.Conn, dst: backend.Conn, pending: client.Pending, raw: socketOf(client.Conn),
		flow: &upward{session: s, scan: commands{
			ledger: s.ledger, strict: &s.strict, hook: &refusals{
				strict: &s.strict, next: o.Interceptor,
				compresses: o.Extension != nil && o.Extension.Wants([]byte("COMPRESS")) != Pass,
			},
			gathered: gathering{extension: o.Extension, polite: !o.LiteralPlus},
		}},
	}
	s.down = direction{
		session: s, src: backend.Conn, dst: client.Conn, pending: backend.Pending, raw: socketOf(backend.Conn),
		flow: &downward{session: s, scan: responses{ledger: s.ledger, strict: &s.strict, stray: o.Stray}},
	}
	s.touch()
	return s
}

// Run relays between the two legs until both directions have ended, or neither
// side has sent anything for the idle timeout. A side that ends only its sending
// half still receives what the other has to say. Both connections are closed,
// and no goroutine of Run is left, when it returns. It is called once.
func (s *Session) Run() Stats {
	s.Begin()
	return s.Wait()
}

// Begin and Wait are the two halves of Run. Nothing happens on the goroutine that
// waits before the session has ended, so that its stack does not grow.
func (s *Session) Begin() {
	s.touch()
	s.running.Add(2)
	go s.down.run()
	go s.up.run()
}

// Wait returns when the session that Begin has begun is over.
func (s *Session) Wait() Stats {
	s.running.Wait()
	return s.finish()
}

// finish ends what both directions have left.
func (s *Session) finish() Stats {
	s.mu.Lock()
	s.ended = true
	err := s.err
	if s.alarm != nil {
		s.alarm.Stop()
	}
	s.mu.Unlock()
	s.up.leaveLot()
	s.down.leaveLot()
	if s.leave.Load() != 0 && !s.down.torn.Load() {
		s.up.hangUp()
	}
	s.down.close()
	s.up.close()
	return Stats{FromClient: s.up.bytes.Load(), FromBackend: s.down.bytes.Load(), Err: err}
}

// State returns what the session does at the moment.
func (s *Session) State() State {
	return State{
		Idle: s.ledger.isQuiet(), Opaque: s.ledger.opaque.Load(), Commands: s.ledger.commands.Load(),
		FromClient: s.up.bytes.Load(), FromBackend: s.down.bytes.Load(),
	}
}

// Kick ends the session: the client is told BYE with the text as soon as the
// response that it is receiving is complete. If that takes longer than grace, or
// the session is compressed, it ends without. Kick does not wait for that.
func (s *Session) Kick(text string, grace time.Duration) { s.dismiss(ErrKicked, text, grace) }

// dismiss has the session end with a BYE. The first call counts.
func (s *Session) dismiss(err error, text string, grace time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.leave.Load() != 0 {
		return
	}
	s.settle(err)
	s.bye = fmt.Appendf(nil, "* BYE %s\r\n", line(text))
	s.leave.Store(max(1, int64(time.Since(base)+grace)))
	s.due.Store(true)
	s.wake()
}

// wake has both directions look again at what they wait for. A deadline in the
// past ends a read at once; a write goes on until the end of grace.
func (s *Session) wake() {
	s.changes.Add(1)
	for _, c := range [...]net.Conn{s.client, s.backend} {
		_ = c.SetReadDeadline(longAgo)
		if leave := s.leave.Load(); leave != 0 {
			_ = c.SetWriteDeadline(base.Add(time.Duration(leave)))
		}
	}
	s.unpark()
}

// unpark has directions that have given up their goroutines run again. Whatever
// they shall see is to be counted in changes before.
func (s *Session) unpark() {
	s.up.unpark()
	s.down.unpark()
}

// setAlarm has the session woken when a direction that is going to be parked may not
// wait any longer. The error is why it may not wait at all. How long it may is looked
// up with the lock held: who has looked before a Kick must not set the alarm after it.
func (s *Session) setAlarm() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	left, err := s.left()
	if err != nil {
		return err
	}
	if s.alarm == nil {
		s.alarm = time.AfterFunc(left, s.ring)
	} else {
		s.alarm.Reset(left)
	}
	return nil
}

// ring is called when the alarm goes off.
func (s *Session) ring() {
	defer func() {
		if r := recover(); r != nil {
			s.end(panicked(r))
		}
	}()
	s.wake()
}

var longAgo = time.Unix(1, 0)

// line makes a text one line that can be sent.
func line(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), maxText)]
}

func (s *Session) touch() { s.active.Store(int64(time.Since(base))) }

// left returns how long a direction may wait for bytes from now on, or why it may
// not.
func (s *Session) left() (time.Duration, error) {
	if s.over.Load() {
		return 0, errOver
	}
	now := time.Since(base)
	limit := s.idle
	if s.half.Load() {
		limit = min(limit, lingerTimeout)
	}
	why := ErrIdle
	if s.mute.Load() && deafTimeout < limit {
		limit, why = deafTimeout, ErrDeaf
	}
	left := limit - (now - time.Duration(s.active.Load()))
	if leave := s.leave.Load(); leave != 0 {
		if s.mute.Load() || s.ledger.opaque.Load() {
			return 0, ErrKicked
		}
		if end := time.Duration(leave) - now; end < left {
			left, why = end, ErrKicked
		}
	}
	if left <= 0 {
		return 0, why
	}
	return left, nil
}

// patience returns how long a write may take.
func (s *Session) patience() time.Duration {
	if leave := s.leave.Load(); leave != 0 {
		return min(writeTimeout, time.Duration(leave)-time.Since(base))
	}
	return writeTimeout
}

// settle takes the first reason for the one.
func (s *Session) settle(err error) {
	if !s.settled {
		s.err, s.settled = err, true
	}
}

// end gives up the session: the other direction, wherever it blocks, ends too.
func (s *Session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(err)
	s.over.Store(true)
	s.changes.Add(1)
	s.ledger.close()
	s.said.Broadcast()
	_ = s.client.SetDeadline(longAgo)
	_ = s.backend.SetDeadline(longAgo)
	s.unpark()
}
