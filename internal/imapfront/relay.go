package imapfront

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// relayTimeout is how long a client may take for each of its answers, within the login
// timeout: a backend waits with it.
const relayTimeout = 30 * time.Second

// maxMessageLine bounds a line with a message of a relayed exchange, in base64.
const maxMessageLine = (login.MaxMessage + 2) / 3 * 4

// relaying is an exchange that the client carries on with the backend. Open asks the
// client through it, on the goroutine of the conversation.
type relaying struct {
	front *front
	// reached says that a backend has been asked: the client has been heard, or has seen
	// a challenge.
	reached bool
	// ended is why there is no more to the exchange; nil if the client did nothing
	// to end it.
	ended error
}

// relay answers AUTHENTICATE for a mechanism of which we know no secrets.
func (f *front) relay(ctx context.Context, cmd *command, mechanism string, initial []byte) error {
	x := &relaying{front: f, reached: initial != nil}
	a := f.attempt()
	if err := login.NewRelay(mechanism, a, initial, x.ask); err != nil || len(initial) > login.MaxMessage {
		return f.bad(cmd, invalidArguments)
	}
	a.Relay.Watch = &watched{a.Relay.Watch, x}
	a.Start = time.Now()
	session, verdict := f.cfg.Open(ctx, a)
	defer func() {
		if session != nil && f.session == nil { // even after a panic
			session.Close()
		}
	}()
	if x.ended == nil && verdict.Final != nil {
		x.finish(ctx, verdict)
	}
	switch {
	case errors.Is(x.ended, login.ErrCancelled):
		return f.cancelled(cmd, x.reached)
	case errors.Is(x.ended, login.ErrMessage):
		return f.bad(cmd, invalidArguments)
	case x.ended != nil:
		return f.hangUp(ctx, x.ended)
	}
	return f.tell(cmd, a, session, verdict)
}

// ask puts a challenge of the backend to the client and returns the answer. It is
// Ask of login.Relay.
func (x *relaying) ask(ctx context.Context, challenge []byte) ([]byte, error) {
	// Our own invitation to begin is nil.
	x.reached = x.reached || challenge != nil
	line, err := x.put(ctx, challenge)
	if err == nil && string(line) == "*" {
		err = login.ErrCancelled
	}
	var answer []byte
	if err == nil {
		if answer, err = base64.StdEncoding.DecodeString(string(line)); err != nil || len(answer) > login.MaxMessage {
			err = fmt.Errorf("%w: no base64, or too long", login.ErrMessage)
		}
	}
	if err != nil {
		// If only the exchange is over, the client has not ended it.
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil, err
		}
		x.ended = err
		if !errors.Is(err, login.ErrMessage) && !errors.Is(err, login.ErrCancelled) {
			err = fmt.Errorf("%w: %w", login.ErrCancelled, err) // it has gone, or says nothing
		}
		return nil, err
	}
	x.reached = true
	return answer, nil
}

// put sends a challenge and returns the line that the client answers with, which is
// valid until the next is read. It returns when ctx is done, or relayTimeout has passed.
func (x *relaying) put(ctx context.Context, challenge []byte) ([]byte, error) {
	f := x.front
	f.printf("+ %s", base64.StdEncoding.EncodeToString(challenge))
	if err := f.flush(); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(relayTimeout)
	if f.deadline.Before(deadline) {
		deadline = f.deadline
	}
	if err := f.conn.SetReadDeadline(deadline); err != nil {
		return nil, fmt.Errorf("setting a deadline: %w", err)
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = f.conn.SetReadDeadline(time.Unix(1, 0))
	})
	line, err := f.r.ReadLine(maxMessageLine)
	if !stop() {
		<-interrupted
		return nil, ctx.Err()
	}
	switch {
	case errors.Is(err, imapwire.ErrBadLine):
		return nil, fmt.Errorf("%w: no line", login.ErrMessage)
	case err != nil:
		return nil, fmt.Errorf("reading a SASL response: %w", err)
	}
	return line, nil
}

// finish tells the client what the backend said last, which is due before the verdict
// is. What it answers means nothing, but that it does not want to be let in.
func (x *relaying) finish(ctx context.Context, v login.Verdict) {
	line, err := x.put(ctx, v.Final)
	if err == nil && string(line) == "*" {
		err = login.ErrCancelled
	}
	if errors.Is(err, login.ErrMessage) || errors.Is(err, login.ErrCancelled) && v.Result != login.Granted {
		return
	}
	x.ended = err
}

// cancelled answers a client that has called its exchange off. If a backend has been
// asked, that was a try like others.
func (f *front) cancelled(cmd *command, reached bool) error {
	f.printf("%s BAD Authentication cancelled.", cmd.tag)
	if !reached {
		return nil
	}
	return f.failed()
}

// watched notes what is wrong with a message, since that is no verdict.
type watched struct {
	login.Watcher
	exchange *relaying
}

// Next implements login.Watcher.
func (w *watched) Next(message []byte) (proof bool, err error) {
	proof, err = w.Watcher.Next(message)
	if err != nil {
		w.exchange.ended = err
	}
	return proof, err
}

// takesPasswords says whether there is any way to log in with a password.
func (f *front) takesPasswords() bool {
	return slices.ContainsFunc(f.mechanisms(), func(m string) bool { return slices.Contains(login.Mechanisms, m) })
}
