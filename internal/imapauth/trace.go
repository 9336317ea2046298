package imapauth

import (
	"crypto/tls"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Step is a part of a conversation with a backend.
type Step string

// The steps, in the order in which they are taken. Which of them are depends on the
// mode, and on what the backend says.
const (
	// StepGreeting is the first line.
	StepGreeting Step = "greeting"
	// StepCapability is a list of capabilities; there may be one before TLS, and one
	// in it.
	StepCapability Step = "capability"
	// StepStartTLS is the request to begin TLS.
	StepStartTLS Step = "starttls"
	// StepHandshake is the handshake of TLS.
	StepHandshake Step = "handshake"
	// StepLogin is the answer to credentials.
	StepLogin Step = "login"
	// StepProbe is the second look at a login that was granted.
	StepProbe Step = "probe"
)

// Event is what a Config's Trace is told when a step is over.
type Event struct {
	Step Step
	// Took is how long it took.
	Took time.Duration
	// Err is what went wrong with it, if anything did.
	Err error
	// Greeting is what the backend says about itself. It may be anything.
	Greeting string
	// Caps are the capabilities. With StepGreeting, they are those in the greeting.
	Caps []string
	// Inside says that TLS stood.
	Inside bool
	// TLS is what was agreed on in the handshake.
	TLS *tls.ConnectionState
	// Method is how the credentials were sent, and Verdict what StepLogin or
	// StepProbe alone came to.
	Method  string
	Verdict login.Verdict
}

// mark has the next step begin now.
func (c *Client) mark() {
	if c.cfg.Trace != nil {
		c.since = time.Now()
	}
}

// trace tells of a step that is over.
func (c *Client) trace(e Event) {
	if c.cfg.Trace == nil {
		return
	}
	now := time.Now()
	e.Took, e.Inside = now.Sub(c.since), c.conn != c.raw
	c.since = now
	c.cfg.Trace(e)
}

// traceLogin tells of the answer to credentials.
func (c *Client) traceLogin(m method, a *login.Attempt, v login.Verdict) {
	if c.cfg.Trace != nil {
		c.trace(Event{Step: StepLogin, Err: v.Err, Method: m.command(a), Verdict: v})
	}
}

// traceHandshake tells of a handshake.
func (c *Client) traceHandshake(err error, state func() tls.ConnectionState) {
	if c.cfg.Trace == nil {
		return
	}
	e := Event{Step: StepHandshake, Err: err}
	if err == nil {
		s := state()
		e.TLS = &s
	}
	c.trace(e)
}

// LooksLikeExchange says whether ProbeAuto would take a backend for an Exchange, by
// its greeting and by the capabilities that it lists where users can log in.
func LooksLikeExchange(greeting string, caps []string) bool {
	return exchangeGreeting([]byte(greeting)) || capabilities(caps).lookLikeExchange()
}
