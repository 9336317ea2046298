package imaptest

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

func TestPoorRefuses(t *testing.T) {
	bare, exchange := &Poor{TB: t}, &Poor{TB: t, Capabilities: ExchangeCapabilities, Odd: true}
	for command, want := range map[string][2]string{
		"NOOP": {}, "NOOP x": {poorArgument, poorArgument}, "FOO": {poorUnknown, poorUnknown}, "": {poorArgument, poorArgument},
		"MOVE 1 x": {poorUnknown, ""}, "uid move 1:* {1+}\r\nx": {poorUnknown, ""}, "UID EXPUNGE 1": {poorUnknown, ""}, "UNSELECT": {poorUnknown, ""},
		`LIST "" *`: {}, `LIST "" (* a)`: {poorArgument, poorArgument}, `LIST (SUBSCRIBED) "" *`: {poorArgument, poorArgument}, `LIST "" * RETURN (CHILDREN)`: {poorArgument, poorArgument},
		"STATUS x (MESSAGES UNSEEN)": {}, "STATUS x (SIZE)": {poorArgument, poorArgument}, "STATUS x ()": {poorArgument, poorArgument},
		"APPEND x (\\Seen) \"1-Jan-2020 00:00:00 +0000\" {1+}\r\nx": {}, "APPEND x {1+}\r\nx {1+}\r\ny": {poorArgument, poorArgument}, "APPEND x y": {poorArgument, poorArgument},
		"FETCH 1:*,3 (UID FLAGS BODY.PEEK[HEADER.FIELDS (A B)] BODY[]<0.5>)": {}, "FETCH $ FLAGS": {poorArgument, poorArgument}, "FETCH 1 (MODSEQ)": {poorArgument, poorArgument}, "FETCH 1 FLAGS (CHANGEDSINCE 1)": {poorArgument, poorArgument},
		"STORE 1 +FLAGS.SILENT (\\Seen x)": {}, "STORE 1 (UNCHANGEDSINCE 1) FLAGS ()": {poorArgument, poorArgument},
		"SEARCH OR NOT SEEN (FROM a 1:3) UID 3": {}, "SEARCH": {poorArgument, poorArgument}, "SEARCH RETURN () ALL": {poorArgument, poorArgument}, "SEARCH $": {poorArgument, poorArgument}, "SEARCH OLDER 3": {poorArgument, poorArgument},
		"SEARCH OR SEEN": {poorArgument, poorArgument}, "SEARCH FROM {2+}\r\nä": {poorArgument, poorArgument}, "SEARCH CHARSET UTF-8 ALL": {poorCharset, poorCharset}, "SEARCH CHARSET us-ascii ALL": {},
		"SORT (DATE) UTF-8 ALL": {poorUnknown, poorUnknown}, "SEARCH SUBJECT " + strings.Repeat("x", maxPoorLine): {"", poorArgument},
	} {
		if got := [2]string{bare.refuses(command), exchange.refuses(command)}; got != want {
			t.Errorf("%.80q: got %q, want %q", command, got, want)
		}
	}
}

// TestPoor has it between a client and a better server.
func TestPoor(t *testing.T) {
	client, near := net.Pipe()
	far, better := net.Pipe()
	p := &Poor{TB: t, Capabilities: ExchangeCapabilities, Odd: true}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Serve(near, far)
	}()
	fromClient, fromBetter := bufio.NewReader(client), bufio.NewReader(better)
	read := func(br *bufio.Reader, want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(br, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	say := func(conn net.Conn, text string) {
		if _, err := io.WriteString(conn, text); err != nil {
			t.Error(err)
		}
	}
	say(client, "a SORT (DATE) UTF-8 ALL\r\n")
	read(fromClient, "a "+poorUnknown+"\r\n")
	go say(client, "b LIST {1}\r\n")
	read(fromClient, "+ Ready for additional command text.\r\n")
	go say(client, "x *\r\n")
	read(fromBetter, "b LIST {1+}\r\nx *\r\n")
	go say(better, "* LIST (\\HasChildren \\Sent) \"/\" \"a&-b\"\r\nb OK fine\r\n")
	read(fromClient, "* LIST (\\HasChildren) \"/\"  a&-b\r\nb OK LIST completed.\r\n")
	go say(client, "c MOVE 1 x\r\n")
	read(fromBetter, "c MOVE 1 x\r\n")
	go say(better, "* OK [COPYUID 1 2 3] Moved\r\n* 1 FETCH (BODY[] {12}\r\n* OK [COPYUID)\r\nc OK done\r\n")
	read(fromClient, "[COPYUID 1 2 3]\r\n* 1 FETCH (BODY[] {12}\r\n* OK [COPYUID)\r\nc OK MOVE completed.\r\n")
	_ = client.Close()
	<-done
	if got := p.Refused(); len(got) != 1 || got[0] != "SORT (DATE) UTF-8 ALL" {
		t.Errorf("refused %q", got)
	}
}
