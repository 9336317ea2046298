package imapcmd

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		{"nothing", options{}, "--from is missing"},
		{"no upstream", options{from: []string{"mail.example.org"}}, "--to is missing"},
		{"no name", options{upstreams: []string{"ex1"}}, "--from is missing"},
		{"a port", options{from: []string{"mail.example.org:1143"}, upstreams: []string{"ex1"}}, "the port goes into --imap :1143"},
		{"trust in a device", options{from: []string{"a"}, upstreams: []string{"b"}, imap: ":2143", trustPool: os.DevNull}, "it is no ordinary file"},
		{"demo with a backend", options{demo: true, upstreams: []string{"ex1"}}, "leave out --from, --to"},
		{"demo to keep", options{demo: true, print: printCaddyfile}, "use it with --from and --to"},
		{"another form", options{from: []string{"a"}, upstreams: []string{"b"}, print: "yaml"}, "must be caddyfile or json"},
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
	_, port, err := net.SplitHostPort(taken)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, file := filepath.Join(dir, "s"), filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(dir, filepath.Join(dir, "dir"))); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		o    options
		want string
	}{
		{options{imap: taken, auth: "localhost:" + port}, "--auth localhost:" + port + ": that is the address of --imap, too"},
		{options{imap: ":" + port, imaps: taken}, "address of --imap, too"},
		{options{imap: taken, imaps: "kept/:" + port}, "address of --imap, too"},
		{options{imaps: "127.0.0.2:" + port, imap: taken}, ""},
		{options{imap: "unix/" + path + "|0600", auth: "kept/unix/" + dir + "/./s"}, "address of --imap, too"},
		{options{imap: "unix/" + path, auth: "unix/" + dir + "/dir/s|0666"}, "address of --imap, too"},
		{options{imap: "unix/@x", auth: "kept/unix/@x"}, "address of --imap, too"},
		{options{imap: "unix/@x", auth: "kept/unix/@y", imaps: "unix/" + path}, ""},
		{options{imap: "fd/3", imaps: "fd/3"}, "address of --imap, too"},
		{options{auth: "unix/" + file}, "is no socket"},
		{options{auth: "unix/" + dir + "/dir"}, "is no socket"},
	} {
		if err := tc.o.checkAddresses(); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.o, err, tc.want)
		}
	}
	o := options{imap: taken}
	if err := o.checkAddresses(); err != nil {
		t.Error(err)
	}
	o.imaps = taken
	if err := o.checkAddresses(); err == nil || !strings.Contains(err.Error(), "address of --imap, too") {
		t.Error(err)
	}
}

// TestUnixMode pins that a unix socket can be connected to by those of its group.
func TestUnixMode(t *testing.T) {
	for addr, want := range map[string]string{
		"unix//run/a": "unix//run/a|0660", "kept/unix//run/a": "kept/unix//run/a|0660", "unix//run/a|0600": "unix//run/a|0600", "unix/@a": "unix/@a", ":1": ":1",
	} {
		o := options{auth: addr}
		if o.setAddresses("", "", ""); o.auth != want {
			t.Errorf("%s is %s", addr, o.auth)
		}
	}
	o := options{demo: true, imap: "unix//run/i", imaps: "unix//run/s", auth: "kept/unix//var/spool/postfix/x|0666"}
	o.setAddresses("", "", "")
	text := box(&o, "/somewhere")
	for _, want := range []string{
		"s_client -unix /run/i -starttls imap", "--unix-socket /run/i 'imap://localhost/INBOX", "--unix-socket /run/s 'imaps://localhost/INBOX",
		"curl -sN -m 4 --unix-socket /var/spool/postfix/x 'telnet://localhost'\n", "smtpd_sasl_path = x\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the box has no %q:\n%s", want, text)
		}
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
