package caddyimap

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestWarnTLS pins of which routes the operator is warned.
func TestWarnTLS(t *testing.T) {
	const (
		imap  = `{"handler": "imap", "implicit_tls": true}`
		tls   = `{"handler": "tls"}`
		proxy = `{"handler": "proxy", "upstreams": [{"dial": ["127.0.0.1:1"]}]}`
	)
	route := func(handlers ...string) string { return `{"handle": [` + strings.Join(handlers, ",") + `]}` }
	sub := func(routes ...string) string {
		return `{"handler": "subroute", "routes": [` + strings.Join(routes, ",") + `]}`
	}
	for _, tc := range []struct {
		name, routes string
		want         bool
	}{
		{"none", route(imap), false},
		{"before", route(tls, imap), true},
		{"before a PROXY header", route(tls, `{"handler": "proxy_protocol"}`, imap), true},
		{"behind", route(imap, tls), false},
		{"of another name", route(tls, proxy) + "," + route(imap), false},
		{"in a route before", route(tls) + "," + route(imap), true},
		{"in a route behind", route(imap) + "," + route(tls), false},
		{"before a route within", route(tls, sub(route(imap))), true},
		{"in a route within", route(sub(route(tls, imap))), true},
		{"in a route within, before", route(sub(route(tls)), imap), true},
		{"in the routes of a route within, for another", route(sub(route(tls, proxy)), imap), false},
		{"in the last of a route's", route(sub(route(tls))) + "," + route(imap), true},
		{"nothing for us", route(tls, proxy), false},
		{"nonsense", `"x"`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.apps = caddy.ModuleMap{"layer4": json.RawMessage(
				`{"servers": {"mail": {"listen": ["127.0.0.1:993"], "routes": [` + tc.routes + `]}, "other": {"listen": ["127.0.0.1:1"]}}}`)}
			c := w.load(w.app(w.backend("127.0.0.1:1")))
			lines := c.log.lines("warn", "")
			lines = slices.DeleteFunc(lines, func(l line) bool {
				return !strings.HasPrefix(l.text("msg"), "a tls handler stands before the handler imap: ")
			})
			if got := len(lines) > 0; got != tc.want {
				t.Fatalf("warned: %t", got)
			}
			if tc.want && (len(lines) != 1 || lines[0].text("server") != "mail") {
				t.Errorf("warned %v", lines)
			}
		})
	}
}
