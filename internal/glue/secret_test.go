package glue

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnreadable pins that a file which cannot be read is not taken for an empty one, and
// that nothing is said of what stands beside it.
func TestUnreadable(t *testing.T) {
	dir := filepath.ToSlash(t.TempDir())
	if err := os.WriteFile(dir+"/empty", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"/none":  "the file of a placeholder in it cannot be read: ",
		"":       "the file of a placeholder in it cannot be read: ", // a directory
		"/empty": "empty",
	} {
		text := "hunter2{env.PATH}{file." + dir + file + "}"
		_, secret := Secret("client_secret", text)
		if secret == nil || !strings.HasPrefix(secret.Error(), "client_secret: ") || !strings.Contains(secret.Error(), want) ||
			strings.Contains(secret.Error(), "hunter2") || strings.Contains(secret.Error(), dir) {
			t.Errorf("%s: %v, want %q", file, secret, want)
		}
		_, err := Replaced(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
		if file == "/none" && (!errors.Is(err, fs.ErrNotExist) || !errors.Is(secret, fs.ErrNotExist)) {
			t.Errorf("%v, %v: not about a file that is not there", err, secret)
		}
	}
	if got, err := Replaced("a{file." + dir); got != "a{file."+dir || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

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
