package caddysasl

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Caddy's logging and certmagic start a few at import.
	// It also keeps a lock of a storage fresh for a while after it was released.
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}

// TestUnmarshal pins the JSON that each Caddyfile option becomes.
func TestUnmarshal(t *testing.T) {
	for _, tc := range []struct{ input, want string }{
		{"dovecot_auth", `{}`},
		{"dovecot_auth {\n}", `{}`},
		{"dovecot_auth exchange", `{"backend":"exchange"}`},
		{"dovecot_auth exchange {\n}", `{"backend":"exchange"}`},
		{"dovecot_auth {\nmechanisms PLAIN\n}", `{"mechanisms":["PLAIN"]}`},
		{"dovecot_auth {\nmechanisms LOGIN PLAIN\n}", `{"mechanisms":["LOGIN","PLAIN"]}`},
		{"dovecot_auth {\ndeadline 4s\n}", `{"deadline":4000000000}`},
		{"dovecot_auth {\non_unavailable fail\n}", `{"on_unavailable":"fail"}`},
		{"dovecot_auth {\nallow 192.0.2.0/24 2001:db8::/32\n}", `{"allow":["192.0.2.0/24","2001:db8::/32"]}`},
		{"dovecot_auth {\nidentity {imap.user.local}@example.org\n}", `{"identity":"{imap.user.local}@example.org"}`},
		{"dovecot_auth {\nallow_delegates\n}", `{"allow_delegates":true}`},
		{
			"dovecot_auth exchange {\nmechanisms PLAIN\ndeadline 1m\non_unavailable disconnect\nallow ::1\nidentity {imap.user}\nallow_delegates\n}",
			`{"backend":"exchange","mechanisms":["PLAIN"],"deadline":60000000000,"on_unavailable":"disconnect",` +
				`"allow":["::1"],"identity":"{imap.user}","allow_delegates":true}`,
		},
		{"dovecot_userdb", `{}`},
		{"dovecot_userdb {\nallow 192.0.2.7\n}", `{"allow":["192.0.2.7"]}`},
		{"dovecot_userdb {\nmax_connections 20\n}", `{"max_connections":20}`},
	} {
		h := handlerFor(tc.input)
		if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(tc.input)); err != nil {
			t.Errorf("%s: %v", tc.input, err)
			continue
		}
		got, err := json.Marshal(h)
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %s, %v; want %s", tc.input, got, err, tc.want)
		}
	}
}

func TestUnmarshalErrors(t *testing.T) {
	for _, tc := range []struct{ input, want string }{
		{"dovecot_auth a b", "unexpected argument 'b'; options go into a block, one a line"},
		{"dovecot_auth {\nbackend x\n}", "unknown option 'backend'; known are allow, allow_delegates, deadline, identity, max_connections, mechanisms, on_unavailable"},
		{"dovecot_auth {\nmechanism PLAIN\n}", "unknown option 'mechanism'; known are allow, allow_delegates, deadline, identity, max_connections, mechanisms, on_unavailable"},
		{"dovecot_auth {\nmechanisms\n}", "option 'mechanisms': value is missing"},
		{"dovecot_auth {\nmechanisms PLAIN\nmechanisms LOGIN\n}", "duplicate option 'mechanisms'"},
		{"dovecot_auth {\nmechanisms PLAIN {\nx\n}\n}", "option 'mechanisms': takes no block"},
		{"dovecot_auth {\ndeadline\n}", "option 'deadline': value is missing"},
		{"dovecot_auth {\ndeadline soon\n}", "option 'deadline': not a duration such as 5s or 1m30s: time: invalid duration \"soon\""},
		{"dovecot_auth {\ndeadline 0s\n}", "option 'deadline': 0s: must be more than 0"},
		{"dovecot_auth {\ndeadline -1s\n}", "option 'deadline': -1s: must be more than 0"},
		{"dovecot_auth {\ndeadline 4s 5s\n}", "option 'deadline': takes one value, but has also '5s'"},
		{"dovecot_auth {\ndeadline 4s\ndeadline 4s\n}", "duplicate option 'deadline'"},
		{"dovecot_auth {\non_unavailable\n}", "option 'on_unavailable': value is missing"},
		{"dovecot_auth {\non_unavailable fail fail\n}", "option 'on_unavailable': takes one value, but has also 'fail'"},
		{"dovecot_auth {\nallow\n}", "option 'allow': value is missing"},
		{"dovecot_auth {\nallow ::1\nallow ::1\n}", "duplicate option 'allow'"},
		{"dovecot_auth {\nidentity\n}", "option 'identity': value is missing"},
		{"dovecot_auth {\nidentity \"\"\n}", "option 'identity': value is empty"},
		{"dovecot_auth {\nallow_delegates on\n}", "option 'allow_delegates': takes no value, but has 'on'"},
		{"dovecot_auth {\nallow_delegates\nallow_delegates\n}", "duplicate option 'allow_delegates'"},
		{"dovecot_auth {\nallow_delegates {\n}\n}", "option 'allow_delegates': takes no block"},
		{"dovecot_userdb exchange", "unexpected argument 'exchange'; options go into a block, one a line"},
		{"dovecot_userdb {\nidentity x\n}", "unknown option 'identity'; known are allow, max_connections"},
		{"dovecot_userdb {\nmax_connections 0\n}", "option 'max_connections': 0: must be more than 0"},
		{"dovecot_userdb {\nallow\n}", "option 'allow': value is missing"},
	} {
		err := handlerFor(tc.input).UnmarshalCaddyfile(caddyfile.NewTestDispenser(tc.input))
		if err == nil || !strings.HasPrefix(err.Error(), tc.want+", at Testfile:") {
			t.Errorf("%s: error %v, want %q", tc.input, err, tc.want)
		}
	}
}

func handlerFor(input string) caddyfile.Unmarshaler {
	if strings.HasPrefix(input, "dovecot_userdb") {
		return new(DovecotUserDB)
	}
	return new(DovecotAuth)
}
