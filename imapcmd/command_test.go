package imapcmd

import (
	"encoding/json"
	"net"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/mholt/caddy-l4"

	_ "github.com/caddy-imap/caddy-imap/caddyimap"
	_ "github.com/caddy-imap/caddy-imap/caddysasl"
)

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    options
		want string
	}{
		{"nothing", options{}, "--hostname is missing"},
		{"no upstream", options{hostnames: []string{"mail.example.org"}}, "--to is missing"},
		{"no hostname", options{upstreams: []string{"ex1"}}, "--hostname is missing"},
		{"demo with a backend", options{demo: true, upstreams: []string{"ex1"}}, "leave out --hostname, --to"},
	} {
		if err := tc.o.check(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

// TestCheckAddresses pins that a port that is taken is found out, even if whoever
// has it would share it.
func TestCheckAddresses(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().String()
	for _, tc := range []struct {
		o    options
		want string
	}{
		{options{auth: taken}, "stop who listens there"},
		{options{imap: "127.0.0.1"}, "must have a host and one port"},
		{options{imap: "127.0.0.1:2000-2001"}, "must have a host and one port"},
		{options{imaps: "192.0.2.1:1143"}, "choose an address of this machine"},
		{options{imap: "127.0.0.1:0", imaps: "x:y:z"}, "--imap 127.0.0.1:0: must"},
	} {
		if err := tc.o.checkAddresses(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.o, err, tc.want)
		}
	}
	_ = ln.Close()
	o := options{imap: taken}
	if err := o.checkAddresses(); err != nil {
		t.Error(err)
	}
	o.imaps = taken
	if err := o.checkAddresses(); err == nil || !strings.Contains(err.Error(), "address of --imap, too") {
		t.Error(err)
	}
}

// TestConfig pins that what the flags become is a configuration that Caddy takes.
func TestConfig(t *testing.T) {
	o := options{hostnames: []string{"mail.internal"}, upstreams: []string{"ex1.internal", "ex2.internal:1143"}, auth: "127.0.0.1:12399", imap: "127.0.0.1:2143", imaps: "127.0.0.1:2993"}
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	cfg := o.config()
	root := t.TempDir()
	cfg.StorageRaw = object(map[string]any{"module": "file_system", "root": root})
	b, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"dial":"ex2.internal:1143"`, `"tls_mode":"starttls"`, `"install_trust":false`, `"listen":["127.0.0.1:2143"]`, `"listen":["127.0.0.1:12399"]`, `"disabled":true`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s has no %s", b, want)
		}
	}
	var parsed caddy.Config
	if err := caddy.StrictUnmarshalJSON(b, &parsed); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&parsed); err != nil {
		t.Error(err)
	}
}

// TestBox pins that the box names what is listened on.
func TestBox(t *testing.T) {
	o := options{demo: true}
	o.setAddresses("127.0.0.1:2143", "127.0.0.1:1993", "127.0.0.1:12345")
	text := box(&o, "/somewhere")
	for _, want := range []string{
		"-connect localhost:2143 -starttls imap", "imap://localhost:2143/", "imaps://localhost:1993/",
		"smtpd_sasl_type = dovecot\nsmtpd_sasl_path = inet:127.0.0.1:12345\n", "/somewhere/pki/authorities/local/root.crt",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the box has no %q:\n%s", want, text)
		}
	}
}
