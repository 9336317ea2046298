//go:build integration

package integration

import (
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

const exitBye = "* BYE Server is shutting down.\r\n"

// When Caddy is told to end, each of 500 clients is told BYE where that can be
// understood, or is cut off after the time of grace, whatever configuration its
// session began with.
func TestExit(t *testing.T) {
	const n, user = 500, "alice@example.org"
	password := secret("Right-Exit-91")
	ca := imaptest.NewCA(t)
	fake := imaptest.NewFake(t, imaptest.Profile{TLS: ca.ServerTLS("127.0.0.1"), Session: imaptest.Mailbox, Announce: true})
	addr := freeAddr(t)
	s := site{Backend: upstream(fake.Addr(), ca), IMAP: addr}
	c := startCaddy(t, s.String())
	awaitCertificate(t, addr)

	onlyBye := func(n int, rest string) bool { return exitBye == imaptest.Fetched()[:n]+rest }
	ways := []struct {
		begin string
		ended func(n int, rest string) bool
	}{
		{"a IDLE\r\n", onlyBye},
		{"a APPEND x {10485760}\r\n", onlyBye},
		{"a FETCH 1 BODY[]\r\n", func(n int, rest string) bool {
			boundary := n == len(imaptest.Fetched()) || n == len(imaptest.Fetched())-len("a OK\r\n")
			return boundary && rest == exitBye || n < len(imaptest.Fetched()) && rest == ""
		}},
		{"a FETCH 2 BODY[]\r\n", func(n int, rest string) bool { return n <= imaptest.MessageSize/2 && rest == "" }},
	}
	var all sync.WaitGroup
	begun, exiting := make(chan int, n), make(chan struct{})
	session := func(i int) {
		way := ways[i%len(ways)]
		conn := dialSecure(t, addr)
		_ = conn.SetDeadline(time.Now().Add(4 * patience)) // there are many
		conn.Want("OK Logged in", "LOGIN %s %s", user, password)
		conn.Send(way.begin)
		_, err := conn.br.Peek(1)
		if err != nil {
			t.Errorf("%q: %v", way.begin, err)
		}
		if i%len(ways) < 2 {
			conn.Line() // the invitation
		}
		all.Go(func() {
			<-exiting
			n, rest, err := imaptest.ReadFetched(conn.br)
			atBoundary := rest != ""
			if !way.ended(n, rest) || !errors.Is(err, io.EOF) && (atBoundary || !errors.Is(err, io.ErrUnexpectedEOF)) {
				t.Errorf("%q: ended with %v after %d bytes and %q", way.begin, err, n, rest)
			}
			_ = conn.Close()
		})
		begun <- i
	}
	for i := range n / 2 {
		session(i)
	}
	s.IMAPOptions = "banner another"
	c.Load(s.String())
	for i := n / 2; i < n; i++ {
		session(i)
	}
	start := time.Now()
	if err := c.p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	close(exiting)
	<-c.p.done
	took := time.Since(start)
	all.Wait()
	figure(t, "%d sessions, half of them in a literal of 10 MiB: the process has ended after %v", n, took.Round(10*time.Millisecond))
	if took > 10*time.Second {
		t.Errorf("the process has ended after %v", took)
	}
	if ended := c.LogLines(`"msg":"session ended"`, `"reason":"ended from outside"`); len(ended) != n {
		t.Errorf("%d lines about sessions that were ended, want %d", len(ended), n)
	}
}

// A change of the configuration costs Postfix no login, even if its connections
// have to be reset for it.
func TestReloadPostfix(t *testing.T) {
	t.Parallel()
	need(t, "dovecot", "postfix")
	const user = "alice"
	password := secret("Right-Reload-92")
	ca := imaptest.NewCA(t)
	d := startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}})}, map[string]string{user: password})
	s := site{Backend: upstream(d.IMAP(), ca), Auth: freeAddr(t)}
	c := startCaddy(t, s.String())
	p := startPostfix(t, "inet:"+s.Auth)
	p.WantAuth(235, "LOGIN", user, password)
	listed := func() string { return c.request("GET", "/imap/sessions", "application/json", "") }
	id := func() string {
		_, rest, _ := strings.Cut(listed(), `"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		return id
	}
	first := id()
	if list := listed(); first == "" || !strings.Contains(list, `"kind":"dovecot_auth","service":"smtp"`) || !strings.Contains(list, `"requests":1,"in_flight":0`) {
		t.Errorf("listed are %s", list)
	}
	// Nothing that Postfix would have to know.
	s.AuthOptions = "identity {imap.user.local}@example.org"
	c.Load(s.String())
	p.WantAuth(235, "LOGIN", user, password)
	if got := id(); got != first {
		t.Errorf("the connection is %s, and was %s", got, first)
	}
	// It knows a mechanism that is gone.
	s.AuthOptions += "\nmechanisms PLAIN"
	c.Load(s.String())
	eventually(t, "the connection to be reset", func() error {
		if got := id(); got == first {
			return errors.New("it is still there")
		}
		return nil
	})
	p.WantAuth(235, "PLAIN", user, password)
	// Ended by request.
	c.request("DELETE", "/imap/sessions?backend=exchange", "application/json", "")
	p.WantAuth(235, "PLAIN", user, password)
	if log := p.Log(); strings.Contains(log, "authentication failed") || strings.Contains(log, "Connection lost") {
		t.Errorf("Postfix has lost a login:\n%s", log)
	}
}
