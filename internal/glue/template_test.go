package glue

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestTemplate(t *testing.T) {
	t.Setenv("IMAP_TEST_DOMAIN", "corp.example.org")
	t.Setenv("IMAP_TEST_TEMPLATE", "{imap.user.local}")
	t.Setenv("IMAP_TEST_EMPTY", "")
	for _, tc := range []struct{ template, user, want, err string }{
		{"{imap.user}", "alice", "alice", ""},
		{`CORP\{imap.user.local}`, "alice@example.org", `CORP\alice`, ""},
		{`{imap.user.domain}\{imap.user.local}`, "alice@example.org", `example.org\alice`, ""},
		{"{imap.user.local}@{env.IMAP_TEST_DOMAIN}", "alice", "alice@corp.example.org", ""},
		{`{env.IMAP_TEST_DOMAIN}\{imap.user}`, "alice", `corp.example.org\alice`, ""},
		{"{env.IMAP_TEST_TEMPLATE}@example.org", "alice", "alice@example.org", ""},
		{"{imap.user}-{imap.user.local}", "{env.IMAP_TEST_DOMAIN}", "{env.IMAP_TEST_DOMAIN}-{env.IMAP_TEST_DOMAIN}", ""},
		{"{imap.user}}", "alice", "alice}", ""},

		{"", "", "", "template is empty"},
		{"{imap.user}@{env.IMAP_TEST_EMPTY}", "", "", "placeholder {env.IMAP_TEST_EMPTY} is empty"},
		{"{imap.user}@{env.IMAP_TEST_NOT_SET}", "", "", "placeholder {env.IMAP_TEST_NOT_SET} is empty"},
		{"{imap.user}@{evn.HOME}", "", "", "unknown placeholder {evn.HOME}"},
		{"{env.IMAP_TEST_DOMAIN}", "", "", `template "corp.example.org" has no placeholder`},
		{"{{imap.user}}", "", "", "unknown placeholder {{imap.user}"},
		{"{imap.user}{", "", "", "'{' without '}'"},
	} {
		template, err := Template(caddy.NewReplacer(), tc.template)
		switch {
		case tc.err != "":
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: error %v, want %q", tc.template, err, tc.err)
			}
		case err != nil:
			t.Errorf("%s: %v", tc.template, err)
		default:
			if got := template.Expand(tc.user); got != tc.want {
				t.Errorf("%s of %s is %s, want %s", tc.template, tc.user, got, tc.want)
			}
		}
	}
}
