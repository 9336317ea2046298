package caddyimap

import (
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
)

func newDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(metricsNamespace, metricsSubsystem, name), help, labels, nil)
}

func gauge(ch chan<- prometheus.Metric, desc *prometheus.Desc, value float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// collected is to be deferred by collectors, which run on goroutines that do not
// recover from a panic.
func collected() {
	logger := zap.NewNop()
	if app := apps.newest.Load(); app != nil {
		logger = app.logger
	}
	if p := recover(); p != nil {
		glue.LogPanic(logger, "collecting metrics", p)
	}
}

var (
	upstreamUp = newDesc("upstream_up",
		"Whether an address of an upstream is not known to be down.", "backend", "upstream", "endpoint")
	upstreamDraining = newDesc("upstream_draining",
		"Whether new logins are kept away from an upstream.", "backend", "upstream", "endpoint")
	upstreamSessions = newDesc("upstream_sessions",
		"Sessions at an address of an upstream, logins under way included.", "backend", "upstream", "endpoint")
)

// upstreamMetrics is what is known of the upstreams. It is looked at when somebody
// asks, so that what is gone from the configuration is gone from here.
type upstreamMetrics struct{}

// Describe implements prometheus.Collector.
func (upstreamMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- upstreamUp
	ch <- upstreamDraining
	ch <- upstreamSessions
}

// Collect implements prometheus.Collector.
func (upstreamMetrics) Collect(ch chan<- prometheus.Metric) {
	defer collected()
	for _, s := range upstreams.Snapshot() {
		gauge(ch, upstreamSessions, float64(s.Sessions), s.Pool, s.Upstream, s.Address)
		// Of one that is only here for its sessions, nobody knows how it is.
		if s.Configured {
			gauge(ch, upstreamUp, truth(s.Up), s.Pool, s.Upstream, s.Address)
			gauge(ch, upstreamDraining, truth(s.Draining), s.Pool, s.Upstream, s.Address)
		}
	}
}

var (
	guardHeld   = newDesc("guard_held_accounts", "Accounts that are held on this instance.")
	guardBanned = newDesc("guard_banned_sources", "Sources that are banned on this instance.")
)

// guardMetrics is what the guard holds.
type guardMetrics struct{}

// Describe implements prometheus.Collector.
func (guardMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- guardHeld
	ch <- guardBanned
}

// Collect implements prometheus.Collector.
func (guardMetrics) Collect(ch chan<- prometheus.Metric) {
	defer collected()
	app := apps.newest.Load()
	if app == nil || app.Guard.Off {
		return
	}
	accounts, sources := app.Guard.current().CountHolds()
	gauge(ch, guardHeld, float64(accounts))
	gauge(ch, guardBanned, float64(sources))
}

// Interface guards.
var (
	_ prometheus.Collector = upstreamMetrics{}
	_ prometheus.Collector = guardMetrics{}
)
