package caddyimap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mholt/caddy-l4/layer4"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/imapfront"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"

	"github.com/caddyserver/caddy/v2"
)

// alpnTLS is the configuration of a tls handler before ours.
func alpnTLS(protocol string) any {
	return map[string]any{"connection_policies": []any{map[string]any{"alpn": []string{protocol}, "default_sni": "mail.example.org"}}}
}

// front says how TLS comes to stand, or that it does not.
type front struct {
	name    string
	handler Handler
	// behind is a tls handler before ours.
	behind bool
}

var fronts = []front{
	{"starttls", Handler{}, false},
	{"implicit", Handler{ImplicitTLS: true}, false},
	{"behind tls", Handler{}, true},
	{"in clear", Handler{InsecureAuth: true}, false},
}

// handlers are what the client is served by.
func (f front) handlers(c *config) []layer4.NextHandler {
	handlers := []layer4.NextHandler{c.handler(&f.handler)}
	if f.behind {
		handlers = append([]layer4.NextHandler{c.module("layer4.handlers.tls", alpnTLS("imap"))}, handlers...)
	}
	return handlers
}

// greeted has a client served that has read its greeting and can log in.
func (f front) greeted(w *world, c *config) *client {
	w.tb.Helper()
	cl := serve(w.tb, f.handlers(c)...)
	f.begin(w, cl)
	return cl
}

// begin has a client read its greeting, and start TLS where there is any.
func (f front) begin(w *world, cl *client) {
	w.tb.Helper()
	switch {
	case f.handler.InsecureAuth:
		cl.expect("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID STARTTLS AUTH=PLAIN AUTH=LOGIN] Caddy ready.")
	case f.handler.ImplicitTLS, f.behind:
		if err := cl.handshake(w.tls("mail.example.org")); err != nil {
			w.tb.Fatal(err)
		}
		cl.expect(greetingSecure)
	default:
		cl.secure(w.tls("mail.example.org"))
	}
}

// TestHandler holds a whole session on each kind of front.
func TestHandler(t *testing.T) {
	for _, f := range fronts {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t)
			fake := w.fake()
			c := w.load(w.app(w.backend(fake.Addr())))
			cl := f.greeted(w, c)
			cl.ask("a CAPABILITY", "* CAPABILITY IMAP4rev1 ", "a OK Pre-login capabilities listed, post-login capabilities have more.")
			cl.ask("b LOGIN "+testUser+" wrong-battery", "b NO [AUTHENTICATIONFAILED] Authentication failed")
			// What comes behind LOGIN waits, and goes to the backend.
			cl.send(loginGood + "\r\nc NOOP\r\n")
			cl.expect("* CAPABILITY IMAP4rev1", loggedIn, "c OK NOOP completed.")
			cl.ask("d XYZ", "d BAD Command Error. 10") // these are the fake's words
			cl.ask("e LOGOUT", "* BYE signing off.", "e OK LOGOUT completed.")
			cl.closed()
			fake.WaitIdle()
			fake.CheckHidden(testSecret, "wrong-battery")

			lines := c.log.lines("info", "login")
			if len(lines) != 2 || lines[0].text("result") != "denied" || lines[1].text("result") != "granted" {
				t.Fatalf("logged logins: %v", lines)
			}
			ended := c.log.one("info", "session ended")
			for field, want := range map[string]any{
				"user": testUser, "upstream": fake.Addr(), "session": lines[1]["session"], "logger": "layer4.handlers.imap",
				"bytes_in":  float64(len("c NOOP\r\nd XYZ\r\ne LOGOUT\r\n")),
				"bytes_out": float64(len("c OK NOOP completed.\r\nd BAD Command Error. 10\r\n* BYE signing off.\r\ne OK LOGOUT completed.\r\n")),
			} {
				if ended[field] != want {
					t.Errorf("%s of the session's end is %v, want %v", field, ended[field], want)
				}
			}
			for field, want := range map[string]any{"service": "imap", "remote_ip": "127.0.0.1", "logger": "imap", "upstream": fake.Addr()} {
				if lines[1][field] != want {
					t.Errorf("%s of the login is %v, want %v", field, lines[1][field], want)
				}
			}
			if version := lines[1].text("tls_version"); (version == "") != f.handler.InsecureAuth {
				t.Errorf("TLS version of the login is %q", version)
			}
		})
	}
}

// TestCloseWrite pins that a side which has said everything still hears the other
// out.
func TestCloseWrite(t *testing.T) {
	for _, f := range fronts {
		for _, mode := range []string{"starttls", "off"} {
			t.Run(f.name+", backend "+mode, func(t *testing.T) {
				w := newWorld(t)
				heard := make(chan string, 1)
				p := w.profile()
				p.Announce = true
				if p.Clear = mode == "off"; p.Clear {
					p.Before = "IMAP4rev1"
				}
				p.Session = func(c *imaptest.Conn, _ imaptest.Login) { hearOut(c, heard) }
				b := w.backend(w.start(p).Addr())
				if b.TLSMode = mode; p.Clear {
					b.TLS = nil
				}
				c := w.load(w.app(b))
				for _, first := range []string{"client", "backend"} {
					cl := f.greeted(w, c)
					cl.logIn()
					cl.send(first + " first\r\n")
					if first == "backend" {
						cl.expect("* BYE that is all")
						if got, err := cl.line(); !errors.Is(err, io.EOF) {
							t.Errorf("got %q, %v, want an end in order", got, err)
						}
					}
					cl.send("last words\r\n")
					if err := cl.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
						t.Error(err)
					}
					if got := <-heard; got != "last words\r\n" {
						t.Errorf("the backend heard %q", got)
					}
					if first == "client" {
						cl.expect("* BYE heard it")
					}
					cl.closed()
				}
				ends := c.log.lines("info", "session ended")
				for _, ended := range ends {
					if reason, is := ended["reason"]; is {
						t.Errorf("the session ended because of %v", reason)
					}
				}
				if len(ends) != 2 {
					t.Errorf("%d sessions ended, want 2", len(ends))
				}
			})
		}
	}
}

// hearOut is a backend's session that ends its side first, or last, as the client
// says.
func hearOut(c *imaptest.Conn, heard chan<- string) {
	if c.Expect("") == "backend first" {
		c.Sendf("* BYE that is all")
		c.CloseWrite()
		heard <- string(c.Rest())
		return
	}
	heard <- string(c.Rest())
	c.Sendf("* BYE heard it")
}

// TestHandlerReload pins that a session goes on when its configuration is over,
// and that connections which were there before can still log in: at the newest
// backend.
func TestHandlerReload(t *testing.T) {
	w := newWorld(t)
	one, two := w.fake(), w.fake()
	first := w.load(w.app(w.backend(one.Addr())))
	first.start()
	session := front{}.greeted(w, first)
	session.logIn()
	secured := front{}.greeted(w, first)
	greeted := serve(t, first.handler(new(Handler)))

	second := w.load(w.app(w.backend(two.Addr())))
	second.start()
	defer second.stop()
	first.stop()

	session.ask("a NOOP", "a OK")
	secured.logIn()
	greeted.secure(w.tls("mail.example.org"))
	greeted.logIn()
	if n, m := len(one.Logins()), len(two.Logins()); n != 1 || m != 2 {
		t.Errorf("%d logins at the old backend and %d at the new one, want 1 and 2", n, m)
	}
	for _, cl := range []*client{session, secured, greeted} {
		cl.ask("z LOGOUT", "* BYE", "z OK")
		cl.closed()
	}
}

// TestHandlerPanic pins that a fault of ours ends one connection and not the
// process, and that the log does not show what it says.
func TestHandlerPanic(t *testing.T) {
	w := newWorld(t)
	c := w.load(w.app(w.backend("127.0.0.1:1")))
	h := c.handler(&Handler{InsecureAuth: true})
	h.front.Open = func(_ context.Context, a *login.Attempt) (*login.Session, login.Verdict) {
		panic(fmt.Sprintf("the password is %s", string(a.Secret)))
	}
	cl := serve(t, h)
	cl.expect("* OK")
	cl.send(loginGood + "\r\n")
	cl.closed()
	got := c.log.one("error", "panic while serving a connection")
	if got["panic"] != "string" || !strings.Contains(got.text("stack"), "TestHandlerPanic") {
		t.Errorf("logged %v", got)
	}
}

// TestHandlerExit pins that sessions end with the process.
func TestHandlerExit(t *testing.T) {
	w := newWorld(t)
	c := w.load(w.app(w.backend("127.0.0.1:1")))
	h := c.handler(new(Handler))
	client, ours := net.Pipe()
	theirs, backend := net.Pipe()
	defer client.Close()
	defer backend.Close()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		conn := glue.NewConn(layer4.WrapConnection(ours, nil, c.app.logger))
		v := &visit{handler: h, conn: conn, logger: c.app.logger, done: func() {}}
		v.relay(ctx, "SESSION", &imapfront.Session{Conn: ours, Backend: &login.Session{Conn: theirs}})
		v.end()
	}()
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-over:
	case <-time.After(patience):
		t.Fatal("the session goes on")
	}
}

// TestHandlerLimits pins that options reach the conversation.
func TestHandlerLimits(t *testing.T) {
	w := newWorld(t)
	fake := w.fake()
	c := w.load(w.app(w.backend(fake.Addr())))
	cl := serve(t, c.handler(&Handler{
		InsecureAuth: true, MaxAuthFailures: 1, Banner: "mail.example.org",
		Mechanisms: []string{"login"}, Capability: []string{"-id", "+xlist"},
	}))
	cl.expect("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ STARTTLS AUTH=LOGIN XLIST] mail.example.org ready.")
	c.log.one("warn", "passwords are accepted without TLS; remove insecure_auth, unless the network is trusted")
	cl.ask("a AUTHENTICATE PLAIN", "a NO [CANNOT]")
	cl.ask("b LOGIN x wrong", "b NO [AUTHENTICATIONFAILED]", "* BYE")
	cl.closed()

	h := c.handler(&Handler{InsecureAuth: true, LoginTimeout: caddy.Duration(time.Second)})
	cl = serve(t, h)
	cl.expect("* OK", "* BYE Disconnected for inactivity.")
	cl.closed()

	// Only the session's own timeout is short.
	cl = serve(t, c.handler(&Handler{InsecureAuth: true, IdleTimeout: caddy.Duration(time.Second)}))
	cl.expect("* OK")
	cl.logIn()
	cl.closed()
	if ended := c.log.one("info", "session ended"); ended.text("reason") != "idle for too long" {
		t.Errorf("the session ended because of %v", ended["reason"])
	}
}
