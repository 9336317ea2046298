package imapauth

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// fromClient is an attempt of somebody who is somewhere.
func fromClient() *login.Attempt {
	a := attempt(login.FormLogin)
	a.ID = "ABCDEFGHIJKL"
	a.Remote, a.RemotePort = netip.MustParseAddr("198.51.100.9"), 4000
	a.Local = netip.MustParseAddrPort("192.0.2.1:993")
	return a
}

// forwardAt logs an attempt in at a backend that is told of its client.
func forwardAt(t *testing.T, cfg *Config, a *login.Attempt, check bool) login.Verdict {
	t.Helper()
	ctx := testContext(t)
	c, err := Dial(ctx, cfg, a.Ends())
	if err != nil {
		return Failure(err)
	}
	if check {
		return c.Check(ctx, a, Keep)
	}
	s, v := c.Open(ctx, a, Keep)
	if s != nil {
		t.Cleanup(func() { _ = s.Conn.Close() })
	}
	return v
}

// The header comes before everything else, in all modes, and the rest is as ever.
func TestProxyHeaderFirst(t *testing.T) {
	server, client := testTLS(t)
	for _, tc := range []struct {
		mode    TLSMode
		profile imaptest.Profile
	}{
		{StartTLS, imaptest.Profile{TLS: server}},
		{ImplicitTLS, imaptest.Profile{Implicit: true, TLS: server}},
		{NoTLS, imaptest.Profile{Clear: true, Before: "IMAP4rev1 AUTH=PLAIN"}},
	} {
		for forward, want := range map[Forward]string{
			ForwardProxyV1: "v1 198.51.100.9:4000 192.0.2.1:993",
			ForwardProxyV2: "v2 198.51.100.9:4000 192.0.2.1:993",
		} {
			for _, check := range []bool{false, true} {
				tc.profile.Proxy = true
				srv := imaptest.NewFake(t, tc.profile)
				v := forwardAt(t, &Config{Address: srv.Addr(), Mode: tc.mode, TLS: client, Forward: forward}, fromClient(), check)
				logins := srv.Logins()
				if v.Result != login.Granted || len(logins) != 1 || logins[0].Proxy != want || logins[0].ID != "" {
					t.Errorf("%s, %s: verdict %s (%v), logins %+v", tc.mode, forward, summary(v), v.Err, logins)
				}
				if tc.mode != NoTLS {
					srv.CheckHidden(testSecret)
				}
			}
		}
	}
}

// What a header says of the addresses there can be.
func TestProxyHeader(t *testing.T) {
	const (
		sig   = "\r\n\r\n\x00\r\nQUIT\n"
		v4    = "\xc6\x33\x64\x09"
		here4 = "\xc0\x00\x02\x01"
		v6    = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09"
		here6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
		zero  = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		ports = "\x0f\xa0\x00\x8f"
	)
	for _, tc := range []struct{ name, remote, local, v1, v2 string }{
		{"IPv4", "198.51.100.9:4000", "192.0.2.1:143", "TCP4 198.51.100.9 192.0.2.1 4000 143", "\x21\x11\x00\x0c" + v4 + here4 + ports},
		{"IPv6", "[2001:db8::9]:4000", "[2001:db8::1]:143", "TCP6 2001:db8::9 2001:db8::1 4000 143", "\x21\x21\x00\x24" + v6 + here6 + ports},
		{"IPv4 within IPv6", "[::ffff:198.51.100.9]:4000", "[::ffff:192.0.2.1]:143", "TCP4 198.51.100.9 192.0.2.1 4000 143", "\x21\x11\x00\x0c" + v4 + here4 + ports},
		{"with a zone", "[fe80::9%eth0]:4000", "[fe80::1%eth0]:143", "TCP6 fe80::9 fe80::1 4000 143", ""},
		{"IPv4 to IPv6", "198.51.100.9:4000", "[2001:db8::1]:143", "TCP4 198.51.100.9 0.0.0.0 4000 143", "\x21\x11\x00\x0c" + v4 + zero[:4] + ports},
		{"IPv6 to IPv4", "[2001:db8::9]:4000", "192.0.2.1:143", "TCP6 2001:db8::9 :: 4000 143", "\x21\x21\x00\x24" + v6 + zero + ports},
		{"to nowhere", "198.51.100.9:4000", "", "TCP4 198.51.100.9 0.0.0.0 4000 1", "\x21\x11\x00\x0c" + v4 + zero[:4] + "\x0f\xa0\x00\x01"},
		{"from no port", "198.51.100.9:0", "192.0.2.1:0", "TCP4 198.51.100.9 192.0.2.1 1 1", "\x21\x11\x00\x0c" + v4 + here4 + "\x00\x01\x00\x01"},
		{"from nowhere", "", "192.0.2.1:143", "UNKNOWN", "\x20\x00\x00\x00"},
		{"nothing known", "", "", "UNKNOWN", "\x20\x00\x00\x00"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := new(login.Attempt)
			if tc.remote != "" {
				remote := netip.MustParseAddrPort(tc.remote)
				a.Remote, a.RemotePort = remote.Addr(), remote.Port()
			}
			if tc.local != "" {
				a.Local = netip.MustParseAddrPort(tc.local)
			}
			if got, err := proxyHeader(1, a.Ends()); string(got) != "PROXY "+tc.v1+"\r\n" || err != nil {
				t.Errorf("version 1: %q, %v", got, err)
			}
			if got, err := proxyHeader(2, a.Ends()); tc.v2 != "" && string(got) != sig+tc.v2 || err != nil {
				t.Errorf("version 2: %q, %v, want %q", got, err, sig+tc.v2)
			}
		})
	}
}

// A backend that waits for a header, and hangs up without a word, is told from other
// trouble.
func TestProxyHeaderMissing(t *testing.T) {
	server, client := testTLS(t)
	const hint = "(does this port expect a PROXY header? then forward_client is proxy_v2)"
	hangUp := func(*imaptest.Conn) {}
	for _, tc := range []struct {
		name string
		mode TLSMode
		play func(c *imaptest.Conn)
		want bool // the hint
	}{
		{"STARTTLS", StartTLS, hangUp, true},
		{"no TLS", NoTLS, hangUp, true},
		{"TLS", ImplicitTLS, hangUp, true},
		{"greets first", StartTLS, func(c *imaptest.Conn) { c.Send(plainGreeting) }, false},
		{"hangs up where TLS begins", StartTLS, func(c *imaptest.Conn) {
			c.Send(plainGreeting)
			tag, _ := c.Command("CAPABILITY")
			c.Sendf("* CAPABILITY IMAP4rev1 STARTTLS\r\n%s OK done", tag)
			tag, _ = c.Command("STARTTLS")
			c.Sendf("%s OK begin", tag)
		}, false},
		{"hangs up after TLS has begun", ImplicitTLS, func(c *imaptest.Conn) { _ = c.StartTLS(server) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := &Config{Address: imaptest.NewScript(t, tc.play).Addr(), Mode: tc.mode}
			if tc.mode != NoTLS {
				cfg.TLS = client
			}
			if err := Ping(t.Context(), cfg); err == nil || strings.Contains(err.Error(), hint) != tc.want {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A backend that takes the header for something else is told from other trouble.
func TestProxyHeaderNotUnderstood(t *testing.T) {
	server, client := testTLS(t)
	const hint = "does this port expect one"
	for _, tc := range []struct {
		name string
		mode TLSMode
		play func(c *imaptest.Conn)
		want bool // the hint
	}{
		{"IMAP", StartTLS, func(c *imaptest.Conn) {
			c.Send(plainGreeting)
			if line, ok := c.ReadLine(); ok {
				tag, _, _ := imaptest.SplitCommand(line)
				c.Sendf("%s BAD what?", tag)
			}
			c.Rest()
		}, true},
		{"IMAP that hangs up", StartTLS, func(c *imaptest.Conn) { c.Send(plainGreeting + "* BYE what?\r\n") }, true},
		{"closes at once", StartTLS, func(c *imaptest.Conn) { _ = c.Bytes(5) }, true},
		{"TLS", ImplicitTLS, func(c *imaptest.Conn) { _ = c.StartTLS(server) }, true},
		{"TLS that says so", ImplicitTLS, func(c *imaptest.Conn) {
			c.Send("\x15\x03\x01\x00\x02\x02\x0a") // the alert unexpected_message
			c.Rest()
		}, true},
		{"an alert about something else", StartTLS, func(c *imaptest.Conn) {
			c.Proxied()
			c.Send(plainGreeting)
			tag, _ := c.Command("CAPABILITY")
			c.Sendf("* CAPABILITY IMAP4rev1 STARTTLS\r\n%s OK done", tag)
			tag, _ = c.Command("STARTTLS")
			c.Sendf("%s OK begin", tag)
			c.Send("\x15\x03\x01\x00\x02\x02\x28") // the alert handshake_failure
			c.Rest()
		}, false},
		{"clear text", ImplicitTLS, func(c *imaptest.Conn) { c.Send(plainGreeting); c.Rest() }, true},
		{"another certificate", ImplicitTLS, func(c *imaptest.Conn) {
			c.Proxied()
			_ = c.StartTLS(imaptest.NewCA(t).ServerTLS())
		}, false},
		{"no STARTTLS", StartTLS, func(c *imaptest.Conn) {
			c.Proxied()
			c.Send("* OK [CAPABILITY IMAP4rev1] ready\r\n")
			tag, _ := c.Command("CAPABILITY")
			c.Sendf("* CAPABILITY IMAP4rev1\r\n%s OK done", tag)
			c.Rest()
		}, false},
		{"too many connections", StartTLS, func(c *imaptest.Conn) { c.Proxied(); c.Send("* BYE Too many connections\r\n") }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := imaptest.NewScript(t, tc.play)
			for _, forward := range []Forward{ForwardProxyV1, ForwardProxyV2} {
				v := forwardAt(t, &Config{Address: srv.Addr(), Mode: tc.mode, TLS: client, Forward: forward}, fromClient(), false)
				if v.Result == login.Granted || v.Result == login.Denied || strings.Contains(v.Err.Error(), hint) != tc.want {
					t.Errorf("verdict %s (%v)", summary(v), v.Err)
				}
				if tc.want && !strings.Contains(v.Err.Error(), "forward_client "+string(forward)) {
					t.Errorf("the option is not named: %v", v.Err)
				}
			}
		})
	}
}

// What ID says of a client, and that it comes once, inside TLS, before the login.
func TestID(t *testing.T) {
	server, client := testTLS(t)
	for _, tc := range []struct {
		name  string
		amend func(a *login.Attempt)
		want  string
	}{
		{"all is known", func(*login.Attempt) {}, `("x-originating-ip" "198.51.100.9" "x-originating-port" "4000" ` +
			`"x-connected-ip" "192.0.2.1" "x-connected-port" "993" "x-session-id" "ABCDEFGHIJKL")`},
		{"IPv4 within IPv6", func(a *login.Attempt) {
			a.Remote, a.Local = netip.MustParseAddr("::ffff:198.51.100.9"), netip.MustParseAddrPort("[fe80::1%eth0]:993")
		}, `("x-originating-ip" "198.51.100.9" "x-originating-port" "4000" ` +
			`"x-connected-ip" "fe80::1" "x-connected-port" "993" "x-session-id" "ABCDEFGHIJKL")`},
		{"no ports", func(a *login.Attempt) { a.RemotePort, a.Local = 0, netip.AddrPortFrom(a.Local.Addr(), 0) },
			`("x-originating-ip" "198.51.100.9" "x-connected-ip" "192.0.2.1" "x-session-id" "ABCDEFGHIJKL")`},
		{"no addresses", func(a *login.Attempt) { a.Remote, a.Local = netip.Addr{}, netip.AddrPort{} }, `("x-session-id" "ABCDEFGHIJKL")`},
		{"nothing is known", func(a *login.Attempt) { *a = *attempt(login.FormLogin) }, ""},
		{"an id that cannot be quoted", func(a *login.Attempt) { *a = *attempt(login.FormLogin); a.ID = "a\r\nb" }, ""},
	} {
		for _, mode := range []TLSMode{StartTLS, ImplicitTLS} {
			for _, form := range []login.Form{login.FormLogin, login.FormAuthenticate} {
				for _, check := range []bool{false, true} {
					t.Run(tc.name, func(t *testing.T) {
						srv := imaptest.NewFake(t, imaptest.Profile{TLS: server, Implicit: mode == ImplicitTLS, Inside: "IMAP4rev1 AUTH=PLAIN id"})
						a := fromClient()
						tc.amend(a)
						a.Form = form
						cfg := &Config{Address: srv.Addr(), Mode: mode, TLS: client, Forward: ForwardID, NoID: func() { t.Error("ID is offered") }}
						v := forwardAt(t, cfg, a, check)
						logins := srv.Logins()
						if v.Result != login.Granted || len(logins) != 1 || logins[0].ID != tc.want {
							t.Errorf("verdict %s (%v), logins %+v", summary(v), v.Err, logins)
						}
						srv.CheckHidden(testSecret, "198.51.100.9")
					})
				}
			}
		}
	}
}

// Where ID is not offered, it is not sent, and that is told. What is offered before
// TLS does not count.
func TestIDNotOffered(t *testing.T) {
	server, _ := testTLS(t)
	srv := imaptest.NewFake(t, imaptest.Profile{TLS: server, Before: "IMAP4rev1 STARTTLS ID", Inside: "IMAP4rev1 AUTH=PLAIN IDLE"})
	cfg := starttls(t, srv.Addr())
	cfg.Forward = ForwardID
	for told := range 2 {
		if told == 1 {
			cfg.NoID = func() { told++ }
		}
		if v := forwardAt(t, cfg, fromClient(), false); v.Result != login.Granted {
			t.Errorf("verdict %s (%v)", summary(v), v.Err)
		}
		if told == 1 {
			t.Error("nobody was told")
		}
	}
	for _, l := range srv.Logins() {
		if l.ID != "" {
			t.Errorf("ID %s was sent", l.ID)
		}
	}
}

// What is answered to ID is of no matter, as long as it is an answer; else no
// password is sent.
func TestIDAnswers(t *testing.T) {
	server, client := testTLS(t)
	long := strings.Repeat("x", 9000)
	for _, tc := range []struct {
		name, answer string
		want         string
		err          error
	}{
		{"OK", "* ID NIL\r\nTAG OK done\r\n", "granted", nil},
		{"OK and no data", "TAG OK done\r\n", "granted", nil},
		{"NO", "TAG NO never\r\n", "granted", nil},
		{"BAD", "TAG BAD what?\r\n", "granted", nil},
		{"NO with a code", "TAG NO [AUTHENTICATIONFAILED] x\r\n", "granted", nil},
		{"NO as if there were too many", "TAG NO [LIMIT] x\r\n", "granted", nil},
		{"a list with literals", "* ID (\"name\" {6}\r\nTAG OK {3}\r\nabc \"b\" NIL)\r\nTAG OK done\r\n", "granted", nil},
		{"a tagged line in a literal", "* ID (\"name\" {15}\r\nTAG OK in\r\n)\r\nTAG NO x\r\n", "granted", nil},
		{"many lines", strings.Repeat("* OK x\r\n", maxLines-1) + "TAG OK done\r\n", "granted", nil},
		{"an alert, which is not for the user", "* OK [ALERT] hear, hear\r\nTAG OK done\r\n", "granted", nil},

		{"BYE", "* BYE\r\n", unavailable, ErrBye},
		{"BYE and OK", "* BYE\r\nTAG OK done\r\n", unavailable, ErrBye},
		{"BYE because of too many", "* BYE Too many connections\r\n", limited, ErrThrottled},
		{"nothing more", "", unavailable, ErrClosed},
		{"half a line", "TAG OK do", unavailable, ErrClosed},
		{"another tag", "A1 OK done\r\n", unavailable, ErrProtocol},
		{"our tag and more", "TAG1 OK done\r\n", unavailable, ErrProtocol},
		{"the next tag", "NEXT OK in\r\n", unavailable, ErrProtocol},
		{"a continuation", "+ go on\r\n", unavailable, ErrProtocol},
		{"PREAUTH", "* PREAUTH in\r\n", unavailable, ErrProtocol},
		{"tagged PREAUTH", "TAG PREAUTH in\r\n", unavailable, ErrProtocol},
		{"no status", "TAG OKAY done\r\n", unavailable, ErrProtocol},
		{"garbage", "\x00\x01\r\n", unavailable, ErrProtocol},
		{"a line that is too long", "* ID (\"" + long + "\" NIL)\r\nTAG OK done\r\n", unavailable, ErrTooMuch},
		{"a line without end", "* ID (\"" + strings.Repeat("x", 1<<20), unavailable, ErrTooMuch},
		{"too many lines", strings.Repeat("* OK x\r\n", maxLines) + "TAG OK done\r\n", unavailable, ErrTooMuch},
		{"a literal that is too long", "* ID (\"name\" {4294967296}\r\n", unavailable, ErrTooMuch},
		{"literals without end", "* ID (" + strings.Repeat("{30000}\r\n"+strings.Repeat("x", 30000)+" ", 9) + ")\r\nTAG OK done\r\n", unavailable, ErrTooMuch},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var names []string
			over := make(chan struct{})
			srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
				defer close(over)
				if c.StartTLS(server) != nil {
					return
				}
				c.Send("* OK [CAPABILITY IMAP4rev1 ID] ready\r\n")
				for {
					line, ok := c.ReadLine()
					if !ok {
						return
					}
					tag, name, _ := imaptest.SplitCommand(line)
					names = append(names, name)
					switch name {
					case "ID":
						if tc.answer == "" {
							return
						}
						next := tag[:len(tag)-1] + string(tag[len(tag)-1]+1)
						c.Send(strings.NewReplacer("TAG", tag, "NEXT", next).Replace(tc.answer))
						if tc.err == ErrClosed {
							return
						}
					case "CAPABILITY":
						c.Sendf("* CAPABILITY IMAP4rev1\r\n%s OK done", tag)
					default:
						c.Sendf("%s OK in", tag)
					}
				}
			})
			start := time.Now()
			v := forwardAt(t, &Config{Address: srv.Addr(), Mode: ImplicitTLS, TLS: client, Forward: ForwardID}, fromClient(), true)
			if got := summary(v); got != tc.want || tc.err != nil && !errors.Is(v.Err, tc.err) {
				t.Errorf("verdict %s (%v), want %s (%v)", got, v.Err, tc.want, tc.err)
			}
			if tc.err != nil && !strings.Contains(v.Err.Error(), "with ID") {
				t.Errorf("ID is not named: %v", v.Err)
			}
			if d := time.Since(start); d > patience/2 {
				t.Errorf("it took %v", d)
			}
			<-over
			want := []string{"ID"}
			if tc.err == nil {
				want = []string{"ID", "LOGIN", "LOGOUT"}
			}
			if !slices.Equal(names, want) {
				t.Errorf("commands %q, want %q", names, want)
			}
		})
	}
}
