package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/mholt/caddy-l4"

	_ "github.com/caddy-imap/caddy-imap"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// Each file of caddyfile_adapt is a Caddyfile, a line of ten hyphens, and what
// comes of it: the JSON, if all is well, or else the end of the error, from where
// Caddy has said which app and handler it is about. Caddy's own tests of this kind
// only adapt. Ours validate as well, as "caddy validate" does, because much of
// what can be wrong is found only then; and what adapts to the JSON of a test has
// to be valid.
func TestCaddyfileAdapt(t *testing.T) {
	cert := imaptest.NewCA(t).Issue(imaptest.Leaf{})
	for name, value := range map[string]string{
		"HOSTNAME":  "mail.example.org",
		"DOMAIN":    "corp.example.org",
		"PORT":      "1143",
		"BACKEND":   "exchange",
		"CIDR":      "192.0.2.0/24",
		"EMPTY":     "",
		"CERT_FILE": cert.CertFile,
		"KEY_FILE":  cert.KeyFile,
	} {
		t.Setenv("IMAP_TEST_"+name, value)
	}
	files, err := filepath.Glob("caddyfile_adapt/*.caddytest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddytest"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.ReplaceAll(string(b), "\r\n", "\n")
			input, want, ok := strings.Cut(text, "\n----------\n")
			if want = strings.TrimSpace(want); !ok || want == "" {
				t.Fatal("the file has no line of ten hyphens with something behind it")
			}
			got, err := adapt(t, input)
			if err == nil {
				err = validate(t, got)
			}
			if !strings.HasPrefix(want, "{") {
				if err == nil || !strings.HasSuffix(err.Error(), want) {
					t.Errorf("got error %v\nwant %s", err, want)
				}
				return
			}
			if got, want := indent(t, got), indent(t, []byte(want)); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// The example that sites begin with works as it stands, and on a laptop.
func TestCaddyfileExample(t *testing.T) {
	b, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string]map[string]string{
		"as it stands": {},
		"site":         {"MAIL_HOST": "mail.example.org", "IMAP_BACKEND": "ex1.corp.example.org"},
		"laptop": {
			"MAIL_HOST": "localhost", "IMAP_BACKEND": "127.0.0.1:10143", "IMAP_BACKEND_TLS": "off",
			"IMAP_LISTEN": "127.0.0.1:1143", "IMAPS_LISTEN": "127.0.0.1:1993", "ADMIN_SOCKET": "/tmp/caddy-admin.sock",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for name, value := range env {
				if !bytes.Contains(b, []byte("{$"+name+":")) || !bytes.Contains(b, []byte(name+"="+value)) {
					t.Errorf("the example does not have %s=%s", name, value)
				}
				t.Setenv(name, value)
			}
			got, err := adapt(t, string(b))
			if err != nil {
				t.Fatal(err)
			}
			for _, value := range env {
				if value != "off" && !bytes.Contains(got, []byte(value)) {
					t.Errorf("%s has no %s", got, value)
				}
			}
			if err := validate(t, got); err != nil {
				t.Error(err)
			}
		})
	}
}

func adapt(t *testing.T, input string) ([]byte, error) {
	t.Helper()
	got, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), nil)
	for _, w := range warnings {
		// That it would be indented otherwise is of no concern to a test.
		if !strings.Contains(w.Message, "not formatted") {
			t.Errorf("warning: %s", w)
		}
	}
	return got, err
}

// validate provisions the configuration and cleans up again, in a storage of the
// test's own and without a word on stderr.
func validate(t *testing.T, config []byte) error {
	t.Helper()
	var cfg caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &cfg); err != nil {
		return err
	}
	root, err := json.Marshal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.StorageRaw = json.RawMessage(`{"module": "file_system", "root": ` + string(root) + `}`)
	discard := caddy.BaseLog{WriterRaw: json.RawMessage(`{"output": "discard"}`)}
	cfg.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: discard}}}
	return caddy.Validate(&cfg)
}

func indent(t *testing.T, b []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "\t"); err != nil {
		t.Fatalf("no JSON: %v\n%s", err, b)
	}
	return out.String()
}
