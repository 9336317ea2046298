package login

import "testing"

func TestTells(t *testing.T) {
	for _, tc := range []struct {
		template, of string
		want         bool
	}{
		{"{imap.user}", "{imap.user}", true},
		{"{imap.user}", "{imap.user.local}@example.org", true},
		{"{imap.user}@x", "{imap.user}", true},
		{`CORP\{imap.user.local}`, "{imap.user.local}@example.org", true},
		{"{imap.user.local}", "{imap.user.local}@example.org", true},
		{"{imap.user.local}", "{imap.user}", false},
		{"{imap.user.local}", "{imap.user.local}@{imap.user.domain}", false},
		{"{imap.user.local}", "{imap.user.local}", false},
		{"{imap.user.local}", "{imap.user.local}.example.org", false},
		{"{imap.user.local}", "{imap.user.local}@a@b", false},
		{"{imap.user.local}", "x{imap.user.local}@example.org", false},
		{"{imap.user.domain}", "{imap.user}", false},
		{"{imap.user.local}{imap.user.domain}", "{imap.user}", false},
	} {
		template, err := ParseTemplate(tc.template)
		if err != nil {
			t.Fatal(err)
		}
		of, err := ParseTemplate(tc.of)
		if err != nil {
			t.Fatal(err)
		}
		if got := template.Tells(of); got != tc.want {
			t.Errorf("%s of %s: %v, want %v", tc.template, tc.of, got, tc.want)
		}
	}
}
