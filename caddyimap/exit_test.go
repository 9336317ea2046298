package caddyimap

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/goleak"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// exiting serves with a context that ends when the test says so, as that of all
// connections does when the process exits.
type exiting struct {
	*Handler
	ctx context.Context
}

// Handle implements layer4.NextHandler.
func (e exiting) Handle(cx *layer4.Connection, _ layer4.Handler) error {
	e.serve(cx, func() (context.Context, func(), bool) { return e.ctx, func() {}, true })
	return nil
}

const exitBye = "* BYE Server is shutting down.\r\n"

// ways are what clients do when the process exits, and whether they may see what
// they do: so many bytes of the answer to FETCH, and something else behind it.
var ways = []struct {
	name  string
	begin func(cl *client)
	ended func(n int, rest string) bool
}{
	{"idle", func(cl *client) { cl.ask("a IDLE", "+ idling") }, onlyBye},
	{"between commands", func(cl *client) { cl.ask("a NOOP", "a OK") }, onlyBye},
	{"in an upload", func(cl *client) {
		cl.ask("a APPEND x {10485760}", "+ go on")
		cl.send(strings.Repeat("x", 100_000))
	}, onlyBye},
	{"in a literal that comes", func(cl *client) {
		cl.send("a FETCH 1 BODY[]\r\n")
		if _, err := cl.br.Peek(1); err != nil {
			cl.tb.Error(err)
		}
	}, func(n int, rest string) bool {
		boundary := n == len(imaptest.Fetched()) || n == len(imaptest.Fetched())-len("a OK\r\n")
		return boundary && rest == exitBye || n < len(imaptest.Fetched()) && rest == ""
	}},
	{"in a literal that stalls", func(cl *client) {
		cl.send("a FETCH 2 BODY[]\r\n")
		if _, err := cl.br.Peek(1); err != nil {
			cl.tb.Error(err)
		}
	}, func(n int, rest string) bool { return n <= imaptest.MessageSize/2 && rest == "" }},
	{notReading, func(cl *client) { cl.send("a FETCH 1 BODY[]\r\n") }, func(n int, rest string) bool {
		// The answer may not have begun.
		return n < len(imaptest.Fetched()) && rest == "" || onlyBye(n, rest)
	}},
}

const notReading = "not reading"

func onlyBye(n int, rest string) bool {
	return n == 0 && rest == exitBye || n == 2 && "* "+rest == exitBye
}

// TestExit pins what 500 clients see of the exit of the process, and that nothing
// of them is left.
func TestExit(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	const n = 500
	// With the race detector, 500 good-byes may take longer than they should.
	grace := byeGrace
	byeGrace = 2 * grace
	defer func() { byeGrace = grace }()
	w := newWorld(t)
	p := w.profile()
	p.Session, p.Announce, p.Clear, p.Before = imaptest.Mailbox, true, true, "IMAP4rev1 AUTH=PLAIN"
	c := w.load(w.app(&Backend{Upstreams: []*Upstream{{Dial: w.start(p).Addr()}}, TLSMode: "off"}))
	c.start()
	defer c.stop()
	ctx, exit := context.WithCancel(t.Context())
	defer exit()
	fronts := []front{fronts[0], fronts[3]}
	handlers := make([]exiting, len(fronts))
	for i := range fronts {
		handlers[i] = exiting{c.handler(&fronts[i].handler), ctx}
	}
	var ready, all sync.WaitGroup
	gone := make(chan struct{})
	for i := range n {
		way := ways[i%len(ways)]
		secure := i/len(ways)%8 == 0
		h := handlers[1]
		if secure {
			h = handlers[0]
		}
		cl := serve(t, h)
		_ = cl.conn.SetDeadline(time.Now().Add(6 * patience)) // there are many
		ready.Add(1)
		all.Go(func() {
			func() {
				defer ready.Done()
				if secure {
					cl.secure(w.tls("mail.example.org"))
				} else {
					cl.expect("* OK")
				}
				cl.logIn()
				way.begin(cl)
			}()
			<-gone
			if way.name == notReading {
				cl.wait()
			}
			n, rest, err := imaptest.ReadFetched(cl.br)
			// Who does not read may be reset; for the others there is an end.
			if way.name != notReading && !errors.Is(err, io.EOF) && !(n > 0 && errors.Is(err, io.ErrUnexpectedEOF)) || !way.ended(n, rest) {
				t.Errorf("%s, TLS %v: ended with %v after %d bytes and %q", way.name, secure, err, n, rest)
			}
			_ = cl.conn.Close()
			if way.name != notReading {
				cl.wait()
			}
		})
	}
	ready.Wait()
	if t.Failed() {
		close(gone)
		all.Wait()
		return
	}
	for deadline := time.Now().Add(patience); len(live.List(nil)) < n && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	start := time.Now()
	exit()
	close(gone)
	all.Wait()
	noSessions(t)
	took := time.Since(start)
	t.Logf("%d sessions ended in %v", n, took)
	if took > patience/2 {
		t.Errorf("the end took %v", took)
	}
}
