package caddysasl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// cutDialogue is what a mail server says, and hears then.
var cutDialogue = []struct{ say, want string }{
	{"VERSION\t1\t2\nCPID\t7\n" + plainBob, "OK\t1\tuser=bob\n"},
	{"AUTH\t2\tLOGIN\tservice=smtp\n", "CONT\t2\tVXNlcm5hbWU6\n"},
	{"CONT\t2\tQm9i\n", "CONT\t2\tUGFzc3dvcmQ6\n"},
	{"CONT\t2\teA==\n", "OK\t2\tuser=bob\n"},
	{"AUTH\t3\tPLAIN\tservice=smtp\n", "CONT\t3\t\n"},
	{"CONT\t3\tAEJvYgB3cm9uZw==\n", "FAIL\t3\tuser=bob\n"},
}

// cutAttempts are the passwords in it.
var cutAttempts = []string{"Bob x", "Bob x", "Bob wrong"}

// TestCuts cuts the dialogue of a mail server off at each of its bytes, in each
// direction. It hears no answer that was not given, no password is tried that was
// not said to its end, and the connection is over at once.
func TestCuts(t *testing.T) {
	up, down := cutRun(t, imaptest.Fault{}, imaptest.Fault{})
	quiet := goleak.IgnoreCurrent()
	type cut struct{ up, down imaptest.Fault }
	cuts := make(chan cut)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for c := range cuts {
				cutRun(t, c.up, c.down)
			}
		})
	}
	start, planned := time.Now(), 0
	for _, end := range []imaptest.End{imaptest.Close, imaptest.Reset, imaptest.HalfClose} {
		for n := range max(up, down) {
			f := imaptest.Fault{End: end, After: n}
			if n < up {
				cuts <- cut{up: f}
				planned++
			}
			if n < down {
				cuts <- cut{down: f}
				planned++
			}
		}
	}
	close(cuts)
	workers.Wait()
	if err := goleak.Find(quiet); err != nil {
		t.Error(err)
	}
	connections.mu.Lock()
	left := len(connections.live)
	connections.mu.Unlock()
	if left != 0 {
		t.Errorf("%d connections are left", left)
	}
	t.Logf("%d bytes up, %d down: %d cuts in %v", up, down, planned, time.Since(start).Round(time.Millisecond))
}

// cutRun holds the dialogue with the faults, and returns how much has passed.
func cutRun(t *testing.T, up, down imaptest.Fault) (passedUp, passedDown int64) {
	what := fmt.Sprintf("%v after %d up, %v after %d down", up.End, up.After, down.End, down.After)
	var mu sync.Mutex
	var tried []string
	h, _ := newHandler(t, new(DovecotAuth), func(_ context.Context, a *login.Attempt) login.Verdict {
		mu.Lock()
		defer mu.Unlock()
		tried = append(tried, a.User+" "+string(a.Secret))
		if a.Secret == "x" {
			return login.Verdict{Result: login.Granted}
		}
		return login.Verdict{Result: login.Denied}
	})
	nc, near := tcpPair(t)
	far, theirs := tcpPair(t)
	defer nc.Close()
	link := imaptest.NewLink(near, far, up, down)
	handled := make(chan struct{})
	go func() {
		defer close(handled)
		defer theirs.Close()
		_ = h.Handle(layer4.WrapConnection(theirs, nil, zap.NewNop()), nil)
	}()
	cutTalk(t, what, nc)
	_ = nc.Close()
	for name, done := range map[string]<-chan struct{}{"handler": handled, "connection": link.Done()} {
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: the %s does not end", what, name)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(tried) > len(cutAttempts) || !slices.Equal(tried, cutAttempts[:len(tried)]) {
		t.Errorf("%s: tried were %q", what, tried)
	}
	if up.End == imaptest.Never && down.End == imaptest.Never && len(tried) != len(cutAttempts) {
		t.Errorf("without any fault, tried were %q", tried)
	}
	return link.Passed()
}

// cutTalk is the mail server.
func cutTalk(t *testing.T, what string, nc net.Conn) {
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	br := bufio.NewReader(nc)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		if line == "DONE\n" {
			break
		}
	}
	for _, s := range cutDialogue {
		if _, err := nc.Write([]byte(s.say)); err != nil {
			return
		}
		got, err := br.ReadString('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: still waiting for %q", what, s.want)
		}
		if got != s.want && (err == nil || !strings.HasPrefix(s.want, got)) {
			t.Errorf("%s: heard %q, want %q", what, got, s.want)
		}
		if err != nil {
			return
		}
	}
}

// tcpPair returns both ends of a connection over the loopback.
func tcpPair(t *testing.T) (dialled, accepted *net.TCPConn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	one, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		panic(err)
	}
	two, err := ln.Accept()
	if err != nil {
		panic(err)
	}
	return one.(*net.TCPConn), two.(*net.TCPConn)
}
