package caddyimap

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

// FuzzFilter pins which sessions a request to the admin API ends: none without a
// choice, and never one that a condition of it does not hold for.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{
		"", "all=true", "all=true&user=x", "user=alice", "user=CORP%5Calice&backend=exchange", "ip=192.0.2.0%2F24", "ip=::ffff:192.0.2.7", "upstream=ex1:143",
		"user=", "user=a&user=b", "ip=%7", "x=y", "all=true&all=true", "ALL=true",
	} {
		f.Add(s, true)
		f.Add(s, false)
	}
	entries := []*sessions.Entry{
		{Info: sessions.Info{ID: "1", User: "alice@example.org", RemoteIP: netip.MustParseAddr("192.0.2.7"), Backend: "exchange", Upstream: "ex1:143"}},
		{Info: sessions.Info{ID: "2", User: `CORP\alice`, RemoteIP: netip.MustParseAddr("2001:db8::7"), Backend: "other", Upstream: "ex2:143"}},
		{Info: sessions.Info{ID: "3", Kind: sessions.Auth}},
	}
	f.Fuzz(func(t *testing.T, query string, choose bool) {
		match, err := parseFilter(query, choose)
		if (match == nil) == (err == nil) {
			t.Fatalf("%q: error %v", query, err)
		}
		values, parsed := url.ParseQuery(query)
		if err != nil {
			if parsed == nil && len(values) == 0 && !choose {
				t.Errorf("%q: %v", query, err)
			}
			return
		}
		all := len(values) == 0 && !choose || choose && len(values) == 1 && values.Get("all") == "true"
		named := false
		for name, given := range values {
			switch name {
			case "user", "ip", "backend", "upstream":
				named = len(given) == 1 && given[0] != ""
			}
		}
		if !all && !named {
			t.Fatalf("%q: taken", query)
		}
		for _, e := range entries {
			got := match(e)
			if all && !got {
				t.Errorf("%q: not session %s", query, e.ID)
			}
			for name, field := range map[string]string{"backend": e.Backend, "upstream": e.Upstream} {
				if values.Has(name) && got && values.Get(name) != field {
					t.Errorf("%q: session %s", query, e.ID)
				}
			}
			if user := values.Get("user"); user != "" && got && (e.User == "" || !strings.Contains(strings.ToLower(e.User), "alice")) {
				t.Errorf("%q: session %s", query, e.ID)
			}
		}
	})
}
