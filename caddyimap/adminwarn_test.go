package caddyimap

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestWarnAdmin pins of which admin endpoints the operator is warned.
func TestWarnAdmin(t *testing.T) {
	t.Setenv("ADMIN_TEST_HOST", "192.0.2.1")
	was := caddy.DefaultAdminListen
	defer func() { caddy.DefaultAdminListen = was }()
	const remote = "remote 0.0.0.0:2021"
	for _, tc := range []struct {
		preset string
		admin  *caddy.AdminConfig
		want   string
	}{
		{was, nil, ""},
		{"0.0.0.0:2019", nil, "local 0.0.0.0:2019"}, // CADDY_ADMIN in a container
		{"0.0.0.0:2019", &caddy.AdminConfig{}, "local 0.0.0.0:2019"},
		{"0.0.0.0:2019", &caddy.AdminConfig{Disabled: true}, ""},
		{"0.0.0.0:2019", &caddy.AdminConfig{Listen: "unix//run/caddy/admin.sock|0600"}, ""},
		{was, &caddy.AdminConfig{Listen: "localhost:2019"}, ""},
		{was, &caddy.AdminConfig{Listen: "127.0.0.5:2019"}, ""},
		{was, &caddy.AdminConfig{Listen: "[::1]:2019"}, ""},
		{was, &caddy.AdminConfig{Listen: "fd/3"}, ""},
		{was, &caddy.AdminConfig{Listen: ":2019"}, "local :2019"},
		{was, &caddy.AdminConfig{Listen: "tcp/mail.example.org:2019"}, "local tcp/mail.example.org:2019"},
		{was, &caddy.AdminConfig{Listen: "{env.ADMIN_TEST_HOST}:2019"}, "local 192.0.2.1:2019"},
		{was, &caddy.AdminConfig{Remote: &caddy.RemoteAdmin{}}, "remote :2021"},
		{was, &caddy.AdminConfig{Remote: &caddy.RemoteAdmin{Listen: "0.0.0.0:2021"}}, remote},
		{was, &caddy.AdminConfig{Listen: ":2019", Remote: &caddy.RemoteAdmin{Listen: "0.0.0.0:2021"}}, "local :2019, " + remote},
	} {
		caddy.DefaultAdminListen = tc.preset
		w := newWorld(t)
		w.admin = tc.admin
		c := w.load(w.app(w.backend("127.0.0.1:1")))
		var got []string
		for _, l := range c.log.lines("warn", "") {
			switch msg := l.text("msg"); {
			case strings.HasPrefix(msg, "the admin endpoint can be reached from other machines, and asks for no password"):
				got = append(got, "local "+l.text("listen"))
			case strings.HasPrefix(msg, "the admin endpoint can be used from other machines (admin.remote)"):
				got = append(got, "remote "+l.text("listen"))
			}
		}
		if strings.Join(got, ", ") != tc.want {
			t.Errorf("preset %s, %+v: warned of %q, want %q", tc.preset, tc.admin, got, tc.want)
		}
	}
}
