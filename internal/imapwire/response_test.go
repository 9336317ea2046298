package imapwire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
)

// show writes a response as the tables below do.
func show(r *Response) string {
	kind := [...]string{KindOther: "other", KindTagged: "tagged", KindUntagged: "untagged", KindContinuation: "continuation"}[r.Kind]
	var b strings.Builder
	b.WriteString(kind)
	field := func(name string, value []byte) {
		if len(value) > 0 {
			fmt.Fprintf(&b, " %s=%q", name, value)
		}
	}
	field("tag", r.Tag)
	field("status", []byte(r.Status))
	field("code", []byte(r.Code))
	field("arg", r.Arg)
	field("text", r.Text)
	field("name", r.Name)
	field("rest", r.Rest)
	return b.String()
}

func TestParseResponse(t *testing.T) {
	for _, tc := range []struct{ line, want string }{
		// Tagged.
		{"A1 OK LOGIN completed.", `tagged tag="A1" status="OK" text="LOGIN completed."`},
		{"a.1 no LOGIN failed.", `tagged tag="a.1" status="NO" text="LOGIN failed."`},
		{"A1 BAD", `tagged tag="A1" status="BAD"`},
		{"A1 OK ", `tagged tag="A1" status="OK"`},
		{"A1 OK [CAPABILITY IMAP4rev1  IDLE] Logged in", `tagged tag="A1" status="OK" code="CAPABILITY" arg="IMAP4rev1  IDLE" text="Logged in"`},
		{"A1 NO [authenticationFailed] no", `tagged tag="A1" status="NO" code="AUTHENTICATIONFAILED" text="no"`},
		{"A1 NO [AUTHENTICATIONFAILED]", `tagged tag="A1" status="NO" code="AUTHENTICATIONFAILED"`},
		{"A1 NO [ALERT]text", `tagged tag="A1" status="NO" code="ALERT" text="text"`},
		{"A1 NO [X-OURS a b] text", `tagged tag="A1" status="NO" code="X-OURS" arg="a b" text="text"`},
		{"A1 NO [REFERRAL imap://u;AUTH=*@h/] x", `tagged tag="A1" status="NO" code="REFERRAL" arg="imap://u;AUTH=*@h/" text="x"`},
		{"A1 OK text [ALERT] text", `tagged tag="A1" status="OK" text="text [ALERT] text"`},
		{"A1 NO [ALERT text", `tagged tag="A1" status="NO" text="[ALERT text"`},
		{"A1 NO [] text", `tagged tag="A1" status="NO" text="[] text"`},
		{"A1 NO [ALERT] a] b", `tagged tag="A1" status="NO" code="ALERT" text="a] b"`},
		{"A1 OK {5}", `tagged tag="A1" status="OK" text="{5}"`},

		// Untagged.
		{"* OK The Microsoft Exchange IMAP4 service is ready.", `untagged status="OK" text="The Microsoft Exchange IMAP4 service is ready."`},
		{"* OK", `untagged status="OK"`},
		{"* ok [CAPABILITY IMAP4rev1] x", `untagged status="OK" code="CAPABILITY" arg="IMAP4rev1" text="x"`},
		{"* PREAUTH [ALERT] in", `untagged status="PREAUTH" code="ALERT" text="in"`},
		{"* Bye Connection closed. 14", `untagged status="BYE" text="Connection closed. 14"`},
		{"* CAPABILITY IMAP4 IMAP4rev1", `untagged name="CAPABILITY" rest="IMAP4 IMAP4rev1"`},
		{"* SEARCH", `untagged name="SEARCH"`},
		{"* 54321 EXISTS", `untagged name="54321" rest="EXISTS"`},
		{"* OKAY then", `untagged name="OKAY" rest="then"`},
		{"* A1 OK", `untagged name="A1" rest="OK"`},

		// Continuations.
		{"+", `continuation`},
		{"+ ", `continuation`},
		{"+ UGFzc3dvcmQ6", `continuation text="UGFzc3dvcmQ6"`},
		{"+  x", `continuation text=" x"`},

		// Anything else.
		{"", "other"},
		{" ", "other"},
		{"*", "other"},
		{"* ", "other"},
		{"*  OK", "other"},
		{"*OK", "other"},
		{"+OK POP3 ready", "other"},
		{"[COPYUID 55 31 6]", "other"},
		{"A1", "other"},
		{"A1 ", "other"},
		{"A1 OKAY", "other"},
		{"A1  OK", "other"},
		{"A1 BYE x", "other"},
		{"A1 PREAUTH x", "other"},
		{"A1 FETCH", "other"},
		{" A1 OK", "other"},
		{"A(1 OK", "other"},
		{"A+1 OK", "other"},
		{"A\xe91 OK", "other"},
		{"HTTP/1.1 400 Bad Request", "other"},
		{"220 mx ESMTP", "other"},
		{"\x15\x03\x01", "other"},
	} {
		r := ParseResponse([]byte(tc.line))
		if got := show(&r); got != tc.want {
			t.Errorf("%q\n got %s\nwant %s", tc.line, got, tc.want)
		}
	}
}

func TestKnownCode(t *testing.T) {
	for code, want := range map[imap.ResponseCode]bool{
		imap.ResponseCodeUnavailable: true,
		CodeReferral:                 true,
		"HUNTER2":                    false,
		"":                           false,
	} {
		if got := KnownCode(code); got != want {
			t.Errorf("KnownCode(%q) = %v", code, got)
		}
	}
}

func TestEqualFold(t *testing.T) {
	for _, tc := range []struct {
		word, upper string
		want        bool
	}{
		{"CAPABILITY", "CAPABILITY", true},
		{"capability", "CAPABILITY", true},
		{"CAPABILIT", "CAPABILITY", false},
		{"", "", true},
		{"\u212a", "K", false}, // the Kelvin sign
		{"\u212a\u212a", "KKKKKK", false},
		{"[", "{", false},
	} {
		if got := EqualFold([]byte(tc.word), tc.upper); got != tc.want {
			t.Errorf("EqualFold(%q, %q) = %v", tc.word, tc.upper, got)
		}
	}
}

func TestParseResponseAllocates(t *testing.T) {
	for _, line := range []string{
		"A1 OK LOGIN completed.",
		"A1 NO [authenticationfailed] Authentication failed.",
		"* OK [CAPABILITY IMAP4rev1 IDLE] ready",
		"* CAPABILITY IMAP4rev1 IDLE",
		"+",
		"nonsense",
	} {
		b := []byte(line)
		if n := testing.AllocsPerRun(100, func() { ParseResponse(b) }); n != 0 {
			t.Errorf("%q: %v allocations", line, n)
		}
	}
}

// FuzzParseResponse checks what the callers rely on: every part lies within the
// line, in the right order, and a status is never taken from anywhere but its
// place.
func FuzzParseResponse(f *testing.F) {
	for _, s := range []string{
		"A1 OK [CAPABILITY IMAP4rev1 IDLE] Logged in", "* BYE [ALERT] x", "* 1 FETCH (BODY[] {28}", "+", "+ eA==",
		"A1 NO [AUTHENTICATIONFAILED", "* OK", "A1 bad \xff", "[COPYUID 55 31 6]", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		r := ParseResponse(line)
		if !bytes.Equal(line, before) {
			t.Fatal("the line was changed")
		}
		rest := line
		for _, part := range [][]byte{r.Tag, r.Arg, r.Text, r.Name, r.Rest} {
			i := bytes.Index(rest, part)
			if i < 0 {
				t.Fatalf("part %q is not where it should be in %q", part, line)
			}
			rest = rest[i+len(part):]
		}
		head := strings.ToUpper(string(line))
		switch r.Kind {
		case KindTagged:
			if want := strings.ToUpper(string(r.Tag)) + " " + string(r.Status); r.Status == "" || !strings.HasPrefix(head, want) {
				t.Errorf("%q is not tagged %s", line, r.Status)
			}
		case KindUntagged:
			if r.Status != "" && !strings.HasPrefix(head, "* "+string(r.Status)) {
				t.Errorf("%q is not untagged %s", line, r.Status)
			}
			if (r.Status == "") == (len(r.Name) == 0) {
				t.Errorf("%q: neither status nor data, or both", line)
			}
		case KindContinuation:
			if head != "+" && !strings.HasPrefix(head, "+ ") {
				t.Errorf("%q is no continuation", line)
			}
		default:
			if r.Status != "" || r.Code != "" || r.Text != nil || r.Name != nil {
				t.Errorf("%q has no kind, but %s", line, show(&r))
			}
		}
	})
}

func BenchmarkParseResponse(b *testing.B) {
	line := []byte("A1 NO [AUTHENTICATIONFAILED] Authentication failed.")
	b.ReportAllocs()
	for b.Loop() {
		if r := ParseResponse(line); r.Kind != KindTagged {
			b.Fatal(r.Kind)
		}
	}
}
