package caddyimap

import (
	"crypto/tls"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// BenchmarkHandler is a client's whole life: it connects, begins TLS, logs in,
// sends a command and logs out. The other ends, the client's and the backend's,
// count as well; what they take without us between them is in direct.
func BenchmarkHandler(b *testing.B) {
	w := newWorld(b)
	p := w.profile()
	p.Greeting, p.TLS = greetingClear, w.ca.ServerTLS("mail.example.org", "127.0.0.1")
	p.Announce = true
	fake := w.start(p)
	c := w.load(w.app(w.backend(fake.Addr())))
	h := c.handler(new(Handler))
	direct := func() *client {
		cl := dial(b, fake.Addr())
		cl.handled <- nil // there is no handler to wait for
		return cl
	}
	for _, bench := range []struct {
		name   string
		dial   func() *client
		resume bool
	}{
		{"direct", direct, false},
		{"proxied", func() *client { return serve(b, h) }, false},
		{"proxied again", func() *client { return serve(b, h) }, true},
	} {
		b.Run(bench.name, func(b *testing.B) {
			cfg := w.tls("mail.example.org")
			if bench.resume {
				cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			}
			b.ReportAllocs()
			for b.Loop() {
				cl := bench.dial()
				cl.secure(cfg)
				cl.logIn()
				cl.ask("a NOOP", "a OK")
				cl.ask("z LOGOUT", "* BYE", "z OK")
				cl.closed()
			}
		})
	}
}

// BenchmarkRelay is one command and its answer, through the relay of a session
// with TLS on both legs.
func BenchmarkRelay(b *testing.B) {
	w := newWorld(b)
	p := w.profile()
	p.Announce = true
	p.Session = func(c *imaptest.Conn, _ imaptest.Login) {
		for {
			if _, ok := c.ReadLine(); !ok {
				return
			}
			c.Send("a OK NOOP completed.\r\n")
		}
	}
	c := w.load(w.app(w.backend(w.start(p).Addr())))
	cl := serve(b, c.handler(new(Handler)))
	cl.secure(w.tls("mail.example.org"))
	cl.logIn()
	b.ReportAllocs()
	for b.Loop() {
		cl.ask("a NOOP", "a OK")
	}
}
