package caddyimap

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

var (
	connectionsNow = newDesc("connections",
		"Connections of IMAP clients, logged in or not.")
	sessionsLive = newDesc("sessions",
		"Sessions of IMAP clients that have logged in.", "backend")
	sessionsIdle = newDesc("idle_sessions",
		"Sessions in which nothing is under way but IDLE.", "backend")
	relayedBytes = newDesc("relayed_bytes_total",
		"Bytes of IMAP from clients (in) and to them (out), after their login.", "backend", "direction")
	relayedCommands = newDesc("commands_total",
		"Commands of IMAP clients after their login.", "backend")
	authConnections = prometheus.NewDesc("caddy_dovecot_auth_connections",
		"Connections on which mail servers ask about passwords.", []string{"backend"}, nil)
)

// sessionMetrics is what the registry knows of what is live, and of what has ended.
// It is looked at when somebody asks, so that the sessions need not count for it.
type sessionMetrics struct{}

// Describe implements prometheus.Collector.
func (sessionMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- connectionsNow
	ch <- sessionsLive
	ch <- sessionsIdle
	ch <- relayedBytes
	ch <- relayedCommands
	ch <- authConnections
}

// Collect implements prometheus.Collector.
func (sessionMetrics) Collect(ch chan<- prometheus.Metric) {
	defer collected()
	gauge(ch, connectionsNow, float64(clients.count()))
	totals := live.Totals()
	configured := make(map[string]bool)
	if app := apps.newest.Load(); app != nil {
		for name := range app.Backends {
			configured[name] = true
			for _, kind := range []sessions.Kind{sessions.IMAP, sessions.Auth} {
				g := sessions.Group{Kind: kind, Backend: name}
				if _, ok := totals[g]; !ok {
					totals[g] = sessions.Totals{}
				}
			}
		}
	}
	for g, t := range totals {
		// What is gone from the configuration is shown while it lives, and what it
		// has counted stays.
		shown := configured[g.Backend] || t.Live > 0
		switch {
		case g.Kind == sessions.Auth && shown:
			gauge(ch, authConnections, float64(t.Live), g.Backend)
		case g.Kind == sessions.IMAP && shown:
			gauge(ch, sessionsLive, float64(t.Live), g.Backend)
			gauge(ch, sessionsIdle, float64(t.Idle), g.Backend)
		}
		if g.Kind == sessions.IMAP {
			counter(ch, relayedBytes, t.BytesIn, g.Backend, "in")
			counter(ch, relayedBytes, t.BytesOut, g.Backend, "out")
			counter(ch, relayedCommands, t.Commands, g.Backend)
		}
	}
}

func counter(ch chan<- prometheus.Metric, desc *prometheus.Desc, value int64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
}

// Interface guard.
var _ prometheus.Collector = sessionMetrics{}
