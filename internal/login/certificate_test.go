package login

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"strings"
	"testing"
)

// certificateOf is a certificate as crypto/x509 reads it.
func certificateOf(commonNames, emails, hosts []string) *x509.Certificate {
	c := &x509.Certificate{EmailAddresses: emails, DNSNames: hosts}
	for _, name := range commonNames {
		c.Subject.CommonName = name
		c.Subject.Names = append(c.Subject.Names, pkix.AttributeTypeAndValue{Type: oidCommonName, Value: name})
	}
	return c
}

func TestCertificateTemplate(t *testing.T) {
	const (
		email, local, domain   = "{imap.certificate.email}", "{imap.certificate.email.local}", "{imap.certificate.email.domain}"
		name, before, behind   = "{imap.certificate.common_name}", "{imap.certificate.common_name.local}", "{imap.certificate.common_name.domain}"
		host                   = "{imap.certificate.dns}"
		alice, example, mapped = "alice@example.org", "example.org", `CORP\alice`
	)
	one := func(s ...string) []string { return s }
	for _, tc := range []struct {
		template           string
		names, emails, dns []string
		want               string
	}{
		{email, nil, one(alice), nil, alice},
		{email, one("Alice"), one(alice), one("a.example.org"), alice},
		{local, nil, one(alice), nil, "alice"},
		{`CORP\` + local, nil, one(alice), nil, mapped},
		{local + "@corp." + domain, nil, one(alice), nil, "alice@corp.example.org"},
		{name, one("alice"), nil, nil, "alice"},
		{name, one("Alice Example"), nil, nil, "Alice Example"},
		{name, one(alice), nil, nil, alice},
		{name, one(mapped), nil, nil, mapped},
		{name + "@example.org", one("alice"), nil, nil, alice},
		{before + "-" + behind, one(alice), nil, nil, "alice-" + example},
		{host, nil, nil, one("phone.example.org"), "phone.example.org"},
		{"{imap.certificate.common_name}", one("{env.HOME}"), nil, nil, "{env.HOME}"},

		// Not exactly one.
		{email, one(alice), nil, nil, ""},
		{email, nil, one(alice, "bob@example.org"), nil, ""},
		{email, nil, one(alice, alice), nil, ""},
		{email, nil, one(""), nil, ""},
		{local, nil, nil, nil, ""},
		{name, nil, one(alice), nil, ""},
		{name, one("alice", "bob"), nil, nil, ""},
		{name, one(""), nil, nil, ""},
		{host, one("a.example.org"), nil, nil, ""},
		{host, nil, nil, one("a.example.org", "b.example.org"), ""},
		{local + name, one("alice"), nil, nil, ""},
		// More than one way to read it.
		{email, nil, one("alice"), nil, ""},
		{email, nil, one("@example.org"), nil, ""},
		{email, nil, one("alice@"), nil, ""},
		{email, nil, one("alice@evil.example@example.org"), nil, ""},
		{email, nil, one("bob/alice@example.org"), nil, ""},
		{email, nil, one(`CORP\alice@example.org`), nil, ""},
		{email, nil, one("alice*admin@example.org"), nil, ""},
		{email, nil, one("bob%example.com@example.org"), nil, ""},
		{before, one("alice"), nil, nil, ""},
		{before, one("a@b@c"), nil, nil, ""},
		{name, one("a@b@c"), nil, nil, ""},
		{name, one("alice/shared"), nil, nil, ""},
		{name, one(`CORP\alice\shared`), nil, nil, ""},
		{name, one("alice*admin"), nil, nil, ""},
		{name, one("bob%example.com"), nil, nil, ""},
		{name + "@example.org", one("alice@evil.example"), nil, nil, ""},
		{`CORP\` + name, one(`x\alice`), nil, nil, ""},
		{`CORP\` + name, one("alice/shared"), nil, nil, ""},
		{host, nil, nil, one("*.example.org"), ""},
		// What nobody sees.
		{name, one("alice\x00"), nil, nil, ""},
		{name, one("alice\r\na LOGIN"), nil, nil, ""},
		{name, one("al\tice"), nil, nil, ""},
		{name, one("alice\u202e"), nil, nil, ""},
		{name, one("alice\xff"), nil, nil, ""},
		{email, nil, one("ali\x01ce@example.org"), nil, ""},
		{host, nil, nil, one("a\n.example.org"), ""},
	} {
		template, err := ParseCertificateTemplate(tc.template)
		if err != nil {
			t.Errorf("%s: %v", tc.template, err)
			continue
		}
		got, err := template.Expand(certificateOf(tc.names, tc.emails, tc.dns))
		if got != tc.want || (err == nil) != (tc.want != "") || err != nil && !errors.Is(err, ErrCertificate) {
			t.Errorf("%s of %q, %q, %q is %q, %v; want %q", tc.template, tc.names, tc.emails, tc.dns, got, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "alice") {
			t.Errorf("the error shows a name: %v", err)
		}
	}
	for template, want := range map[string]string{
		"":                             "template is empty; known placeholders are {imap.certificate.email}, ",
		"alice":                        "every user would become the same",
		"{imap.user}":                  "unknown placeholder {imap.user}; known are {imap.certificate.email}, ",
		"{imap.certificate.dns.local}": "unknown placeholder {imap.certificate.dns.local}",
		"{imap.certificate.email":      "'{' without '}'",
		"a\n{imap.certificate.email}":  "control character",
	} {
		if _, err := ParseCertificateTemplate(template); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", template, err, want)
		}
	}
}

func TestDelegateTemplate(t *testing.T) {
	const exchange, whole, slash = `CORP\{imap.user.local}\{imap.authzid.local}`, `{imap.user}\{imap.authzid.local}`, "{imap.user}/{imap.authzid}"
	for _, tc := range []struct{ template, user, authzID, want string }{
		{exchange, "alice", "shared", `CORP\alice\shared`},
		{exchange, "alice@example.org", "shared@example.org", `CORP\alice\shared`},
		{exchange, `CORP\alice`, `CORP\shared`, `CORP\alice\shared`},
		{whole, "alice@example.org", "shared", `alice@example.org\shared`},
		{whole, `CORP\alice`, "shared", `CORP\alice\shared`},
		{slash, "alice", "shared@example.org", "alice/shared@example.org"},
		{"{imap.user.domain}|{imap.user.local}|{imap.authzid.domain}|{imap.authzid.local}", "a@b", `c\d`, "b|a|c|d"},
		{slash, "{imap.authzid}", "{env.HOME}", "{imap.authzid}/{env.HOME}"},

		{exchange, `CORP\alice\bob`, "shared", ""},
		{exchange, "alice/bob", "shared", ""},
		{exchange, "a@b@c", "shared", ""},
		{exchange, "alice*admin", "shared", ""},
		{exchange, "alice", `CORP\x\y`, ""},
		{exchange, "alice", "x/y", ""},
		{exchange, "alice", "x@y@z", ""},
		{exchange, "alice", "@example.org", ""},
		{exchange, "alice", `CORP\`, ""},
		{exchange, "@example.org", "shared", ""},
		{whole, `alice@example.org\bob`, "shared", ""},
		{whole, `CORP\`, "shared", ""},
		{whole, `\alice`, "shared", ""},
		{whole, "alice@", "shared", ""},
		{whole, "a@b@c", "shared", ""},
		{slash, "alice/bob", "shared", ""},
		{slash, "alice", `CORP\shared`, ""},
		{slash, "alice", "shared/x", ""},
		{slash, "alice", "x*admin", ""},
		{slash, "alice", "x%example.com", ""},
		{"{imap.user.domain}|{imap.user.local}|{imap.authzid}", "alice", "shared", ""},
	} {
		template, err := ParseDelegateTemplate(tc.template)
		if err != nil {
			t.Errorf("%s: %v", tc.template, err)
			continue
		}
		got, err := template.Expand(tc.user, tc.authzID)
		if got != tc.want || (err == nil) != (tc.want != "") || err != nil && !errors.Is(err, ErrAmbiguous) {
			t.Errorf("%s of %q and %q is %q, %v; want %q", tc.template, tc.user, tc.authzID, got, err, tc.want)
		}
	}
	for template, want := range map[string]string{
		"":                                    "template is empty",
		"{imap.user}":                         "template has to name both",
		"{imap.authzid}":                      "template has to name both",
		"{imap.user.domain}{imap.authzid}":    "template has to name both",
		"{imap.user}{imap.authzid.domain}":    "template has to name both",
		"{imap.user}{imap.certificate.email}": "unknown placeholder {imap.certificate.email}; known are {imap.user}, ",
	} {
		if _, err := ParseDelegateTemplate(template); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", template, err, want)
		}
	}
}

// TestExternal pins what EXTERNAL tells of the client: whom it wants to be, and
// nothing of who it is.
func TestExternal(t *testing.T) {
	for _, initial := range []bool{true, false} {
		for _, identity := range []string{"", "alice@example.org"} {
			a := &Attempt{User: "kept"}
			server, err := NewSASLServer(External, a, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !initial {
				if challenge, done, err := server.Next(nil); len(challenge) > 0 || challenge == nil || done || err != nil {
					t.Fatalf("asking: %q, %v, %v", challenge, done, err)
				}
			}
			if _, done, err := server.Next([]byte(identity)); !done || err != nil {
				t.Errorf("%q: %v, %v", identity, done, err)
			}
			if a.User != "kept" || a.AuthzID != identity || a.Mechanism != "EXTERNAL" || a.Secret != "" {
				t.Errorf("%q: %+v", identity, a)
			}
		}
	}
	if _, err := ParseMechanisms([]string{"external"}, RelayedForIMAP); !errors.Is(err, ErrMechanism) {
		t.Errorf("EXTERNAL can be configured: %v", err)
	}
}

func TestCheckVouched(t *testing.T) {
	cert := new(x509.Certificate)
	long := strings.Repeat("x", maxUser+1)
	for _, tc := range []struct {
		a    Attempt
		safe bool
	}{
		{Attempt{User: "alice"}, true},
		{Attempt{User: `CORP\alice`, AuthzID: "alice"}, true},
		{Attempt{}, false},
		{Attempt{User: "alice", Secret: "pw"}, false},
		{Attempt{User: "alice", Relay: new(Relay)}, false},
		{Attempt{User: "alice\n"}, false},
		{Attempt{User: "al\x1bice"}, false},
		{Attempt{User: "alice\u200b"}, false},
		{Attempt{User: "\xff"}, false},
		{Attempt{User: long}, false},
		{Attempt{User: "alice", AuthzID: long}, false},
		{Attempt{User: "alice", AuthzID: "a\x00"}, false},
	} {
		tc.a.Certificate = cert
		if err := tc.a.Check(); (err == nil) != tc.safe {
			t.Errorf("%q, %q: %v", tc.a.User, tc.a.AuthzID, err)
		}
	}
}
