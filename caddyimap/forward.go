package caddyimap

import (
	"sync"

	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
)

// forward has an upstream told where its clients are, as forward_client says.
func (b *Backend) forward(cfg *imapauth.Config, logger *zap.Logger) {
	cfg.Forward = imapauth.Forward(b.ForwardClient)
	cfg.NoID = sync.OnceFunc(func() {
		logger.Warn("this upstream is not told where its users come from, since it does not offer the command ID; "+
			"use forward_client proxy_v1 or proxy_v2 if it can take PROXY headers, or set forward_client to off",
			zap.String("backend", b.name), zap.String("upstream", cfg.Address))
	})
}
