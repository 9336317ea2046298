package imapext

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// TestMissing has a backend leave messages out, as Exchange does with one that it cannot
// convert.
func TestMissing(t *testing.T) {
	play := func(c *imaptest.Conn) {
		for {
			line, ok := c.ReadLine()
			if !ok {
				return
			}
			tag, name, rest := imaptest.SplitCommand(line)
			switch {
			case name == "SELECT":
				c.Sendf("* 3 EXISTS\r\n* OK [UIDVALIDITY 7] x")
			case strings.HasPrefix(rest, "FETCH 8 "):
				c.Sendf("* 1 FETCH (UID 8 BODY[] {1}\r\nx)")
			case strings.HasPrefix(rest, "FETCH 13 "):
				c.Sendf("%s NO not now", tag)
				continue
			}
			c.Sendf("%s OK %s completed.", tag, name)
		}
	}
	told := make(chan string, 2*maxMissing)
	missing := func(mailbox string, uid uint64) { told <- fmt.Sprint(mailbox, " ", uid) }
	c := sessionWith(t, &Config{Names: []string{Auto}}, exchange, play, missing)
	c.ask("UID FETCH 1 (BODY.PEEK[])") // nothing is selected
	c.ask(`SELECT "a b"`)
	for _, command := range []string{
		"NOOP", "UID FETCH 8 (BODY[])", "UID FETCH 9 (BODY.PEEK[])", "uid fetch 10 RFC822", "UID FETCH 11 (FLAGS)", "UID FETCH 12:13 (BODY[])", "UID FETCH 13 (BODY[])",
		"UID FETCH 14 (UID BODY.PEEK[1])", "UID FETCH 15 RFC822.SIZE",
	} {
		c.ask(command)
	}
	for _, want := range []string{"a b 9", "a b 10", "a b 14"} {
		select {
		case got := <-told:
			if got != want {
				t.Errorf("told of %s, want %s", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("not told of %s", want)
		}
	}
	for range 2 * maxMissing {
		c.ask("UID FETCH 9 (BODY.PEEK[])")
	}
	if n := len(told); n != maxMissing-3 {
		t.Errorf("told of %d more", n)
	}
	for _, o := range []*Offer{
		(&Config{Names: []string{Auto}}).Offer([]string{"IMAP4rev1"}), (&Config{Names: []string{"ID"}}).Offer(strings.Fields(exchange)),
		(&Config{Names: []string{Auto}, ReportMissing: SwitchOff}).Offer(strings.Fields(exchange)),
	} {
		if o.report {
			t.Error("reported where nobody has asked for it")
		}
	}
	if !(&Config{ReportMissing: SwitchOn}).Offer(nil).report {
		t.Error("not reported")
	}
}
