package dovecotauth

import (
	"context"
	"time"

	"github.com/emersion/go-sasl"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// request is one AUTH of a client.
type request struct {
	id       uint32
	server   *Server
	attempt  login.Attempt
	identity string
	sasl     sasl.Server
	// relay is what there is to an exchange that is relayed; nil if it is not.
	relay *relayed
	// finalOK says that the client takes the last words of an exchange with OK.
	finalOK bool
	// refused is why the backend is not asked; nil if it is. It and identity are
	// guarded by Conn.mu where the exchange is relayed.
	refused *refusal
	// asked is since when the request waits for its CONT, and expires when it is
	// forgotten unless that has come.
	asked, expires time.Time
	// cancel ends its check.
	cancel context.CancelFunc
}

// busy says whether a request of that id is under way.
func (c *Conn) busy(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.waiting[id]; r != nil && !time.Now().After(r.expires) {
		return true
	}
	return c.checking[id] != nil
}

// wait keeps a request until its CONT comes.
func (c *Conn) wait(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(r, continueTimeout)
}

// keep is for wait and pause, which hold the lock.
func (c *Conn) keep(r *request, timeout time.Duration) {
	if len(c.waiting) >= maxWaiting {
		oldest := r
		for _, w := range c.waiting {
			if oldest == r || w.asked.Before(oldest.asked) {
				oldest = w
			}
		}
		c.take(oldest.id, answer{err: login.ErrCancelled})
	}
	r.asked = time.Now()
	r.expires = r.asked.Add(timeout)
	c.waiting[r.id] = r
}

// take takes a request out of those that wait, and ends its exchange if that is
// relayed. The lock is held.
func (c *Conn) take(id uint32, a answer) {
	r := c.waiting[id]
	delete(c.waiting, id)
	if r != nil && r.relay != nil {
		r.relay.answers <- a // which never waits: nobody else finds the request now
	}
}

// claim takes a request out of those that wait, for the CONT that has come. It is nil
// if there is none, or its time is over.
func (c *Conn) claim(id uint32) *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.waiting[id]
	if r == nil || time.Now().After(r.expires) {
		return nil
	}
	delete(c.waiting, id)
	return r
}

// forget drops a request, which then gets no answer. It says whether a check was
// under way for it. The check goes on: what comes of it counts, or whoever cancels
// in time could guess for nothing.
func (c *Conn) forget(id uint32) (checking bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take(id, answer{err: login.ErrCancelled})
	r := c.checking[id]
	delete(c.checking, id)
	return r != nil
}

// drop forgets a request whose exchange is over, be it before its time.
func (c *Conn) drop(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.relay.over = true
	if c.checking[r.id] == r {
		delete(c.checking, r.id)
	}
}

// pause has a request wait for its client whose exchange is relayed. The error says
// why there is nobody to wait for.
func (c *Conn) pause(r *request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing:
		return context.Canceled
	case c.checking[r.id] != r:
		return login.ErrCancelled
	}
	delete(c.checking, r.id)
	c.running--
	r.relay.idle = true
	c.keep(r, relayTimeout)
	return nil
}

// resume goes on with a request after its client has spoken. It waits while too many
// checks are under way.
func (c *Conn) resume(r *request, message []byte) {
	select {
	case c.slots <- struct{}{}:
	case <-c.ctx.Done():
		return // the exchange ends by itself
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.relay.over { // it ended with the connection, while this waited
		<-c.slots
		return
	}
	c.awake(r)
	r.relay.answers <- answer{message: message}
}

// unpause goes on with a request that nobody waits any more for, if its client has not
// spoken.
func (c *Conn) unpause(r *request, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[r.id] == r {
		c.awake(r)
		c.take(r.id, answer{err: why})
	}
}

// awake undoes pause. The lock is held.
func (c *Conn) awake(r *request) {
	c.checking[r.id] = r
	c.running++
	r.relay.idle = false
}

// giveUp ends an exchange if it waits for its client.
func (c *Conn) giveUp(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[r.id] == r {
		c.take(r.id, answer{err: login.ErrCancelled})
	}
}
