package caddyimap

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/imapfront"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

// errFault is what all panics here hold. It must not be logged.
var errFault = errors.New("the password is " + testSecret)

// broken is a connection with a method that panics from when it is armed.
type broken struct {
	net.Conn
	method string
	armed  *atomic.Bool
}

func (b broken) fault(method string) {
	if method == b.method && b.armed.Load() {
		panic(errFault)
	}
}

func (b broken) Read(p []byte) (int, error)  { n, err := b.Conn.Read(p); b.fault("Read"); return n, err }
func (b broken) Write(p []byte) (int, error) { b.fault("Write"); return b.Conn.Write(p) }

// SetReadDeadline is broken only for who wakes a reader.
func (b broken) SetReadDeadline(at time.Time) error {
	if at.Before(time.Now()) {
		b.fault("SetReadDeadline")
	}
	return b.Conn.SetReadDeadline(at)
}

func (b broken) CloseWrite() error {
	b.fault("CloseWrite")
	if cw, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return b.Close()
}

// breaking is a handler before ours that breaks the connection of the client.
type breaking struct {
	method string
	armed  *atomic.Bool
}

func (b breaking) Handle(cx *layer4.Connection, next layer4.Handler) error {
	return next.Handle(cx.Wrap(broken{cx, b.method, b.armed}))
}

// TestPanics injects a fault of ours in every part of a session. It ends this session,
// and is logged with its place and without its words; the other session goes on, and
// nothing stays behind: no connection, no session, no lease, no goroutine.
func TestPanics(t *testing.T) {
	const (
		serving = "panic while serving a connection"
		ended   = "session ended"
	)
	armed := new(atomic.Bool)
	// opened has something done when the backend has let somebody in.
	opened := func(do func(*login.Session)) func(*config, *Handler) {
		return func(_ *config, h *Handler) {
			open := h.front.Open
			h.front.Open = func(ctx context.Context, a *login.Attempt) (*login.Session, login.Verdict) {
				s, v := open(ctx, a)
				do(s)
				return s, v
			}
		}
	}
	toBackend := func(method string) func(*config, *Handler) {
		return opened(func(s *login.Session) { s.Conn = broken{s.Conn, method, armed} })
	}
	nothing := func(*config, *Handler) {}
	logIn := func(cl *client) { cl.expect("* OK"); cl.send(loginGood + "\r\n") }
	relay := func(cl *client) { cl.expect("* OK"); cl.logIn(); armed.Store(true); cl.send("a NOOP\r\n") }
	for name, tc := range map[string]struct {
		inject func(*config, *Handler)
		// client is a method of the client's connection that panics once armed.
		client  string
		act     func(*client)
		message string
	}{
		"at the greeting": {
			func(_ *config, h *Handler) { h.front.Banned = func(netip.Addr) bool { panic(errFault) } }, "",
			func(*client) {}, serving,
		},
		"before the backend is asked": {
			func(_ *config, h *Handler) {
				h.front.Open = func(context.Context, *login.Attempt) (*login.Session, login.Verdict) { panic(errFault) }
			}, "", logIn, serving,
		},
		"in the dialogue": {
			nothing, "Write",
			func(cl *client) { cl.expect("* OK"); armed.Store(true); cl.send("a NOOP\r\n") }, serving,
		},
		"after the backend has let somebody in": {
			func(c *config, _ *Handler) {
				c.app.logger = c.app.logger.WithOptions(zap.Hooks(func(e zapcore.Entry) error {
					if e.Message == "login" {
						panic(errFault)
					}
					return nil
				}))
			}, "", logIn, serving,
		},
		"while the client is told": {opened(func(*login.Session) { armed.Store(true) }), "Write", logIn, serving},
		"relay, to the backend":    {toBackend("Write"), "", relay, ended},
		"relay, from the backend":  {toBackend("Read"), "", relay, ended},
		"relay, to the client":     {nothing, "Write", relay, ended},
		"relay, from the client":   {nothing, "Read", relay, ended},
		"relay, at its end": {
			toBackend("CloseWrite"), "",
			func(cl *client) {
				cl.expect("* OK")
				cl.logIn()
				armed.Store(true)
				_ = cl.conn.(*net.TCPConn).CloseWrite()
			}, ended,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			fake := w.fake()
			c := w.running(w.app(w.backend(fake.Addr())))
			other := front{}.greeted(w, c)
			other.logIn()
			other.ask("a NOOP", "a OK") // it is listed by now

			armed.Store(false)
			h := c.handler(&Handler{InsecureAuth: true})
			tc.inject(c, h)
			cl := serve(t, breaking{tc.client, armed}, h)
			tc.act(cl)
			for {
				if _, err := cl.line(); err != nil {
					break
				}
			}
			_ = cl.conn.Close()
			cl.wait()
			got := c.log.one("error", tc.message)
			if text := got.text("panic") + got.text("stack") + got.text("reason"); !strings.Contains(text, "*errors.errorString") || !strings.Contains(text, "panic_test.go") {
				t.Errorf("logged %v", got)
			}
			if n, list := clients.count(), live.List(nil); n != 1 || len(list) != 1 {
				t.Errorf("%d connections are counted and %d sessions listed, want the other one", n, len(list))
			}
			other.ask("a NOOP", "a OK")
			other.ask("z LOGOUT", "* BYE", "z OK")
			other.closed()
			fake.WaitIdle()
			for name, n := range c.metrics() {
				if (strings.HasPrefix(name, "caddy_imap_connections{") || strings.Contains(name, "sessions{")) && n != 0 {
					t.Errorf("%s is %v", name, n)
				}
			}
		})
	}
}

// TestKickPanic pins that a fault in ending a session does not end the process.
func TestKickPanic(t *testing.T) {
	w := newWorld(t)
	c := w.load(w.app(w.backend("127.0.0.1:1")))
	h := c.handler(new(Handler))
	client, ours := net.Pipe()
	theirs, backend := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	armed := new(atomic.Bool)
	over := make(chan struct{})
	go func() {
		defer close(over)
		conn := glue.NewConn(layer4.WrapConnection(ours, nil, c.app.logger))
		v := &visit{handler: h, conn: conn, logger: c.app.logger, done: func() {}}
		v.relay(ctx, "SESSION", &imapfront.Session{Conn: broken{ours, "SetReadDeadline", armed}, Backend: &login.Session{Conn: theirs}})
		v.end()
	}()
	// What arrives shows that both directions are waiting.
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	cancel()
	c.log.soon("error", "panic while ending a session")
	_, _ = client.Close(), backend.Close()
	select {
	case <-over:
	case <-time.After(patience):
		t.Fatal("the session goes on")
	}
}

// TestCheckPanic pins that a fault in a check of an upstream, which runs where nobody
// waits for it, counts as a failure, and that checks and logins go on.
func TestCheckPanic(t *testing.T) {
	w := newWorld(t)
	fake := w.fake()
	b := w.backend(fake.Addr())
	b.HealthChecks = &HealthChecks{Active: &ActiveHealthChecks{Interval: caddy.Duration(time.Second)}}
	c := w.load(w.app(b))
	var faults atomic.Int32
	c.app.Backends["exchange"].configs[fake.Addr()].TLS.VerifyConnection = func(tls.ConnectionState) error {
		if faults.Add(1) <= 2 {
			panic(errFault)
		}
		return nil
	}
	c.start()
	defer c.stop()
	becomes(t, "the upstream down", func() bool {
		known := upstreams.Snapshot()
		return len(known) == 1 && known[0].Err != nil && strings.Contains(known[0].Err.Error(), "panic while checking: *errors.errorString")
	})
	becomes(t, "the upstream up", func() bool { return upstreams.Snapshot()[0].Up && faults.Load() > 2 })
	cl := front{}.greeted(w, c)
	cl.logIn()
	cl.ask("z LOGOUT", "* BYE", "z OK")
	cl.closed()
}

// faulty is live, and does not say how.
type faulty struct{}

func (faulty) Activity() sessions.Activity { panic(errFault) }
func (faulty) Kick(string, time.Duration)  {}

// TestCollectPanic pins that a fault in what is measured does not end the process,
// though it is looked at on goroutines that are not ours.
func TestCollectPanic(t *testing.T) {
	w := newWorld(t)
	c := w.running(w.app(w.backend("127.0.0.1:1")))
	e := live.Add(sessions.Info{ID: "SESSION", Kind: sessions.IMAP, Backend: "exchange"}, faulty{})
	defer func() {
		e.Live = relayedNothing{}
		live.Remove(e)
	}()
	if got := c.metrics(); got["caddy_imap_connections{}"] != 0 || len(got) < 10 {
		t.Errorf("measured %v", got)
	}
	c.log.one("error", "panic while collecting metrics")
}

type relayedNothing struct{}

func (relayedNothing) Activity() sessions.Activity { return sessions.Activity{} }
func (relayedNothing) Kick(string, time.Duration)  {}
