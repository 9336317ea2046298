package caddysasl

import (
	"bufio"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-imap/caddy-imap/internal/glue"
)

// TestMaxConnections pins that one connection too many is reset before a greeting,
// that the operator is told once, and that the end of another makes room.
func TestMaxConnections(t *testing.T) {
	tooMany = glue.Seldom{}
	refused := func() float64 {
		var m dto.Metric
		if err := refusedConnections.Write(&m); err != nil {
			t.Fatal(err)
		}
		return m.GetCounter().GetValue()
	}
	before := refused()
	h, logs := newHandler(t, &DovecotAuth{MaxConnections: 1}, granted)
	first, handled := connect(t, h, nil)
	skipGreeting(t, bufio.NewReader(first))
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
	if lines := logs.FilterLevelExact(zapcore.ErrorLevel).All(); len(lines) != 1 || lines[0].ContextMap()["max_connections"] != int64(1) {
		t.Errorf("logged %v", lines)
	}
	_ = first.Close()
	select {
	case <-handled:
	case <-time.After(20 * time.Second):
		t.Fatal("the first connection does not end")
	}
	next, handled := connect(t, h, nil)
	skipGreeting(t, bufio.NewReader(next))
	_ = next.Close()
	<-handled
	if n := serving.Load(); n != 0 {
		t.Errorf("%d connections are counted that are over", n)
	}
}
