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

func TestTellsCertified(t *testing.T) {
	const (
		email, before, domain = "{imap.certificate.email}", "{imap.certificate.email.local}", "{imap.certificate.email.domain}"
		name, host            = "{imap.certificate.common_name}", "{imap.certificate.dns}"
		user, local           = "{imap.user}", "{imap.user.local}"
	)
	for _, tc := range []struct {
		template, of string
		want         bool
	}{
		{user, email, true},
		{user, name, true},
		{`CORP\` + user, email, true},
		{local, before, true},
		{local, before + "@example.org", true},
		{`CORP\` + local, before + "@example.org", true},
		{local, name + "@example.org", true},
		{local, host, true},
		{local, host + ".", true},
		{local, `CORP\` + before, true},
		{local, `CORP\` + email, true},
		{local, before + "." + domain, true},

		{local, email, false},
		{local, "x" + email, false},
		{local, email + "x", false},
		{local, name, false},
		{local, before + "@" + domain, false},
		{local, domain + `\` + before, false},
		{local, "a@" + host, false},
		{"{imap.user.domain}", email, false},
		{"{imap.user.local}@{imap.user.domain}", email, false},
	} {
		template, err := ParseTemplate(tc.template)
		if err != nil {
			t.Fatal(err)
		}
		of, err := ParseCertificateTemplate(tc.of)
		if err != nil {
			t.Fatal(err)
		}
		if got := template.TellsCertified(of); got != tc.want {
			t.Errorf("%s of %s: %v, want %v", tc.template, tc.of, got, tc.want)
		}
	}
}
