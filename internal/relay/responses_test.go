package relay

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

// heard is what came of a backend's bytes.
type heard struct {
	ledger *ledger
	scan   responses
	out    strings.Builder
	// at are the boundaries, as offsets in out.
	at   []int
	held string
}

func newHeard() *heard {
	l := newLedger()
	return &heard{ledger: l, scan: responses{ledger: l, strict: new(atomic.Bool)}}
}

func (h *heard) feed(piece string) {
	p := []byte(h.held + piece)
	h.held = ""
	for len(p) > 0 {
		pass, skip := h.scan.next(p, true)
		h.out.Write(p[:pass])
		p = p[pass+skip:]
		if pass+skip == 0 {
			h.held = string(p)
			return
		}
		if h.scan.atBoundary() {
			h.at = append(h.at, h.out.Len())
		}
	}
}

// TestResponses pins where a line of ours may be put in: wherever a '|' stands.
// What is in <> does not reach the client.
func TestResponses(t *testing.T) {
	for name, in := range map[string]string{
		"lines":              "* 1 EXISTS\r\n|* FLAGS (a b)\n|a OK done\r\n|",
		"literal":            "* 1 FETCH (BODY[] {12}\r\n* OK\r\na OK\r\n)\r\n|a OK done\r\n|",
		"literals":           "* 1 FETCH (A {2}\r\n\r\n B ~{1}\r\n\n C {0}\r\n D {1}\n\n)\r\n|",
		"no literal at once": "* 1 FETCH (A {2} )\r\n|* 1 FETCH {2}x\r\n|* LIST () \"{5}\"\r\n|* 1 {x}\r\n|* 1 {}\r\n|* 1 5}\r\n|",
		"status":             "* OK text {5}\r\n|* no text {5}\r\n|* BAD {5}\r\n|* BYE {5}\r\n|* PREAUTH {5}\r\n|* OK\r\n|",
		"code":               "* OK [PERMANENTFLAGS (\\*)] {5}\r\n|a NO [ALERT] {5}\r\n|* OK [X] {5}\r\n|* OK [] {5}\r\n|* OK [NO] {5}\r\n|",
		"tagged":             "a OK {5}\r\n|a NO {5}\r\n|a bad {5}\r\n|a WHAT {5}\r\n|a FETCH {5}\r\n|a\r\n|",
		"continuation":       "+ go on {5}\r\n|+\r\n|+ idling\n|",
		"no grammar":         "[COPYUID 55 31 {5}\r\n|\r\n|\n| {5}\r\n|*1 {5}\r\n|**\r\n|*\r\n|",
		"short data":         "* A {1}\r\nx\r\n|* SEARCH\r\n|* \r\n|",
		"size":               "* 1 {0000000000000000003}\r\n123\r\n|* 1 {9223372036854775808}\r\n|* 1 {00000000000000000003}\r\n|",
		"list":               "* CAPABILITY IMAP4rev1< UNAUTHENTICATE> IDLE\r\n|* capability< unauthenticate>\r\n|* CAPABILITY< UnAuthenticate> X\n|",
		"code list":          "a OK [CAPABILITY IMAP4rev1< UNAUTHENTICATE>] hi UNAUTHENTICATE\r\n|* OK [CAPABILITY< UNAUTHENTICATE> IDLE] {5}\r\n|",
		"unlisted":           "* CAPABILITY UNAUTHENTICATED UNAUTH XUNAUTHENTICATE\r\n|* OK UNAUTHENTICATE\r\n|* LIST () UNAUTHENTICATE x\r\n|a CAPABILITY UNAUTHENTICATE\r\n|* CAPABILITYX UNAUTHENTICATE\r\n|",
		"long":               "* " + strings.Repeat("x", 500) + " {2}\r\n\r\n\r\n|" + strings.Repeat("y", 500) + " OK {2}\r\n|",
	} {
		t.Run(name, func(t *testing.T) {
			var at []int
			var bytes, want strings.Builder
			hidden := false
			for i, c := range in {
				switch {
				case c == '|':
					at = append(at, want.Len())
				case c == '<', c == '>':
					hidden = c == '<'
				default:
					bytes.WriteByte(in[i])
					if !hidden {
						want.WriteByte(in[i])
					}
				}
			}
			for size := 1; size <= bytes.Len(); size++ {
				h := newHeard()
				for in := bytes.String(); in != ""; {
					n := min(size, len(in))
					h.feed(in[:n])
					in = in[n:]
				}
				if h.out.String() != want.String() || h.held != "" {
					t.Fatalf("pieces of %d: client got %q, held %q, want %q", size, h.out.String(), h.held, want.String())
				}
				if fmt.Sprint(h.at) != fmt.Sprint(at) {
					t.Fatalf("pieces of %d: boundaries at %v, want %v, in %q", size, h.at, at, want.String())
				}
				if h.scan.strict.Load() != strings.Contains(in, "<") {
					t.Fatalf("pieces of %d: strict is %v", size, h.scan.strict.Load())
				}
			}
		})
	}
}

// TestCompletions pins what completes a command, and what invites.
func TestCompletions(t *testing.T) {
	h := newHeard()
	tag := func(s string) uint32 {
		x := hashStart
		for i := range s {
			x = hashByte(x, s[i])
		}
		return x
	}
	for _, s := range []string{"a", "b", "c"} {
		h.ledger.begin(tag(s), true)
	}
	if h.ledger.begin(tag("b"), true) {
		t.Error("a tag in use was taken")
	}
	h.ledger.expect(tag("b"), waitLiteral, false)
	for _, step := range []struct {
		line  string
		open  int
		reply answer
	}{
		{"* OK b OK\r\n", 3, unanswered},
		{"b WHAT\r\n", 3, unanswered},
		{"A OK\r\n", 3, unanswered},
		{"a NO [X] b OK\r\n", 2, unanswered},
		{"a OK again\r\n", 2, unanswered},
		{"b ok", 2, unanswered},
		{"\r\n", 1, completed},
		{"c BAD\n", 0, completed},
	} {
		h.feed(step.line)
		if len(h.ledger.open) != step.open || h.ledger.reply != step.reply {
			t.Fatalf("after %q: open %d, reply %d; want %d, %d", step.line, len(h.ledger.open), h.ledger.reply, step.open, step.reply)
		}
	}

	// An invitation that nobody has asked for is hidden, and only that.
	h.ledger.begin(tag("d"), true)
	h.ledger.expect(tag("d"), waitLiteral, true)
	h.out.Reset()
	h.feed("* 1 EXISTS\r\n+ OK\r\n+ another\r\n")
	if h.ledger.await() != invited || h.out.String() != "* 1 EXISTS\r\n+ another\r\n" {
		t.Errorf("reply %d, client got %q", h.ledger.reply, h.out.String())
	}
	// COMPRESS is not invited, and makes everything behind it opaque.
	h.ledger.begin(tag("e"), true)
	h.ledger.expect(tag("e"), waitCompress, false)
	h.feed("+ no\r\ne OK now\r\n\x00* CAPABILITY UNAUTHENTICATE\r\n")
	if h.ledger.await() != compressed || !strings.HasSuffix(h.out.String(), "\x00* CAPABILITY UNAUTHENTICATE\r\n") {
		t.Errorf("reply %d, client got %q", h.ledger.reply, h.out.String())
	}
}
