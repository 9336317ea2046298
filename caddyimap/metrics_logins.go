package caddyimap

import (
	"context"
	"slices"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// loginBuckets are bounds of durations, in seconds. Of the odd ones, 1 is when the
// next upstream is dialed, 4 and 8 are usual deadlines of mail servers, and after 10
// Postfix has gone.
var loginBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2, 4, 8, 10}

var (
	loginsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace,
		Subsystem: metricsSubsystem,
		Name:      "logins_total",
		Help:      "Attempts to log in.",
	}, []string{"backend", "handler", "mechanism", "result"})

	loginDurations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: metricsNamespace,
		Subsystem: metricsSubsystem,
		Name:      "login_duration_seconds",
		Help:      "How long logins took, from when the password had come until it was known what to answer.",
		Buckets:   loginBuckets,
	}, []string{"backend", "result"})

	loginPhases = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: metricsNamespace,
		Subsystem: metricsSubsystem,
		Name:      "login_phase_duration_seconds",
		Help:      "How long the parts of logins took: the guard, getting a token, the handshake with an upstream, and the backend's answer.",
		Buckets:   loginBuckets,
	}, []string{"backend", "phase"})
)

// entrance is a handler that logins come through.
type entrance uint8

const (
	entranceIMAP entrance = iota
	entranceAuth
)

// entranceNames are the values of the label handler.
var entranceNames = [...]string{entranceIMAP: "imap", entranceAuth: "dovecot_auth"}

var loginResults = [...]login.Result{login.Unavailable, login.Throttled, login.Denied, login.Granted}

// passwordMechanisms are those that are counted from the beginning.
var passwordMechanisms = [...]string{sasl.Plain, sasl.Login}

// otherMechanism is the label of what has none of our names.
const otherMechanism = "other"

// mechanismOf is the label of an attempt's mechanism, out of those that we know. The
// command LOGIN is LOGIN.
func mechanismOf(a *login.Attempt) string {
	if slices.Contains(passwordMechanisms[:], a.Mechanism) || a.Mechanism == login.External || login.IsRelayed(a.Mechanism) {
		return a.Mechanism
	}
	return otherMechanism
}

// loginMeasures is what is measured of the logins of one backend. It is looked up
// once for a configuration, and not for each login.
type loginMeasures struct {
	backend   string
	logins    [len(entranceNames)][len(passwordMechanisms)][len(loginResults)]prometheus.Counter
	durations [len(loginResults)]prometheus.Observer
	// guard, handshake and answer are the phases.
	guard, handshake, answer prometheus.Observer
}

func newLoginMeasures(backend string) *loginMeasures {
	m := &loginMeasures{
		backend:   backend,
		guard:     loginPhases.WithLabelValues(backend, "guard"),
		handshake: loginPhases.WithLabelValues(backend, "handshake"),
		answer:    loginPhases.WithLabelValues(backend, "backend"),
	}
	for _, result := range loginResults {
		m.durations[result] = loginDurations.WithLabelValues(backend, result.String())
		for from, name := range entranceNames {
			for i, mechanism := range passwordMechanisms {
				m.logins[from][i][result] = loginsTotal.WithLabelValues(backend, name, mechanism, result.String())
			}
		}
	}
	return m
}

// count counts what became of an attempt.
func (m *loginMeasures) count(from entrance, a *login.Attempt, v login.Verdict) {
	if i := slices.Index(passwordMechanisms[:], a.Mechanism); i >= 0 {
		m.logins[from][i][v.Result].Inc()
	} else {
		countLost(from, m.backend, a, v)
	}
	m.durations[v.Result].Observe(time.Since(a.Start).Seconds())
	countRefusal(v.Err)
}

// countLost counts an attempt that nothing is prepared for, as when there is no backend.
func countLost(from entrance, backend string, a *login.Attempt, v login.Verdict) {
	loginsTotal.WithLabelValues(backend, entranceNames[from], mechanismOf(a), v.Result.String()).Inc()
}

// since observes the time of a phase that ends now.
func since(phase prometheus.Observer, start time.Time) { phase.Observe(time.Since(start).Seconds()) }

// guarded asks the backend as far as the guard lets it, and measures how long the
// guard took beside that.
func (b *Backend) guarded(ctx context.Context, app *App, a *login.Attempt, checkOnly bool, ask guard.Ask) login.Verdict {
	if app.Guard.Off {
		return ask(ctx, false)
	}
	start := time.Now()
	var asking time.Duration
	v := app.Guard.decide(ctx, b, a, checkOnly, func(ctx context.Context, right bool) login.Verdict {
		begin := time.Now()
		v := ask(ctx, right)
		asking = time.Since(begin)
		return v
	})
	b.measures().guard.Observe((time.Since(start) - asking).Seconds())
	return v
}
