package glue

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("from {a} file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file = filepath.ToSlash(file)
	t.Setenv("IMAP_TEST_SECRET", "from the {environment}")
	t.Setenv("IMAP_TEST_EMPTY", "")
	for text, want := range map[string]string{
		"{env.IMAP_TEST_SECRET}":       "from the {environment}",
		"{file." + file + "}":          "from {a} file",
		"hunter2":                      "hunter2",
		`hun\{ter2}`:                   "hun{ter2}",
		"":                             "",
		"hunter2{env.IMAP_TEST_NO}":    "",
		"hunter2{env.IMAP_TEST_EMPTY}": "",
		"hunter2{file./nowhere}":       "",
		"{hunter2}":                    "",
	} {
		got, err := Secret("master_password", text)
		if got != want || (err == nil) != (want != "" || text == "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || !strings.HasPrefix(err.Error(), "master_password: ")) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
