package caddysasl

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

const plainBob = "AUTH\t1\tPLAIN\tservice=smtp\tresp=AEJvYgB4\n" // Bob, x

// newHandler returns a handler that is provisioned but for its backend.
func newHandler(t *testing.T, h *DovecotAuth, check login.Checker) (*DovecotAuth, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	h.logger = zap.New(core)
	if err := h.setUp(caddy.NewReplacer()); err != nil {
		t.Fatal(err)
	}
	h.server.Check, h.backend = check, new(fakeRef)
	return h, logs
}

// fakeRef is a backend of the configuration that counts, unless the test says
// otherwise.
type fakeRef struct{ abandoned bool }

func (r *fakeRef) Abandoned() bool                                     { return r.abandoned }
func (*fakeRef) IsNewest() bool                                        { return true }
func (*fakeRef) Replaced() bool                                        { return false }
func (*fakeRef) Register(string, net.Addr, sessions.Live) (end func()) { return func() {} }

// connect hands one TCP connection to a handler, wrapped as layer4 and the given
// function do.
func connect(t *testing.T, h layer4.NextHandler, wrap func(*layer4.Connection) *layer4.Connection) (nc net.Conn, handled chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	theirs, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	cx := layer4.WrapConnection(theirs, nil, zap.NewNop())
	if wrap != nil {
		cx = wrap(cx)
	}
	handled = make(chan error, 1)
	go func() { handled <- h.Handle(cx, nil) }()
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return nc, handled
}

// proxied is what the proxy_protocol handler puts around a connection: its peer is
// who the header says.
type proxied struct{ net.Conn }

func (p proxied) Raw() net.Conn      { return p.Conn }
func (proxied) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

// encrypted has the method of tls.Conn that tells what is under it.
type encrypted struct{ net.Conn }

func (e encrypted) NetConn() net.Conn { return e.Conn }

func behindProxy(cx *layer4.Connection) *layer4.Connection { return cx.Wrap(proxied{cx}) }
func behindTLS(cx *layer4.Connection) *layer4.Connection   { return cx.Wrap(encrypted{cx}) }

// skipGreeting reads to the end of the greeting.
func skipGreeting(t *testing.T, br *bufio.Reader) {
	t.Helper()
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "DONE\n" {
			return
		}
	}
}

func granted(context.Context, *login.Attempt) login.Verdict {
	return login.Verdict{Result: login.Granted}
}

func TestHandle(t *testing.T) {
	h, _ := newHandler(t, new(DovecotAuth), granted)
	nc, handled := connect(t, h, nil)
	br := bufio.NewReader(nc)
	skipGreeting(t, br)
	if _, err := io.WriteString(nc, "VERSION\t1\t0\nCPID\t1\n"+plainBob); err != nil {
		t.Fatal(err)
	}
	if line, err := br.ReadString('\n'); err != nil || line != "OK\t1\tuser=bob\n" {
		t.Errorf("%q, %v", line, err)
	}
	_ = nc.Close()
	if err := <-handled; err != nil {
		t.Errorf("Handle returned %v", err)
	}
}

// TestHandleResets pins that the reset reaches the socket through layer4's
// connection and what other handlers put around it.
func TestHandleResets(t *testing.T) {
	down := func(context.Context, *login.Attempt) login.Verdict { return login.Verdict{} }
	for name, wrap := range map[string]func(*layer4.Connection) *layer4.Connection{
		"bare":                  nil,
		"behind proxy_protocol": behindProxy,
		"behind tls":            behindTLS,
		"behind both":           func(cx *layer4.Connection) *layer4.Connection { return behindTLS(behindProxy(cx)) },
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := newHandler(t, new(DovecotAuth), down)
			nc, handled := connect(t, h, wrap)
			br := bufio.NewReader(nc)
			if _, err := io.WriteString(nc, "VERSION\t1\t0\nCPID\t1\n"); err != nil {
				t.Fatal(err)
			}
			skipGreeting(t, br)
			if _, err := io.WriteString(nc, plainBob); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(br); len(rest) != 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%q, %v; want a reset", rest, err)
			}
			if err := <-handled; err != nil {
				t.Errorf("Handle returned %v", err)
			}
		})
	}
}

// TestNotAllowed pins that strangers are reset before a byte is said, and that
// the operator hears of it once.
func TestNotAllowed(t *testing.T) {
	auth, authLogs := newHandler(t, &DovecotAuth{Allow: []string{"192.0.2.0/24"}}, granted)
	core, userdbLogs := observer.New(zapcore.DebugLevel)
	access, err := newAccess([]string{"192.0.2.0/24"}, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		handler layer4.NextHandler
		logs    *observer.ObservedLogs
	}{
		{auth, authLogs},
		{&DovecotUserDB{access: access, logger: zap.New(core)}, userdbLogs},
	} {
		for range 3 {
			// A PROXY header cannot make a stranger a friend.
			nc, handled := connect(t, tc.handler, behindProxy)
			if b, err := io.ReadAll(nc); len(b) != 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%q, %v; want a reset", b, err)
			}
			if err := <-handled; err != nil {
				t.Errorf("Handle returned %v", err)
			}
		}
		errs := tc.logs.FilterLevelExact(zapcore.ErrorLevel).All()
		if len(errs) != 1 || !strings.Contains(errs[0].Message, "option allow") {
			t.Fatalf("logged as errors: %v", errs)
		}
		if remote, _ := errs[0].ContextMap()["remote"].(string); !strings.HasPrefix(remote, "127.0.0.1:") {
			t.Errorf("remote %q", remote)
		}
	}
}

// TestUserDBHandle pins the glue of dovecot_userdb.
func TestUserDBHandle(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	h := new(DovecotUserDB)
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	nc, handled := connect(t, h, nil)
	if _, err := io.WriteString(nc, "VERSION\t1\t1\nUSER\t5\tbob\tservice=smtp\n"); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(nc)
	for _, want := range []string{"VERSION\t1\t1\n", "SPID\t", "FAIL\t5\n"} {
		if line, err := br.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%q, %v; want %q", line, err, want)
		}
	}
	_ = nc.Close()
	if err := <-handled; err != nil {
		t.Errorf("Handle returned %v", err)
	}
	if err := (&DovecotUserDB{Allow: []string{"x"}}).Provision(ctx); err == nil || !strings.HasPrefix(err.Error(), `allow "x": `) {
		t.Errorf("Provision returned %v", err)
	}
	if err := (&DovecotUserDB{MaxConnections: -1}).Provision(ctx); err == nil || err.Error() != "max_connections -1: must be more than 0" {
		t.Errorf("Provision returned %v", err)
	}
}

// opaque is a connection of which nobody can tell what is in it, such as that of
// the throttle handler.
type opaque struct{ net.Conn }

// TestOpaque pins that an address which may be anybody's claim lets nobody in.
func TestOpaque(t *testing.T) {
	h, logs := newHandler(t, new(DovecotAuth), granted)
	nc, handled := connect(t, h, func(cx *layer4.Connection) *layer4.Connection { return cx.Wrap(opaque{cx}) })
	if said, err := io.ReadAll(nc); len(said) != 0 {
		t.Errorf("%q, %v; want nothing", said, err)
	}
	<-handled
	if n := logs.FilterLevelExact(zapcore.ErrorLevel).Len(); n != 1 {
		t.Errorf("%d errors logged, want 1", n)
	}
}

// TestAbandoned pins that nobody is served by what was never put into service.
func TestAbandoned(t *testing.T) {
	h, _ := newHandler(t, new(DovecotAuth), granted)
	h.backend = &fakeRef{abandoned: true}
	nc, handled := connect(t, h, nil)
	if said, err := io.ReadAll(nc); len(said) != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, %v; want a reset", said, err)
	}
	<-handled
}

// panicky is a server with a fault.
type panicky struct{}

func (panicky) serve(context.Context, glue.Conn) error { panic("my password is hunter2") }

// TestPanic pins that a fault of ours ends one connection and not the process.
func TestPanic(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	access, err := newAccess(nil, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	nc, handled := connect(t, handlerFunc(func(cx *layer4.Connection, _ layer4.Handler) error {
		return handle(cx, access, panicky{}, zap.New(core))
	}), nil)
	if _, err := io.ReadAll(nc); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reading ended with %v, want a reset", err)
	}
	if err := <-handled; err != nil {
		t.Errorf("Handle returned %v", err)
	}
	entries := logs.FilterLevelExact(zapcore.ErrorLevel).All()
	if len(entries) != 1 {
		t.Fatalf("%d errors logged, want 1", len(entries))
	}
	if m := entries[0].ContextMap(); !strings.Contains(m["stack"].(string), "panicky") || strings.Contains(m["panic"].(string), "hunter2") {
		t.Errorf("logged %v", m)
	}
}

type handlerFunc func(*layer4.Connection, layer4.Handler) error

func (f handlerFunc) Handle(cx *layer4.Connection, next layer4.Handler) error { return f(cx, next) }
