package imapfront

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestRelayTimes pins how long a client may take for each answer and for all of them, and
// that it goes on after a backend that does not wait for as long.
func TestRelayTimes(t *testing.T) {
	for name, tc := range map[string]struct {
		pauses []time.Duration
		within time.Duration
	}{
		"an answer":   {[]time.Duration{relayTimeout - 1}, relayTimeout},
		"the first":   {nil, relayTimeout},
		"all of them": {[]time.Duration{relayTimeout - 1, relayTimeout - 1}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &relayed{challenges: []string{"", ""}}
				p := r.setup(func(c *Config) { c.LoginTimeout = 2 * relayTimeout }).pipe(t)
				p.expect(relayGreeting)
				p.ask("a1 AUTHENTICATE GSSAPI", "+ ")
				for _, pause := range tc.pauses {
					time.Sleep(pause)
					p.ask(b64("\x60ticket"), "+ ")
				}
				start := time.Now()
				p.closed("* BYE Disconnected for inactivity.")
				if took := time.Since(start); took != tc.within {
					t.Errorf("it may take %s, want %s", took, tc.within)
				}
				if len(tc.pauses) > 0 && !errors.Is(r.err, login.ErrCancelled) {
					t.Errorf("the backend heard %v", r.err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // the last words wait for as long
		r := &relayed{verdict: login.Verdict{Result: login.Granted, Final: []byte(scramFinal)}}
		p := r.setup(nil).pipe(t)
		p.expect(relayGreeting)
		p.ask("a1 AUTHENTICATE XOAUTH2 "+b64(xoauth2), "+ "+b64(scramFinal))
		start := time.Now()
		p.closed("* BYE Disconnected for inactivity.")
		if took := time.Since(start); took != relayTimeout {
			t.Errorf("it may take %s, want %s", took, relayTimeout)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := &relayed{challenges: []string{scramServer}, deadline: time.Second}
		p := r.setup(nil).pipe(t)
		p.expect(relayGreeting)
		p.ask("a1 AUTHENTICATE SCRAM-SHA-256 "+b64(scramFirst), "+ "+b64(scramServer))
		p.expect("a1 NO [UNAVAILABLE] The mail server is not available, try again later.")
		p.ask("a2 NOOP", "a2 OK NOOP completed.")
	})
}

// TestRelayLimits pins how long messages may be.
func TestRelayLimits(t *testing.T) {
	token := func(size int) string {
		const head, tail = "user=bob\x01auth=Bearer ", "\x01\x01"
		return head + strings.Repeat("x", size-len(head)-len(tail)) + tail
	}
	r := &relayed{verdict: login.DeniedWith(imap.ResponseCodeExpired)}
	p := r.setup(func(c *Config) { c.MaxAuthFailures = 9 }).dial(t)
	p.expect(relayGreeting)
	most := token(login.MaxMessage)
	p.ask("a1 AUTHENTICATE XOAUTH2 "+b64(most), "a1 NO [EXPIRED] Password expired")
	p.ask("a2 AUTHENTICATE XOAUTH2", "+ ")
	p.ask(b64(most), "a2 NO [EXPIRED] Password expired")
	if !slices.Equal(r.heard, []string{most, most}) {
		t.Errorf("the backend heard %d messages", len(r.heard))
	}
	p.ask("a1 AUTHENTICATE XOAUTH2 "+b64(token(login.MaxMessage+1)), invalid)
	p.ask("a1 AUTHENTICATE XOAUTH2", "+ ")
	p.ask(b64(token(login.MaxMessage+1)), invalid)
	p.send("a3 AUTHENTICATE XOAUTH2 " + b64(token(login.MaxMessage+maxLine)) + "\r\n")
	p.closed("* BYE Command too long.")
	if len(r.heard) != 2 {
		t.Errorf("the backend heard %d messages", len(r.heard))
	}

	p = r.dial(t)
	p.ask("a1 AUTHENTICATE XOAUTH2", "+ ")
	p.send(b64(token(login.MaxMessage+3)) + "\r\n")
	p.closed("* BYE Command too long.")

	p = r.dial(t) // which is for those mechanisms only
	p.send("a1 AUTHENTICATE PLAIN " + strings.Repeat("x", maxCommand) + "\r\n")
	p.closed("* BYE Command too long.")
}

// TestWithoutPasswords pins that nobody is asked for one where none is of use.
func TestWithoutPasswords(t *testing.T) {
	r := new(relayed)
	s := r.setup(func(c *Config) { c.Mechanisms = offers(login.XOAuth2) })
	p := s.dial(t)
	p.expect("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID AUTH=XOAUTH2 LOGINDISABLED] mail.example.org ready.")
	p.ask("a1 LOGIN bob pw", "a1 NO [CANNOT] LOGIN is disabled, use AUTHENTICATE.")
	p.ask("a2 LOGIN {3}", "a2 BAD Invalid arguments.")
	p.ask("a3 AUTHENTICATE PLAIN", "a3 NO [CANNOT] Unsupported authentication mechanism.")
	s.tls = nil
	p = s.dial(t)
	p.expect(clearGreeting)
	p.ask("a1 AUTHENTICATE XOAUTH2 "+b64(xoauth2), "a1"+privacy)
	if len(r.heard) > 0 {
		t.Errorf("the backend heard %d messages", len(r.heard))
	}
}

// TestRelayPanic pins that no session is left behind by a panic.
func TestRelayPanic(t *testing.T) {
	r := &relayed{verdict: login.Verdict{Result: login.Granted, Final: []byte("x")}}
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	cfg := &Config{Banner: "x", Mechanisms: offers(login.XOAuth2), LoginTimeout: time.Minute, Open: r.open}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		go func() { _, _ = io.WriteString(theirs, "a1 AUTHENTICATE XOAUTH2 "+b64(xoauth2)+"\r\n") }()
		_, _ = Serve(t.Context(), cfg, Client{Conn: &panicky{Conn: ours, reads: 1}, TLS: standing()})
	}()
	if _, err := r.ends[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the session goes on: %v", err)
	}
	_ = ours.Close()
}

// panicky is a connection that panics after so many reads.
type panicky struct {
	net.Conn
	reads int
}

func (p *panicky) Read(b []byte) (int, error) {
	if p.reads--; p.reads < 0 {
		panic("no more to be read")
	}
	return p.Conn.Read(b)
}
