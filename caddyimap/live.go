package caddyimap

import (
	"crypto/tls"
	"net"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapfront"
	"github.com/caddy-imap/caddy-imap/internal/relay"
	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

// kickGrace is how long a response may take to be complete before a session that
// is ended by request, so that BYE can follow it.
const kickGrace = 30 * time.Second

// live are the sessions of the process, and the connections of mail servers,
// whatever configuration they began with.
var live sessions.Registry

// relayed is a session that is relayed, for the registry.
type relayed struct{ session *relay.Session }

// Activity implements sessions.Live.
func (r relayed) Activity() sessions.Activity {
	s := r.session.State()
	return sessions.Activity{Idle: s.Idle, Opaque: s.Opaque, Commands: s.Commands, BytesIn: s.FromClient, BytesOut: s.FromBackend}
}

// Kick implements sessions.Live.
func (r relayed) Kick(text string, grace time.Duration) { r.session.Kick(text, grace) }

// register adds a session that is about to be relayed.
func register(id string, remote net.Addr, s *imapfront.Session, session *relay.Session) *sessions.Entry {
	e := live.Add(sessions.Info{
		ID: id, Kind: sessions.IMAP, User: s.User, Remote: remote, RemoteIP: plain(s.Remote),
		Backend: s.Backend.Backend, Upstream: s.Backend.Upstream,
		ClientTLS: legTLS(s.TLS), BackendTLS: connTLS(s.Backend.Conn), Started: time.Now(),
	}, relayed{session})
	drains.late(e)
	return e
}

// Register adds a connection of a mail server, that begins now and is served for
// the handler of the reference. The function that it returns is to be called when
// it has ended.
func (r *BackendRef) Register(id string, remote net.Addr, connection sessions.Live) (end func()) {
	name := r.name
	if _, b, _ := r.find(); b != nil {
		name = b.name
	}
	e := live.Add(sessions.Info{ID: id, Kind: sessions.Auth, Remote: remote, Backend: name, Started: time.Now()}, connection)
	return func() { live.Remove(e) }
}

func legTLS(state *tls.ConnectionState) sessions.TLS {
	if state == nil {
		return sessions.TLS{}
	}
	return sessions.TLS{Version: state.Version, Cipher: state.CipherSuite}
}

func connTLS(c net.Conn) sessions.TLS {
	t, ok := c.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return sessions.TLS{}
	}
	state := t.ConnectionState()
	return legTLS(&state)
}
