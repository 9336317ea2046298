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
	// refused is why the backend is not asked; nil if it is.
	refused *refusal
	// expires is when the request is forgotten unless its CONT has come.
	expires time.Time
	// cancel ends its check.
	cancel context.CancelFunc
}

// busy says whether a request of that id is under way.
func (c *Conn) busy(id uint32) bool {
	if r := c.waiting[id]; r != nil && !time.Now().After(r.expires) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.checking[id] != nil
}

// wait keeps a request until its CONT comes.
func (c *Conn) wait(r *request) {
	if len(c.waiting) >= maxWaiting {
		oldest := r
		for _, w := range c.waiting {
			if oldest == r || w.expires.Before(oldest.expires) {
				oldest = w
			}
		}
		delete(c.waiting, oldest.id)
	}
	r.expires = time.Now().Add(continueTimeout)
	c.waiting[r.id] = r
}

// forget drops a request, which then gets no answer. It says whether a check was
// under way for it. The check goes on: what comes of it counts, or whoever cancels
// in time could guess for nothing.
func (c *Conn) forget(id uint32) (checking bool) {
	delete(c.waiting, id)
	c.mu.Lock()
	r := c.checking[id]
	delete(c.checking, id)
	c.mu.Unlock()
	return r != nil
}
