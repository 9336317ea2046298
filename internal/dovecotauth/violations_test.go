package dovecotauth

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestViolations is the table of what Dovecot was seen to do with clients that
// break the rules, with one difference: a mechanism that is not offered fails
// the request and not the connection.
func TestViolations(t *testing.T) {
	const (
		auth   = "AUTH\t1\tPLAIN\tservice=smtp"
		closes = "(close)"
	)
	long := func(size int) string { // a line of that many bytes with its LF
		line := auth + "\tfoo="
		return line + strings.Repeat("x", size-len(line)-1) + "\n"
	}
	for _, tc := range []struct {
		name string
		// open: the handshake was made. Else the input is the first.
		open   bool
		input  string
		server string
	}{
		{"no VERSION first", false, "CPID\t1\n", closes},
		{"major version 2", false, "VERSION\t2\t0\n", closes},
		{"major version 10", false, "VERSION\t10\t0\n", closes},
		{"minor version no number", false, "VERSION\t1\tx\n", closes},
		{"no minor version", false, "VERSION\t1\n", closes},
		{"AUTH before CPID", false, "VERSION\t1\t2\n" + auth + "\n", closes},
		{"CPID 0", false, "VERSION\t1\t2\nCPID\t0\n", closes},
		{"CPID no number", false, "VERSION\t1\t2\nCPID\tx\n", closes},
		{"second VERSION", false, "VERSION\t1\t2\nVERSION\t1\t2\n", closes},
		{"empty line first", false, "\n", closes},
		{"newer minor version", false, "VERSION\t1\t4\nCPID\t1\n", ""},
		{"CRLF in the handshake", false, "VERSION\t1\t2\r\nCPID\t1\r\n", ""},
		{"handshake in pieces of a packet", false, "VERSION\t1\t0\nCPID\t1\n" + auth + "\tresp=" + good + "\n", "OK\t1\tuser=alice@example.test\n"},

		{"second CPID", true, "CPID\t4712\n", closes},
		{"VERSION again", true, "VERSION\t1\t2\n", closes},
		{"unknown command", true, "PING\n", closes},
		{"command in lower case", true, "auth\t1\tPLAIN\tservice=smtp\n", closes},
		{"empty line", true, "\n", closes},
		{"line with CR only", true, "\r\n", closes},
		{"AUTH without anything", true, "AUTH\n", closes},
		{"AUTH without mechanism", true, "AUTH\t1\n", closes},
		{"AUTH with an empty mechanism", true, "AUTH\t1\t\tservice=smtp\n", closes},
		{"id 0", true, "AUTH\t0\tPLAIN\tservice=smtp\n", closes},
		{"id no number", true, "AUTH\tx\tPLAIN\tservice=smtp\n", closes},
		{"negative id", true, "AUTH\t-1\tPLAIN\tservice=smtp\n", closes},
		{"id 2^32", true, "AUTH\t4294967296\tPLAIN\tservice=smtp\n", closes},
		{"id 2^32-1", true, "AUTH\t4294967295\tPLAIN\tservice=smtp\n", "CONT\t4294967295\t\n"},
		{"id in progress", true, auth + "\n" + auth + "\n", "CONT\t1\t\n" + closes},
		{"no service", true, "AUTH\t1\tPLAIN\tnologin\tresp=" + good + "\n", closes},
		{"no parameters", true, "AUTH\t1\tPLAIN\n", closes},
		{"protocol for service", true, "AUTH\t1\tPLAIN\tprotocol=smtp\n", "CONT\t1\t\n"},
		{"parameter after resp", true, auth + "\tresp=" + good + "\tnologin\n", closes},
		{"empty parameter after resp", true, auth + "\tresp=" + good + "\t\n", closes},
		{"mechanism not offered", true, "AUTH\t1\tSCRAM-SHA-1\tservice=smtp\tresp=biw=\n", "FAIL\t1" + notOffered},
		{"mechanism not offered, bad base64", true, "AUTH\t1\tSCRAM-SHA-1\tservice=smtp\tresp=biw\n", "FAIL\t1" + notOffered},
		{"mechanism in lower case", true, "AUTH\t1\tlogin\tservice=smtp\n", "CONT\t1\t" + askUser + "\n"},
		{"unknown parameters", true, "AUTH\t1\tPLAIN\tservice=smtp\t\tfoo\tbar=\t=\n", "CONT\t1\t\n"},
		{"rip no address", true, auth + "\trip=example\tlip=NULL\n", "CONT\t1\t\n"},

		{"empty response means empty", true, auth + "\tresp=\n", "FAIL\t1\n"},
		{"resp without a value means empty", true, auth + "\tresp\n", "FAIL\t1\n"},
		{"= means empty", true, auth + "\tresp==\n", "FAIL\t1\n"},
		{"bad base64", true, auth + "\tresp=!\n", "FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in initial response\n"},
		{
			"base64 with an escaped line end", true,
			auth + "\tresp=AGFs\x01naWNl\n", "FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in initial response\n",
		},
		{"PLAIN without NUL", true, auth + "\tresp=" + b64("alice") + "\n", "FAIL\t1\n"},
		{"PLAIN with three NUL", true, auth + "\tresp=" + b64("\x00a\x00b\x00") + "\n", "FAIL\t1\n"},
		{"PLAIN with an empty user", true, auth + "\tresp=" + plain("", "", "x") + "\n", "FAIL\t1\tuser=\toriginal_user=\n"},
		{"PLAIN with an empty password", true, auth + "\tresp=" + plain("", "bob", "") + "\n", "FAIL\t1\tuser=bob\n"},
		{"PLAIN with a line end in the password", true, auth + "\tresp=" + plain("", "bob", "x\ny") + "\n", "FAIL\t1\tuser=bob\n"},
		{"LOGIN with a NUL in the password", true, "AUTH\t1\tLOGIN\tservice=smtp\tresp=" + b64("bob") + "\nCONT\t1\t" + b64("x\x00y") + "\n", "CONT\t1\t" + askPass + "\nFAIL\t1\tuser=bob\n"},
		{"space in the user name", true, auth + "\tresp=" + plain("", "bob smith", "x") + "\n", "FAIL\t1\n"},
		{"TAB in the user name", true, auth + "\tresp=" + plain("", "bob\tuser=alice", "x") + "\n", "FAIL\t1\n"},
		{"LF in the user name", true, auth + "\tresp=" + plain("", "bob\nOK\t1", "x") + "\n", "FAIL\t1\n"},
		{"escape byte in the user name", true, auth + "\tresp=" + plain("", "bob\x01t", "x") + "\n", "FAIL\t1\n"},
		{"LOGIN with a CR in the user name", true, "AUTH\t1\tLOGIN\tservice=smtp\tresp=" + b64("bob\r") + "\n", "FAIL\t1\n"},
		{"LOGIN with an empty user as initial response", true, "AUTH\t1\tLOGIN\tservice=smtp\tresp==\n", "FAIL\t1\tuser=\toriginal_user=\n"},

		{"CONT without data", true, auth + "\nCONT\t1\n", "CONT\t1\t\n" + closes},
		{"CONT with id 0", true, "CONT\t0\t\n", closes},
		{"CONT for an unknown id", true, "CONT\t9\tAA==\n", "FAIL\t9\treason=Authentication request timed out\n"},
		{
			"CONT for a cancelled id", true,
			auth + "\nCANCEL\t1\nCONT\t1\tAA==\n", "CONT\t1\t\nFAIL\t1\treason=Authentication request timed out\n",
		},
		{"CONT for an answered id", true, auth + "\tresp==\nCONT\t1\tAA==\n", "FAIL\t1\nFAIL\t1\treason=Authentication request timed out\n"},
		{
			"CONT with two fields", true,
			auth + "\nCONT\t1\tAAAA\tAAAA\n", "CONT\t1\t\nFAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in continued response\n",
		},
		{"CANCEL for an unknown id", true, "CANCEL\t9\n", ""},
		{"CANCEL without an id", true, "CANCEL\n", closes},

		{"line of 16384 bytes", true, long(16384), "CONT\t1\t\n"},
		{"line of 16385 bytes", true, long(16385), closes},
		{"line without an end", true, strings.Repeat("x", 17000), closes},
		{"half a line", true, "AUTH\t1", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{Check: accounts}
				var p *peer
				if tc.open {
					p = start(t, s)
				} else {
					p = dial(t, s)
					p.expectGreeting()
				}
				p.send(tc.input)
				if want, ok := strings.CutSuffix(tc.server, closes); ok {
					said, closed := p.take()
					if said != want || !closed {
						t.Fatalf("server said %q, closed: %v; want %q and a close", said, closed, want)
					}
					if err := p.hangUp(); !errors.Is(err, ErrProtocol) {
						t.Errorf("Serve returned %v, want a protocol violation", err)
					}
					return
				}
				p.expect(tc.server)
				if err := p.hangUp(); err != nil {
					t.Errorf("Serve returned %v for a client that hung up", err)
				}
			})
		})
	}
}

// TestOldMinorVersion pins how a client of version 1.0 or 1.1 says that there is
// no initial response.
func TestOldMinorVersion(t *testing.T) {
	for _, minor := range []string{"0", "1"} {
		synctest.Test(t, func(t *testing.T) {
			p := dial(t, &Server{Check: accounts})
			p.expectGreeting()
			p.send("VERSION\t1\t" + minor + "\nCPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\tresp=\n")
			p.expect("CONT\t1\t\n")
			p.send("AUTH\t2\tLOGIN\tservice=smtp\tresp=\n")
			p.expect("CONT\t2\t" + askUser + "\n")
			_ = p.hangUp()
		})
	}
}

// TestPatience pins who has to hurry, and who may take his time.
func TestPatience(t *testing.T) {
	for _, tc := range []struct {
		name, input string
		wait        time.Duration
		closed      bool
	}{
		{"says nothing", "", handshakeTimeout - time.Second, false},
		{"says nothing, too long", "", handshakeTimeout + time.Second, true},
		{"no CPID", "VERSION\t1\t2\n", handshakeTimeout + time.Second, true},
		{"idle for a week", hello, 7 * 24 * time.Hour, false},
		{"half a line", hello + "AUTH\t1", lineTimeout - time.Second, false},
		{"half a line, too long", hello + "AUTH\t1", lineTimeout + time.Second, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := dial(t, &Server{Check: accounts})
				p.expectGreeting()
				p.send(tc.input)
				time.Sleep(tc.wait)
				if _, closed := p.take(); closed != tc.closed {
					t.Errorf("closed: %v, want %v", closed, tc.closed)
				}
				_ = p.hangUp()
			})
		})
	}
}

// TestSlowLines gives a line in small pieces, with a long rest between two lines.
func TestSlowLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, &Server{Check: accounts})
		for round := range 3 {
			for _, piece := range strings.SplitAfter("AUTH\t1\tPLAIN\tservice=smtp\tresp="+good, "\t") {
				p.send(piece)
				time.Sleep(10 * time.Second)
				p.expect("")
			}
			p.send("\n")
			p.expect("OK\t1\tuser=alice@example.test\n")
			if round == 0 {
				time.Sleep(3 * time.Hour)
			}
		}
		_ = p.hangUp()
	})
}
