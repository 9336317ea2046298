package imapfront

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// behindSTARTTLS is what somebody on the way puts behind STARTTLS. Each is longer
// than the header of a TLS record, which is waited for.
var behindSTARTTLS = []struct{ name, text string }{
	{"a command", "a2 NOOP\r\n"},
	{"a LOGIN", login1 + "\r\n"},
	{"a literal", "a2 LOGIN {5+}\r\nalice {3+}\r\npwd\r\n"},
	{"half a literal", "a2 ID {100+}\r\nabc"},
	{"a second STARTTLS", "a2 STARTTLS\r\n"},
}

// TestInjectionInPieces splits STARTTLS, and what was put behind it, at each place.
func TestInjectionInPieces(t *testing.T) {
	const starttls = "a1 STARTTLS\r\n"
	for _, tc := range behindSTARTTLS {
		text := starttls + tc.text
		for at := 1; at < len(text); at++ {
			t.Run(fmt.Sprintf("%s, split at %d", tc.name, at), func(t *testing.T) {
				p := setup{}.pipe(t)
				p.expect(clearGreeting)
				gone := p.sendPieces(text[:at], text[at:])
				if at == len(starttls) {
					// Nothing lay behind it, and what comes now belongs to the handshake.
					p.expect(begin)
					if err := p.closed(); !strings.Contains(err.Error(), "starting TLS") {
						t.Errorf("error %v", err)
					}
				} else {
					p.closedFor(ErrInjection, injected)
				}
				<-gone
				p.backend.untouched()
			})
		}
		t.Run(tc.name+", a byte at a time", func(t *testing.T) {
			p := setup{}.pipe(t)
			p.expect(clearGreeting)
			gone := p.sendPieces(strings.Split(text, "")...)
			p.expect(begin)
			if err := p.closed(); !strings.Contains(err.Error(), "starting TLS") {
				t.Errorf("error %v", err)
			}
			<-gone
			p.backend.untouched()
		})
	}
}

// sendPieces sends pieces one by one, as long as somebody reads them.
func (p *peer) sendPieces(pieces ...string) (gone chan struct{}) {
	gone = make(chan struct{})
	conn := p.conn
	go func() {
		defer close(gone)
		for _, piece := range pieces {
			if _, err := conn.Write([]byte(piece)); err != nil {
				return
			}
		}
	}()
	return gone
}

// TestInjectionInLiteral has somebody on the way begin a literal that swallows what
// the client says, or hide a STARTTLS in one.
func TestInjectionInLiteral(t *testing.T) {
	const victim = "a1 STARTTLS\r\n"
	for _, tc := range []struct {
		name, before string
		want         []string
	}{
		{"of ID", "x ID (\"name\" {%d+}\r\n", []string{"* ID NIL", "x OK ID completed."}},
		{"of LOGIN", "x LOGIN mallory {%d+}\r\n", []string{"x" + privacy}},
		{"of AUTHENTICATE", "x AUTHENTICATE PLAIN {%d+}\r\n", []string{"x" + privacy}},
		{"of an unknown command", "x FOO {%d+}\r\n", []string{"x BAD Unknown command."}},
		{"of NOOP", "x NOOP {%d+}\r\n", []string{"x BAD NOOP takes no arguments."}},
		{"of STARTTLS", "x STARTTLS {%d+}\r\n", []string{"x BAD STARTTLS takes no arguments."}},
	} {
		t.Run("STARTTLS in a literal "+tc.name, func(t *testing.T) {
			p := setup{}.greeted(t)
			p.send(fmt.Sprintf(tc.before, len(victim)) + victim + ")\r\n")
			p.expect(tc.want...)
			p.backend.untouched()
			// It was data: TLS has not begun, and can.
			p.startTLS()
			p.ask("a2 CAPABILITY", "* CAPABILITY "+secureCaps, "a2"+listed)
			p.logIn()
		})
		t.Run("a handshake in a literal "+tc.name, func(t *testing.T) {
			p := setup{}.greeted(t)
			hello := "\x16\x03\x01\x00\xff" + strings.Repeat("h", 255)
			p.send(fmt.Sprintf(tc.before, len(victim)+len(hello)) + victim)
			p.send(hello + ")\r\n")
			// Nobody has told the client to begin TLS.
			p.expect(tc.want...)
			p.backend.untouched()
			p.startTLS()
			p.logIn()
		})
	}
	t.Run("a literal that is to end inside TLS", func(t *testing.T) {
		p := setup{}.greeted(t)
		p.send("x ID (\"name\" {" + strconv.Itoa(len(victim)+100) + "+}\r\n" + victim)
		cfg := clientTLS(t)
		_ = p.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if err := p.handshake(cfg); err == nil {
			t.Error("TLS stands, out of a literal")
		}
		_ = p.conn.Close()
		if s, err := p.result(); s != nil || err == nil {
			t.Errorf("session %v, error %v", s, err)
		}
		p.backend.untouched()
	})
	t.Run("a literal that an answer of TLS is put into", func(t *testing.T) {
		// What was announced in clear text is not awaited inside TLS.
		p := setup{}.greeted(t)
		p.ask("x LOGIN mallory {20}", "x"+privacy)
		p.ask("y STARTTLS {20}", "y BAD Invalid arguments.")
		p.startTLS()
		p.ask("a1 NOOP", "a1 OK NOOP completed.")
		p.logIn()
	})
}

// TestBrowser has a browser that was lured here send IMAP commands in the body of a
// request, as in "ALPACA" (USENIX Security 2021). It hears nothing but the greeting:
// nothing of what it has sent comes back, for which a page could be looked at.
func TestBrowser(t *testing.T) {
	const script = "<script>alert(1)</script>"
	body := "a1 NOOP\r\na2 LOGIN " + testUser + " " + testSecret + "\r\n" + script + " FOO\r\na3 LOGOUT\r\n"
	post := "POST /" + script + " HTTP/1.1\r\nHost: mail.example.org:993\r\nContent-Type: text/plain\r\n" +
		"Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	for _, request := range []struct{ name, text string }{
		{"a form", post},
		{"a page", "GET /" + script + " HTTP/1.1\r\nHost: mail.example.org\r\n\r\n"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00"},
		{"a preflight", "OPTIONS / HTTP/1.1\r\nOrigin: https://evil.example\r\n\r\n" + body},
		{"a method of its own", script + " / HTTP/1.1\r\n\r\n" + body},
		{"WebSocket", "GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: imap\r\n\r\n" + body},
	} {
		t.Run(request.name+" in clear text", func(t *testing.T) {
			p := setup{}.greeted(t)
			p.send(request.text)
			p.closedFor(ErrNotIMAP)
			p.backend.untouched()
		})
		t.Run(request.name+" inside TLS", func(t *testing.T) {
			p := setup{amend: implicit}.dial(t)
			if err := p.handshake(clientTLS(t)); err != nil {
				t.Fatal(err)
			}
			p.expect(greeting)
			p.send(request.text)
			p.closedFor(ErrNotIMAP)
			p.backend.untouched()
		})
		t.Run(request.name+" a byte at a time", func(t *testing.T) {
			p := setup{tls: standing()}.pipe(t)
			p.expect(greeting)
			gone := p.sendPieces(strings.Split(request.text, "")...)
			p.closedFor(ErrNotIMAP)
			<-gone
			p.backend.untouched()
		})
	}
}
