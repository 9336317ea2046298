package imapfront

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
)

// FuzzID has a trusted client name the address of its own. What comes of it is an
// address and nothing besides, or there is none. Nobody else is listened to.
func FuzzID(f *testing.F) {
	for _, s := range []string{
		`("x-originating-ip" "198.51.100.1" "x-originating-port" "4711")`, `("X-Originating-IP" "fe80::1%eth0\"x")`,
		`("x-originating-ip" {12+}` + "\r\n198.51.100.1)", `("x-originating-ip" "::ffff:198.51.100.1" "x-originating-port" "65536")`, `NIL`, `(`, `("a" "b"`,
	} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, list string, trusted bool) {
		cmd, err := readCommand(imapwire.NewReader(strings.NewReader("a ID "+list+"\r\n")), func(string) (bool, error) { return true, nil })
		if err != nil || cmd.fault != "" {
			return
		}
		peer := netip.MustParseAddrPort("192.0.2.7:7000")
		fr := &front{cfg: &Config{Trusted: func(netip.Addr) bool { return trusted }}, peer: peer, remote: peer}
		fr.introduce(cmd)
		got := fr.remote
		if !trusted && got != peer {
			t.Errorf("a stranger was believed: %v", got)
		}
		if !got.IsValid() || got.Addr().Zone() != "" || got.Addr().Is4In6() {
			t.Errorf("%q gave %v", list, got)
		}
	})
}
