package caddysasl

import (
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
)

// serving counts the connections of mail servers that are served, whatever
// configuration they began with.
var serving atomic.Int64

var errTooMany = errors.New("there are as many connections as max_connections allows")

// refusedConnections counts connections that were reset because there are too many.
var refusedConnections = prometheus.NewCounter(prometheus.CounterOpts{
	Namespace: "caddy",
	Subsystem: "dovecot_auth",
	Name:      "connections_refused_total",
	Help:      "Connections of mail servers that were reset because there are too many.",
})

// tooMany tells the operator.
var tooMany glue.Seldom

// tellTooMany counts a connection that was reset. The first is an error, since the
// mail server is the operator's own.
func (h *DovecotAuth) tellTooMany() {
	refusedConnections.Inc()
	if n, due := tooMany.Due(); due {
		h.logger.Error("connections of the mail server are reset, since there are as many as max_connections allows; "+
			"let it be more than the mail server has processes, and see that nobody else connects",
			zap.Int("max_connections", h.MaxConnections), zap.Int("reset", n))
	}
}
