package glue

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Caddy's logging and certmagic start a few at import.
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

// TestExit pins that connections learn of the end of the process, which waits for
// them, and that none begins after that.
func TestExit(t *testing.T) {
	c := newConnections()
	ctx, done, ok := c.begin()
	if !ok {
		t.Fatal("no connection can begin")
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.end(context.Background())
	}()
	<-ctx.Done()
	select {
	case <-ended:
		t.Error("the exit did not wait")
	default:
	}
	done()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the exit hangs")
	}
	if _, _, ok := c.begin(); ok {
		t.Error("a connection began after the end")
	}
}

// TestExitDoesNotHang pins that a connection that does not end holds the exit up
// for a moment only.
func TestExitDoesNotHang(t *testing.T) {
	c := newConnections()
	_, done, ok := c.begin()
	if !ok {
		t.Fatal("no connection can begin")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c.end(ctx)
	done()
}
