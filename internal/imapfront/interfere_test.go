package imapfront

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// FuzzInjection has somebody on the way say anything before and behind a client's
// STARTTLS. Whatever it is, either no TLS stands, or all that is said inside is as if
// it had not been: the same answers, and one login, of the client, from its address.
func FuzzInjection(f *testing.F) {
	for _, s := range [][2]string{
		{"", ""},
		{"x NOOP\r\ny SELECT INBOX\r\nz FOO\r\n", ""},
		{"", "a2 LOGIN mallory guess\r\n"},
		{"x LOGIN mallory {13+}\r\n", ""},
		{"x ID (\"x-originating-ip\" \"198.51.100.1\")\r\n", ""},
		{"x AUTHENTICATE PLAIN\r\n", "*\r\n"},
		{"a1 STARTTLS\r\n", ""},
		{"x ID ({300+}\r\n", "\x16\x03\x01"},
	} {
		f.Add(s[0], s[1])
	}
	initTLS(f)
	f.Fuzz(func(t *testing.T, before, behind string) {
		synctest.Test(t, func(t *testing.T) { _ = interfere(t, before, behind) })
	})
}

// TestInterfered pins that there is something to disturb.
func TestInterfered(t *testing.T) {
	initTLS(t)
	for before, stands := range map[string]bool{"": true, "x FOO\r\ny FOO\r\n": true, "x FOO\r\ny FOO\r\nz FOO\r\n": false, "a1 STARTTLS\r\n": false} {
		synctest.Test(t, func(t *testing.T) {
			if got := interfere(t, before, ""); got != stands {
				t.Errorf("TLS stands behind %q: %v", before, got)
			}
		})
	}
}

// interfere holds the conversation, and says whether TLS stood.
func interfere(t *testing.T, before, behind string) bool {
	ours, theirs := net.Pipe()
	front, client := imaptest.NewUnread(ours), imaptest.NewUnread(theirs)
	p := setup{amend: func(c *Config) { c.Trusted = func(netip.Addr) bool { return true } }}.serve(t, front, client)
	p.expect(clearGreeting)
	p.send(before + "a1 STARTTLS\r\n" + behind)
	for {
		line, err := p.line()
		if err != nil {
			p.backend.untouched()
			return false
		}
		if line == begin {
			break
		}
	}
	secure := tls.Client(client, clientTLS(t))
	if secure.Handshake() != nil {
		p.backend.untouched()
		return false
	}
	if behind != "" {
		t.Errorf("TLS stands, with %q behind STARTTLS", behind)
	}
	_, _ = io.WriteString(secure, "b1 CAPABILITY\r\nb2 LOGIN "+testUser+" "+testSecret+"\r\n")
	br := bufio.NewReader(secure)
	for _, want := range []string{"* CAPABILITY " + secureCaps, "b1" + listed, backendCaps, "b2 OK Logged in"} {
		if got, err := br.ReadString('\n'); got != want+"\r\n" {
			t.Errorf("inside TLS we said %q, %v; want %q", got, err, want)
		}
	}
	asked := p.backend.attempts()
	if len(asked) != 1 || asked[0].User != testUser || asked[0].Remote != netip.MustParseAddr("192.0.2.7") {
		t.Errorf("the backend was asked %d times, or about somebody else", len(asked))
	}
	return true
}
