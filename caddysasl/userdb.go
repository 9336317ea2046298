package caddysasl

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/dovecotauth"
	"github.com/caddy-imap/caddy-imap/internal/glue"
)

// DovecotUserDB is a handler that speaks the server side of the protocol of
// Dovecot's auth-userdb socket. It knows no users and says of each that the
// lookup failed, as a Dovecot with the user database "prefetch" does; it never says
// that a user does not exist.
//
// Only few mail servers want such a socket: chasquid insists on one beside the
// auth-client socket, even if it only checks passwords.
type DovecotUserDB struct {
	// The networks and addresses that may connect, in CIDR notation. They take
	// the place of the default; unix sockets may always connect. Default: the
	// loopback networks, `127.0.0.0/8` and `::1/128`.
	Allow []string `json:"allow,omitempty"`

	// How many connections of mail servers there may be at a time, those of other
	// listeners with `dovecot_userdb` included. Further ones are reset. Default: no
	// limit.
	MaxConnections int `json:"max_connections,omitempty"`

	server *dovecotauth.UserDB
	access *access
	logger *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*DovecotUserDB) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "layer4.handlers.dovecot_userdb",
		New: func() caddy.Module { return new(DovecotUserDB) },
	}
}

// Provision sets up the handler.
func (h *DovecotUserDB) Provision(ctx caddy.Context) (err error) {
	h.logger = ctx.Logger()
	h.server = &dovecotauth.UserDB{Logger: h.logger}
	if err := checkMost(h.MaxConnections); err != nil {
		return err
	}
	if err := registerMetrics(ctx); err != nil {
		return err
	}
	h.access, err = newAccess(h.Allow, h.logger)
	return err
}

// Handle serves one connection of a mail server until it ends. It does not call
// the next handler.
func (h *DovecotUserDB) Handle(cx *layer4.Connection, _ layer4.Handler) error {
	return handle(cx, h.access, h, h.logger)
}

// serve serves one connection.
func (h *DovecotUserDB) serve(ctx context.Context, nc glue.Conn) error {
	leave, err := userDBCrowd.join(nc, h.MaxConnections, h.logger)
	if err != nil {
		return err
	}
	defer leave()
	return h.server.Serve(ctx, nc)
}

// Interface guards.
var (
	_ caddy.Provisioner  = (*DovecotUserDB)(nil)
	_ layer4.NextHandler = (*DovecotUserDB)(nil)
)
