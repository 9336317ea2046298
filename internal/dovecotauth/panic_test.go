package dovecotauth

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// faulty is a connection with a method that panics once, when it is armed.
type faulty struct {
	net.Conn
	method string
	armed  atomic.Bool
}

func (f *faulty) fault(method string) {
	if f.method == method && f.armed.CompareAndSwap(true, false) {
		panic(errors.New("the password is Secret-1"))
	}
}

func (f *faulty) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	f.fault("Read")
	return n, err
}
func (f *faulty) Write(p []byte) (int, error) { f.fault("Write"); return f.Conn.Write(p) }
func (f *faulty) Close() error                { err := f.Conn.Close(); f.fault("Close"); return err }

// TestConnectionPanics pins that a fault of ours on any of the goroutines of a connection
// ends this connection, and no other.
func TestConnectionPanics(t *testing.T) {
	for _, method := range []string{"Read", "Write", "Close"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zapcore.DebugLevel)
				s := &Server{Logger: zap.New(core), Check: accounts}
				other := start(t, s)
				ours, theirs := net.Pipe()
				f := &faulty{Conn: theirs, method: method}
				p := &peer{t: t, nc: ours, served: make(chan error, 1)}
				c := s.NewConn(f)
				go func() { p.served <- c.Serve(t.Context()) }()
				go p.collect()
				p.expectGreeting()
				p.send("VERSION\t1\t2\nCPID\t1\n")
				f.armed.Store(true)
				if method == "Close" {
					c.Retire() // after which another goroutine closes it
				} else {
					p.send(authAlice)
				}
				if err := <-p.served; err == nil {
					t.Error("it ended without an error")
				}
				if _, closed := p.take(); !closed {
					t.Error("the connection is open")
				}
				entries := logs.FilterLevelExact(zapcore.ErrorLevel).All()
				if len(entries) == 0 || !strings.Contains(entries[0].ContextMap()["stack"].(string), "panic_test.go") ||
					entries[0].ContextMap()["panic"] != "*errors.errorString" {
					t.Errorf("logged %v", entries)
				}
				other.send(authAlice)
				other.expect("OK\t1\tuser=alice@example.test\n")
				_ = other.hangUp()
			})
		})
	}
}
