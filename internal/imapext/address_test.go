package imapext

import (
	"strings"
	"testing"
)

func TestFirstAddress(t *testing.T) {
	for value, want := range map[string]string{
		"":                                      "-",
		" \t":                                   "-",
		"(only a comment)":                      "-",
		"a@b.c":                                 "|a|b.c",
		"a.b@c, d@e":                            "|a.b|c",
		"Fred <f@x>":                            "Fred|f|x",
		`"Fred \"F\" Foo" <f@x>`:                `Fred "F" Foo|f|x`,
		"Fred\t  Foo (x) Bar <f@x>":             "Fred Foo Bar|f|x",
		"f@x (Fred Foo)":                        "Fred Foo|f|x",
		"<f@x>":                                 "|f|x",
		"<@a,@b:f@x>":                           "|f|x",
		`"f g"@x`:                               "|f g|x",
		"friends: a@b, c@d;":                    "|friends|",
		"undisclosed-recipients:;":              "|undisclosed-recipients|",
		"fred":                                  "|fred|MISSING_DOMAIN",
		"Fred Foo":                              "Fred Foo|MISSING_MAILBOX|MISSING_DOMAIN",
		`"Fred"`:                                "Fred|MISSING_MAILBOX|MISSING_DOMAIN",
		"Fred <f":                               "Fred|f|SYNTAX_ERROR",
		"Fred <>":                               "Fred|MISSING_MAILBOX|MISSING_DOMAIN",
		"=?utf-8?q?x?= <f@x>":                   "=?utf-8?q?x?=|f|x",
		`"a, "b c" ,<f@x>`:                      "a,  b c |MISSING_MAILBOX|MISSING_DOMAIN",
		`"a, "b "c\"d ,<f@x>`:                   "a,  b c|MISSING_MAILBOX|MISSING_DOMAIN",
		"Fred (unclosed <f@x>":                  "|MISSING_MAILBOX|MISSING_DOMAIN",
		"a@[127.0.0.1]":                         "|a|[127.0.0.1]",
		"a..b.@c":                               "|a..b.|c",
		"J\xe9r <f@x>":                          "J\xe9r|f|x",
		"Fred (a (nested \\) comment) x) <f@x>": "Fred|f|x",
	} {
		a, ok := firstAddress([]byte(value))
		got := string(a.name) + "|" + string(a.mailbox) + "|" + string(a.domain)
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("Fred <f@x>, x")
	f.Add(`"a" (b) <@c:d@e>`)
	f.Add("g: a@b;")
	f.Add(strings.Repeat("(", 100))
	f.Fuzz(func(t *testing.T, value string) {
		a, ok := firstAddress([]byte(value))
		if ok && a.mailbox == nil || !ok && a.mailbox != nil {
			t.Errorf("%q: %q, %v", value, a, ok)
		}
		if len(a.full()) > 2*len(value)+64 {
			t.Errorf("%q: %q is too long", value, a.full())
		}
	})
}
