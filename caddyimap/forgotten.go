package caddyimap

import (
	"context"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/zap"
)

// layer4Failed is how the cause begins with which Caddy ends a configuration whose
// layer4 app could not start.
const layer4Failed = "configuration start error: layer4 app module: start: "

// closeForgotten closes the listeners of a configuration that failed because
// layer4 could not open all of them. caddy-l4 v0.1.2 leaves those open that it had
// opened before, and Caddy stops only apps that have started. They would share
// their ports with the configuration that runs, and get a part of the connections.
//
// Where layer4 has started, and something else failed, Caddy has stopped it; doing
// so twice would confuse the count that Caddy keeps of its listeners.
func closeForgotten(ctx caddy.Context, logger *zap.Logger) {
	cause := context.Cause(ctx.Context)
	if cause == nil || !strings.HasPrefix(cause.Error(), layer4Failed) {
		return
	}
	app, err := ctx.AppIfConfigured("layer4")
	if err != nil {
		return
	}
	if l4, ok := app.(*layer4.App); ok {
		if err := l4.Stop(); err != nil {
			logger.Error("the listeners of a configuration that failed to start cannot be closed; restart Caddy", zap.Error(err))
		}
	}
}
