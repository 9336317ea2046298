package caddysasl

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/mholt/caddy-l4/layer4"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-imap/caddy-imap/internal/glue"
)

// TestMaxConnections pins that one connection too many is reset before a greeting,
// that the operator is told once, and that the end of another makes room.
func TestMaxConnections(t *testing.T) {
	t.Run("dovecot_auth", func(t *testing.T) {
		h, logs := newHandler(t, &DovecotAuth{MaxConnections: 1}, granted)
		testMaxConnections(t, h, authCrowd, logs)
	})
	t.Run("dovecot_userdb", func(t *testing.T) {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
		defer cancel()
		h := &DovecotUserDB{MaxConnections: 1}
		if err := h.Provision(ctx); err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zapcore.DebugLevel)
		h.logger = zap.New(core)
		testMaxConnections(t, h, userDBCrowd, logs)
	})
}

// testMaxConnections wants a handler that may have one connection.
func testMaxConnections(t *testing.T, h layer4.NextHandler, all *crowd, logs *observer.ObservedLogs) {
	all.tooMany = glue.Seldom{}
	refused := func() float64 {
		var m dto.Metric
		if err := all.refused.Write(&m); err != nil {
			t.Fatal(err)
		}
		return m.GetCounter().GetValue()
	}
	greeting := func(r io.Reader) {
		t.Helper()
		if _, err := io.ReadFull(r, make([]byte, len("VERSION"))); err != nil {
			t.Fatal(err)
		}
	}
	before := refused()
	first, handled := connect(t, h, nil)
	greeting(first)
	for range 3 {
		nc, handled := connect(t, h, nil)
		if got, err := io.ReadAll(nc); len(got) != 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q, %v; want a reset", got, err)
		}
		if err := <-handled; err != nil {
			t.Error(err)
		}
	}
	if n := refused() - before; n != 3 {
		t.Errorf("%v are counted as refused, want 3", n)
	}
	lines := logs.FilterLevelExact(zapcore.ErrorLevel).All()
	if len(lines) != 1 || lines[0].ContextMap()["max_connections"] != int64(1) || !strings.Contains(lines[0].Message, "max_connections of "+all.handler+" ") {
		t.Errorf("logged %v", lines)
	}
	_ = first.Close()
	select {
	case <-handled:
	case <-time.After(20 * time.Second):
		t.Fatal("the first connection does not end")
	}
	next, handled := connect(t, h, nil)
	greeting(next)
	_ = next.Close()
	<-handled
	if n := all.serving.Load(); n != 0 {
		t.Errorf("%d connections are counted that are over", n)
	}
}
