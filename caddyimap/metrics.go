package caddyimap

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// guardStoreUp is 1 while the guard counts with the store that several instances
// share, and 0 while it counts alone because the store gives no answer.
//
// Collectors belong to the process, and are registered with the registry of each
// configuration, so that a reload does not lose what they say.
var guardStoreUp = prometheus.NewGauge(prometheus.GaugeOpts{
	Namespace: "caddy",
	Subsystem: "imap",
	Name:      "guard_store_up",
	Help:      "Whether the guard counts with the store that instances share.",
})

// registerMetrics registers what there is to measure for this configuration.
func (a *App) registerMetrics(ctx caddy.Context) error {
	if _, local := a.Guard.store.(*LocalStore); local || a.Guard.Off {
		return nil
	}
	var already prometheus.AlreadyRegisteredError
	if err := ctx.GetMetricsRegistry().Register(guardStoreUp); err != nil && !errors.As(err, &already) {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}
