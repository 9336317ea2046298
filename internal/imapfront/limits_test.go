package imapfront

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestCommands is the small talk.
func TestCommands(t *testing.T) {
	for _, tc := range []struct {
		send string
		want []string
	}{
		{"a1 CAPABILITY", []string{"* CAPABILITY " + secureCaps, "a1" + listed}},
		{"a1 CAPABILITY  ", []string{"* CAPABILITY " + secureCaps, "a1" + listed}},
		{". noop", []string{". OK NOOP completed."}},
		{"a1 ID NIL", []string{"* ID NIL", "a1 OK ID completed."}},
		{`a1 ID ("name" "x" "version" NIL)`, []string{"* ID NIL", "a1 OK ID completed."}},
		{"a1 ID (\"name\" {3+}\r\nfoo)", []string{"* ID NIL", "a1 OK ID completed."}},
		{"a1 CAPABILITY now", []string{"a1 BAD CAPABILITY takes no arguments."}},
		{"a1 NOOP {3+}\r\nnow", []string{"a1 BAD NOOP takes no arguments."}},
		{"a1 NOOP {3}", []string{"a1 BAD Invalid arguments."}},
		{"a1 FOO {3}", []string{"a1 BAD Unknown command."}},
		{"a1 LOGOUT now", []string{"a1 BAD LOGOUT takes no arguments."}},
		{"a1", []string{"* BAD No valid tag."}},
		{" NOOP", []string{"* BAD No valid tag."}},
		{"+ NOOP", []string{"* BAD No valid tag."}},
		{"a* NOOP", []string{"* BAD No valid tag."}},
		{"a1  NOOP", []string{"a1 BAD Unknown command."}},
		{strings.Repeat("t", 256) + " NOOP", []string{strings.Repeat("t", 256) + " OK NOOP completed."}},
		{strings.Repeat("t", 257) + " NOOP", []string{"* BAD No valid tag."}},
	} {
		t.Run(tc.send[:min(40, len(tc.send))], func(t *testing.T) {
			p := setup{tls: standing()}.greeted(t)
			p.ask(tc.send, tc.want...)
			p.logIn()
		})
	}
	t.Run("ID with literals to be asked for", func(t *testing.T) {
		p := setup{}.greeted(t)
		p.ask("a1 ID ({4}", "+ OK")
		p.ask("name {1}", "+ OK")
		p.ask("x)", "* ID NIL", "a1 OK ID completed.")
	})
	t.Run("a literal that is not asked for once something is wrong", func(t *testing.T) {
		p := setup{tls: standing()}.greeted(t)
		p.ask("a1 LOGIN \x00 {3}", "a1 BAD NUL or CR within a line.")
		p.ask("a2 LOGIN {1+}\r\nx\r {3}", "a2 BAD NUL or CR within a line.")
		p.logIn()
	})
	t.Run("LOGOUT", func(t *testing.T) {
		p := setup{}.greeted(t)
		p.send("a1 LOGOUT\r\na2 NOOP\r\n")
		p.closedFor(ErrLogout, "* BYE Logging out", "a1 OK Logout completed.")
	})
	t.Run("lines that end in LF", func(t *testing.T) {
		p := setup{tls: standing()}.greeted(t)
		p.send("a1 NOOP\na2 LOGIN bob {2}\n")
		p.expect("a1 OK NOOP completed.", "+ OK")
		p.send("pw\n")
		p.expect("a2" + failed)
	})
}

// TestLengths is about each limit to the byte.
func TestLengths(t *testing.T) {
	const tooLong = "* BYE Command too long."
	fill := func(head string, n int) string { return head + strings.Repeat("x", n-len(head)) }
	literals := func(size int) string { // a whole command of that size
		head := "a1 LOGIN bob {60000+}"
		tail := " {1+}"
		rest := size - len(head) - 60000 - len(tail) - 1
		return head + "\r\n" + strings.Repeat("x", 60000) + tail + "\r\nx" + strings.Repeat(" ", rest)
	}
	for _, tc := range []struct {
		name, fits, over string
		says             string // to what fits
		answer           string // to what does not
	}{
		{"a line", fill("a1 LOGIN bob ", maxLine), fill("a1 LOGIN bob ", maxLine+1), "a1" + failed, tooLong},
		{"an AUTHENTICATE line", fill("a1 AUTHENTICATE PLAIN ", maxCommand), fill("a1 AUTHENTICATE PLAIN ", maxCommand+1), invalid, tooLong},
		{"a command with literals", literals(maxCommand), literals(maxCommand + 1), invalid, tooLong},
		{"a literal", "a1 NOOP {65520+}\r\n" + strings.Repeat("x", 65520), "a1 NOOP {65521+}", "a1 BAD NOOP takes no arguments.", tooLong},
		{"a literal to be asked for", "a1 LOGIN {65520}", "a1 LOGIN {65521}", "+ OK", "a1 BAD Literal too big."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := setup{tls: standing()}.greeted(t)
			p.ask(tc.fits, tc.says)
			p = setup{tls: standing()}.greeted(t)
			p.ask(tc.over, tc.answer)
			if tc.answer == tooLong {
				_ = p.closed()
			}
			p.backend.untouched()
		})
	}
	t.Run("a SASL response", func(t *testing.T) {
		p := setup{tls: standing()}.greeted(t)
		p.ask("a1 AUTHENTICATE PLAIN", "+ ")
		p.ask(strings.Repeat("x", maxCommand), invalid)
		p.ask("a1 AUTHENTICATE PLAIN", "+ ")
		p.send(strings.Repeat("x", maxCommand+1) + "\r\n")
		_ = p.closed(tooLong)
	})
	t.Run("the number of literals", func(t *testing.T) {
		p := setup{}.greeted(t)
		const one = "{1+}\r\nx "
		p.ask("a1 ID "+strings.Repeat(one, maxLiterals), "* ID NIL", "a1 OK ID completed.")
		p.ask("a2 ID "+strings.Repeat(one, maxLiterals)+"{1}", "a2 BAD Literal too big.")
		p.send("a3 ID " + strings.Repeat(one, maxLiterals+1))
		_ = p.closed(tooLong)
	})
}

// TestForeign is about clients that speak something else.
func TestForeign(t *testing.T) {
	for _, line := range []string{
		"GET / HTTP/1.1", "POST / HTTP/1.0", "PUT /a1 HTTP/1.1", "CONNECT 127.0.0.1:143 HTTP/1.1", "OPTIONS * HTTP/1.1",
		"get / http/1.1 HTTP/1.1", "PRI * HTTP/2.0", "GET /", "POST / {3+}\r\nfoo", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	} {
		t.Run(line, func(t *testing.T) {
			p := setup{}.greeted(t)
			p.send(line + "\r\nHost: localhost\r\n\r\na1 NOOP\r\n")
			p.closedFor(ErrNotIMAP)
		})
	}
	t.Run("later", func(t *testing.T) {
		p := setup{}.greeted(t)
		p.ask("a1 NOOP", "a1 OK NOOP completed.")
		p.ask("GET / HTTP/1.1", "GET BAD Unknown command.")
	})
	t.Run("IMAP all the same", func(t *testing.T) {
		p := setup{tls: standing()}.greeted(t)
		p.ask(`POST LOGIN bob "I like HTTP/1.1"`, "POST"+failed)
		p.logIn()
	})
}

// TestLoginTimeout pins that the time runs from the greeting on, whatever a
// client does meanwhile.
func TestLoginTimeout(t *testing.T) {
	for name, send := range map[string][]string{
		"silence":                     nil,
		"a line that drips":           strings.Split("a1 NOOP"+strings.Repeat(" ", 100), ""),
		"commands":                    strings.SplitAfter(strings.Repeat("a1 NOOP\r\n", 100), "\n"),
		"half a literal":              {"a1 LOGIN {1000}\r\n", "x"},
		"a literal that drips":        append([]string{"a1 LOGIN {1000+}\r\n"}, strings.Split(strings.Repeat("x", 100), "")...),
		"half a SASL exchange":        {"a1 AUTHENTICATE LOGIN\r\n", b64("bob") + "\r\n"},
		"a SASL exchange that drips":  append([]string{"a1 AUTHENTICATE LOGIN\r\n"}, strings.Split(strings.Repeat("x", 100), "")...),
		"SASL exchanges given up":     strings.SplitAfter(strings.Repeat("a1 AUTHENTICATE PLAIN\r\n*\r\n", 50), "\n"),
		"mechanisms that are unknown": strings.SplitAfter(strings.Repeat("a1 AUTHENTICATE X\r\n", 100), "\n"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				p := setup{tls: standing()}.pipe(t)
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					for _, s := range send {
						p.send(s)
						time.Sleep(time.Second)
					}
				}()
				all, _ := io.ReadAll(p.br)
				if d := time.Since(start); d != time.Minute {
					t.Errorf("closed after %v", d)
				}
				if !strings.HasSuffix(string(all), "* BYE Disconnected for inactivity.\r\n") {
					t.Errorf("got %q", all)
				}
				_ = p.conn.Close()
				<-gone
				if _, err := p.result(); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("error %v", err)
				}
				p.backend.untouched()
			})
		})
	}
}

// TestClientStopsReading pins that nobody waits for such a client for longer
// than a write may take.
func TestClientStopsReading(t *testing.T) {
	for _, tc := range []struct {
		name string
		// talk is what happens before, by turns, the client first.
		talk []string
	}{
		{"at the greeting", nil},
		{"at an answer", []string{greeting, "a1 NOOP"}},
		{"at a challenge", []string{greeting, "a1 AUTHENTICATE PLAIN"}},
		{"at an invitation", []string{greeting, "a1 LOGIN {3}"}},
		{"at a refusal", []string{greeting, "a1 LOGIN bob wrong"}},
		{"at BYE", []string{greeting, "a1 LOGOUT"}},
		{"at the end of a login", []string{greeting, "a1 LOGIN " + testUser + " " + testSecret}},
		{"at a line that is too long", []string{greeting, strings.Repeat("x", maxLine+1)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := setup{tls: standing()}.pipe(t)
				for i, s := range tc.talk {
					if i%2 == 0 {
						p.expect(s)
					} else {
						p.send(s + "\r\n")
					}
				}
				start := time.Now()
				s, err := p.result()
				if d := time.Since(start); d != writeTimeout {
					t.Errorf("given up after %v", d)
				}
				if s != nil || err == nil {
					t.Errorf("session %v, error %v", s, err)
				}
				for _, conn := range p.backend.conns {
					if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
						t.Errorf("the backend's connection: %v", err)
					}
				}
			})
		})
	}
}

// TestClientGoes is about clients that end their side, or vanish.
func TestClientGoes(t *testing.T) {
	for name, send := range map[string]string{
		"at once":            "",
		"within a line":      "a1 NO",
		"within a literal":   "a1 LOGIN {10+}\r\nalice",
		"behind a literal":   "a1 LOGIN {3+}\r\nbob",
		"within an exchange": "a1 AUTHENTICATE PLAIN\r\nAAA",
	} {
		t.Run(name, func(t *testing.T) {
			p := setup{tls: standing()}.greeted(t)
			p.send(send)
			_ = p.conn.(*net.TCPConn).CloseWrite()
			if strings.Contains(name, "exchange") {
				p.expect("+ ")
			}
			err := p.closed()
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("half, behind its commands", func(t *testing.T) {
		p := setup{tls: standing()}.greeted(t)
		p.send("a1 NOOP\r\na2 LOGIN " + testUser + " " + testSecret + "\r\na3 LOGOUT\r\n")
		_ = p.conn.(*net.TCPConn).CloseWrite()
		p.expect("a1 OK NOOP completed.", backendCaps, "a2 OK Logged in")
		s, err := p.result()
		if err != nil || string(s.Pending) != "a3 LOGOUT\r\n" {
			t.Fatalf("session %v, error %v", s, err)
		}
		if n, err := s.Conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("read %d bytes, error %v", n, err)
		}
	})
	t.Run("with a reset", func(t *testing.T) {
		p := setup{tls: standing()}.greeted(t)
		_ = p.conn.(*net.TCPConn).SetLinger(0)
		_ = p.conn.Close()
		if s, err := p.result(); s != nil || err == nil {
			t.Errorf("session %v, error %v", s, err)
		}
	})
}
