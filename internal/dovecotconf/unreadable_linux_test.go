package dovecotconf

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// asNobody has the test look at files as somebody who may not read all, which root may.
func asNobody(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	const nobody = 65534
	for _, path := range []string{filepath.Dir(dir), dir, filepath.Join(dir, "main.conf")} {
		if err := os.Chown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	runtime.LockOSThread()
	if err := syscall.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setfsuid(0); err != nil {
			t.Fatal(err)
		}
		runtime.UnlockOSThread()
	})
}

// What cannot be read is an error, also where a file may be missing: Dovecot reads it as
// root, and there may be a line in it that keeps people out.
func TestIncludeUnreadable(t *testing.T) {
	for name, c := range map[string]struct{ text, shut, want string }{
		"file":              {"!include_try d/a.conf", "d/a.conf", "main.conf:1: reading an included file, which Dovecot does as root:"},
		"matching file":     {"!include_try d/*.conf", "d/a.conf", "main.conf:1: reading an included file, which Dovecot does as root:"},
		"file included":     {"!include d/a.conf", "d/a.conf", "main.conf:1: reading an included file, which Dovecot does as root:"},
		"directory":         {"!include_try d/*.conf", "d", "main.conf:1: looking for files to include, which Dovecot does as root:"},
		"directory of it":   {"!include_try d/a.conf", "d", "main.conf:1: reading an included file, which Dovecot does as root:"},
		"matching, further": {"!include_try */*.conf", "d", "main.conf:1: looking for files to include, which Dovecot does as root:"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"main.conf": c.text, "d/a.conf": "a = 1"})
			shut := filepath.Join(dir, c.shut)
			if err := os.Chmod(shut, 0); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(shut, 0o700) })
			asNobody(t, dir)
			if _, err := parseFile(t, filepath.Join(dir, "main.conf")); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}
