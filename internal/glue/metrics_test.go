package glue

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// TestRegisterMetrics pins that collectors go from one configuration to the next,
// with what they have counted, and that two of one name are an error.
func TestRegisterMetrics(t *testing.T) {
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "x_total", Help: "X."})
	counter.Inc()
	for range 2 {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		defer cancel()
		for range 2 { // as by two handlers
			if err := RegisterMetrics(ctx, counter); err != nil {
				t.Error(err)
			}
		}
		families, err := ctx.GetMetricsRegistry().Gather()
		if err != nil {
			t.Fatal(err)
		}
		// They are sorted, and Caddy has some of its own.
		if last := families[len(families)-1]; last.GetName() != "x_total" || last.GetMetric()[0].GetCounter().GetValue() != 1 {
			t.Errorf("gathered %v", last)
		}
		other := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "x_total", Help: "Another."}, []string{"label"})
		if err := RegisterMetrics(ctx, other); err == nil || !strings.HasPrefix(err.Error(), "registering metrics: ") {
			t.Errorf("another of the same name: %v", err)
		}
	}
}
