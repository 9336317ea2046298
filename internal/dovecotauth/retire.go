package dovecotauth

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// lastLook is how long the reader of a connection that is about to be reset looks
// whether a request has come meanwhile.
const lastLook = 10 * time.Millisecond

var errRetired = errors.New("connection was reset, since it is not wanted any more and nothing was under way")

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// ID names the connection in logs.
func (c *Conn) ID() string { return c.id }

// State is a connection at a glance.
type State struct {
	// Service is what the client last asked for, such as "smtp", and PID its
	// process. They are empty while the client has not said so.
	Service string
	PID     uint32
	// Requests counts what was asked, InFlight what of it is being checked.
	Requests, InFlight int64
}

// State returns what the connection does at the moment.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return State{Service: c.service, PID: c.pid.Load(), Requests: c.requests.Load(), InFlight: int64(len(c.checking))}
}

// Adopt has new requests answered as another server does. If that does not offer
// all mechanisms that the client was told of, the connection is retired.
func (c *Conn) Adopt(s *Server) {
	c.server.Store(s)
	for _, m := range c.told {
		if !slices.Contains(s.mechanisms(), m) {
			c.Retire()
			return
		}
	}
}

// Retire has the connection reset once nothing is under way on it, which a client
// such as Postfix does not notice: it connects anew. A request that waits for its
// CONT is under way until it expires.
func (c *Conn) Retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
	c.wake()
}

// wake has the reader look again at what it waits for. The lock is held.
func (c *Conn) wake() {
	if c.retired && c.awaiting {
		_ = c.nc.SetReadDeadline(longAgo)
	}
}

// checked is called at the end of a check, whose answer is on its way.
func (c *Conn) checked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.wake()
}

func (c *Conn) noteRequest(service string) {
	c.requests.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.service = service
}

// await waits for the first byte of a line, for as long as the client likes, unless
// the connection is retired.
func (c *Conn) await() error {
	for {
		last, err := c.patience()
		if err != nil {
			return fmt.Errorf("setting a deadline: %w", err)
		}
		_, err = c.lines.br.Peek(1)
		c.mu.Lock()
		c.awaiting = false
		c.mu.Unlock()
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case last:
			return errRetired
		}
	}
}

// patience sets the deadline until which the reader waits. If it is the last one,
// nothing is under way.
func (c *Conn) patience() (last bool, err error) {
	var deadline time.Time
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired && c.running == 0 {
		for _, r := range c.waiting {
			if r.expires.After(deadline) {
				deadline = r.expires
			}
		}
		if last = !deadline.After(time.Now()); last {
			deadline = time.Now().Add(lastLook)
		}
	}
	c.awaiting = !last
	return last, c.nc.SetReadDeadline(deadline)
}
