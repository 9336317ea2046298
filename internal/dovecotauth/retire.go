package dovecotauth

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

const (
	// lastLook is how long the reader of a connection that is about to be reset looks
	// whether a request has come meanwhile.
	lastLook = 10 * time.Millisecond
	// retireTimeout is how long a connection may be retired: as long as Postfix
	// waits for an answer.
	retireTimeout = 10 * time.Second
)

var errRetired = errors.New("connection was reset, since it is not wanted any more")

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

// Retire has the connection reset once what was asked is answered, which a client
// such as Postfix does not notice: it connects anew. Nothing new is read meanwhile,
// and a request that waits for its CONT is given up, unless its exchange is relayed.
// After retireTimeout, or relayTimeout if there is such an exchange, the connection is
// reset whatever is under way.
func (c *Conn) Retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired || c.closing {
		return
	}
	c.retired = true
	timeout := retireTimeout
	if c.relaying > 0 {
		timeout = relayTimeout
	}
	c.expiry = time.AfterFunc(timeout, c.expire)
	c.wake()
}

// wake has the reader of a retired connection look what is left to do. The lock is held.
func (c *Conn) wake() {
	if c.retired && c.awaiting {
		_ = c.nc.SetReadDeadline(longAgo)
	}
}

// expire resets a retired connection that is still there.
func (c *Conn) expire() {
	defer c.recovered("ending a retired connection")
	c.mu.Lock()
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil { // else there is nothing to end yet
		cancel(errRetired)
	}
}

// checked is called at the end of a check, whose answer is on its way.
func (c *Conn) checked(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.relay == nil || !r.relay.idle {
		c.running--
	}
	if r.relay != nil {
		if c.relaying--; c.relaying == 0 {
			c.wake()
		}
	}
}

func (c *Conn) noteRequest(service string) {
	c.requests.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.service = service
}

// await waits for the first byte of a line, for as long as the client likes. If the
// connection is retired, it waits for what is due, and for nothing else.
func (c *Conn) await() error {
	for {
		next, err := c.patience()
		if err != nil {
			return fmt.Errorf("setting a deadline: %w", err)
		}
		if next == over {
			// They end at their deadlines, or with the connection.
			c.checks.Wait()
			return errRetired
		}
		_, err = c.lines.br.Peek(1)
		c.mu.Lock()
		c.awaiting = false
		c.mu.Unlock()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// outlook is what the reader is to do next.
type outlook uint8

const (
	wait outlook = iota // for the client
	look                // whether something has come, for the last time
	over                // read nothing more
)

// patience sets the deadline until which the reader waits. A connection that is
// retired is read on for as long as there are relayed exchanges, whose clients have
// something to say yet. One that has nothing under way gets one look more: its client may
// have asked already, and would be told to come back later for nothing.
func (c *Conn) patience() (outlook, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.retired, c.relaying > 0:
		c.awaiting = true
		return wait, c.nc.SetReadDeadline(time.Time{})
	case c.looked || c.running > 0:
		return over, nil
	default:
		c.looked = true
		return look, c.nc.SetReadDeadline(time.Now().Add(lastLook))
	}
}
