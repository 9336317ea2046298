package imapauth

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/pool"
)

// dialFirst prepares the first of several upstreams, as a backend does.
func dialFirst(t *testing.T, stagger time.Duration, addrs ...string) (*Client, error) {
	t.Helper()
	cfg := pool.Config{Stagger: stagger}
	for _, addr := range addrs {
		cfg.Upstreams = append(cfg.Upstreams, pool.Upstream{Address: addr})
	}
	p, err := new(pool.Table).New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	open := func(ctx context.Context, e pool.Endpoint) (*Client, error) {
		return Dial(ctx, starttls(t, e.Address), login.Ends{})
	}
	c, _, err := pool.Open(testContext(t), p, pool.Client{}, open, (*Client).Close)
	return c, err
}

// An upstream that hangs, or stands behind a wrong certificate, costs no more
// than the stagger, and only the one that won gets to see the credentials.
func TestUpstreams(t *testing.T) {
	server, _ := testTLS(t)
	silent := imaptest.NewScript(t, func(c *imaptest.Conn) { c.Rest() })
	foreign := imaptest.NewFake(t, imaptest.Exchange(imaptest.NewCA(t).ServerTLS()))
	good := imaptest.NewFake(t, imaptest.Exchange(server))

	c, err := dialFirst(t, 20*time.Millisecond, silent.Addr(), foreign.Addr(), good.Addr())
	if err != nil {
		t.Fatal(err)
	}
	s, v := c.Open(testContext(t), attempt(login.FormLogin), Keep)
	if v.Result != login.Granted || v.Upstream != good.Addr() {
		t.Fatalf("verdict %s (%v) of %s", summary(v), v.Err, v.Upstream)
	}
	defer s.Conn.Close()
	silent.WaitIdle()
	foreign.WaitIdle()
	if n := len(silent.Logins()) + len(foreign.Logins()); n != 0 {
		t.Errorf("credentials went to %d others", n)
	}
	if len(silent.Clear()) > 0 {
		t.Errorf("the silent one was told %q", silent.Clear())
	}
}

// If none can be used, the verdict tells of each what was wrong with it.
func TestNoUpstream(t *testing.T) {
	stripped := imaptest.NewFake(t, imaptest.Profile{Clear: true, Before: "IMAP4rev1 AUTH=PLAIN"})
	crowded := imaptest.NewFake(t, imaptest.Profile{Greeting: "* BYE Too many connections"})
	gone := imaptest.NewScript(t, func(*imaptest.Conn) {})
	gone.Close()

	_, err := dialFirst(t, time.Minute, gone.Addr(), stripped.Addr(), crowded.Addr())
	v := Failure(err)
	if summary(v) != limited || !errors.Is(v.Err, ErrNoStartTLS) || !errors.Is(v.Err, ErrThrottled) {
		t.Errorf("verdict %s (%v)", summary(v), v.Err)
	}
	for _, addr := range []string{gone.Addr(), stripped.Addr(), crowded.Addr()} {
		if !strings.Contains(err.Error(), "upstream "+addr+": ") {
			t.Errorf("nothing about %s in: %v", addr, err)
		}
	}
}
