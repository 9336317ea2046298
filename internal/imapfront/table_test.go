package imapfront

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

const (
	login1 = "a2 LOGIN " + testUser + " " + testSecret
	begin  = "a1 OK Begin TLS negotiation now."
)

// TestAttacks is what may be tried on a server with STARTTLS, row by row.
func TestAttacks(t *testing.T) {
	for _, row := range []struct {
		name string
		test func(*testing.T)
	}{
		{"bytes behind STARTTLS are never executed", testInjection},
		{"commands before STARTTLS in its segment work", testCommandsBefore},
		{"STARTTLS inside TLS or with an argument is BAD", testMisplaced},
		{"capabilities before and after TLS", testCapabilities},
		{"a password without TLS is refused and never invited", testPrivacy},
		{"a non-synchronising literal is data", testLiteralIsData},
		{"STARTTLS inside a SASL exchange is data", testSASLData},
		{"floods and odd bytes cost no memory", testFloods},
		{"commands without end", testTooManyCommands},
		{"a handshake that stalls or is none ends", testHandshakeDeadline},
		{"a wrong password, then the right one", testWrongThenRight},
		{"SELECT pipelined behind LOGIN is answered after it", testPipelinedSelect},
		{"AUTHENTICATE or SELECT before TLS is refused", testBeforeTLS},
		{"TLS versions and ALPN", testVersionsAndALPN},
	} {
		t.Run(row.name, row.test)
	}
}

func testCommandsBefore(t *testing.T) {
	p := setup{}.greeted(t)
	p.send("a1 CAPABILITY\r\na2 NOOP\r\na3 ID NIL\r\na4 STARTTLS\r\n")
	p.expect("* CAPABILITY "+clearCaps, "a1"+listed, "a2 OK NOOP completed.",
		"* ID NIL", "a3 OK ID completed.", "a4 OK Begin TLS negotiation now.")
	if err := p.handshake(clientTLS(t)); err != nil {
		t.Fatal(err)
	}
	// No second greeting.
	p.ask("a5 CAPABILITY", "* CAPABILITY "+secureCaps, "a5"+listed)
	p.logIn()
}

func testMisplaced(t *testing.T) {
	t.Run("inside TLS", func(t *testing.T) {
		p := setup{}.greeted(t)
		p.startTLS()
		p.ask("a1 STARTTLS", "a1 BAD STARTTLS is not offered.")
		p.logIn()
	})
	t.Run("inside implicit TLS", func(t *testing.T) {
		p := setup{amend: implicit}.dial(t)
		if err := p.handshake(clientTLS(t)); err != nil {
			t.Fatal(err)
		}
		p.expect(greeting)
		p.ask("a1 STARTTLS", "a1 BAD STARTTLS is not offered.")
		p.logIn()
	})
	t.Run("without a certificate", func(t *testing.T) {
		p := setup{amend: func(c *Config) { c.TLS = nil }}.dial(t)
		p.expect("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID LOGINDISABLED] mail.example.org ready.")
		p.ask("a1 STARTTLS", "a1 BAD STARTTLS is not offered.")
	})
	for _, arg := range []string{"now", `"now"`, "{3+}\r\nnow", "{3}", "{3+}\r\nnow STARTTLS"} {
		t.Run("with an argument "+arg, func(t *testing.T) {
			p := setup{}.greeted(t)
			want := "a1 BAD STARTTLS takes no arguments."
			if arg == "{3}" {
				want = "a1 BAD Invalid arguments."
			}
			p.ask("a1 STARTTLS "+arg, want)
			p.startTLS()
			p.logIn()
		})
	}
}

func testCapabilities(t *testing.T) {
	p := setup{}.dial(t)
	p.expect("* OK [CAPABILITY " + clearCaps + "] mail.example.org ready.")
	p.ask("a1 CAPABILITY", "* CAPABILITY "+clearCaps, "a1"+listed)
	p.startTLS()
	p.ask("a2 capability", "* CAPABILITY "+secureCaps, "a2"+listed)
	for _, c := range []string{"STARTTLS", "LOGINDISABLED"} {
		if !strings.Contains(clearCaps, c) || strings.Contains(secureCaps, c) {
			t.Errorf("the test is wrong about %s", c)
		}
	}
}

// testPrivacy pins that a password without TLS is refused, and that no
// "+" ever invites one.
func testPrivacy(t *testing.T) {
	plain := b64("\x00" + testUser + "\x00" + testSecret)
	for _, tc := range []struct{ name, send string }{
		{"LOGIN", "a1 LOGIN " + testUser + " " + testSecret},
		{"LOGIN, lower case", "a1 login x y"},
		{"LOGIN, quoted", `a1 LOGIN "` + testUser + `" "` + testSecret + `"`},
		{"LOGIN with a literal", "a1 LOGIN {5}"},
		{"LOGIN with a second literal", "a1 LOGIN alice {5}"},
		{"LOGIN with an empty literal", "a1 LOGIN {0}"},
		{"LOGIN with literals that are sent anyway", "a1 LOGIN {5+}\r\nalice {3+}\r\nfoo"},
		{"LOGIN with one literal sent and one to be asked for", "a1 LOGIN {5+}\r\nalice {3}"},
		{"LOGIN with a literal of 4 GiB", "a1 LOGIN {4294967296}"},
		{"LOGIN without arguments", "a1 LOGIN"},
		{"LOGIN with a NUL", "a1 LOGIN alice \x00 {3}"},
		{"AUTHENTICATE PLAIN", "a1 AUTHENTICATE PLAIN"},
		{"AUTHENTICATE LOGIN", "a1 AUTHENTICATE LOGIN"},
		{"AUTHENTICATE of an unknown mechanism", "a1 AUTHENTICATE GSSAPI"},
		{"AUTHENTICATE with an initial response", "a1 AUTHENTICATE PLAIN " + plain},
		{"AUTHENTICATE with an empty initial response", "a1 AUTHENTICATE LOGIN ="},
		{"AUTHENTICATE with a literal", "a1 AUTHENTICATE {5}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := setup{}.greeted(t)
			p.ask(tc.send, "a1"+privacy)
			p.ask("a2 NOOP", "a2 OK NOOP completed.")
			p.backend.untouched()
			p.startTLS()
			p.logIn()
		})
	}
}

// testLiteralIsData pins that nothing inside a non-synchronising literal is a
// command.
func testLiteralIsData(t *testing.T) {
	line := login1 + "\r\n"
	t.Run("LOGIN inside TLS", func(t *testing.T) {
		p := setup{tls: standing()}.greeted(t)
		p.send("a1 LOGIN bob {14+}\r\na2 LOGIN x y z\r\n")
		p.expect("a1" + failed)
		if a := p.backend.attempts(); len(a) != 1 || a[0].Secret != "a2 LOGIN x y z" {
			t.Errorf("%d attempts", len(a))
		}
		p.logIn()
	})
	for _, name := range []string{"LOGIN", "ID", "NOOP", "STARTTLS", "AUTHENTICATE", "SELECT", ""} {
		for state, s := range map[string]setup{"before TLS": {}, "inside TLS": {tls: standing()}} {
			t.Run(name+" "+state, func(t *testing.T) {
				p := s.greeted(t)
				p.send("a1 " + name + " {" + strconv.Itoa(len(line)) + "+}\r\n" + line + "\r\na3 NOOP\r\n")
				for {
					got, err := p.line()
					if err != nil {
						t.Fatal(err)
					}
					if strings.HasPrefix(got, "a2") {
						t.Errorf("a literal was executed: %q", got)
					}
					if got == "a3 OK NOOP completed." {
						break
					}
				}
				p.backend.untouched()
			})
		}
	}
}

func testSASLData(t *testing.T) {
	for _, tc := range []struct{ name, send, want string }{
		{"STARTTLS", "STARTTLS", "a1 BAD Invalid arguments."},
		{"STARTTLS with a tag", "a2 STARTTLS", "a1 BAD Invalid arguments."},
		{"a LOGIN", login1, "a1 BAD Invalid arguments."},
		{"a NUL", "a\x00b", "a1 BAD Invalid arguments."},
		{"nothing", "", "a1 BAD Invalid arguments."},
		{"cancelled", "*", "a1 BAD Authentication cancelled."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := setup{}.greeted(t)
			p.startTLS()
			p.ask("a1 AUTHENTICATE PLAIN", "+ ")
			p.ask(tc.send, tc.want)
			p.backend.untouched()
			p.logIn()
		})
	}
	t.Run("LOGIN cancelled at the password", func(t *testing.T) {
		p := setup{tls: standing()}.greeted(t)
		p.ask("a1 AUTHENTICATE LOGIN", "+ "+b64("Username:"))
		p.ask(b64(testUser), "+ "+b64("Password:"))
		p.ask("*", "a1 BAD Authentication cancelled.")
		// The half that was told is forgotten.
		p.ask("a2 AUTHENTICATE LOGIN", "+ "+b64("Username:"))
		p.ask(b64("bob"), "+ "+b64("Password:"))
		p.ask(b64(testSecret), "a2"+failed)
		if a := p.backend.attempts(); len(a) != 1 || a[0].User != "bob" {
			t.Errorf("%d attempts", len(a))
		}
		p.logIn()
	})
}

func testWrongThenRight(t *testing.T) {
	p := setup{}.greeted(t)
	p.startTLS()
	p.ask("01 LOGIN "+testUser+" badpassword", "01"+failed)
	p.ask("02 LOGIN "+testUser+" "+testSecret, backendCaps, "02 OK Logged in")
	if s, err := p.result(); err != nil || s.User != testUser || s.TLS == nil {
		t.Errorf("session %v, error %v", s, err)
	}
}

// testPipelinedSelect carries a session through the relay: each side's early
// bytes reach the other exactly once, before the later ones.
func testPipelinedSelect(t *testing.T) {
	p := setup{backend: &backend{early: "* OK [ALERT] early\r\n"}}.greeted(t)
	p.startTLS()
	p.send("a1 NOOP\r\na2 LOGIN " + testUser + " " + testSecret + "\r\na3 SELECT INBOX\r\na4 NO")
	p.expect("a1 OK NOOP completed.", backendCaps, "a2 OK Logged in")
	s, err := p.result()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(s.Pending); got != "a3 SELECT INBOX\r\na4 NO" {
		t.Errorf("pending %q", got)
	}
	relayed := make(chan relay.Stats)
	go func() {
		relayed <- relay.New(relay.Leg{Conn: s.Conn, Pending: s.Pending},
			relay.Leg{Conn: s.Backend.Conn, Pending: s.Backend.Buffered}, relay.Options{Idle: time.Minute}).Run()
	}()
	back := &peer{tb: t, conn: p.backend.conns[0]}
	back.br = bufio.NewReader(back.conn)
	back.expect("a3 SELECT INBOX")
	back.send("* 3 EXISTS\r\na3 OK SELECT completed.\r\n")
	p.expect("* OK [ALERT] early", "* 3 EXISTS", "a3 OK SELECT completed.")
	p.send("OP\r\n")
	back.expect("a4 NOOP")
	_ = p.conn.Close()
	if got, err := back.line(); err == nil {
		t.Errorf("got %q twice", got)
	}
	_ = back.conn.Close()
	<-relayed
}

func testBeforeTLS(t *testing.T) {
	for cmd, want := range map[string]string{
		"AUTHENTICATE PLAIN": privacy,
		"SELECT INBOX":       " BAD Unknown command.",
		"LIST \"\" *":        " BAD Unknown command.",
		"UNAUTHENTICATE":     " BAD Unknown command.",
	} {
		t.Run(cmd, func(t *testing.T) {
			p := setup{}.greeted(t)
			p.ask("a1 "+cmd, "a1"+want)
			p.backend.untouched()
		})
	}
}

func testVersionsAndALPN(t *testing.T) {
	for _, tc := range []struct {
		name   string
		client func(*tls.Config)
		want   string // in the client's error; empty if it is accepted
	}{
		{"TLS 1.0", only(tls.VersionTLS10), "protocol version"},
		{"TLS 1.1", only(tls.VersionTLS11), "protocol version"},
		{"TLS 1.2", only(tls.VersionTLS12), ""},
		{"TLS 1.3", only(tls.VersionTLS13), ""},
		{"ALPN imap", alpn("imap"), ""},
		{"ALPN h2 and imap", alpn("h2", "imap"), ""},
		{"ALPN of nothing", alpn(), ""},
		{"ALPN h2", alpn("h2"), "no application protocol"},
		{"ALPN http/1.1", alpn("h2", "http/1.1"), "no application protocol"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := clientTLS(t)
			tc.client(cfg)
			check := func(t *testing.T, p *peer, err error) {
				switch {
				case tc.want == "" && err != nil:
					t.Error(err)
				case tc.want == "":
					p.ask("a1 CAPABILITY", "* CAPABILITY "+secureCaps, "a1"+listed)
					s := p.logIn()
					if a := p.backend.attempts(); a[0].TLS != s.TLS.Version || !a[0].Secured {
						t.Errorf("the attempt says TLS %x", a[0].TLS)
					}
				case err == nil || !strings.Contains(err.Error(), tc.want):
					t.Errorf("error %v, want %q", err, tc.want)
				}
			}
			t.Run("STARTTLS", func(t *testing.T) {
				p := setup{}.greeted(t)
				p.ask("a1 STARTTLS", begin)
				check(t, p, p.handshake(cfg))
			})
			t.Run("implicit", func(t *testing.T) {
				p := setup{amend: implicit}.dial(t)
				err := p.handshake(cfg)
				if err == nil {
					p.expect(greeting)
				}
				check(t, p, err)
			})
		})
	}
	// Somebody before us may have agreed on anything.
	for proto, want := range map[string]error{"": nil, "imap": nil, "h2": ErrNotIMAP, "http/1.1": ErrNotIMAP} {
		t.Run("terminated before us with ALPN "+proto, func(t *testing.T) {
			state := standing()
			state.NegotiatedProtocol = proto
			p := setup{tls: state, amend: implicit}.dial(t)
			if want != nil {
				p.closedFor(want)
				return
			}
			p.expect(greeting)
			p.logIn()
		})
	}
	t.Run("a configuration without ALPN of ours", func(t *testing.T) {
		p := setup{amend: func(c *Config) {
			c.TLS = c.TLS.Clone()
			c.TLS.NextProtos = []string{"h2", "imap"}
		}}.greeted(t)
		p.ask("a1 STARTTLS", begin)
		cfg := clientTLS(t)
		cfg.NextProtos = []string{"h2"}
		if err := p.handshake(cfg); err != nil {
			t.Fatal(err)
		}
		p.closedFor(ErrNotIMAP)
	})
}

func only(version uint16) func(*tls.Config) {
	return func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version }
}

func alpn(protos ...string) func(*tls.Config) {
	return func(c *tls.Config) { c.NextProtos = protos }
}
