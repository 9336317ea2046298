package imapauth

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// maxCommand is the longest line of a command, with its end, that every server takes
// (RFC 9051 section 4). An initial response that does not fit in waits until it is
// asked for.
const maxCommand = 8 << 10

// noteOffers says whether the backend offers any of the mechanisms that are passed on,
// and tells which.
func (c *Client) noteOffers() bool {
	var offered []string
	for _, m := range c.cfg.Relayed {
		if c.caps.has(imap.AuthCap(m)) {
			offered = append(offered, m)
		}
	}
	if c.cfg.Offered != nil {
		c.cfg.Offered(offered)
	}
	return len(offered) > 0
}

// Advance carries a relayed exchange on up to its next challenge, which it returns: it
// sends a message of the client's that is not the proof, or begins without one if the
// message is nil. If the backend does not go on with the exchange, the challenge is
// nil, the verdict has what that means, and the connection is closed. It is never
// granted. It ends when ctx does.
//
// When the proof has come, Open or Check goes on. Abort gives up.
func (c *Client) Advance(ctx context.Context, a *login.Attempt, message []byte) (challenge []byte, v login.Verdict) {
	defer func() {
		if challenge == nil { // even after a panic
			c.Close()
		}
	}()
	if c.r == nil || c.sent {
		return nil, c.signed(login.UnavailableFor(errUsed))
	}
	err := c.within(ctx, func(ctx context.Context) error {
		challenge, v = c.advance(ctx, a, message)
		return nil
	})
	if err != nil && v.Err == nil && v.Result != login.Denied {
		challenge, v = nil, login.UnavailableFor(err)
	}
	if challenge != nil {
		return challenge, login.Verdict{}
	}
	if v.Err != nil {
		v.Err = fmt.Errorf("logging in: %w", v.Err)
	}
	c.traceLogin(methodRelayed, a, v)
	return nil, c.signed(v)
}

func (c *Client) advance(ctx context.Context, a *login.Attempt, message []byte) ([]byte, login.Verdict) {
	if !c.begun {
		if v := c.introduce(ctx, a); v.Result != login.Granted {
			return nil, v
		}
		c.mark()
		if m, offered := choose(c.caps, "", a); !offered {
			return nil, login.UnavailableFor(missing(m))
		}
	}
	r, err := c.say(ctx, a, message, false)
	switch {
	case err != nil:
		return nil, login.UnavailableFor(err)
	case r.Kind == imapwire.KindContinuation:
		challenge, err := decodeChallenge(r.Text)
		if err != nil {
			return nil, login.UnavailableFor(err)
		}
		return challenge, login.Verdict{}
	case !c.named:
		v := classifyEarly(&r)
		v.Everybody = v.Result == login.Throttled
		return nil, v
	case r.Status == imap.StatusResponseTypeOK:
		// Nobody has shown that he knows anything.
		return nil, login.UnavailableFor(ErrProtocol)
	}
	// It refuses this user, whatever he would prove.
	return nil, classify(&r)
}

// prove sends the proof, and says what the answer means. What the backend has to say
// before that needs an answer. It is given at once, and what the client would answer is
// not waited for: the verdict, and what is counted, do not depend on him any more.
func (c *Client) prove(ctx context.Context, a *login.Attempt) login.Verdict {
	r, err := c.say(ctx, a, a.Relay.Proof, true)
	if err != nil || r.Kind != imapwire.KindContinuation {
		return c.judge(&r, err)
	}
	final, err := decodeChallenge(r.Text)
	if err == nil {
		c.respond(login.Dismissal(a.Mechanism))
		if err = c.send(ctx); err == nil {
			r, err = c.await(ctx, false)
		}
	}
	v := c.judge(&r, err)
	v.Final = final
	return v
}

// say sends a message of the client's, with the command in front of the first, and
// returns the answer. The last is the proof.
func (c *Client) say(ctx context.Context, a *login.Attempt, message []byte, last bool) (imapwire.Response, error) {
	c.budget(maxLoginLine)
	if !c.begun {
		c.begun = true
		c.command("AUTHENTICATE ")
		c.out = append(c.out, a.Mechanism...)
		if message == nil {
			return c.deliver(ctx)
		}
		if c.takesInitial(len(message)) {
			c.out = append(c.out, ' ')
			if len(message) == 0 {
				c.out = append(c.out, '=') // RFC 4959 section 3
			}
			return c.hand(ctx, message, last)
		}
		// It is asked for the first message whatever it is.
		if r, err := c.deliver(ctx); err != nil || r.Kind != imapwire.KindContinuation {
			return r, err
		}
	}
	return c.hand(ctx, message, last)
}

// takesInitial says whether an initial response of so many bytes can go with the
// command that is in c.out.
func (c *Client) takesInitial(size int) bool {
	return c.caps.has(imap.CapSASLIR) && len(c.out)+1+base64.StdEncoding.EncodedLen(size)+2 <= maxCommand
}

// hand sends what is in c.out and a message behind it.
func (c *Client) hand(ctx context.Context, message []byte, last bool) (imapwire.Response, error) {
	c.named = true
	if last {
		c.sent, c.caps = true, nil
	}
	c.respond(message)
	return c.deliver(ctx)
}

func (c *Client) respond(message []byte) {
	c.out = base64.StdEncoding.AppendEncode(c.out, message)
}

func (c *Client) deliver(ctx context.Context) (imapwire.Response, error) {
	if err := c.send(ctx); err != nil {
		return imapwire.Response{}, err
	}
	return c.await(ctx, true)
}

// decodeChallenge returns what the backend says to the client, which is not nil.
func decodeChallenge(text []byte) ([]byte, error) {
	challenge, err := base64.StdEncoding.AppendDecode([]byte{}, text)
	if err != nil {
		return nil, fmt.Errorf("%w: a challenge is not base64", ErrProtocol)
	}
	return challenge, nil
}

// Abort calls a relayed exchange off, and hangs up. It does not wait for the answer.
func (c *Client) Abort(ctx context.Context) {
	defer c.Close()
	if c.r == nil || !c.begun || c.sent {
		return
	}
	if err := c.raw.SetDeadline(time.Now().Add(logoutTimeout)); err != nil {
		return
	}
	c.out = append(c.out[:0], '*')
	_ = c.send(ctx)
}
