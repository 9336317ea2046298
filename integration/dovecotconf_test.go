package integration

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

var update = flag.Bool("update", false, "write the warnings of testdata/dovecotconf anew")

// Each testdata/dovecotconf/NAME.conf adapts to the same as NAME.caddyfile, with the
// warnings in NAME.warnings, and the result is valid.
func TestDovecotConf(t *testing.T) {
	ca := imaptest.NewCA(t)
	mail := ca.Issue(imaptest.Leaf{Names: []string{"mail.example.org"}})
	net := ca.Issue(imaptest.Leaf{Names: []string{"imap.example.net"}})
	there := strings.NewReplacer(
		"/etc/ssl/mail.pem", mail.CertFile, "/etc/ssl/mail.key", mail.KeyFile,
		"/etc/ssl/net.pem", net.CertFile, "/etc/ssl/net.key", net.KeyFile,
		"/etc/pki/tls/certs/machine.example.org.crt", mail.CertFile, "/etc/pki/tls/private/machine.example.org.key", mail.KeyFile,
		"/etc/ssl/corp-ca.pem", ca.File(),
	)
	files, err := filepath.Glob("testdata/dovecotconf/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(file, ".conf")
		t.Run(filepath.Base(name), func(t *testing.T) {
			got, warnings, err := caddyconfig.GetAdapter("dovecot").Adapt([]byte(readFile(t, file)), map[string]any{"filename": file})
			if err != nil {
				t.Fatal(err)
			}
			want, err := adapt(t, readFile(t, name+".caddyfile"))
			if err != nil {
				t.Fatal(err)
			}
			var gotValue, wantValue any
			if err := cmp.Or(json.Unmarshal(got, &gotValue), json.Unmarshal(want, &wantValue)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(gotValue, wantValue) {
				t.Errorf("got:\n%s\nthe Caddyfile:\n%s", indent(t, got), indent(t, want))
			}
			if err := validate(t, []byte(there.Replace(string(got)))); err != nil {
				t.Error(err)
			}
			var b strings.Builder
			for _, w := range warnings {
				fmt.Fprintf(&b, "%s:%d %s: %s\n", filepath.Base(w.File), w.Line, w.Directive, filepath.ToSlash(w.Message))
			}
			if *update {
				if err := os.WriteFile(name+".warnings", []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := readFile(t, name+".warnings"); b.String() != want {
				t.Errorf("warnings:\n%s\nwant:\n%s", b.String(), want)
			}
		})
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}
