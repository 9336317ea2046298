package imapauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// logoutTimeout bounds the good-bye to a backend.
const logoutTimeout = time.Second

// errUsed keeps a fault of the caller from looking like one of the backend.
var errUsed = errors.New("logging in: the connection was used already")

// Open logs an attempt in. If the verdict is Granted, the session is the
// caller's, and no deadline is set on its connection; otherwise the session is
// nil and the connection closed. It ends when ctx does.
//
// The command is used if the Config has none.
func (c *Client) Open(ctx context.Context, a *login.Attempt, command AuthCommand) (session *login.Session, v login.Verdict) {
	defer func() {
		if session == nil { // even after a panic
			c.Close()
		}
	}()
	v = c.login(ctx, a, command, false)
	if v.Result != login.Granted {
		return nil, v
	}
	rest := c.release()
	err := c.raw.SetDeadline(time.Time{})
	if err == nil && startsWithBye(rest) {
		err = ErrBye
	}
	if err != nil {
		return nil, c.signed(login.UnavailableFor(fmt.Errorf("handing over the session: %w", err)))
	}
	return &login.Session{
		Conn:     c.conn,
		Buffered: append(c.alerts, rest...),
		Caps:     c.caps,
		Upstream: c.cfg.Address,
	}, v
}

// Check logs an attempt in to see whether it can be, and out again. The
// connection is closed when it returns. It ends when ctx does.
//
// The command is used if the Config has none.
func (c *Client) Check(ctx context.Context, a *login.Attempt, command AuthCommand) login.Verdict {
	defer c.Close()
	v := c.login(ctx, a, command, true)
	if v.Result == login.Granted {
		c.logout(ctx)
	}
	return v
}

// logout says good-bye and does not wait for the answer.
func (c *Client) logout(ctx context.Context) {
	if err := c.raw.SetDeadline(time.Now().Add(logoutTimeout)); err != nil {
		return
	}
	c.command("LOGOUT")
	_ = c.send(ctx)
}

// login comes to a verdict. Check-only logins are not asked for capabilities,
// which nobody would want to know.
func (c *Client) login(ctx context.Context, a *login.Attempt, command AuthCommand, checkOnly bool) login.Verdict {
	if err := a.Check(); err != nil {
		return c.signed(login.DeniedWith(imap.ResponseCodeAuthenticationFailed))
	}
	if c.r == nil || c.sent || c.begun && a.Relay == nil || a.Relay != nil && a.Relay.Proof == nil {
		return c.signed(login.UnavailableFor(errUsed))
	}
	if c.cfg.Token != "" && a.Relay == nil {
		return c.signed(login.UnavailableFor(errNoToken))
	}
	if c.cfg.AuthCommand != "" {
		command = c.cfg.AuthCommand
	}
	var v login.Verdict
	err := c.within(ctx, func(ctx context.Context) error {
		v = c.decide(ctx, a, command, checkOnly)
		return nil
	})
	// What the backend did refuse stays refused, even if time was up by then.
	if err != nil && v.Err == nil && v.Result != login.Denied {
		v = login.UnavailableFor(fmt.Errorf("logging in: %w", err))
	}
	return c.signed(v)
}

// signed adds to a verdict whose it is.
func (c *Client) signed(v login.Verdict) login.Verdict {
	v.Upstream = c.cfg.Address
	return v
}

func (c *Client) decide(ctx context.Context, a *login.Attempt, command AuthCommand, checkOnly bool) login.Verdict {
	if !c.begun {
		if v := c.introduce(ctx, a); v.Result != login.Granted {
			v.Err = fmt.Errorf("logging in: %w", v.Err)
			return v
		}
	}
	before := c.caps
	c.exchange = c.exchange || before.lookLikeExchange()
	c.mark()
	m, offered := choose(before, command, a)
	v := c.authenticate(ctx, a, m, offered)
	if v.Err != nil {
		v.Err = fmt.Errorf("logging in: %w", v.Err)
	}
	if c.dovecot && c.sent && errors.Is(v.Err, ErrTimeout) {
		v.Err = fmt.Errorf("%w (%w)", v.Err, ErrPenalty)
	}
	c.traceLogin(m, a, v)
	if v.Result != login.Granted {
		return v
	}
	final := v.Final
	v = c.verify(ctx, v, before, checkOnly)
	v.Final = final
	return v
}

// verify takes a second look at a login that was granted.
func (c *Client) verify(ctx context.Context, v login.Verdict, before capabilities, checkOnly bool) login.Verdict {
	switch {
	case c.caps != nil:
	case checkOnly:
		c.caps = before
	default:
		if v := c.capsAfterLogin(ctx); v.Result != login.Granted {
			return v
		}
	}
	c.exchange = c.exchange || c.caps.lookLikeExchange()
	if c.wantsProbe() {
		v = c.probe(ctx)
		c.trace(Event{Step: StepProbe, Err: v.Err, Verdict: v})
	}
	return v
}

// authenticate sends the credentials, in one form only, and says what the answer
// means.
func (c *Client) authenticate(ctx context.Context, a *login.Attempt, m method, offered bool) login.Verdict {
	switch {
	case !offered:
		return login.UnavailableFor(missing(m))
	case m == methodRelayed:
		return c.prove(ctx, a)
	case m != methodPlain && a.AuthzID != "":
		// The backend cannot be told, and must not be asked about someone else.
		return login.DeniedWith(imap.ResponseCodeAuthorizationFailed)
	}
	r, err := c.submit(ctx, m, a)
	return c.judge(&r, err)
}

// missing is the error for a backend that does not have a method.
func missing(m method) error {
	if m == methodRelayed {
		return ErrNotOffered
	}
	return ErrNoMechanism
}

// judge says what an answer to credentials means, or that there was none.
func (c *Client) judge(r *imapwire.Response, err error) login.Verdict {
	switch {
	case err != nil:
		v := login.UnavailableFor(err)
		v.Unanswered = c.sent
		return v
	case !c.sent:
		v := classifyEarly(r)
		v.Everybody = v.Result == login.Throttled && !c.named
		return v
	}
	c.noteCode(r)
	v := classify(r)
	v.Unanswered = v.Result == login.Unavailable || v.Result == login.Throttled
	return v
}

// capsAfterLogin asks for the capabilities anew. It is the first command that
// needs the login to be real.
func (c *Client) capsAfterLogin(ctx context.Context) login.Verdict {
	r, err := c.askCaps(ctx, maxLoginLine)
	v := login.UnavailableFor(err)
	if err == nil {
		v = classifyProbe(&r)
	}
	if v.Err != nil {
		v.Err = fmt.Errorf("asking for capabilities after login: %w", v.Err)
	}
	return v
}

// startsWithBye reports whether the backend has hung up before the session
// began.
func startsWithBye(rest []byte) bool {
	line, _, complete := bytes.Cut(rest, []byte{'\n'})
	r := imapwire.ParseResponse(bytes.TrimSuffix(line, []byte{'\r'}))
	return complete && r.Kind == imapwire.KindUntagged && r.Status == imap.StatusResponseTypeBye
}
