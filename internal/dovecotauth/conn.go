package dovecotauth

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Conn is one connection of a client. Its methods may be called at any time and
// from anywhere.
//
// The goroutine of Serve reads and owns the fields of the first group; the rest is
// shared.
type Conn struct {
	lines  *lineReader
	state  state
	minor  uint64 // the client's minor version
	looked bool   // the last look of a retired connection was taken

	recoverer
	// server is what new requests are answered as.
	server atomic.Pointer[Server]
	// told are the mechanisms that the client knows.
	told   []string
	id     string
	nc     net.Conn
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	out    chan []byte // answers to write; nil asks for a reset
	// written is closed when writeLoop has ended.
	written chan struct{}
	checks  sync.WaitGroup
	slots   chan struct{} // one element for each running check
	// exchanges has one for each goroutine of a relayed exchange.
	exchanges chan struct{}
	held      chan struct{} // one element for each verdict that is held back

	mu       sync.Mutex
	waiting  map[uint32]*request // requests that wait for a CONT
	checking map[uint32]*request // requests with a check under way, not yet answered
	closing  bool                // nothing is answered any more
	running  int                 // checks that have not ended, answered or not
	relaying int                 // relayed exchanges that have not ended
	retired  bool                // nothing new is asked about, and the connection is to end
	expiry   *time.Timer         // ends it if it is retired
	awaiting bool                // the reader waits for a request, and may be woken
	service  string              // what was last asked for

	pid      atomic.Uint32
	requests atomic.Int64
}

type state uint8

const (
	wantVersion state = iota
	wantCPID
	ready
)

func (c *Conn) serve() error {
	stop := c.whenDone(c.ctx, func() { c.abort(context.Cause(c.ctx)) })
	go c.writeLoop()
	err := c.readLoop()
	gone := ended(err)
	if cause := context.Cause(c.ctx); cause != nil {
		err, gone = cause, ended(cause) // we closed the connection, not the client
	}
	if !gone {
		// What was answered before is written before.
		c.out <- nil
	}
	c.mu.Lock()
	c.closing = true
	if c.expiry != nil {
		c.expiry.Stop()
	}
	c.mu.Unlock()
	stop()
	if gone {
		c.cancel(errGone)
	}
	c.cancel(nil)
	c.checks.Wait()
	close(c.out)
	<-c.written
	_ = c.nc.Close()
	if gone {
		return nil
	}
	return err
}

// readLoop greets the client and handles line after line until one cannot be
// read or breaks the rules.
func (c *Conn) readLoop() (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.logPanic("reading", p)
			err = errPanic
		}
	}()
	c.out <- greet(c.told)
	if err := c.nc.SetReadDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return fmt.Errorf("setting a deadline: %w", err)
	}
	for {
		if c.state == ready {
			if err := c.await(); err != nil {
				return fmt.Errorf("waiting for a request: %w", err)
			}
		}
		line, err := c.lines.next()
		if err != nil {
			return fmt.Errorf("reading a line: %w", err)
		}
		if err := c.command(line); err != nil {
			return err
		}
	}
}

// fail answers a request that the backend is not asked about.
func (c *Conn) fail(id uint32, fields, why string) {
	c.log.Debug("refusing a request", zap.Uint32("request", id), zap.String("reason", why))
	c.reply("FAIL", id, fields)
}

// reply queues an answer. It waits while the queue is full, but not for longer
// than the client is given to read.
func (c *Conn) reply(word string, id uint32, fields string) {
	c.out <- appendReply(make([]byte, 0, 16+len(word)+len(fields)), word, id, fields)
}

// writeLoop writes answers until out is closed. After a reset or an error it
// drops them, so that nobody ever waits for it in vain.
func (c *Conn) writeLoop() {
	defer close(c.written)
	broken := false
	for b := range c.out {
		switch {
		case broken:
		case b == nil:
			broken = true
			c.abort(errReset)
		default:
			if err := c.write(b); err != nil {
				broken = true
				c.abort(fmt.Errorf("writing an answer: %w", err))
			}
		}
	}
}

func (c *Conn) write(b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.logPanic("writing", p)
			err = errPanic
		}
	}()
	if err := c.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err = c.nc.Write(b)
	return err
}

// abort resets the connection and ends what is done for it.
func (c *Conn) abort(cause error) {
	defer c.recovered("resetting a connection")
	c.cancel(cause)
	reset(c.nc)
}
