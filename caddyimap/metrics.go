package caddyimap

import (
	"errors"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/guard"
)

// Collectors belong to the process, and are registered with the registry of each
// configuration, so that a reload does not lose what they say. No user and no
// address of a client is ever a label: there are too many, and they are nobody's
// business.

const (
	metricsNamespace = "caddy"
	metricsSubsystem = "imap"
)

// guardStoreUp is 1 while the guard counts with the store that several instances
// share, and 0 while it counts alone because the store gives no answer.
var guardStoreUp = prometheus.NewGauge(prometheus.GaugeOpts{
	Namespace: metricsNamespace,
	Subsystem: metricsSubsystem,
	Name:      "guard_store_up",
	Help:      "Whether the guard counts with the store that instances share.",
})

// guardRefusals counts what the guard has answered itself, and banned what it has
// not even had greeted.
var guardRefusals = prometheus.NewCounterVec(prometheus.CounterOpts{
	Namespace: metricsNamespace,
	Subsystem: metricsSubsystem,
	Name:      "guard_refusals_total",
	Help:      "Logins that the guard has answered itself, and connections that it has refused.",
}, []string{"reason"})

// refusalReasons are the reasons that verdicts of the guard hold.
var refusalReasons = []struct {
	err   error
	count prometheus.Counter
}{
	{guard.ErrHeld, guardRefusals.WithLabelValues("held")},
	{guard.ErrUnanswered, guardRefusals.WithLabelValues("unanswered")},
	{guard.ErrCrowded, guardRefusals.WithLabelValues("crowded")},
	{guard.ErrHeldOff, guardRefusals.WithLabelValues("held_off")},
	{guard.ErrRemembered, guardRefusals.WithLabelValues("remembered")},
	{guard.ErrBanned, guardRefusals.WithLabelValues("banned")},
}

// greetingRefused counts connections that were ended because their source is banned.
var greetingRefused = guardRefusals.WithLabelValues("banned_at_greeting")

// countRefusal counts a verdict of the guard's own; others have no such error.
func countRefusal(err error) {
	if err == nil {
		return
	}
	for _, r := range refusalReasons {
		if errors.Is(err, r.err) {
			r.count.Inc()
			return
		}
	}
}

// healthChanges counts how often an upstream has gone down and come up.
var healthChanges = prometheus.NewCounterVec(prometheus.CounterOpts{
	Namespace: metricsNamespace,
	Subsystem: metricsSubsystem,
	Name:      "upstream_health_changes_total",
	Help:      "How often an upstream, or one of its addresses, has gone down or come up.",
}, []string{"backend", "upstream", "state"})

// The values of the label state.
const (
	stateUp   = "up"
	stateDown = "down"
)

func countHealthChange(backend, upstream string, up bool) {
	state := stateDown
	if up {
		state = stateUp
	}
	healthChanges.WithLabelValues(backend, upstream, state).Inc()
}

// registerMetrics registers what there is to measure for this configuration.
func (a *App) registerMetrics(ctx caddy.Context) error {
	collectors := []prometheus.Collector{loginsTotal, loginDurations, loginPhases, healthChanges, connectionsRefused, upstreamMetrics{}, sessionMetrics{}, cacheMetrics{}}
	if !a.Guard.Off {
		collectors = append(collectors, guardRefusals, guardMetrics{})
		if _, local := a.Guard.store.(*LocalStore); !local {
			collectors = append(collectors, guardStoreUp)
		}
	}
	return glue.RegisterMetrics(ctx, collectors...)
}

// beginMetrics has everything counted from 0 that can happen in a configuration
// that has started: what only comes to be when it is 1 is no increase to whoever
// looks for one.
func (a *App) beginMetrics() {
	for name, b := range a.Backends {
		b.measures()
		for _, address := range b.addresses {
			healthChanges.WithLabelValues(name, address, stateUp)
			healthChanges.WithLabelValues(name, address, stateDown)
		}
	}
}
