package imapcmd

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/spf13/cobra"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// parsed are the options that a command line stands for.
func parsed(t *testing.T, args ...string) *options {
	t.Helper()
	o := new(options)
	cmd := &cobra.Command{}
	o.flags(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestPrintConfig pins, for each flag, that what is printed is a Caddyfile that Caddy
// takes, formatted, and adapts to the configuration that would run, which is also
// what is printed as JSON.
func TestPrintConfig(t *testing.T) {
	ca := imaptest.NewCA(t)
	common := []string{"--from", "mail.internal", "--to", "ex1.internal"}
	for _, tc := range []struct {
		name string
		args []string
		want []string // in the JSON
	}{
		{"least", nil, []string{
			`"hostnames":["mail.internal"]`, `"dial":"ex1.internal"`, `"listen":["kept/:143"]`, `"listen":["kept/:993"]`, `"implicit_tls":true`,
			`"install_trust":false`, `"disabled":true`, `"persist":false`,
		}},
		{"names and servers", []string{"-f", "b.internal", "-t", "ex2.internal:1143"}, []string{`"hostnames":["mail.internal","b.internal"]`, `"dial":"ex2.internal:1143"`}},
		{"the old word", []string{"--hostname", "b.internal"}, []string{`"b.internal"`}},
		{"auth", []string{"--auth", "127.0.0.1:12399"}, []string{`"listen":["kept/127.0.0.1:12399"]`, `"handler":"dovecot_auth"`}},
		{"auth at a path", []string{"--auth", "unix//run/caddy-auth.sock|0660"}, []string{`"listen":["kept/unix//run/caddy-auth.sock|0660"]`}},
		{"auth at a path alone", []string{"--auth", "unix//run/caddy-auth.sock"}, []string{`"listen":["kept/unix//run/caddy-auth.sock|0660"]`}},
		{"auth at a path with a colon", []string{"--auth", "unix//run/caddy:auth.sock"}, []string{`"listen":["unix//run/caddy:auth.sock|0660"]`}},
		{"addresses", []string{"--imap", "127.0.0.1:2143", "--imaps", "127.0.0.1:2993"}, []string{`"kept/127.0.0.1:2143"`, `"kept/127.0.0.1:2993"`}},
		{"TLS", []string{"--tls", "implicit", "--tls-server-name", "ex.internal", "--tls-trust-pool", ca.File()}, []string{
			`"tls_mode":"implicit"`, `"server_name":"ex.internal"`, `"pem_files":["` + ca.File() + `"]`,
		}},
		{"auth-command", []string{"--auth-command", "login"}, []string{`"auth_command":"login"`}},
		{"insecure", []string{"--insecure"}, []string{`"insecure_skip_verify":true`}},
		{"internal-certs", []string{"-i"}, []string{`"module":"internal"`}},
		{"email", []string{"--email", "postmaster@example.org"}, []string{`"email":"postmaster@example.org"`}},
		{"debug", []string{"-v"}, []string{`"level":"DEBUG"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := parsed(t, append(append([]string{"--print-config"}, common...), tc.args...)...)
			var text, asJSON bytes.Buffer
			if _, err := run(o, &text); err != nil {
				t.Fatal(err)
			}
			if formatted := caddyfile.Format(text.Bytes()); !bytes.Equal(formatted, text.Bytes()) {
				t.Errorf("caddy fmt would change this:\n%s", text.String())
			}
			o.print = printJSON
			if _, err := run(o, &asJSON); err != nil {
				t.Fatal(err)
			}
			o.print = ""
			runs, err := o.config()
			if err != nil {
				t.Fatal(err)
			}
			adapted, err := adapt(text.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			for what, got := range map[string][]byte{"the Caddyfile": adapted, "the JSON": asJSON.Bytes()} {
				if !reflect.DeepEqual(decoded(t, got), decoded(t, runs)) {
					t.Errorf("%s that is printed is not what runs:\n%s\n%s", what, got, runs)
				}
			}
			for _, want := range tc.want {
				if !strings.Contains(string(runs), want) {
					t.Errorf("%s has no %s", runs, want)
				}
			}
			if strings.Contains(string(runs), `"exclude"`) {
				t.Errorf("logins are not logged:\n%s", runs)
			}
			validate(t, runs)
		})
	}
}

// TestDemoConfig pins that the demo's configuration is one that Caddy takes, and that
// it keeps all it has in its own directory.
func TestDemoConfig(t *testing.T) {
	dir := t.TempDir()
	o := options{demo: true, from: []string{"localhost"}, upstreams: []string{"127.0.0.1:1"}, tlsMode: "off", storage: dir}
	o.setAddresses("127.0.0.1:2143", "127.0.0.1:2993", "127.0.0.1:12399")
	b, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	root, err := json.Marshal(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"root":` + string(root), `"tls_mode":"off"`, `"level":"WARN"`, `"level":"INFO"`, `"handler":"dovecot_auth"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s has no %s", b, want)
		}
	}
	validate(t, b)
}

func decoded(t *testing.T, b []byte) (value any) {
	t.Helper()
	if err := json.Unmarshal(b, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// validate has Caddy set the configuration up.
func validate(t *testing.T, b []byte) {
	t.Helper()
	cfg := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(b, cfg); err != nil {
		t.Fatal(err)
	}
	root, err := json.Marshal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.StorageRaw = json.RawMessage(`{"module": "file_system", "root": ` + string(root) + `}`)
	cfg.Logging = noLog()
	if err := caddy.Validate(cfg); err != nil {
		t.Error(err)
	}
}

// TestQuote pins that values stay what they are, and that what a Caddyfile cannot hold
// is refused.
func TestQuote(t *testing.T) {
	for _, value := range []string{`C:\Program Files\ca.pem`, `a"b`, "{env.X}", "#1", "import", "a b", `x\`} {
		b := new(block)
		b.line("x", value)
		d := caddyfile.NewTestDispenser(b.text.String())
		if !d.Next() || !d.NextArg() || d.Val() != value || d.NextArg() || b.err != nil {
			t.Errorf("%q is read as %q, %v", value, d.Val(), b.err)
		}
	}
	for _, value := range []string{"a`b", "a\nb", "{$HOME}"} {
		b := new(block)
		b.line("x", value)
		if b.err == nil {
			t.Errorf("%q is written as %q", value, b.text.String())
		}
	}
	for want, args := range map[string][]string{
		"--to a{b: ": {"--to", "a{b"}, "--from x y: that is no host name": {"--from", "x y"}, "--tls ssl: must be": {"--tls", "ssl"},
		"--insecure verifies nothing": {"--insecure", "--tls-trust-pool", "ca.pem"}, "--tls off: without TLS": {"--tls", "off", "--tls-server-name", "b"},
		"cannot stand in a Caddyfile": {"--tls-server-name", "x\ny"}, "cannot be listened on": {"--auth", "unix//run/a b"}, "leave one out": {"-i", "--email", "a@b"},
	} {
		o := parsed(t, append([]string{"--print-config", "--from", "a.internal", "--to", "b"}, args...)...)
		if _, err := run(o, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}

// The printed Caddyfile leads nobody to an admin API that every program may use.
func TestPrintedAdminAdvice(t *testing.T) {
	o := parsed(t, "--print-config", "--from", "a.internal", "--to", "b")
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	text, err := o.caddyfile()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"admin unix//run/caddy/admin.sock|0600"`) || strings.Contains(string(text), "Without the next two lines") {
		t.Errorf("it says\n%s", text)
	}
}
