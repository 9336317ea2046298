package caddyimap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/mholt/caddy-l4/layer4"
	"github.com/mholt/caddy-l4/modules/l4tls"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/imapfront"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/relay"
	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

// visit is one client. It is served on other goroutines than layer4's, on which
// nothing is done but to wait: a stack that has grown for a handshake, or for one
// record, stays that large, and this one is there for as long as the session, which
// may be days.
type visit struct {
	handler *Handler
	conn    glue.Conn
	// begun is closed when either the session is relayed, or there will be none.
	begun  chan struct{}
	logger *zap.Logger

	// session is nil if nobody has logged in. The others belong to it.
	session *relay.Session
	entry   *sessions.Entry
	backend *login.Session
	stops   []func() bool
	done    func()
	start   time.Time
}

// receive serves the client until a session is relayed, or none will be.
func (v *visit) receive(cx *layer4.Connection, enter func() (ctx context.Context, done func(), ok bool)) {
	defer close(v.begun)
	h := v.handler
	v.conn = glue.NewConn(cx)
	defer v.conn.Recovered(h.logger)
	if h.backend.Abandoned() || !v.conn.IsStream() {
		v.conn.Reset()
		return
	}
	ctx, done, ok := enter()
	if !ok {
		return
	}
	v.done = done
	defer func() {
		if v.session == nil {
			v.done()
		}
	}()
	ends := v.conn.Ends()
	client := imapfront.Client{
		Conn: v.conn, ID: rand.Text()[:idLength],
		Remote: ends.Client.Addr(), RemotePort: ends.Client.Port(), Local: ends.Server,
	}
	if states := l4tls.GetConnectionStates(v.conn.Connection); len(states) > 0 {
		client.TLS = h.standing(states[len(states)-1])
	}
	// What it writes at the end it works out at the end, and keeps no buffer for.
	v.logger = h.logger.WithLazy(zap.String("session", client.ID), zap.Stringer("remote", v.conn.RemoteAddr()))
	end, why := h.backend.admit(client.Remote, h.front.Trusted != nil && h.front.Trusted(client.Remote))
	if why != nil {
		v.logger.Debug("connection turned away", zap.NamedError("reason", why), zap.Error(imapfront.TurnAway(&h.front, client, why.told)))
		return
	}
	v.done = func() {
		end()
		done()
	}
	session, err := imapfront.Serve(ctx, &h.front, client)
	if session == nil {
		if errors.Is(err, imapfront.ErrBanned) {
			greetingRefused.Inc()
		}
		// The name of the server that it wants may be in it.
		v.logger.Debug("connection ended before login", zap.String("error", printable(fmt.Sprint(err))))
		return
	}
	v.relay(ctx, client.ID, session)
}

// idLength is that of a session's id, in characters with five bits each.
const idLength = 12

// byeGrace is how long a response may take to be complete when the process ends,
// so that BYE can follow it.
var byeGrace = 2 * time.Second

// relay begins to relay the session, until it ends, or the process does.
func (v *visit) relay(ctx context.Context, id string, s *imapfront.Session) {
	session := relay.New(
		relay.Leg{Conn: s.Conn, Pending: s.Pending},
		relay.Leg{Conn: s.Backend.Conn, Pending: s.Backend.Buffered},
		relayOptions(v.handler, s, v.logger),
	)
	v.start, v.backend = time.Now(), s.Backend
	defer func() {
		if v.session == nil { // a panic
			v.drop()
		}
	}()
	v.entry = register(id, v.conn.RemoteAddr(), s, session)
	v.stops = append(v.stops, context.AfterFunc(ctx, func() {
		defer glue.Recovered(v.logger, "ending a session")
		session.Kick("Server is shutting down.", byeGrace)
	}))
	if stay := s.Backend.Stay; stay != nil {
		v.stops = append(v.stops, context.AfterFunc(stay, func() {
			defer glue.Recovered(v.logger, "ending a session")
			session.Kick("This server is being taken out of service.", kickGrace)
		}))
	}
	// These are not needed any more, and the session may last for days.
	s.Backend.Caps, s.Backend.Buffered, s.Backend.Extender = nil, nil, nil
	v.session = session
	session.Begin()
}

// drop takes a session out that is over.
func (v *visit) drop() {
	defer v.backend.Close()
	for _, stop := range v.stops {
		stop()
	}
	if v.entry != nil {
		live.Remove(v.entry)
	}
}

// end waits for the end of the session, and does what is left to do.
func (v *visit) end() {
	defer v.conn.Recovered(v.handler.logger)
	defer v.done()
	defer v.drop()
	stats := v.session.Wait()
	level := zap.InfoLevel
	if errors.Is(stats.Err, relay.ErrPanic) {
		level = zap.ErrorLevel
	}
	v.logger.Log(level, "session ended",
		zap.String("user", v.handler.backend.shownUser(v.entry.User)),
		zap.String("upstream", v.entry.Upstream),
		zap.Duration("duration", time.Since(v.start)),
		zap.Int64("bytes_in", stats.FromClient),
		zap.Int64("bytes_out", stats.FromBackend),
		zap.NamedError("reason", stats.Err),
	)
}
