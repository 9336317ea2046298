package imapfront

import (
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// testFloods pins that a client who sends too much is cut off, and costs no
// memory.
func testFloods(t *testing.T) {
	const tooLong, badChars = "* BYE Command too long.", "NUL or CR within a line."
	mib := strings.Repeat("x", 4<<20)
	for _, tc := range []struct {
		name, send string
		want       []string
		open       bool // and the conversation goes on
	}{
		{"a line of 4 MiB", mib, []string{tooLong}, false},
		{"a command of 4 MiB", "a1 NOOP " + mib, []string{tooLong}, false},
		{"LOGIN with a line of 4 MiB", "a1 LOGIN " + mib, []string{tooLong}, false},
		{"AUTHENTICATE with a line of 4 MiB", "a1 AUTHENTICATE PLAIN " + mib, []string{tooLong}, false},
		{"a literal of 4 GiB", "a1 LOGIN {4294967296}\r\n", []string{"a1 BAD Literal too big."}, true},
		{"a literal of 4 GiB sent at once", "a1 LOGIN {4294967296+}\r\n" + mib, []string{tooLong}, false},
		{"a literal of absurd length", "a1 LOGIN {99999999999999999999999999+}\r\n", []string{tooLong}, false},
		{"literals without end", "a1 ID " + strings.Repeat("{0+}\r\n ", 1<<18), []string{tooLong}, false},
		{"literals that are together too much", "a1 ID " + strings.Repeat("{8000+}\r\n"+mib[:8000]+" ", 400), []string{tooLong}, false},
		{"a NUL", "a1 NOOP\x00\r\n", []string{"a1 BAD " + badChars}, true},
		{"a NUL in the tag", "a\x001 NOOP\r\n", []string{"* BAD " + badChars}, true},
		{"a lone CR", "a1 NOOP\ra2 NOOP\r\n", []string{"a1 BAD " + badChars}, true},
		{"a lone CR that ends a line", "a1 NOOP\r\r\n", []string{"a1 BAD " + badChars}, true},
		{"8-bit bytes", "\xff\xfe NOOP\r\n", []string{"* BAD No valid tag."}, true},
		{"8-bit bytes in a name", "a1 NO\xd6P\r\n", []string{"a1 BAD Unknown command."}, true},
		{"letters that fold into ASCII", "a1 \u017fTARTTLS\r\n", []string{"a1 BAD Unknown command."}, true},
		{"1000 bad commands", strings.Repeat("a1 FOO\r\n", 1000), []string{
			"a1 BAD Unknown command.", "a1 BAD Unknown command.", "a1 BAD Unknown command.", "* BYE Too many bad commands.",
		}, false},
		{"1000 empty lines", strings.Repeat("\r\n", 1000), []string{
			"* BAD No valid tag.", "* BAD No valid tag.", "* BAD No valid tag.", "* BYE Too many bad commands.",
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := setup{tls: standing()}.greeted(t)
			data := []byte(tc.send)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = p.conn.Write(data) // which fails where we are cut off
			}()
			if tc.open {
				p.expect(tc.want...)
				p.ask("ok NOOP", "ok OK NOOP completed.")
			} else {
				_ = p.closed(tc.want...)
			}
			<-sent
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
				t.Errorf("%d bytes were allocated", used)
			}
			p.backend.untouched()
		})
	}
}

func implicit(c *Config) { c.ImplicitTLS = true }

func testHandshakeDeadline(t *testing.T) {
	for _, tc := range []struct {
		name  string
		amend func(*Config)
		send  []string // a second apart
		after time.Duration
	}{
		{"silence", nil, nil, handshakeTimeout},
		{"silence, implicit TLS", implicit, nil, handshakeTimeout},
		{"half a ClientHello", nil, []string{"\x16\x03\x01\x02\x00\x01\x00"}, handshakeTimeout},
		{"a ClientHello that drips", nil, strings.Split("\x16\x03\x01\x02\x00\x01"+strings.Repeat("x", 100), ""), handshakeTimeout},
		{"garbage", nil, []string{"a2 NOOP\r\n"}, 0},
		{"garbage, implicit TLS", implicit, []string{"a2 NOOP\r\n"}, 0},
		{"the login timeout is sooner", func(c *Config) { c.LoginTimeout = 5 * time.Second }, nil, 5 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := setup{amend: tc.amend}.pipe(t)
				start := time.Now()
				if !strings.Contains(tc.name, "implicit") {
					p.expect(clearGreeting)
					p.ask("a1 STARTTLS", begin)
				}
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					for _, s := range tc.send {
						p.send(s)
						time.Sleep(time.Second)
					}
				}()
				for { // what TLS says at the end, if anything
					if _, err := p.br.ReadByte(); err != nil {
						break
					}
				}
				if d := time.Since(start); d != tc.after {
					t.Errorf("closed after %v, want %v", d, tc.after)
				}
				_ = p.conn.Close()
				<-gone
				if _, err := p.result(); err == nil {
					t.Error("somebody is in")
				}
			})
		})
	}
}

// testTooManyCommands pins that nobody asks without end, on either side of TLS, and that
// those who log in are not counted.
func testTooManyCommands(t *testing.T) {
	const bye = "* BYE Too many commands without a login."
	repeat := func(n int, lines ...string) (all []string) {
		for range n {
			all = append(all, lines...)
		}
		return all
	}
	for name, tc := range map[string]struct {
		send string
		want []string
	}{
		"CAPABILITY":              {"a1 CAPABILITY", []string{"* CAPABILITY " + secureCaps, "a1" + listed}},
		"NOOP":                    {"a1 NOOP", []string{"a1 OK NOOP completed."}},
		"ID":                      {"a1 ID NIL", []string{"* ID NIL", "a1 OK ID completed."}},
		"mechanisms that are not": {"a1 AUTHENTICATE X", []string{"a1 NO [CANNOT] Unsupported authentication mechanism."}},
	} {
		t.Run(name, func(t *testing.T) {
			p := setup{tls: standing()}.greeted(t)
			p.send(strings.Repeat(tc.send+"\r\n", maxCommands+1))
			p.closedFor(ErrTooManyCommands, append(repeat(maxCommands, tc.want...), bye)...)
			p.backend.untouched()
		})
	}
	t.Run("the last one is a login", func(t *testing.T) {
		p := setup{tls: standing()}.greeted(t)
		for range maxCommands - 1 {
			p.ask("a1 NOOP", "a1 OK NOOP completed.")
		}
		p.logIn()
	})
	t.Run("before and within TLS", func(t *testing.T) {
		p := setup{}.greeted(t)
		for range maxCommands - 10 {
			p.ask("a1 NOOP", "a1 OK NOOP completed.")
		}
		p.startTLS()
		for range 9 {
			p.ask("a1 NOOP", "a1 OK NOOP completed.")
		}
		p.ask("a1 NOOP", bye)
	})
	t.Run("passwords without TLS", func(t *testing.T) {
		p := setup{}.greeted(t)
		p.send("a1 LOGIN bob secret\r\na1 AUTHENTICATE PLAIN\r\na1 LOGIN bob secret\r\n")
		p.closedFor(ErrTooManyBad, "a1"+privacy, "a1"+privacy, "a1"+privacy, "* BYE Too many bad commands.")
		p.backend.untouched()
	})
}
