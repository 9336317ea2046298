package caddyimap

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// TestSlowloris pins that who is always about to say something is gone when the time
// to log in is over, wherever in the conversation that is. What is on its way takes a
// while for each byte.
func TestSlowloris(t *testing.T) {
	const loginTimeout = time.Second
	w := newWorld(t)
	fake := w.fake()
	c := w.running(w.app(w.backend(fake.Addr())))
	slow := imaptest.Fault{Trickle: true, Latency: 20 * time.Millisecond}
	for _, tc := range []struct {
		name    string
		handler Handler
		talk    func(nc net.Conn)
	}{
		{"before TLS", Handler{}, func(nc net.Conn) { _, _ = io.WriteString(nc, strings.Repeat("a NOOP\r\n", 100)) }},
		{"in a line", Handler{}, func(nc net.Conn) { _, _ = io.WriteString(nc, "a NOOP "+strings.Repeat("x", 1000)) }},
		{"in the handshake", Handler{ImplicitTLS: true}, func(nc net.Conn) {
			_ = tls.Client(nc, w.tls("mail.example.org")).Handshake()
		}},
		{"in a literal", Handler{InsecureAuth: true}, func(nc net.Conn) {
			_, _ = io.WriteString(nc, "a LOGIN {1000+}\r\n"+strings.Repeat("x", 1000))
		}},
		{"at AUTHENTICATE", Handler{InsecureAuth: true}, func(nc net.Conn) {
			_, _ = io.WriteString(nc, "a AUTHENTICATE LOGIN\r\n"+strings.Repeat("YWFh", 1000))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.handler.LoginTimeout = caddy.Duration(loginTimeout)
			r := &cutRig{t: t, handler: c.handler(&tc.handler)}
			t.Parallel()
			nc, near := tcpPair(t)
			far, theirs := tcpPair(t)
			link := imaptest.NewLink(near, far, slow, imaptest.Fault{})
			start, handled := time.Now(), make(chan struct{})
			go r.handle(theirs, handled)
			go tc.talk(nc)
			<-handled
			if took := time.Since(start); took < loginTimeout || took > loginTimeout+patience/2 {
				t.Errorf("it took %v until the end, want %v", took, loginTimeout)
			}
			_ = nc.Close()
			<-link.Done()
			if n := len(fake.Logins()); n != 0 {
				t.Errorf("the backend was asked %d times", n)
			}
		})
	}
}
