package login

import (
	"strings"
	"testing"
)

func TestTemplateExpand(t *testing.T) {
	for _, tc := range []struct{ template, user, want string }{
		{"{imap.user}", "alice@example.org", "alice@example.org"},
		{"{imap.user}", `CORP\alice`, `CORP\alice`},
		{"{imap.user}", "", ""},
		{"{imap.user.local}", "alice@example.org", "alice"},
		{"{imap.user.local}", "alice", "alice"},
		{"{imap.user.local}", `CORP\alice`, "alice"},
		{"{imap.user.local}", `CORP\alice\shared`, `alice\shared`},
		{"{imap.user.local}", `"a@b"@example.org`, `"a@b"`},
		{"{imap.user.local}", "alice@", "alice"},
		{"{imap.user.domain}", "alice@example.org", "example.org"},
		{"{imap.user.domain}", `CORP\alice`, "CORP"},
		{"{imap.user.domain}", `CORP\alice@example.org`, "CORP"},
		{"{imap.user.domain}", "alice", ""},
		{`CORP\{imap.user.local}`, "alice@example.org", `CORP\alice`},
		{"{imap.user.local}@corp.{imap.user.domain}", "alice@example.org", "alice@corp.example.org"},
		{"{imap.user}{imap.user}", "ab", "abab"},
		{"x}{imap.user}}y", "a", "x}a}y"},

		// What was typed is text, even if it looks like one of ours.
		{"{imap.user}", "{env.HOME}", "{env.HOME}"},
		{"{imap.user.local}@d", "{imap.user.domain}@e", "{imap.user.domain}@d"},
		{"{imap.user}-{imap.user.local}", "{imap.user}", "{imap.user}-{imap.user}"},
	} {
		tm, err := ParseTemplate(tc.template)
		if err != nil {
			t.Errorf("%s: %v", tc.template, err)
			continue
		}
		if got := tm.Expand(tc.user); got != tc.want {
			t.Errorf("%s of %q = %q, want %q", tc.template, tc.user, got, tc.want)
		}
	}
}

func TestTemplateErrors(t *testing.T) {
	for _, tc := range []struct{ template, want string }{
		{"", "empty"},
		{"postmaster", "no placeholder"},
		{"{imap.user", "'{' without '}'"},
		{"{imap.user}{", "'{' without '}'"},
		{"{env.HOME}", "unknown placeholder {env.HOME}; known are {imap.user}, {imap.user.local} and {imap.user.domain}"},
		{"{}", "unknown placeholder {}"},
		{"{{imap.user}}", "unknown placeholder {{imap.user}"},
		{"{IMAP.USER}", "unknown placeholder {IMAP.USER}"},
	} {
		_, err := ParseTemplate(tc.template)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: error %v, want one with %q", tc.template, err, tc.want)
		}
	}
}
