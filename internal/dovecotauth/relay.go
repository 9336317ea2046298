package dovecotauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// relayed is a request whose exchange the client carries on with the backend. It has
// a goroutine from its AUTH on. While that waits for the client, the request is one of
// those that wait for a CONT, holds no slot, and its deadline does not run.
type relayed struct {
	conn    *Conn
	request *request
	// watch reads what the client says, before we look at its name.
	watch login.Watcher
	// answers takes what comes of a challenge, from whoever takes the request out of
	// those that wait.
	answers chan answer
	// finalOK says that the client takes the backend's last words with OK.
	finalOK bool
	// idle says that the request waits for the client, and over that the exchange has
	// ended. Both are guarded by Conn.mu.
	idle, over bool

	// The rest belongs to the goroutine. slot says that it holds one, ended that
	// the client wants no answer any more.
	slot, ended bool
	// stop ends the watch over the deadline.
	stop func()
}

// answer is a message of the client, or why there is none.
type answer struct {
	message []byte
	err     error
}

// errMalformed is why a request is refused that sends what its mechanism has not.
var errMalformed = &refusal{why: "malformed SASL message"}

// errGone says that the mail server has hung up, as Exim does when its client calls an
// exchange off.
var errGone = fmt.Errorf("%w: the mail server has hung up", login.ErrCancelled)

var errLongChallenge = errors.New("the backend's challenge is longer than a line may be")

// relay makes the exchange of a request one that is relayed.
func (c *Conn) relay(r *request, mechanism string, initial []byte) error {
	x := &relayed{conn: c, request: r, answers: make(chan answer, 1), finalOK: r.finalOK, slot: true}
	if err := login.NewRelay(mechanism, &r.attempt, initial, x.ask); err != nil {
		return err
	}
	x.watch, r.attempt.Relay.Watch = r.attempt.Relay.Watch, x
	r.relay = x
	return nil
}

// carry has an exchange carried on and answers its request.
func (c *Conn) carry(ctx context.Context, r *request) {
	x := r.relay
	defer c.checks.Done()
	defer c.checked(r)
	defer func() { <-c.exchanges }()
	defer c.recovered("relaying a request")
	defer c.drop(r)
	defer x.release()
	defer r.cancel()
	x.limit(ctx)
	defer func() { x.stop() }()
	v := c.ask(ctx, r)
	if !x.ended {
		c.hold(ctx, r, v, x.release)
	}
	if !x.ended && v.Final != nil && r.refused == nil {
		x.finish(ctx, &v)
	}
	x.stop()
	if !x.ended {
		c.settle(r, v)
	}
}

// limit answers the request when its deadline has passed, which is counted from the
// client's last message.
func (x *relayed) limit(ctx context.Context) {
	c, r := x.conn, x.request
	within, cancel := context.WithDeadline(ctx, r.attempt.Start.Add(r.server.deadline()))
	stop := c.whenDone(within, func() {
		if errors.Is(within.Err(), context.DeadlineExceeded) {
			c.settle(r, login.UnavailableFor(errDeadline))
			r.cancel()
		}
	})
	x.stop = sync.OnceFunc(func() {
		stop()
		cancel()
	})
}

// release gives the slot back.
func (x *relayed) release() {
	if x.slot {
		x.slot = false
		<-x.conn.slots
	}
}

// ask puts a challenge to the client, and returns its answer. It is Ask of
// login.Relay.
func (x *relayed) ask(ctx context.Context, challenge []byte) ([]byte, error) {
	c, r := x.conn, x.request
	text := "\t" + base64.StdEncoding.EncodeToString(challenge)
	if len(text) > maxChallenge {
		return nil, errLongChallenge
	}
	x.stop()
	if err := c.pause(r); err != nil {
		x.ended = true
		return nil, err
	}
	x.release()
	c.reply("CONT", r.id, text)
	a := x.await(ctx)
	// A message comes with a slot.
	x.slot = a.err == nil
	if x.ended = errors.Is(a.err, login.ErrCancelled) || errors.Is(a.err, login.ErrMessage); x.ended {
		return nil, a.err
	}
	r.attempt.Start = time.Now()
	x.limit(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return a.message, a.err
}

// await waits for the answer, for relayTimeout at most.
func (x *relayed) await(ctx context.Context) answer {
	late := time.NewTimer(relayTimeout)
	defer late.Stop()
	select {
	case a := <-x.answers:
		return a
	case <-late.C:
		x.conn.giveUp(x.request)
	case <-ctx.Done():
		x.conn.unpause(x.request, context.Cause(ctx))
	}
	// That was us now, unless the reader has taken the request before, and waits for
	// a slot perhaps.
	select {
	case a := <-x.answers:
		return a
	case <-x.conn.ctx.Done():
		return answer{err: context.Cause(x.conn.ctx)}
	}
}

// finish tells the client what the backend has said last. It is due before the
// verdict, and what the client answers means nothing.
func (x *relayed) finish(ctx context.Context, v *login.Verdict) {
	if v.Result == login.Granted && x.finalOK {
		return // it goes with OK
	}
	final := v.Final
	v.Final = nil
	_, _ = x.ask(ctx, final)
}

// Next implements login.Watcher. A name is looked at as soon as it is known.
func (x *relayed) Next(message []byte) (proof bool, err error) {
	r := x.request
	proof, err = x.watch.Next(message)
	identity, refused := r.identity, (*refusal)(nil)
	switch {
	case err != nil:
		refused = errMalformed
	case identity == "" && r.attempt.User != "":
		if identity, err = r.server.admit(&r.attempt); errors.As(err, &refused) {
			err = fmt.Errorf("%w: %w", login.ErrMessage, err)
		}
	}
	x.conn.mu.Lock()
	r.identity, r.refused = identity, refused
	x.conn.mu.Unlock()
	return proof && err == nil, err
}
