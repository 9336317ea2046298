package caddyimap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mholt/caddy-l4/layer4"
	_ "github.com/mholt/caddy-l4/modules/l4proxyprotocol"
	"github.com/pires/go-proxyproto"
)

// balanced has a client served behind caddy-l4's handler proxy_protocol, which is
// told what a load balancer says about it. The options are beside those that
// load-balancer.md has.
func balanced(c *config, f front, options map[string]any, header string) *client {
	c.tb.Helper()
	cfg := map[string]any{"allow": []string{"127.0.0.0/8"}, "timeout": "5s", "fallback_policy": "REJECT"}
	maps.Copy(cfg, options)
	if cfg["fallback_policy"] == "" {
		delete(cfg, "fallback_policy")
	}
	cl := serve(c.tb, append([]layer4.NextHandler{c.module("layer4.handlers.proxy_protocol", cfg)}, f.handlers(c)...)...)
	cl.send(header)
	return cl
}

// proxyHeader is what a load balancer says; with no addresses, about itself.
func proxyHeader(tb testing.TB, version byte, client, server string) string {
	tb.Helper()
	var from, to net.Addr
	if client != "" {
		from = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client))
		to = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(server))
	}
	b, err := proxyproto.HeaderProxyFromAddrs(version, from, to).Format()
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// TestProxied pins that behind a load balancer everything is about the client: what
// is logged, what the guard counts, whom it bans, and what the backend is told.
func TestProxied(t *testing.T) {
	for _, tc := range []struct{ name, client, server, other, ip string }{
		{"IPv4", "198.51.100.9:4000", "192.0.2.1:143", "198.51.100.10:4000", "198.51.100.9"},
		{"IPv6", "[2001:db8:9::9]:4000", "[2001:db8::1]:143", "[2001:db8:10::9]:4000", "2001:db8:9::9"},
		{"IPv4 within IPv6", "[::ffff:198.51.100.9]:4000", "[2001:db8::1]:143", "[::ffff:198.51.100.10]:4000", "198.51.100.9"},
	} {
		for _, version := range []byte{1, 2} {
			for _, f := range fronts {
				t.Run(fmt.Sprintf("%s, v%d, %s", tc.name, version, f.name), func(t *testing.T) {
					w := newWorld(t)
					profile := w.profile()
					profile.Proxy = true
					fake := w.start(profile)
					b := w.backend(fake.Addr())
					b.ForwardClient = "proxy_v2"
					app := w.app(b)
					app.Guard.SourceFailures = 2
					c := w.load(app)
					c.start()
					defer c.stop()
					from := func(client string) *client { return balanced(c, f, nil, proxyHeader(t, version, client, tc.server)) }

					cl := from(tc.client)
					f.begin(w, cl)
					cl.logIn()
					cl.ask("z LOGOUT", "* BYE", "z OK")
					cl.closed()
					cl = from(tc.client)
					f.begin(w, cl)
					cl.ask("a LOGIN "+testUser+" wrong-1", "a NO")
					cl.ask("b LOGIN "+testUser+" wrong-2", "b NO")
					cl.ask("z LOGOUT", "* BYE", "z OK")
					cl.closed()

					// The client is banned now, and nobody else behind the same load balancer.
					cl = from(tc.client)
					switch {
					case f.handler.ImplicitTLS:
						if b, err := io.ReadAll(cl.conn); len(b) > 0 || err != nil {
							t.Errorf("a banned client was told %q, %v", b, err)
						}
					case f.behind:
						if err := cl.handshake(w.tls("mail.example.org")); err != nil {
							t.Fatal(err)
						}
						fallthrough
					default:
						cl.expect("* BYE Too many failed logins from your address")
					}
					cl.closed()
					cl = from(tc.other)
					f.begin(w, cl)
					cl.logIn()
					cl.ask("z LOGOUT", "* BYE", "z OK")
					cl.closed()

					logins := fake.Logins()
					if len(logins) != 4 {
						t.Fatalf("the backend saw %d logins, want 4", len(logins))
					}
					for _, l := range logins[:3] {
						want := "v2 " + net.JoinHostPort(tc.ip, "4000") + " "
						if !strings.HasPrefix(l.Proxy, want) || !strings.HasSuffix(l.Proxy, ":143") {
							t.Errorf("the backend was told %q, want %q and the server", l.Proxy, want)
						}
					}
					c.onlyAbout(t, tc.ip, netip.MustParseAddrPort(tc.other).Addr().Unmap().String())
				})
			}
		}
	}
}

// onlyAbout wants each line of the log that names a client to name one of these.
func (c *config) onlyAbout(t *testing.T, ips ...string) {
	t.Helper()
	found := 0
	for _, level := range []string{"debug", "info", "warn", "error"} {
		for _, l := range c.log.lines(level, "") {
			if logger := l.text("logger"); !strings.HasPrefix(logger, "imap") && logger != "layer4.handlers.imap" {
				continue
			}
			for _, field := range []string{"remote", "remote_ip"} {
				text := l.text(field)
				if text == "" {
					continue
				}
				found++
				if host, _, err := net.SplitHostPort(text); err == nil {
					text = host
				}
				if !slices.Contains(ips, netip.MustParseAddr(text).Unmap().String()) {
					t.Errorf("a line of the log is about %s: %v", text, l)
				}
			}
		}
	}
	if found < 4 {
		t.Errorf("only %d lines of the log name a client", found)
	}
}

// TestProxiedNobody pins that what a load balancer sends for itself, or for a client
// it does not know, counts as its own.
func TestProxiedNobody(t *testing.T) {
	for _, version := range []byte{1, 2} {
		for _, f := range fronts {
			t.Run(fmt.Sprintf("v%d, %s", version, f.name), func(t *testing.T) {
				w := newWorld(t)
				c := w.load(w.app(w.backend(w.fake().Addr())))
				cl := balanced(c, f, nil, proxyHeader(t, version, "", ""))
				f.begin(w, cl)
				cl.ask("a LOGIN "+testUser+" wrong-1", "a NO")
				cl.ask("z LOGOUT", "* BYE", "z OK")
				cl.closed()
				if got := c.log.one("info", "login").text("remote_ip"); got != "127.0.0.1" {
					t.Errorf("the log says %s", got)
				}
			})
		}
	}
}

// TestProxiedByStrangers pins what becomes of a header from an address that is not
// in allow. It is refused because of fallback_policy alone: caddy-l4 v0.1.2 believes
// everybody without it, and with every other policy. When that changes, this test
// fails, and load-balancer.md has to be told.
func TestProxiedByStrangers(t *testing.T) {
	lie := proxyHeader(t, 1, "198.51.100.9:4000", "192.0.2.1:143")
	for _, tc := range []struct {
		policy string
		safe   bool
	}{{"REJECT", true}, {"", false}, {"IGNORE", false}, {"SKIP", false}, {"USE", false}, {"REQUIRE", false}} {
		t.Run(tc.policy, func(t *testing.T) {
			w := newWorld(t)
			c := w.load(w.app(w.backend(w.fake().Addr())))
			f := front{handler: Handler{InsecureAuth: true}}
			cl := balanced(c, f, map[string]any{"allow": []string{"192.0.2.0/24"}, "fallback_policy": tc.policy}, lie)
			if f.begin(w, cl); tc.safe {
				cl.expect("PROXY BAD Unknown command.")
			}
			cl.ask("a LOGIN "+testUser+" wrong-1", "a NO")
			cl.ask("z LOGOUT", "* BYE", "z OK")
			cl.closed()
			want := map[bool]string{true: "127.0.0.1", false: "198.51.100.9"}[tc.safe]
			if got := c.log.one("info", "login").text("remote_ip"); got != want {
				t.Errorf("the log says %s, want %s", got, want)
			}
		})
	}
}

// TestProxiedTwice pins that a client cannot put a header of its own behind that of
// the load balancer.
func TestProxiedTwice(t *testing.T) {
	w := newWorld(t)
	c := w.load(w.app(w.backend(w.fake().Addr())))
	for _, version := range []byte{1, 2} {
		f := front{handler: Handler{InsecureAuth: true}}
		cl := balanced(c, f, nil, proxyHeader(t, 2, "192.0.2.9:4000", "192.0.2.1:143")+proxyHeader(t, version, "198.51.100.9:4000", "192.0.2.1:143"))
		f.begin(w, cl)
		cl.send("\r\na LOGIN " + testUser + " wrong-1\r\n")
		for {
			text, err := cl.line()
			if err != nil || strings.HasPrefix(text, "a NO") {
				break
			}
		}
		_ = cl.conn.Close()
		cl.wait()
	}
	for _, l := range c.log.lines("info", "login") {
		if got := l.text("remote_ip"); got != "192.0.2.9" {
			t.Errorf("the log says %s", got)
		}
	}
	c.log.one("info", "login") // the other connection ended for its bad commands
}

// TestUnproxied pins that a client which sends no header is not served for ever, and
// not told anything.
func TestUnproxied(t *testing.T) {
	w := newWorld(t)
	c := w.load(w.app(w.backend(w.fake().Addr())))
	for _, sent := range []string{"", "a LOGIN " + testUser + " " + testSecret + "\r\n"} {
		cl := balanced(c, front{handler: Handler{InsecureAuth: true}}, map[string]any{"timeout": "100ms"}, sent)
		if b, err := io.ReadAll(cl.conn); len(b) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after %q the client was told %q, %v", sent, b, err)
		}
		cl.wait()
	}
	if lines := c.log.lines("info", "login"); len(lines) != 0 {
		t.Errorf("logged %v", lines)
	}
}

// TestProxiedInjection pins that what comes behind STARTTLS in clear text, together
// with the header, is not carried out.
func TestProxiedInjection(t *testing.T) {
	w := newWorld(t)
	fake := w.fake()
	c := w.load(w.app(w.backend(fake.Addr())))
	for _, filler := range []int{0, 1000, 4000, 4096, 9000} {
		cl := balanced(c, front{}, nil, proxyHeader(t, 2, "192.0.2.9:4000", "192.0.2.1:143")+
			strings.Repeat("n NOOP\r\n", filler/8)+"s STARTTLS\r\nx LOGIN "+testUser+" "+testSecret+"\r\n")
		got, _ := io.ReadAll(cl.conn)
		if bytes.Contains(got, []byte("\nx ")) {
			t.Errorf("with %d bytes before: the client was told %q", filler, got)
		}
		cl.wait()
	}
	if n := len(fake.Logins()); n != 0 {
		t.Errorf("%d logins", n)
	}
}
