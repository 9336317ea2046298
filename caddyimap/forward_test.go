package caddyimap

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestForwardClient pins what a backend is told of the clients of both handlers.
func TestForwardClient(t *testing.T) {
	const peer, mobile = "127.0.0.1", "198.51.100.9"
	for option, want := range map[string]struct{ imap, trusted, auth, unknown string }{
		"":         {"", "", "", ""},
		"off":      {"", "", "", ""},
		"proxy_v1": {"v1 " + peer + ":P L", "v1 " + mobile + ":4000 L", "v1 " + mobile + ":5000 192.0.2.1:25", "v1 local"},
		"proxy_v2": {"v2 " + peer + ":P L", "v2 " + mobile + ":4000 L", "v2 " + mobile + ":5000 192.0.2.1:25", "v2 local"},
		"id": {
			`("x-originating-ip" "` + peer + `" "x-originating-port" "P" "x-connected-ip" "127.0.0.1" "x-connected-port" "LP" "x-session-id" "S")`,
			`("x-originating-ip" "` + mobile + `" "x-originating-port" "4000" "x-connected-ip" "127.0.0.1" "x-connected-port" "LP" "x-session-id" "S")`,
			`("x-originating-ip" "` + mobile + `" "x-originating-port" "5000" "x-connected-ip" "192.0.2.1" "x-connected-port" "25" "x-session-id" "SESSION")`,
			`("x-session-id" "SESSION")`,
		},
	} {
		t.Run(option, func(t *testing.T) {
			w := newWorld(t)
			p := w.profile()
			p.Proxy, p.Inside = strings.HasPrefix(option, "proxy"), "IMAP4rev1 AUTH=PLAIN ID"
			fake := w.start(p)
			b := w.backend(fake.Addr())
			b.ForwardClient = option
			c := w.load(w.app(b))
			h := c.handler(&Handler{InsecureAuth: true, TrustedClients: []string{"127.0.0.0/8"}})
			for i, id := range []string{"NIL", `("x-originating-ip" "` + mobile + `" "x-originating-port" "4000")`} {
				cl := serve(t, h)
				cl.expect("* OK")
				cl.ask("i ID "+id, "* ID NIL", "i OK")
				cl.logIn()
				cl.ask("z LOGOUT", "* BYE", "z OK")
				client, server := netip.MustParseAddrPort(cl.conn.LocalAddr().String()), netip.MustParseAddrPort(cl.conn.RemoteAddr().String())
				cl.closed()
				session := c.log.lines("info", "login")[i].text("session")
				told := strings.NewReplacer(":P", ":"+portOf(client), `"P"`, `"`+portOf(client)+`"`, " L", " "+server.String(), "LP", portOf(server), `"S"`, `"`+session+`"`)
				if got, want := fake.Logins()[i].Proxy+fake.Logins()[i].ID, told.Replace([]string{want.imap, want.trusted}[i]); got != want {
					t.Errorf("IMAP client %d: the backend was told\n%s, want\n%s", i, got, want)
				}
			}
			a := attempt()
			a.Remote, a.RemotePort, a.Local = netip.MustParseAddr(mobile), 5000, netip.MustParseAddrPort("192.0.2.1:25")
			for i, a := range []*login.Attempt{a, attempt()} {
				if v := c.ref("").Check(t.Context(), a); v.Result != login.Granted {
					t.Errorf("%v: %v", v.Result, v.Err)
				}
				if got := fake.Logins()[2+i].Proxy + fake.Logins()[2+i].ID; got != []string{want.auth, want.unknown}[i] {
					t.Errorf("mail server's client %d: the backend was told\n%s, want\n%s", i, got, []string{want.auth, want.unknown}[i])
				}
			}
			c.log.one("warn", "") // of insecure_auth
		})
	}
}

func portOf(a netip.AddrPort) string { return strings.TrimPrefix(a.String(), a.Addr().String()+":") }

// TestForwardClientWithoutID pins that a backend which does not offer ID is logged in
// at all the same, and that the operator hears of it once.
func TestForwardClientWithoutID(t *testing.T) {
	w := newWorld(t)
	one, two := w.fake(), w.fake()
	b := w.backend(one.Addr())
	b.ForwardClient = "id"
	app := w.app(b)
	other := w.backend(two.Addr())
	app.Backends["other"] = other
	c := w.load(app)
	for range 3 {
		asks(t, c.ref("exchange"), one)
		asks(t, c.ref("other"), two)
	}
	got := c.log.one("warn", "")
	if msg := got.text("msg"); !strings.Contains(msg, "forward_client") || got.text("upstream") != one.Addr() || got.text("backend") != "exchange" {
		t.Errorf("warned: %v", got)
	}
	for _, l := range one.Logins() {
		if l.ID != "" {
			t.Errorf("ID %s was sent", l.ID)
		}
	}
}

// TestForwardClientNotUnderstood pins that the error names the option if the backend
// does not take the headers.
func TestForwardClientNotUnderstood(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		w := newWorld(t)
		p := w.profile()
		p.Implicit = implicit
		b := w.backend(w.start(p).Addr())
		b.ForwardClient = "proxy_v1"
		if implicit {
			b.TLSMode = "implicit"
		}
		c := w.load(w.app(b))
		if v := c.ref("").Check(t.Context(), attempt()); v.Result != login.Unavailable {
			t.Errorf("%v: %v", v.Result, v.Err)
		}
		for _, l := range c.log.lines("error", "") {
			if !strings.Contains(l.text("error"), "forward_client proxy_v1 sends a PROXY header") {
				t.Errorf("logged: %v", l)
			}
		}
		if len(c.log.lines("error", "")) != 1 {
			t.Error("not one error")
		}
	}
}
