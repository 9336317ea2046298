package imapfront

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
)

// peerAddr is the address that the clients of these tests have.
var peerAddr = netip.MustParseAddr("192.0.2.7")

// trusting believes the clients of these tests.
func trusting(cfg *Config) { cfg.Trusted = func(a netip.Addr) bool { return a == peerAddr } }

// TestOriginatingIP pins for whom a client logs in.
func TestOriginatingIP(t *testing.T) {
	const own = "192.0.2.7"
	named := func(value string) string { return `i ID ("name" "webmail" "x-originating-ip" ` + value + `)` }
	for _, tc := range []struct {
		name      string
		untrusted bool
		send      []string
		want      string
	}{
		{"nothing", false, nil, own},
		{"an IPv4 address", false, []string{named(`"198.51.100.9"`)}, "198.51.100.9"},
		{"an atom", false, []string{named(`198.51.100.9`)}, "198.51.100.9"},
		{"a literal", false, []string{named("{12+}\r\n198.51.100.9")}, "198.51.100.9"},
		{"an IPv6 address", false, []string{named(`"2001:db8::9"`)}, "2001:db8::9"},
		{"IPv4 within IPv6", false, []string{named(`"::ffff:198.51.100.9"`)}, "198.51.100.9"},
		{"with a zone", false, []string{named(`"fe80::9%eth0 remote_ip=192.0.2.1"`)}, "fe80::9"},
		{"in capitals", false, []string{`i ID ("X-Originating-IP" "198.51.100.9")`}, "198.51.100.9"},
		{"twice, the last counts", false, []string{named(`"198.51.100.9"`), named(`"198.51.100.10"`)}, "198.51.100.10"},
		{"a word", false, []string{named(`"localhost"`)}, own},
		{"with a port", false, []string{named(`"198.51.100.9:993"`)}, own},
		{"a network", false, []string{named(`"198.51.100.0/24"`)}, own},
		{"nothing in quotes", false, []string{named(`""`)}, own},
		{"NIL", false, []string{named(`NIL`)}, own},
		{"garbage forgets nothing", false, []string{named(`"198.51.100.9"`), named(`"x"`)}, "198.51.100.9"},
		{"ID NIL forgets nothing", false, []string{named(`"198.51.100.9"`), "i ID NIL"}, "198.51.100.9"},
		{"no value", false, []string{`i ID ("x-originating-ip")`}, own},
		{"no end", false, []string{`i ID ("x-originating-ip" "198.51.100.9"`}, own},
		{"no list", false, []string{`i ID "x-originating-ip" "198.51.100.9"`}, own},
		{"too many fields", false, []string{`i ID (` + strings.Repeat(`"a" "b" `, maxIDFields) + `"x-originating-ip" "198.51.100.9")`}, own},
		{"as a value", false, []string{`i ID ("name" "x-originating-ip" "198.51.100.9" NIL)`}, own},
		{"another field", false, []string{`i ID ("x-connected-ip" "198.51.100.9")`}, own},
		{"not trusted", true, []string{named(`"198.51.100.9"`)}, own},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := setup{tls: standing(), amend: trusting}
			if tc.untrusted {
				s.amend = func(cfg *Config) { cfg.Trusted = func(a netip.Addr) bool { return a != peerAddr } }
			}
			p := s.greeted(t)
			for _, line := range tc.send {
				p.ask(line, "* ID NIL", "i OK ID completed.")
			}
			p.ask("a LOGIN bob wrong", "a"+failed)
			if got := p.backend.attempts()[0].Remote.String(); got != tc.want {
				t.Errorf("logs in from %s, want %s", got, tc.want)
			}
		})
	}
}

// TestOriginatingPort pins which port goes with the address of who logs in: one that
// belongs to another address never does. What was connected to is our own address.
func TestOriginatingPort(t *testing.T) {
	for _, tc := range []struct {
		name, id string
		want     string
	}{
		{"nothing", `NIL`, "192.0.2.7:7000"},
		{"both", `("x-originating-port" "9000" "x-originating-ip" "198.51.100.9")`, "198.51.100.9:9000"},
		{"the address alone", `("x-originating-ip" "198.51.100.9")`, "198.51.100.9:0"},
		{"the port alone", `("x-originating-port" "9000")`, "192.0.2.7:7000"},
		{"no number", `("x-originating-ip" "198.51.100.9" "x-originating-port" "imap")`, "198.51.100.9:0"},
		{"too large", `("x-originating-ip" "198.51.100.9" "x-originating-port" "70000")`, "198.51.100.9:0"},
		{"another connection", `("x-connected-ip" "198.51.100.1" "x-connected-port" "1")`, "192.0.2.7:7000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := setup{amend: trusting}.greeted(t)
			p.ask("i ID "+tc.id, "* ID NIL", "i OK ID completed.")
			p.ask("s STARTTLS", "s OK Begin TLS negotiation now.")
			if err := p.handshake(clientTLS(t)); err != nil {
				t.Fatal(err)
			}
			p.ask("a LOGIN bob wrong", "a"+failed)
			p.ask("i ID "+tc.id, "* ID NIL", "i OK ID completed.")
			p.ask("b AUTHENTICATE PLAIN AGJvYgB3cm9uZw==", "b"+failed)
			for i, want := range []string{"192.0.2.7:7000", tc.want} {
				ends := p.backend.attempts()[i].Ends()
				if got := ends.Client.String(); got != want || ends.Server.String() != "192.0.2.1:143" {
					t.Errorf("login %d is from %s to %s, want %s", i, got, ends.Server, want)
				}
			}
		})
	}
}

// TestOriginatingIPNobodyTrusted pins that nobody is by default.
func TestOriginatingIPNobodyTrusted(t *testing.T) {
	p := setup{tls: standing()}.greeted(t)
	p.ask(`i ID ("x-originating-ip" "198.51.100.9")`, "* ID NIL", "i OK ID completed.")
	p.ask("a LOGIN bob wrong", "a"+failed)
	if got := p.backend.attempts()[0].Remote; got != peerAddr {
		t.Errorf("logs in from %s", got)
	}
}

// TestOriginatingIPBeforeTLS pins that what was said in clear text, where anybody
// on the way could have said it, is forgotten when TLS stands; and that it can be
// said again then.
func TestOriginatingIPBeforeTLS(t *testing.T) {
	p := setup{amend: trusting}.greeted(t)
	p.ask(`i ID ("x-originating-ip" "198.51.100.9")`, "* ID NIL", "i OK ID completed.")
	p.ask("s STARTTLS", "s OK Begin TLS negotiation now.")
	if err := p.handshake(clientTLS(t)); err != nil {
		t.Fatal(err)
	}
	p.ask("a LOGIN bob wrong", "a"+failed)
	p.ask(`i ID ("x-originating-ip" "198.51.100.10")`, "* ID NIL", "i OK ID completed.")
	p.ask("b LOGIN bob wrong", "b"+failed)
	for i, want := range []string{"192.0.2.7", "198.51.100.10"} {
		if got := p.backend.attempts()[i].Remote.String(); got != want {
			t.Errorf("login %d is from %s, want %s", i, got, want)
		}
	}
}

// TestOriginatingIPStaysInOneConnection pins that only what comes before the login
// counts, and only on its connection.
func TestOriginatingIPStaysInOneConnection(t *testing.T) {
	b := new(backend)
	s := setup{tls: standing(), amend: trusting, backend: b}
	p := s.greeted(t)
	p.ask(`i ID ("x-originating-ip" "198.51.100.9")`, "* ID NIL", "i OK ID completed.")
	// This ID lies behind the login, so it is the backend's.
	p.send("a LOGIN " + testUser + " " + testSecret + "\r\nj ID (\"x-originating-ip\" \"198.51.100.10\")\r\n")
	p.expect(backendCaps, "a OK Logged in")
	if session, err := p.result(); err != nil || !strings.HasPrefix(string(session.Pending), "j ID ") {
		t.Errorf("%v, %v", session, err)
	}
	q := s.greeted(t)
	q.ask("a LOGIN bob wrong", "a"+failed)
	for i, want := range []string{"198.51.100.9", "192.0.2.7"} {
		if got := b.attempts()[i].Remote.String(); got != want {
			t.Errorf("login %d is from %s, want %s", i, got, want)
		}
	}
}

// TestBanned pins how a banned client is met. Nothing that costs more than a line
// is done for it.
func TestBanned(t *testing.T) {
	const bye = "* BYE Too many failed logins from your address, try again later."
	banned := func(cfg *Config) {
		cfg.Banned = func(a netip.Addr) bool { return a == peerAddr }
	}
	t.Run("starttls", func(t *testing.T) {
		p := setup{amend: banned}.dial(t)
		p.closedFor(ErrBanned, bye)
		p.backend.untouched()
	})
	t.Run("behind tls", func(t *testing.T) {
		p := setup{amend: banned, tls: standing()}.dial(t)
		p.closedFor(ErrBanned, bye)
	})
	t.Run("implicit", func(t *testing.T) {
		// There is nobody yet whom a line in clear text would tell anything.
		p := setup{amend: func(cfg *Config) { banned(cfg); cfg.ImplicitTLS = true }}.dial(t)
		if b, err := io.ReadAll(p.conn); len(b) != 0 || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
		if _, err := p.result(); !errors.Is(err, ErrBanned) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("others", func(t *testing.T) {
		p := setup{amend: func(cfg *Config) { cfg.Banned = func(a netip.Addr) bool { return a != peerAddr } }}.dial(t)
		p.expect(clearGreeting)
	})
	t.Run("trusted", func(t *testing.T) {
		// Its own clients are others, and the guard looks at those.
		p := setup{amend: func(cfg *Config) { banned(cfg); trusting(cfg) }, tls: standing()}.dial(t)
		p.expect(greeting)
		p.ask(`i ID ("x-originating-ip" "198.51.100.9")`, "* ID NIL", "i OK ID completed.")
		p.ask("a LOGIN bob wrong", "a"+failed)
	})
	t.Run("asked once", func(t *testing.T) {
		var asked []netip.Addr
		setup{amend: func(cfg *Config) {
			cfg.Banned = func(a netip.Addr) bool { asked = append(asked, a); return false }
		}}.greeted(t)
		if len(asked) != 1 || asked[0] != peerAddr {
			t.Errorf("asked about %v, want the client's address once", asked)
		}
	})
}
