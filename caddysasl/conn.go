package caddysasl

import (
	"context"

	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
)

// server is what the two handlers serve connections with.
type server interface {
	serve(ctx context.Context, nc glue.Conn) error
}

// handle serves one connection. It returns nil: what can go wrong is the client's
// doing, or was logged where it happened.
func handle(cx *layer4.Connection, allow *access, srv server, logger *zap.Logger) error {
	nc := glue.NewConn(cx)
	defer nc.Recovered(logger)
	if !isSocket(nc.Raw) || !allow.allows(nc.Raw.RemoteAddr()) {
		allow.complain(nc.Raw)
		nc.Reset()
		return nil
	}
	ctx, done, ok := glue.Begin()
	if !ok {
		nc.Reset()
		return nil
	}
	defer done()
	if err := srv.serve(ctx, nc); err != nil {
		logger.Debug("connection ended", zap.Stringer("remote", nc.Raw.RemoteAddr()), zap.Error(err))
	}
	return nil
}
