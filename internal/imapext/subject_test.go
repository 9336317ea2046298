package imapext

import (
	"strings"
	"testing"
)

// baseOf returns the base subject of the value of a field.
func baseOf(value string) (string, bool) {
	base, reply := baseSubject(appendCasemap(nil, appendDecoded(nil, []byte(value))))
	return string(base), reply
}

func TestBaseSubject(t *testing.T) {
	for _, c := range []struct {
		subject, base string
		reply         bool
	}{
		{"", "", false},
		{"hello  \t world ", "HELLO WORLD", false},
		{"Re: hello", "HELLO", true},
		{"re : Fw:FWD [x]: hello", "HELLO", true},
		{"Fwd: hello (fwd) (FWD) ", "HELLO", true},
		{"[list] Re: [more] hello", "HELLO", true},
		{"[list] hello", "HELLO", false},
		{"[list]", "[LIST]", false},
		{"[list][more]", "[MORE]", false},
		{"Re: [list]", "[LIST]", true},
		{"[a[b] hello", "[A[B] HELLO", false},
		{"[fwd: hello]", "HELLO", true},
		{"[Fwd: Re: [Fwd: hello (fwd)] (fwd)]", "HELLO", true},
		{"Reply: hello", "REPLY: HELLO", false},
		{"Re", "RE", false},
		{"Re [a] b: x", "RE [A] B: X", false},
		{"Re[2]: hello", "HELLO", true},
		{"  Re:  ", "", true},
		{"=?utf-8?q?R=65=3A_?= =?utf-8?b?aGVsbG8=?=", "HELLO", true},
		{"=?utf-8?q?a?= =?utf-8?x?b?= =? =?utf-8?q?c?=", "A=?UTF-8?X?B?= =? C", false},
		{"=?iso-8859-1?Q?R=E9sum=E9?=", "RE\u0301SUME\u0301", false},
		{"=?KOI8-R?B?8NLJ18XU?=", "ПРИВЕТ", false},
		{"=?unheard-of?Q?Re:_abc?=", "ABC", true},
		{"a =?utf-8?q?b?= c", "A B C", false},
		{"=?utf-8?x?b?= c", "=?UTF-8?X?B?= C", false},
		{"Jos\xe9\xe8 x", "JOS\uFFFD X", false},
	} {
		if base, reply := baseOf(c.subject); base != c.base || reply != c.reply {
			t.Errorf("%q: got %q, %v; want %q, %v", c.subject, base, reply, c.base, c.reply)
		}
	}
}

func TestCasemap(t *testing.T) {
	for text, want := range map[string]string{
		"straße":   "STRAßE",
		"ǆ":        "Dz\u030c", // RFC 5051 takes the title case, and decomposes that
		"Å\u212b":  "A\u030aA\u030a",
		"한":        "\u1112\u1161\u11ab",
		"ﬁ½":       "fi1\u20442", // compatibility decompositions belong to it
		"\xff\xfe": "\uFFFD",
		"a\xffb":   "A\uFFFDB",
	} {
		if got := casemap(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestHostileSubject has subjects that would take long if each blob were looked at
// from the beginning.
func TestHostileSubject(t *testing.T) {
	for _, s := range []string{
		strings.Repeat("[]", 1<<19), strings.Repeat("[a]", 1<<18) + "Re", strings.Repeat("=?", 1<<19),
		strings.Repeat("=?a?q?", 1<<17), strings.Repeat("[fwd:", 1<<17) + strings.Repeat("]", 1<<17),
		strings.Repeat("Re: ", 1<<18), strings.Repeat("(fwd)", 1<<18),
	} {
		baseOf(s)
	}
}

func FuzzSubject(f *testing.F) {
	f.Add("Re: [x] hello (fwd)")
	f.Add("[Fwd: =?utf-8?b?aGVsbG8=?= =?iso-8859-1?q?=e9?=]")
	f.Fuzz(func(t *testing.T, value string) {
		base, _ := baseOf(value)
		again, reply := baseSubject([]byte(base))
		if string(again) != base && !strings.Contains(base, "(FWD)") && !strings.Contains(base, ":") && !strings.Contains(base, "[") || reply && !strings.ContainsAny(base, ":(") {
			t.Errorf("%q: %q is %q again", value, base, again)
		}
		if strings.Contains(base, "  ") || strings.HasPrefix(base, " ") || strings.HasSuffix(base, " ") {
			t.Errorf("%q: space in %q", value, base)
		}
	})
}
