package imapfront

import (
	"net"
	"strings"
	"testing"
)

const injected = "a1 BAD Nothing may follow STARTTLS before TLS has started."

// holding is a connection with bytes that were read before it was ours.
type holding struct {
	net.Conn
	early []byte
}

func (h *holding) MatchingBytes() []byte { return h.early }

// testInjection tries to have something said in clear text taken for something
// said inside TLS.
func testInjection(t *testing.T) {
	payloads := []struct{ name, text string }{
		{"a command", "a2 NOOP\r\n"},
		{"a command that ends in LF", "a2 NOOP\n"},
		{"CAPABILITY", "a2 CAPABILITY\r\n"},
		{"a LOGIN", login1 + "\r\n"},
		{"half a line", "a2 LOGIN " + testUser},
		{"the head of a literal", "a2 LOGIN {5}\r\n"},
		{"a second STARTTLS", "a2 STARTTLS\r\n"},
		{"a line end", "\r\n"},
		{"one byte", " "},
		{"more than a buffer", strings.Repeat("a2 NOOP\r\n", 2000)},
	}
	for _, tc := range payloads {
		t.Run(tc.name+" in the segment of STARTTLS", func(t *testing.T) {
			p := setup{}.greeted(t)
			p.send("a1 STARTTLS\r\n" + tc.text)
			p.closedFor(ErrInjection, injected)
			p.backend.untouched()
		})
		t.Run(tc.name+" after the OK", func(t *testing.T) {
			p := setup{}.greeted(t)
			p.ask("a1 STARTTLS", begin)
			// Made as long as the header of a TLS record, which is waited for.
			p.send(tc.text + strings.Repeat(" ", max(0, 5-len(tc.text))))
			_ = p.handshake(clientTLS(t))
			if _, err := p.result(); err == nil || !strings.Contains(err.Error(), "starting TLS") {
				t.Errorf("error %v", err)
			}
			p.backend.untouched()
		})
		t.Run(tc.name+" out of our sight", func(t *testing.T) {
			// STARTTLS ends where the buffer does: what follows is still in
			// the socket.
			p := setup{}.greeted(t)
			const first, second = "a0 ID ", "a1 STARTTLS\r\n"
			p.send(first + strings.Repeat("x", 4096-len(first)-2-len(second)) + "\r\n" + second + tc.text + "     ")
			p.expect("* ID NIL", "a0 OK ID completed.")
			if line, _ := p.line(); line != begin && line != injected {
				t.Fatalf("got %q", line)
			}
			_ = p.handshake(clientTLS(t))
			if _, err := p.result(); err == nil {
				t.Error("somebody is in")
			}
			p.backend.untouched()
		})
		t.Run(tc.name+" read by somebody before us", func(t *testing.T) {
			p := setup{wrap: func(c net.Conn) net.Conn { return &holding{c, []byte(tc.text)} }}.greeted(t)
			p.send("a1 STARTTLS\r\n")
			p.closedFor(ErrInjection, injected)
			p.backend.untouched()
		})
	}
	t.Run("nothing, though somebody before us might have read", func(t *testing.T) {
		p := setup{wrap: func(c net.Conn) net.Conn { return &holding{Conn: c} }}.greeted(t)
		p.startTLS()
		p.logIn()
	})
	t.Run("bad commands before TLS count inside it", func(t *testing.T) {
		p := setup{}.greeted(t)
		p.ask("a1 SELECT INBOX", "a1 BAD Unknown command.")
		p.ask("a2 SELECT INBOX", "a2 BAD Unknown command.")
		p.startTLS()
		p.send("a3 SELECT INBOX\r\n")
		p.closedFor(ErrTooManyBad, "a3 BAD Unknown command.", "* BYE Too many bad commands.")
	})
}
