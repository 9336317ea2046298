package imapfront

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestCapabilitiesAfterLogin pins which words of a backend hold for the client.
func TestCapabilitiesAfterLogin(t *testing.T) {
	for _, tc := range []struct {
		name        string
		caps        string
		add, remove string
		want        string
	}{
		{"Exchange", "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=NTLM SASL-IR UIDPLUS ID IDLE LITERAL+", "", "", "IMAP4 IMAP4rev1 SASL-IR UIDPLUS ID IDLE LITERAL+"},
		{"before a login", "IMAP4rev1 STARTTLS LOGINDISABLED IDLE", "", "", "IMAP4rev1 IDLE"},
		{"any case", "imap4rev1 StartTLS loginDisabled auth=plain Unauthenticate idle", "", "", "imap4rev1 idle"},
		{"guessing behind our back", "IMAP4rev1 UNAUTHENTICATE", "", "", "IMAP4rev1"},
		{"compression is passed on", "IMAP4rev1 COMPRESS=DEFLATE", "", "", "IMAP4rev1 COMPRESS=DEFLATE"},
		{"no IMAP4rev1", "IDLE", "", "", "IMAP4rev1 IDLE"},
		{"twice", "IMAP4rev1 IDLE IDLE idle", "", "", "IMAP4rev1 IDLE"},
		{"none", "", "", "", "IMAP4rev1"},
		{"no capabilities at all", "IMAP4rev1 X] \"Y\" (Z) \x01 \xff", "", "", "IMAP4rev1"},
		{"amended", "IMAP4rev1 IDLE MOVE", "XFOO IDLE", "move", "IMAP4rev1 IDLE XFOO"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			caps := strings.Fields(tc.caps)
			if caps == nil {
				caps = []string{}
			}
			b := &backend{caps: caps}
			p := setup{backend: b, tls: standing(), amend: func(c *Config) {
				c.AddCaps, c.RemoveCaps = strings.Fields(tc.add), strings.Fields(tc.remove)
			}}.dial(t)
			if _, err := p.line(); err != nil {
				t.Fatal(err)
			}
			p.ask("in LOGIN "+testUser+" "+testSecret, "* CAPABILITY "+tc.want, "in OK Logged in")
			s, err := p.result()
			if err != nil || !slices.Equal(s.Backend.Caps, caps) {
				t.Errorf("the session's own list has become %q (%v)", s.Backend.Caps, err)
			}
		})
	}
}

// TestAmendedCapabilities is about the lists before login.
func TestAmendedCapabilities(t *testing.T) {
	amend := func(c *Config) {
		c.AddCaps, c.RemoveCaps = []string{"XFOO", "auth=plain", "id"}, []string{"sasl-ir", "AUTH=LOGIN", "XBAR"}
	}
	const before, inside = "IMAP4rev1 LITERAL+ ID STARTTLS LOGINDISABLED XFOO auth=plain", "IMAP4rev1 LITERAL+ ID AUTH=PLAIN XFOO"
	p := setup{amend: amend}.dial(t)
	p.expect("* OK [CAPABILITY " + before + "] mail.example.org ready.")
	p.ask("a1 CAPABILITY", "* CAPABILITY "+before, "a1"+listed)
	p.startTLS()
	p.ask("a2 CAPABILITY", "* CAPABILITY "+inside, "a2"+listed)
	p.ask("a3 LOGIN "+testUser+" "+testSecret, "* CAPABILITY IMAP4rev1 IDLE XFOO auth=plain id", "a3 OK Logged in")
}

// TestSession pins what is handed over.
func TestSession(t *testing.T) {
	p := setup{backend: &backend{early: "* 1 EXISTS\r\n"}}.greeted(t)
	p.startTLS()
	p.send("a1 LOGIN " + testUser + " " + testSecret + "\r\na2 IDLE\r\n")
	p.expect(backendCaps, "a1 OK Logged in")
	s, err := p.result()
	if err != nil {
		t.Fatal(err)
	}
	if string(s.Pending) != "a2 IDLE\r\n" || s.User != testUser || s.TLS == nil || string(s.Backend.Buffered) != "* 1 EXISTS\r\n" {
		t.Errorf("pending %q, user %q, TLS %v, buffered %q", s.Pending, s.User, s.TLS != nil, s.Backend.Buffered)
	}
	// What comes later comes from the connection, inside TLS.
	p.send("DONE\r\n")
	buf := make([]byte, 6)
	if _, err := io.ReadFull(s.Conn, buf); err != nil || string(buf) != "DONE\r\n" {
		t.Errorf("read %q, %v", buf, err)
	}
	if _, err := io.WriteString(s.Conn, "* 2 EXISTS\r\n"); err != nil {
		t.Error(err)
	}
	p.expect("* 2 EXISTS")
}

// TestDeadlinesAreLifted pins that a session may take longer than its login.
func TestDeadlinesAreLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := setup{tls: standing()}.pipe(t)
		p.expect(greeting)
		s := p.logIn()
		got := make(chan error)
		go func() {
			_, err := s.Conn.Read(make([]byte, 1))
			got <- err
		}()
		time.Sleep(time.Hour)
		p.send("x")
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

var errStop = errors.New("stopped by the test")

// TestContext ends the context at every point of a conversation.
func TestContext(t *testing.T) {
	const bye = "* BYE Server is shutting down."
	for _, tc := range []struct {
		name string
		// talk is what happens before, by turns, the server first.
		talk []string
		want []string
	}{
		{"at rest", []string{greeting}, []string{bye}},
		{"after a command", []string{greeting, "a1 NOOP", "a1 OK NOOP completed."}, []string{bye}},
		{"in a literal", []string{greeting, "a1 LOGIN {3}", "+ OK"}, []string{bye}},
		{"in an exchange", []string{greeting, "a1 AUTHENTICATE PLAIN", "+ "}, []string{bye}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			p := setup{ctx: ctx, tls: standing()}.dial(t)
			for i, s := range tc.talk {
				if i%2 == 0 {
					p.expect(s)
				} else {
					p.send(s + "\r\n")
				}
			}
			cancel(errStop)
			p.closedFor(errStop, tc.want...)
			p.backend.untouched()
		})
	}
	t.Run("before the greeting", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errStop)
		p := setup{ctx: ctx, tls: standing()}.dial(t)
		p.closedFor(errStop, greeting, bye)
	})
	t.Run("in a handshake", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		p := setup{ctx: ctx}.greeted(t)
		p.ask("a1 STARTTLS", begin)
		cancel(errStop)
		_ = p.closed()
	})
	t.Run("while nothing is read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			p := setup{ctx: ctx, tls: standing()}.pipe(t)
			time.Sleep(time.Second)
			cancel(errStop)
			start := time.Now()
			if s, err := p.result(); s != nil || err == nil || time.Since(start) != 0 {
				t.Errorf("session %v, error %v after %v", s, err, time.Since(start))
			}
		})
	})
	t.Run("while the backend is asked", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		b := &backend{verdict: func(*login.Attempt) login.Verdict {
			cancel(errStop)
			return login.UnavailableFor(errStop)
		}}
		p := setup{ctx: ctx, backend: b, tls: standing()}.greeted(t)
		p.send("a1 LOGIN bob pw\r\n")
		p.closedFor(errStop, "a1 NO [UNAVAILABLE] The mail server is not available, try again later.", bye)
	})
	t.Run("while the backend lets somebody in", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		b := &backend{verdict: func(*login.Attempt) login.Verdict {
			cancel(errStop)
			return login.Verdict{Result: login.Granted}
		}}
		p := setup{ctx: ctx, backend: b, tls: standing()}.greeted(t)
		p.send("a1 LOGIN bob pw\r\n")
		if s, err := p.result(); s != nil || !errors.Is(err, errStop) {
			t.Errorf("session %v, error %v", s, err)
		}
		if _, err := b.conns[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the backend's connection: %v", err)
		}
	})
	t.Run("after the session was handed over", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		p := setup{ctx: ctx, tls: standing()}.greeted(t)
		s := p.logIn()
		cancel(errStop)
		p.send("x")
		if _, err := s.Conn.Read(make([]byte, 1)); err != nil {
			t.Errorf("the session ended with the login: %v", err)
		}
	})
}

// TestPanic pins that a panic of the backend's leg reaches whoever called Serve
// and has to deal with it, and that nothing is left behind.
func TestPanic(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	caught := make(chan any)
	go func() {
		defer func() { caught <- recover() }()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		cfg := &Config{
			LoginTimeout: time.Minute, MaxAuthFailures: 1,
			Open: func(context.Context, *login.Attempt) (*login.Session, login.Verdict) { panic("ouch") },
		}
		_, _ = Serve(ctx, cfg, Client{Conn: ours, TLS: standing()})
	}()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	defer theirs.Close()
	if _, err := io.WriteString(theirs, "a1 LOGIN bob pw\r\n"); err != nil {
		t.Fatal(err)
	}
	if got := <-caught; got != "ouch" {
		t.Errorf("caught %v", got)
	}
}

// lagging takes its time when it is interrupted.
type lagging struct {
	net.Conn
	settled atomic.Bool
}

func (l *lagging) SetDeadline(d time.Time) error {
	err := l.Conn.SetDeadline(d)
	if d.Before(time.Now()) {
		time.Sleep(time.Minute)
		l.settled.Store(true)
	}
	return err
}

// TestNobodyIsLeft pins that Serve waits for whoever interrupts it: what it is
// given may be used for another connection as soon as it returns.
func TestNobodyIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		var conn *lagging
		p := setup{ctx: ctx, tls: standing(), wrap: func(c net.Conn) net.Conn {
			conn = &lagging{Conn: c}
			return conn
		}}.pipe(t)
		p.expect(greeting)
		cancel(errStop)
		p.closedFor(errStop, "* BYE Server is shutting down.")
		if !conn.settled.Load() {
			t.Error("the connection was still in use")
		}
	})
}
