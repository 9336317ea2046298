package caddysasl

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-imap/caddy-imap/internal/dovecotauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// requests counts passwords that mail servers have asked about. It belongs to the
// process, and is registered with the registry of each configuration.
var requests = prometheus.NewCounterVec(prometheus.CounterOpts{
	Namespace: "caddy",
	Subsystem: "dovecot_auth",
	Name:      "requests_total",
	Help:      "Passwords that mail servers have asked about.",
}, []string{"service", "result"})

// services are the values of the label service, beside otherService. A mail server
// may call its service what it likes, and each name would be kept.
var services = []string{"smtp", "submission", "lmtp", "imap", "pop3", "sieve", "xmpp"}

const otherService = "other"

func init() {
	// Most have this one only. From 0 to 1 is an increase, from nothing to 1 is none.
	for _, result := range []login.Result{login.Unavailable, login.Throttled, login.Denied, login.Granted} {
		requests.WithLabelValues(services[0], result.String())
	}
}

func countRequest(a *login.Attempt, v login.Verdict) {
	service := strings.ToLower(a.Service)
	if !slices.Contains(services, service) {
		service = otherService
	}
	requests.WithLabelValues(service, v.Result.String()).Inc()
}

// brokenOff says that there was nothing to be decided, since the client has ended a
// relayed exchange, or its name was refused, of which Refused is told.
func brokenOff(v login.Verdict) bool {
	return errors.Is(v.Err, login.ErrCancelled) || errors.Is(v.Err, login.ErrMessage)
}

// measure has a server's requests counted.
func measure(s *dovecotauth.Server) {
	check, refused := s.Check, s.Refused
	s.Check = func(ctx context.Context, a *login.Attempt) login.Verdict {
		v := check(ctx, a)
		if !brokenOff(v) {
			countRequest(a, v)
		}
		return v
	}
	s.Refused = func(ctx context.Context, a *login.Attempt, v login.Verdict) {
		refused(ctx, a, v)
		countRequest(a, v)
	}
}
