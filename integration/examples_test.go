//go:build integration

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// The program does with each example what its pages tell people to do: format it, adapt
// it, and validate it.
func TestExamples(t *testing.T) {
	ca := imaptest.NewCA(t)
	leaf := ca.Issue(imaptest.Leaf{Names: []string{"mail.example.org"}})
	dir := t.TempDir()
	there := strings.NewReplacer("/etc/ssl/corp-ca.pem", ca.File(), "/etc/ssl/mail.pem", leaf.CertFile, "/etc/ssl/mail.key", leaf.KeyFile,
		"/etc/caddy/oauth-secret", writeFile(t, filepath.Join(dir, "oauth-secret"), secret("Entra-Example-17")),
		"/etc/caddy/imap-master", writeFile(t, filepath.Join(dir, "imap-master"), secret("Master-Example-40")),
		"/srv/caddy", filepath.Join(dir, "storage"))
	examples, err := filepath.Glob("../docs/examples/*.Caddyfile")
	if err != nil || len(examples) < 10 {
		t.Fatalf("examples: %v, %v", examples, err)
	}
	for _, example := range append(examples, "../Caddyfile.example") {
		t.Run(filepath.Base(example), func(t *testing.T) {
			t.Parallel()
			text := fileText(t, example)
			file := writeFile(t, filepath.Join(t.TempDir(), "Caddyfile"), there.Replace(text))
			caddy := func(args ...string) (stdout string) {
				t.Helper()
				var errs strings.Builder
				cmd := exec.Command(run.caddy, args...)
				cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "REDIS_PASSWORD="+secret("Redis-Example-81"))
				cmd.Stderr = &errs
				out, err := cmd.Output()
				warned := args[0] == "adapt" && strings.Contains(errs.String(), `"level":"warn"`)
				if err != nil || warned {
					t.Errorf("caddy %s: %v\n%s%s", args[0], err, out, &errs)
				}
				return string(out)
			}
			if out := caddy("fmt", example); out != text {
				t.Errorf("caddy fmt makes of it\n%s", out)
			}
			if out := caddy("adapt", "--config", example); !strings.Contains(out, `"handler":"imap"`) && !strings.Contains(out, `"handler":"dovecot_auth"`) {
				t.Errorf("caddy adapt makes of it\n%s", out)
			}
			if out := caddy("validate", "--config", file); out != "Valid configuration\n" {
				t.Errorf("caddy validate says %s", out)
			}
		})
	}
}
