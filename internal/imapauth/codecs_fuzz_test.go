package imapauth

import (
	"bufio"
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/pires/go-proxyproto"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// FuzzProxyHeader pins that a PROXY header names the client, and ends where it has
// to: nothing of it is left for what comes next.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte{192, 0, 2, 7}, uint16(7000), []byte{192, 0, 2, 1}, uint16(143), true)
	f.Add(netip.MustParseAddr("2001:db8::7").AsSlice(), uint16(0), []byte{192, 0, 2, 1}, uint16(143), false)
	f.Add(netip.MustParseAddr("::ffff:192.0.2.7").AsSlice(), uint16(1), []byte{}, uint16(0), true)
	f.Add([]byte{}, uint16(0), []byte{}, uint16(0), true)
	f.Fuzz(func(t *testing.T, client []byte, clientPort uint16, server []byte, serverPort uint16, first bool) {
		end := func(addr []byte, port uint16) netip.AddrPort {
			a, ok := netip.AddrFromSlice(addr)
			if !ok {
				return netip.AddrPort{}
			}
			return login.PlainAddrPort(netip.AddrPortFrom(a, port))
		}
		ends := login.Ends{Client: end(client, clientPort), Server: end(server, serverPort)}
		version := byte(2)
		if first {
			version = 1
		}
		wire, err := proxyHeader(version, ends)
		if err != nil {
			t.Fatalf("%+v: %v", ends, err)
		}
		if first && (len(wire) > 107 || bytes.IndexByte(wire, '\r') != len(wire)-2 || bytes.IndexByte(wire, '\n') != len(wire)-1) {
			t.Errorf("header %q", wire)
		}
		const next = "* OK ready\r\n"
		br := bufio.NewReader(strings.NewReader(string(wire) + next))
		h, err := proxyproto.Read(br)
		if err != nil {
			t.Fatalf("header %q: %v", wire, err)
		}
		if rest, _ := br.ReadString('\n'); rest != next {
			t.Errorf("behind the header comes %q", rest)
		}
		if !ends.Client.IsValid() {
			return
		}
		source, ok := h.SourceAddr.(*net.TCPAddr)
		if !ok || source.AddrPort().Addr().Unmap().WithZone("") != ends.Client.Addr().WithZone("") || source.Port != max(1, int(clientPort)) {
			t.Errorf("%+v became %v", ends, h.SourceAddr)
		}
	})
}

// FuzzIDFields pins that what the backend is told of the client is a list of quoted
// strings, whatever a session is called.
func FuzzIDFields(f *testing.F) {
	f.Add("SESSION", []byte{192, 0, 2, 7}, uint16(7000))
	f.Add("x\" NIL) \r\na LOGOUT\r\n", []byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, id string, client []byte, port uint16) {
		addr, _ := netip.AddrFromSlice(client)
		fields := idFields(&login.Attempt{ID: id, Remote: addr, RemotePort: port})
		if bytes.ContainsAny(fields, "\r\n\x00") {
			t.Fatalf("fields %q", fields)
		}
		strings, quoted := 0, false
		for i := 0; i < len(fields); i++ {
			switch c := fields[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				if quoted = !quoted; quoted {
					strings++
				}
			case !quoted && c != ' ':
				t.Fatalf("fields %q", fields)
			}
		}
		if quoted || strings%2 != 0 {
			t.Errorf("fields %q", fields)
		}
	})
}

// FuzzClassify pins that nobody is let in but by OK and nobody accused but by NO, and
// that no answer has us wait for longer than we say.
func FuzzClassify(f *testing.F) {
	for _, s := range []string{
		"T1 OK in", "T1 NO LOGIN failed.", "T1 NO [EXPIRED] x", "T1 NO Server Unavailable. 15", "T1 BAD User is authenticated but not connected.",
		"T1 BAD Request is throttled. Suggested Backoff Time: 99999999999999999999 milliseconds", "* BYE Too many connections", "T1 NO [LIMIT] x", "T1 PREAUTH",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r := imapwire.ParseResponse(line)
		for name, v := range map[string]login.Verdict{"": classify(&r), "early": classifyEarly(&r), "probe": classifyProbe(&r)} {
			switch {
			case v.Result == login.Granted && (name == "early" || r.Status != imap.StatusResponseTypeOK),
				v.Result == login.Denied && (name != "" || r.Status != imap.StatusResponseTypeNo),
				v.Backoff < 0, v.Backoff > maxBackoff, v.Backoff != 0 && v.Result != login.Throttled,
				(v.Code == "") != (v.Result == login.Granted):
				t.Errorf("%q, %s: %+v", line, name, v)
			}
			if v.Err != nil && (len(v.Err.Error()) > 1000 || strings.ContainsAny(v.Err.Error(), "\r\n\x00\x1b")) {
				t.Errorf("%q, %s: error %q", line, name, v.Err)
			}
		}
	})
}
