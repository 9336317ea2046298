package oauthlogin

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

const (
	// askTimeout bounds a question whose context has no earlier deadline.
	askTimeout = 30 * time.Second
	// maxAnswer is how long an answer may be, and maxHeader what goes before it, in
	// bytes.
	maxAnswer = 256 << 10
	maxHeader = 64 << 10
	// maxIdle is how many connections wait for the next question, and idleTimeout is
	// for how long.
	maxIdle     = 16
	idleTimeout = time.Minute
)

// newClient returns a client that goes nowhere but to the endpoint: not to where a
// redirect says, and not through a proxy that an environment variable names.
func newClient(cfg *Config) *http.Client {
	return &http.Client{
		Transport: limited{&http.Transport{
			DialContext:            (&net.Dialer{Timeout: cfg.DialTimeout}).DialContext,
			TLSClientConfig:        cfg.TLS.Clone(),
			TLSHandshakeTimeout:    askTimeout,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    maxIdle,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxHeader,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// limited bounds answers.
type limited struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.Transport.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}

// watchSent returns a context for one question, and what is set when the endpoint may
// have begun to read it.
func watchSent(ctx context.Context) (context.Context, *atomic.Bool) {
	sent := new(atomic.Bool)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}), sent
}
