package oauthlogin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// askTimeout bounds a question whose context has no earlier deadline.
	askTimeout = 30 * time.Second
	// maxAnswer is how long an answer may be, and maxHeader what goes before it, in
	// bytes.
	maxAnswer = 256 << 10
	maxHeader = 64 << 10
	// resumable is for how many connections a TLS session is kept.
	resumable = 16
	// maxInterim is how many answers may go before the one that counts (RFC 9110
	// section 15.2).
	maxInterim = 5
)

// question is one question to the endpoint, on a connection of its own. http.Transport
// is not used: it writes what an endpoint says unasked into the log, and that may be
// what it was told; and it takes a connection that the endpoint has given up for a
// question that was put.
//
// It goes nowhere but to the endpoint: not to where a redirect says, and not through a
// proxy that an environment variable names.
type question struct {
	cfg *Config
	// sent says that the endpoint may have begun to read it.
	sent bool
}

// client returns one that puts the question.
func (q *question) client() *http.Client {
	return &http.Client{
		Transport:     q,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// RoundTrip implements http.RoundTripper. The answer has come as a whole when it
// returns.
func (q *question) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	defer func() { _ = r.Body.Close() }()
	conn, err := q.connect(ctx, r.URL)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	q.sent = true
	asked := r.Clone(ctx)
	asked.Close = true
	bw := bufio.NewWriter(conn)
	if err := asked.Write(bw); err != nil {
		return nil, err
	}
	if err := bw.Flush(); err != nil {
		return nil, err
	}
	return readAnswer(conn, r)
}

// connect returns a connection to the endpoint.
func (q *question) connect(ctx context.Context, u *url.URL) (net.Conn, error) {
	port, secure := u.Port(), u.Scheme == "https"
	switch {
	case port == "" && secure:
		port = "443"
	case port == "":
		port = "80"
	}
	conn, err := q.cfg.dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil || !secure {
		return conn, err
	}
	secured := tls.Client(conn, q.cfg.TLS)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}

// connects fills in what connecting takes. Sessions of TLS are kept, since each
// question is a connection.
func (cfg *Config) connects() {
	cfg.dial = (&net.Dialer{Timeout: cfg.DialTimeout}).DialContext
	if cfg.TLS = cfg.TLS.Clone(); cfg.TLS == nil {
		cfg.TLS = new(tls.Config)
	}
	if cfg.TLS.ServerName == "" {
		cfg.TLS.ServerName = cfg.url.Hostname()
	}
	cfg.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(resumable)
}

// readAnswer reads the answer that counts.
func readAnswer(conn net.Conn, r *http.Request) (*http.Response, error) {
	limited := &io.LimitedReader{R: conn, N: maxHeader}
	br := bufio.NewReader(limited)
	for range maxInterim {
		resp, err := http.ReadResponse(br, r)
		if err != nil {
			return nil, tooLong(limited, err)
		}
		if resp.StatusCode < http.StatusOK {
			continue
		}
		limited.N = maxAnswer + maxHeader // what divides it into chunks is not a part of it
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
		switch {
		case len(body) > maxAnswer:
			return nil, ErrAnswer
		case err != nil:
			return nil, tooLong(limited, err)
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return resp, nil
	}
	return nil, ErrAnswer
}

// tooLong is what is wrong with an answer that has taken more than it may.
func tooLong(limited *io.LimitedReader, err error) error {
	if limited.N <= 0 {
		return ErrAnswer
	}
	return err
}
