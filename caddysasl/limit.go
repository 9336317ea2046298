package caddysasl

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
)

var errTooMany = errors.New("there are as many connections as max_connections allows")

// crowd is all connections to the handlers of one kind, whatever configuration they
// began with.
type crowd struct {
	handler string
	serving atomic.Int64
	refused prometheus.Counter
	// tooMany tells the operator.
	tooMany glue.Seldom
}

var (
	authCrowd   = newCrowd("dovecot_auth")
	userDBCrowd = newCrowd("dovecot_userdb")
)

func newCrowd(handler string) *crowd {
	return &crowd{handler: handler, refused: prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "caddy",
		Subsystem: handler,
		Name:      "connections_refused_total",
		Help:      "Connections of mail servers that were reset because there are too many.",
	})}
}

// registerMetrics registers the metrics of both handlers, so that all of them are there
// if one handler is.
func registerMetrics(ctx caddy.Context) error {
	return glue.RegisterMetrics(ctx, requests, authCrowd.refused, userDBCrowd.refused)
}

// checkMost finds fault with what max_connections is set to.
func checkMost(most int) error {
	if most < 0 {
		return fmt.Errorf("max_connections %d: must be more than 0", most)
	}
	return nil
}

// join adds a connection, until leave is called. If there are as many as may be, 0
// being no limit, it is reset instead.
func (c *crowd) join(nc glue.Conn, most int, logger *zap.Logger) (leave func(), err error) {
	if n := c.serving.Add(1); most == 0 || n <= int64(most) {
		return func() { c.serving.Add(-1) }, nil
	}
	c.serving.Add(-1)
	nc.Reset()
	c.tellTooMany(most, logger)
	return nil, errTooMany
}

// tellTooMany counts a connection that was reset. The first is an error, since the
// mail server is the operator's own.
func (c *crowd) tellTooMany(most int, logger *zap.Logger) {
	c.refused.Inc()
	if n, due := c.tooMany.Due(); due {
		logger.Error("connections of the mail server are reset, since there are as many as max_connections of "+c.handler+" allows; "+
			"let it be more than the mail server has processes, and see that nobody else connects",
			zap.Int("max_connections", most), zap.Int("reset", n))
	}
}
