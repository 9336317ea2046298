package caddysasl

import (
	"net"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/mholt/caddy-l4/layer4"

	"github.com/caddy-imap/caddy-imap/caddyimap"
	"github.com/caddy-imap/caddy-imap/internal/dovecotauth"
	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

func init() { caddyimap.WhenConfigChanges(connections.review) }

// connections are those of all mail servers, whatever configuration they began
// with.
var connections connectionTable

// connectionTable has connections served as the newest configuration says.
type connectionTable struct {
	mu       sync.Mutex
	handlers map[*DovecotAuth]struct{}
	live     map[*connection]struct{}
}

// connection is one connection of a mail server.
type connection struct {
	*dovecotauth.Conn
	// handler is the one that it is served for.
	handler *DovecotAuth
	raw     net.Conn
}

// Activity implements sessions.Live.
func (c *connection) Activity() sessions.Activity {
	s := c.State()
	return sessions.Activity{Idle: s.InFlight == 0, Commands: s.Requests, InFlight: s.InFlight, Service: s.Service, PID: s.PID}
}

// Kick implements sessions.Live. There is nothing to be said to a mail server, and
// what it has asked is answered first.
func (c *connection) Kick(string, time.Duration) { c.Retire() }

// add begins with a connection. The configuration may have changed since it was
// accepted.
func (t *connectionTable) add(c *connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live == nil {
		t.live = make(map[*connection]struct{})
	}
	t.live[c] = struct{}{}
	if c.handler.backend.Replaced() {
		t.serveNewest(c)
	}
}

func (t *connectionTable) remove(c *connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.live, c)
}

// review is called when another configuration counts.
func (t *connectionTable) review() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.live {
		t.serveNewest(c)
	}
}

// serveNewest has a connection served by the handler that the newest configuration
// has on its listener. If there is none, or it would not let the mail server in, or
// nobody can say which of several it is, the connection is to end.
func (t *connectionTable) serveNewest(c *connection) {
	var app *layer4.App
	elsewhere := false
	for h := range t.handlers {
		switch {
		case !h.backend.IsNewest():
		case h.app == nil:
			elsewhere = true
		default:
			app = h.app
		}
	}
	next := c.successor(layouts.at(app, c.raw.LocalAddr()))
	switch {
	case next != nil && next.access.allows(c.raw.RemoteAddr()):
		c.handler = next
		c.Adopt(next.server)
	case !elsewhere:
		c.Retire()
	}
}

// successor returns which of the handlers on its listener is to take over: the one
// with the same options, or with other ones if no other handler was or is there.
// Where there are several, something such as a matcher has chosen among them, and
// another would ask another backend, or tell other names.
func (c *connection) successor(handlers []*DovecotAuth) *DovecotAuth {
	for _, h := range handlers {
		if h.options == c.handler.options {
			return h
		}
	}
	if before := c.handler.layout; len(handlers) == 1 && before != nil && len(before.optionsAt(c.raw.LocalAddr())) == 1 {
		return handlers[0]
	}
	return nil
}

// join notes a handler that was provisioned, and leave forgets it.
func (t *connectionTable) join(ctx caddy.Context, h *DovecotAuth) {
	for _, module := range ctx.Modules() {
		if app, ok := module.(*layer4.App); ok {
			layouts.join(app, h)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.handlers == nil {
		t.handlers = make(map[*DovecotAuth]struct{})
	}
	t.handlers[h] = struct{}{}
}

func (t *connectionTable) leave(h *DovecotAuth) {
	t.mu.Lock()
	_, joined := t.handlers[h]
	delete(t.handlers, h)
	t.mu.Unlock()
	if joined && h.app != nil {
		layouts.leave(h.app)
	}
}
