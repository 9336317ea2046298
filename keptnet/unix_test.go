//go:build unix

package keptnet

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// wantMode fails unless the file is there with that mode, or is not there if it is 0.
func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	switch info, err := os.Lstat(path); {
	case err != nil:
		if want != 0 || !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	case info.Mode().Perm() != want:
		t.Errorf("the mode is %v, want %v", info.Mode().Perm(), want)
	}
}

// A unix socket is handed on like others. Its file has the mode of the listener whose
// turn it is, and is there as long as any is.
func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	// Somebody who was killed has left it behind.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()

	one := mustListen(t, "kept/unix/"+path+"|0600")
	wantMode(t, path, 0o600)
	wantGreeting(t, one)
	failed := mustListen(t, "kept/unix/"+path+"|0666")
	_ = failed.Close()
	wantMode(t, path, 0o600)
	wantGreeting(t, one)
	two, three := mustListen(t, "kept/unix/"+path+"|0660"), mustListen(t, "kept/unix/"+path)
	wantMode(t, path, 0o600)
	_ = one.Close()
	wantMode(t, path, 0o660)
	wantClosed(t, one)
	wantGreeting(t, two)
	_ = two.Close()
	wantMode(t, path, 0o200)
	wantGreeting(t, three)
	_ = three.Close()
	wantMode(t, path, 0)

	again := mustListen(t, "kept/unix/"+path+"|0600")
	wantGreeting(t, again)
}

// A configuration that fails leaves Caddy's own unix sockets without anything that
// could be opened again; see the package's documentation. Ours do not care.
func TestUnixAfterFailures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	running := mustListen(t, "kept/unix/"+path+"|0600")
	for range 5 {
		if lns, err := listenOn(t, "kept/unix/"+path+"|0600"); err != nil {
			t.Fatal(err)
		} else {
			_ = lns[0].Close()
		}
		next := mustListen(t, "kept/unix/"+path+"|0600")
		_ = running.Close()
		running = next
		wantGreeting(t, running)
	}
}

// A path may be kept after it was not, and the other way round.
func TestUnixFromPlain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	before := mustListen(t, "unix/"+path+"|0600")
	kept := mustListen(t, "kept/unix/"+path+"|0600")
	_ = before.Close()
	wantGreeting(t, kept)
	after := mustListen(t, "unix/"+path+"|0600")
	_ = kept.Close()
	wantGreeting(t, after)
	_ = after.Close()
	wantMode(t, path, 0)
}

// A socket without a file has no mode.
func TestUnixAbstract(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("abstract sockets are Linux's")
	}
	name := "@" + filepath.Base(t.TempDir()) + t.Name()
	one, two := mustListen(t, "kept/unix/"+name), mustListen(t, "kept/unix/"+name)
	_ = one.Close()
	if got := two.Addr().String(); got != name {
		t.Errorf("listens on %s", got)
	}
}

// TestPlain pins what an address of ours stands for.
func TestPlain(t *testing.T) {
	for address, want := range map[string]string{
		"kept/unix//run/s|0660": "unix//run/s|0660",
		"KEPT/unix/s":           "unix/s",
		"kept/unix/@s":          "unix/@s",
		"kept/unix/@s|0600":     "",
		"kept/:143":             ":143",
		"kept6/[::1]:143-145":   "tcp6/[::1]:143-145",
		"unix//run/s":           "unix//run/s",
		"udp/:53":               "udp/:53",
		"fd/3":                  "fd/3",
		"kept6/unix//run/s":     "",
		"kept//run/s":           "",
		"kept/udp/:53":          "",
		"kept/localhost":        "",
	} {
		addr, err := caddy.ParseNetworkAddress(address)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := Plain(addr); (err != nil) != (want == "") || err == nil && plain.String() != want {
			t.Errorf("%s is %s, %v; want %q", address, plain, err, want)
		}
	}
}

// A configuration that takes over does not touch what somebody has put in the place of
// the socket's file, nor what that points to.
func TestUnixReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	victim := path + ".victim"
	if err := os.WriteFile(victim, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, replace := range map[string]func() error{
		"symbolic link": func() error { return os.Symlink(victim, path) },
		"link":          func() error { return os.Link(victim, path) },
		"socket": func() error {
			ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err == nil {
				ln.SetUnlinkOnClose(false)
				err = errors.Join(ln.Close(), os.Chmod(path, 0o600))
			}
			return err
		},
	} {
		one := mustListen(t, "kept/unix/"+path+"|0600")
		if err := errors.Join(os.Remove(path), replace()); err != nil {
			t.Fatal(err)
		}
		two := mustListen(t, "kept/unix/"+path+"|0666")
		_ = one.Close()
		wantMode(t, victim, 0o600)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: its mode is %v, %v", name, info, err)
		}
		_ = two.Close() // removes whatever is there, as Caddy does
	}
}

// What is no socket is not removed, and nor is a link to one.
func TestUnixNoSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	other := mustListen(t, "kept/unix/"+filepath.Join(dir, "other")+"|0600")
	for name, put := range map[string]func() error{
		"file":          func() error { return os.WriteFile(path, []byte("x"), 0o600) },
		"directory":     func() error { return os.Mkdir(path, 0o700) },
		"link":          func() error { return os.Symlink(filepath.Join(dir, "none"), path) },
		"link to other": func() error { return os.Symlink(other.Addr().String(), path) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		before, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if lns, err := listenOn(t, "kept/unix/"+path+"|0600"); err == nil || !strings.Contains(err.Error(), "is no socket") || len(lns) > 0 {
			t.Errorf("%s: %d listeners, %v", name, len(lns), err)
		}
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: it is gone: %v", name, err)
		}
		_ = os.Remove(path)
	}
	wantGreeting(t, other)
}

// A path that cannot be listened on is an error, and is none any more when it can.
func TestUnixTaken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	address := "kept/unix/" + dir + "/s|0600"
	for range 2 {
		addr, err := caddy.ParseNetworkAddress(address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := addr.Listen(context.Background(), 0, net.ListenConfig{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("listening: %v", err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	wantGreeting(t, mustListen(t, address))
}
