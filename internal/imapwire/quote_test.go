package imapwire

import (
	"strings"
	"testing"
)

func TestAppendQuoted(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", `""`},
		{"alice", `"alice"`},
		{"alice@example.org/shared", `"alice@example.org/shared"`},
		{`CORP\alice`, `"CORP\\alice"`},
		{`a"b`, `"a\"b"`},
		{`\"`, `"\\\""`},
		{"{env.HOME}", `"{env.HOME}"`},
		{"a b\tc", "\"a b\tc\""},
		{"\x01\x7f", "\"\x01\x7f\""},
		{strings.Repeat("x", maxQuoted), `"` + strings.Repeat("x", maxQuoted) + `"`},
	} {
		got, ok := AppendQuoted([]byte("A1 LOGIN "), tc.in)
		if want := "A1 LOGIN " + tc.want; !ok || string(got) != want {
			t.Errorf("%q: %q, %v; want %q", tc.in, got, ok, want)
		}
	}
	for _, in := range []string{
		"a\x00b", "a\rb", "a\nb", "\r\n", "grün", "\xff", "\x80", strings.Repeat("x", maxQuoted+1),
	} {
		got, ok := AppendQuoted([]byte("A1 LOGIN "), in)
		if ok || string(got) != "A1 LOGIN " {
			t.Errorf("%q: %q, %v; want nothing appended", in, got, ok)
		}
	}
}

// The longest pair of quoted strings still fits a line that every server takes.
func TestQuotedLineLength(t *testing.T) {
	worst := strings.Repeat(`"`, maxQuoted)
	line, _ := AppendQuoted([]byte("ABCDEF12 LOGIN "), worst)
	line, ok := AppendQuoted(append(line, ' '), worst)
	if !ok || len(line)+2 > 1000 {
		t.Errorf("%d bytes, %v", len(line)+2, ok)
	}
}

// FuzzQuote checks that what was quoted stays one string and comes back as it
// was.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "alice", `CORP\alice`, `a"b\`, "grün", "\r\n A2 LOGOUT", strings.Repeat(`"`, 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, ok := AppendQuoted(nil, s)
		if !ok {
			if CanQuote(s) || len(q) > 0 {
				t.Fatalf("%q: quotable, and not quoted", s)
			}
			return
		}
		if q[0] != '"' {
			t.Fatalf("%q does not begin with a quote", q)
		}
		var back []byte
		i := 1
		for ; i < len(q) && q[i] != '"'; i++ {
			if q[i] == '\\' {
				i++
			}
			if i >= len(q) || q[i] == 0 || q[i] == '\r' || q[i] == '\n' || q[i] >= 0x80 {
				t.Fatalf("%q holds what a quoted string must not", q)
			}
			back = append(back, q[i])
		}
		if i != len(q)-1 || string(back) != s {
			t.Fatalf("%q comes back as %q", s, back)
		}
	})
}
