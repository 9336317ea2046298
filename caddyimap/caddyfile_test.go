package caddyimap

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// TestClientAuth pins the JSON of tls_client_auth. Everything else in a Caddyfile
// is tested together with what is provisioned of it, for which this option needs
// files, or an authority.
func TestClientAuth(t *testing.T) {
	for input, want := range map[string]string{
		"tls_client_auth proxy.example.org":    `{"client_certificate_automate":"proxy.example.org"}`,
		"tls_client_auth cert.pem key.pem":     `{"client_certificate_file":"cert.pem","client_certificate_key_file":"key.pem"}`,
		"tls_client_auth a\ntls_server_name b": `{"client_certificate_automate":"a","server_name":"b"}`,
	} {
		d := caddyfile.NewTestDispenser("imap {\nbackend x {\n" + input + "\n}\n}")
		app := new(App)
		if err := app.UnmarshalCaddyfile(d); err != nil {
			t.Errorf("%s: %v", input, err)
			continue
		}
		got, err := json.Marshal(app.Backends["x"])
		if err != nil || string(got) != `{"tls":`+want+`}` {
			t.Errorf("%s: %s, %v", input, got, err)
		}
	}
}

// TestParseApp pins that a second imap block finds the first as it should be.
func TestParseApp(t *testing.T) {
	for want, existing := range map[string]any{
		"the type string":                "x",
		"reading the imap blocks before": httpcaddyfile.App{Name: "imap", Value: json.RawMessage(`[]`)},
	} {
		if _, err := parseApp(caddyfile.NewTestDispenser("imap"), existing); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
