package imapext

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestGlob(t *testing.T) {
	for _, test := range []struct {
		pattern, name, delim string
		want                 bool
	}{
		{"*", "a/b", "/", true}, {"%", "a/b", "/", false}, {"%", "a/b", "", true}, {"%", "a/b", ".", true}, {"%/%", "a/b", "/", true},
		{"%%", "a/b", "/", false}, {"%*", "a/b", "/", true}, {"a%", "a", "/", true}, {"a*b", "a/x/b", "/", true}, {"a%b", "a/x/b", "/", false},
		{"", "", "/", true}, {"", "a", "/", false}, {"a", "", "/", false}, {"*", "", "/", true}, {"inbox", "INBOX", "/", true}, {"INBOX", "inbox", "/", true},
		{"iNb%", "INBOX", "/", true}, {"inbox/A", "INBOX/A", "/", true}, {"inbox/a", "INBOX/A", "/", false}, {"inboxa", "INBOXA", "/", false},
		{"%box", "INBOX", "/", true}, {"in*/b", "INBOX.x/b", ".", true}, {"foo", "FOO", "/", false}, {"*x*y", "axbyc", "/", false}, {"*x*y*", "axbyc", "/", true},
		{"%.b", "a.b", ".", true}, {"%.b", "a.c.b", ".", false}, {`%\%`, `a\b`, `\`, true}, {"*%", "a/b", "/", true}, {"x%y%z", "x1y2y3z", "/", true},
	} {
		if got := glob(test.pattern, test.name, test.delim); got != test.want {
			t.Errorf("glob(%q, %q, %q) = %v", test.pattern, test.name, test.delim, got)
		}
	}
	start := time.Now()
	if glob(strings.Repeat("*a", maxPattern/2)+"b", strings.Repeat("a", maxName), "/") {
		t.Error("matches")
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"a": "a", "&": "", "&-": "&", "a&-b&-": "a&b&", "Gel&APY-scht": "Gelöscht", "&U,BTFw-": "台北", "&ZeVnLIqe-": "日本語", "&APY": "", "&AP-": "", "&APYA-": "",
		"&2D3eAA-": "😀", "&2D0-": "", "&3gA-": "", "&2D0AQQ-": "", "&AEE-": "A", "ö": "ö", "&!-": "", "&APY-&APY-": "öö", "&APYA9g-": "öö",
	} {
		got, ok := decodeName(name)
		if !ok && want != "" || ok && got != want || !ok && got != name {
			t.Errorf("%s is %q, %v, want %q", name, got, ok, want)
		}
	}
	for _, same := range [][2]string{{"inbox", "INBOX"}, {"Inbox/a", "INBOX/a"}, {"&APY-&APY-", "&APYA9g-"}, {"INBOX", "&AEkATgBCAE8AWA-"}} {
		if nameKey(same[0], "/") != nameKey(same[1], "/") {
			t.Errorf("%s and %s differ", same[0], same[1])
		}
	}
	for _, other := range [][2]string{{"Inbox/A", "INBOX/a"}, {"inboxa", "INBOXa"}, {"foo", "Foo"}} {
		if nameKey(other[0], "/") == nameKey(other[1], "/") {
			t.Errorf("%s and %s are the same", other[0], other[1])
		}
	}
	if !newPattern("a/", "&APYA9g-%").matches("a/&APY-&APY-x", "/") || !newPattern("", "&APY*").matches("&APY-", "/") || newPattern("", "&APYA9g-%").matches("&APY-", "/") {
		t.Error("patterns do not match names of another spelling")
	}
}

// FuzzGlob compares with a regular expression.
func FuzzGlob(f *testing.F) {
	f.Add("a*%b/", "a/b/c", "/")
	f.Add("iNb%", "INBOX", ".")
	f.Fuzz(func(t *testing.T, pattern, name, delim string) {
		if len(delim) > 1 || len(delim) == 1 && delim[0] >= 0x80 || len(pattern) > 100 || len(name) > 200 {
			return
		}
		got := glob(pattern, name, delim)
		if isInbox(name, delim) || !utf8.ValidString(pattern) || !utf8.ValidString(name) {
			return
		}
		expr := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, "(?s:.*)")
		any := "(?s:.*)"
		if delim != "" {
			any = fmt.Sprintf(`[^\x{%x}]*`, delim[0])
		}
		if want := regexp.MustCompile("^" + strings.ReplaceAll(expr, "%", any) + "$").MatchString(name); got != want && !strings.HasSuffix(name, "\n") {
			t.Errorf("glob(%q, %q, %q) = %v", pattern, name, delim, got)
		}
	})
}

func FuzzName(f *testing.F) {
	f.Add("Gel&APY-scht", "/")
	f.Add("&2D3eAA-&-", "")
	f.Add("inbox.&", ".")
	f.Fuzz(func(t *testing.T, name, delim string) {
		decoded, ok := decodeName(name)
		if !ok && decoded != name {
			t.Errorf("%q became %q", name, decoded)
		}
		if key := nameKey(name, delim); key != decoded && !isInbox(decoded, delim) {
			t.Errorf("%q counts as %q", name, key)
		}
	})
}

// FuzzList reads commands and responses about lists. What was read of a response is the
// same when it is written and read again.
func FuzzList(f *testing.F) {
	f.Add([]byte(`(SUBSCRIBED RECURSIVEMATCH) "" (a* "b c" {1}` + "\r\nx) RETURN (CHILDREN STATUS (MESSAGES))"))
	f.Add([]byte(`(\Noselect \HasChildren) "/" a b ("CHILDINFO" ("SUBSCRIBED"))`))
	f.Add([]byte(`() NIL {3}` + "\r\na\r\n"))
	f.Add([]byte(`(\HasChildren) "/" ~user/Mail`))
	o := (&Config{Names: []string{Auto}}).Offer(nil)
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := parseList(scanner{rest: text}, o.allowed()); err == nil && (len(r.patterns) > maxPatterns || r.recursive && !r.onlySubscribed && !r.onlySpecial) {
			t.Errorf("%q: %+v", text, r)
		}
		one, ok := readFolder(&scanner{rest: text})
		if !ok {
			return
		}
		again := one.appendList(nil, "LIST")
		_, name, s := untagged(again)
		two, ok := readFolder(&s)
		if name != "LIST" || !ok || two.name != one.name || two.delim != one.delim || two.key != one.key || strings.Join(two.attrs, " ") != strings.Join(one.attrs, " ") {
			t.Errorf("%q became %q: %+v, %+v", text, again, one, two)
		}
	})
}
