package guard

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func mapped(t testing.TB) *Domains {
	t.Helper()
	d := new(Domains)
	for _, m := range [][2]string{{"CORP", "Corp.example.org"}, {"SALES", "sales.example.org"}, {"old.example.org", "corp.example.org"}} {
		if err := d.Map(m[0], m[1]); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestAccount(t *testing.T) {
	long := strings.Repeat("x", 1<<16)
	const corp, sales = "@corp.example.org", "@sales.example.org"
	for _, tc := range []struct{ name, unmapped, mapped string }{
		{"alice", "alice", "alice" + corp},
		{"ALICE", "alice", "alice" + corp},
		{" alice\t", "alice", "alice" + corp},
		{"alice@d", "alice", "alice" + corp},
		{`D\alice`, "alice", "alice" + corp},
		{`D\\alice`, "alice", "alice" + corp},
		{`\alice`, "alice", "alice" + corp},
		{`/alice`, "alice", "alice" + corp},
		{`alice\`, "alice", "alice" + corp},
		{"alice/", "alice", "alice" + corp},
		{"alice/shared", "alice", "alice" + corp},
		{"alice/shared@d", "alice", "alice" + corp},
		{"D/alice/shared", "alice", "alice" + corp},
		{`D\alice\shared`, "alice", "alice" + corp},
		{`D\alice/shared`, "alice", "alice" + corp},
		{`D/alice\shared`, "alice", "alice" + corp},
		{`alice@d\shared`, "alice", "alice" + corp},
		{"alice@d/shared", "alice", "alice" + corp},
		{"alice@d/x/y", "alice", "alice" + corp},
		{`D\alice@d`, "alice", "alice" + corp},
		{"alice@d@e", "alice", "alice" + corp},
		{"alice@CORP.example.org", "alice", "alice" + corp},
		{"alice@old.example.org", "alice", "alice" + corp},
		{`corp\alice`, "alice", "alice" + corp},
		{"alice@SALES.example.org", "alice", "alice" + sales},
		{`Sales\Alice`, "alice", "alice" + sales},
		{"sales/alice/shared", "alice", "alice" + sales},
		// What has one slash is a mailbox of somebody, or a user of a domain.
		{"sales/alice", "sales", "alice" + sales},
		{"alice+news", "alice", "alice" + corp},
		{`D\alice+a+b@d`, "alice", "alice" + corp},
		{"alice+x@sales.example.org/shared", "alice", "alice" + sales},
		{"+4912345", "+4912345", "+4912345" + corp},
		{`"alice"`, `"alice"`, `"alice"` + corp},
		{"alice.", "alice.", "alice." + corp},
		{"bob", "bob", "bob" + corp},
		{"alicе", "alicе", "alicе" + corp}, // with a Cyrillic letter
		{"STRASSE", "strasse", "strasse" + corp},
		{"al\u1806i\u00adc\u200de\ufe0f", "alice", "alice" + corp}, // with what SASLprep leaves out
		{"ÄRGER", "arger", "arger" + corp},
		{"ſam", "sam", "sam" + corp},
		{"\u212aim", "kim", "kim" + corp}, // with the sign for kelvin
		{"ΣΊΣΥΦΟΣ", "σισυφοσ", "σισυφοσ" + corp},
		{"σίσυφος", "σισυφοσ", "σισυφοσ" + corp},
		{"al\xffice", "al\ufffdice", "al\ufffdice" + corp},
		{"alice%example.org", "alice", "alice" + corp},
		{"bob*alice", "alice", "alice" + corp},
		{`bob*CORP\alice`, "alice", "alice" + corp},
		{"alice*", "alice*", "alice*" + corp},
		{"", "", corp},
		{"@", "", corp},
		{`\/\`, "", corp},
		{long, long, long + corp},
	} {
		if got := new(Domains).Account(tc.name); got != tc.unmapped {
			t.Errorf("%.40q is %.40q, want %.40q", tc.name, got, tc.unmapped)
		}
		if got := mapped(t).Account(tc.name); got != tc.mapped {
			t.Errorf("%.40q with domains is %.40q, want %.40q", tc.name, got, tc.mapped)
		}
	}
}

func TestMap(t *testing.T) {
	for _, tc := range []struct {
		name   string
		pairs  [][2]string
		reason string
	}{
		{"the same again", [][2]string{{"A", "a.org"}, {"a", "A.ORG"}}, ""},
		{"two names of one domain", [][2]string{{"A", "a.org"}, {"B", "a.org"}}, ""},
		{"no short name", [][2]string{{"", "a.org"}}, "neither may be empty"},
		{"no domain", [][2]string{{"A", ""}}, "neither may be empty"},
		{"two domains of one name", [][2]string{{"A", "a.org"}, {"A", "b.org"}}, "domain a: it stands for a.org already"},
		{"a domain that stands for another", [][2]string{{"b.org", "c.org"}, {"A", "b.org"}}, "domain b.org: it stands for c.org already"},
		{"a domain that others stand for", [][2]string{{"A", "b.org"}, {"b.org", "c.org"}}, "domain b.org: it stands for b.org already"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var d Domains
			var err error
			for _, p := range tc.pairs {
				if err = d.Map(p[0], p[1]); err != nil {
					break
				}
			}
			if (err == nil) != (tc.reason == "") || err != nil && !strings.Contains(err.Error(), tc.reason) {
				t.Errorf("error %v, want %q", err, tc.reason)
			}
		})
	}
}

// TestFold pins for every character there is that its other cases become the same,
// and that what has become the same stays so.
func TestFold(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		// Behind something that is not ASCII all go the same way.
		got := fold("ä" + string(r))
		if other := fold("ä" + string(unicode.SimpleFold(r))); other != got {
			t.Errorf("%q and %q differ", got, other)
		}
		if again := fold(got); again != got {
			t.Errorf("%q becomes %q", got, again)
		}
		if r < utf8.RuneSelf && "a"+fold(string(r)) != got {
			t.Errorf("%q is %q, and %q behind something else", r, fold(string(r)), got)
		}
	}
}

func FuzzAccount(f *testing.F) {
	for _, name := range []string{"alice", `CORP\alice`, "corp/alice/shared", `alice@d\shared`, "ſ\xffK", `\\@/`, " @ "} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, d := range []*Domains{new(Domains), mapped(t)} {
			account := d.Account(name)
			if !utf8.ValidString(account) || strings.ContainsAny(account, separators) {
				t.Errorf("%q is %q", name, account)
			}
			// A star at the end is part of a name; with a domain behind it, it would be
			// that of a master user.
			if again := d.Account(account); again != account && !strings.Contains(account, "*") {
				t.Errorf("%q is %q, which is %q", name, account, again)
			}
			other := strings.Map(unicode.SimpleFold, name)
			if got := d.Account(other); got != account {
				t.Errorf("%q is %q, but %q is %q", name, account, other, got)
			}
			// Some letters are written as several, a separator among them.
			if strings.ContainsAny(fold(name), separators+"@%*") || strings.TrimSpace(fold(name)) == "" {
				continue
			}
			for _, spelling := range []string{name + "@x.org", `X\` + name, name + `@x.org\shared`, "X/" + name + "/shared"} {
				if got := d.Account(spelling); got != account {
					t.Errorf("%q is %q, but %q is %q", name, account, spelling, got)
				}
			}
		}
	})
}
