//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// builder builds images without a daemon, and keeps them in a directory of the test's
// own.
type builder struct {
	t           *testing.T
	dir, policy string
}

func (b *builder) Run(args ...string) string {
	b.t.Helper()
	flags := []string{"buildah", "--root", filepath.Join(b.dir, "images"), "--runroot", filepath.Join(b.dir, "run"), "--storage-driver", "vfs"}
	return strings.TrimSpace(command(b.t, append(flags, args...)...))
}

// Build builds an image from a Dockerfile, with nothing loaded from anywhere.
func (b *builder) Build(name, dockerfile, context string, more ...string) {
	b.t.Helper()
	args := append([]string{"bud", "--signature-policy", b.policy, "--isolation", "chroot", "--pull-never", "--file", dockerfile, "--tag", name}, more...)
	b.Run(append(args, context)...)
}

// standIn makes an image with some files that takes the place of one that would have
// to be loaded from a registry.
func (b *builder) standIn(name, config string, files map[string]string) {
	b.t.Helper()
	dir := filepath.Join(b.dir, filepath.Base(name))
	for to, from := range files {
		path := filepath.Join(dir, "root", to)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.t.Fatal(err)
		}
		command(b.t, "cp", "--dereference", from, path)
	}
	b.Build(name, writeFile(b.t, filepath.Join(dir, "Dockerfile"), "FROM scratch\nCOPY root/ /\n"+config), dir)
}

// withLibraries are files of a program, with what it is linked to.
func withLibraries(t *testing.T, programs ...string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for _, name := range programs {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		files["/bin/"+name] = path
		for _, library := range regexp.MustCompile(`/\S+`).FindAllString(command(t, "ldd", path), -1) {
			files[library] = library
		}
	}
	return files
}

// TestContainer builds packaging/Dockerfile and runs what comes of it as the image says.
// The two images that it begins with are stand-ins: a shell and our Go, and next to
// nothing.
func TestContainer(t *testing.T) {
	need(t, "buildah", "chroot")
	b := &builder{t: t, dir: shortDir(t)}
	b.policy = writeFile(t, filepath.Join(b.dir, "policy.json"), `{"default": [{"type": "insecureAcceptAnything"}]}`)
	env := func(name string) string { return strings.TrimSpace(command(t, "go", "env", name)) }
	command(t, "go", "mod", "download")
	dockerfile := fileText(t, "../packaging/Dockerfile")
	from := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(dockerfile, -1)
	if len(from) != 2 {
		t.Fatalf("the images are %q", from)
	}
	b.standIn("docker.io/library/"+from[0][1],
		"ENV PATH=/usr/local/go/bin:/bin GOPATH=/go GOCACHE=/cache GOPROXY=off GOTOOLCHAIN=local HOME=/tmp\nWORKDIR /tmp\n",
		withLibraries(t, "sh", "install"))
	passwd := writeFile(t, filepath.Join(b.dir, "passwd"), "nonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n")
	b.standIn(from[1][1], "USER 65532\n", map[string]string{"/etc/passwd": passwd})

	start := time.Now()
	b.Build("localhost/caddy-imap", "../packaging/Dockerfile", "..",
		"--volume", env("GOROOT")+":/usr/local/go:ro", "--volume", env("GOMODCACHE")+":/go/pkg/mod", "--volume", env("GOCACHE")+":/cache")
	figure(t, "the image in %v", time.Since(start).Round(time.Second))

	container := b.Run("from", "--signature-policy", b.policy, "--pull-never", "localhost/caddy-imap")
	root := b.Run("mount", container)
	var image struct {
		OCIv1 struct {
			Config struct {
				User            string
				Env             []string
				Entrypoint, Cmd []string
			} `json:"config"`
		}
	}
	if err := json.Unmarshal([]byte(b.Run("inspect", container)), &image); err != nil {
		t.Fatal(err)
	}
	cfg := image.OCIv1.Config
	for path, want := range map[string]string{
		"/usr/bin/caddy": "-rwxr-xr-x 0 0", "/etc/caddy/Caddyfile": "-rw-r--r-- 0 0",
		"/data": "drwx------ 65532 65532", "/config": "drwx------ 65532 65532", "/run/caddy": "drwx------ 65532 65532",
	} {
		if got := strings.TrimSpace(command(t, "stat", "-c", "%A %u %g", filepath.Join(root, path))); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	checkContainer(t, root, cfg.User, cfg.Env, slices.Concat(cfg.Entrypoint, cfg.Cmd))
}

// checkContainer runs a program in the files of a container, and looks whether it is
// the server that they are for.
func checkContainer(t *testing.T, root, user string, env, args []string) {
	t.Helper()
	imap := freeAddr(t)
	chroot, err := findProgram("chroot")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(chroot, append([]string{"--userspec=" + user, root}, args...)...)
	// The usual ports are this machine's.
	cmd.Env = append(slices.Clone(env), "IMAP_LISTEN="+imap, "IMAPS_LISTEN="+freeAddr(t), "AUTH_LISTEN="+freeAddr(t))
	cmd.Stdout, cmd.Stderr = log, log
	p := startProcess(t, "the container", cmd)
	defer func() {
		if err := p.stop(t); err != nil {
			t.Errorf("it ended with %v", err)
		}
		if t.Failed() {
			t.Logf("%s", fileText(t, log.Name()))
		}
	}()
	awaitCertificate(t, imap)
	if got := strings.TrimSpace(command(t, "stat", "-c", "%A %u", filepath.Join(root, "run/caddy/admin.sock"))); got != "srw------- 65532" {
		t.Errorf("the admin socket is %s", got)
	}
	// Its certificates are where they are kept.
	if found, err := filepath.Glob(filepath.Join(root, "data/caddy/certificates/*/*")); err != nil || len(found) == 0 {
		t.Errorf("there are no certificates in /data: %v", err)
	}
	// It can be reloaded as its page says.
	reload := exec.Command(chroot, "--userspec="+user, root, args[0], "reload", "--config", "/etc/caddy/Caddyfile")
	reload.Env = cmd.Env
	if out, err := reload.CombinedOutput(); err != nil {
		t.Errorf("reloading: %v\n%s", err, out)
	}
	if err := accepts("tcp", imap); err != nil {
		t.Errorf("after a reload: %v", err)
	}
	if err := p.exited(); err != nil {
		t.Fatal(fmt.Errorf("after a reload: %w", err))
	}
}
