package caddyimap_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const dockerfile = "packaging/Dockerfile"

// instruction is one of a Dockerfile, with continuations of its line.
type instruction struct{ name, args string }

func instructions(text string) (list []instruction) {
	text = regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(text, "")
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		if name, args, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			list = append(list, instruction{name, strings.TrimSpace(args)})
		}
	}
	return list
}

// TestDockerfile reads the Dockerfile as a builder would, as far as that goes
// without one: what it copies is there, its stages know each other, the program
// that it runs is the one that it builds, and it does not run as root.
func TestDockerfile(t *testing.T) {
	ignored := strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(read(t, ".dockerignore"), ""))
	var (
		stages, ports []string
		user, built   string
		last          = make(map[string]string)
	)
	for _, in := range instructions(read(t, dockerfile)) {
		switch in.name {
		case "FROM":
			_, stage, _ := strings.Cut(in.args, " AS ")
			stages = append(stages, stage)
			user = ""
			if image, ok := strings.CutPrefix(in.args, "golang:"); ok && !strings.HasPrefix(image, goVersion(t)+"-") {
				t.Errorf("the image is golang:%s, and go.mod wants %s", image, goVersion(t))
			}
		case "RUN":
			built += in.args + "\n"
		case "COPY":
			words := strings.Fields(in.args)
			from := ""
			for strings.HasPrefix(words[0], "--") {
				if name, ok := strings.CutPrefix(words[0], "--from="); ok {
					from = name
				}
				words = words[1:]
			}
			for _, source := range words[:len(words)-1] {
				if from != "" {
					if !slices.Contains(stages[:len(stages)-1], from) || !strings.Contains(built, " "+source) {
						t.Errorf("COPY %s: no stage before it makes that", in.args)
					}
				} else if _, err := os.Stat(source); err != nil || slices.Contains(ignored, source) {
					t.Errorf("COPY %s: it is not there, or in .dockerignore: %v", in.args, err)
				}
			}
		case "EXPOSE":
			ports = strings.Fields(in.args)
		case "USER":
			user = in.args
		case "WORKDIR", "ENV":
		case "ENTRYPOINT", "CMD", "VOLUME":
			last[in.name] = in.args
		default:
			t.Errorf("unknown instruction %s", in.name)
		}
	}
	if len(stages) != 2 || stages[0] != "build" || stages[1] != "" {
		t.Errorf("the stages are %q", stages)
	}
	if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) {
		t.Errorf("it runs as %q: want a user and a group by their numbers, and not root", user)
	}
	same(t, "ports", ports, []string{"80", "143", "443", "993"})
	for name, want := range map[string][]string{
		"ENTRYPOINT": {"/usr/bin/caddy"}, "CMD": {"run", "--config", "/etc/caddy/Caddyfile"}, "VOLUME": {"/data", "/config"},
	} {
		var got []string
		if err := json.Unmarshal([]byte(last[name]), &got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s %s: want %q, %v", name, last[name], want, err)
		}
	}
	for _, path := range []string{"/out/usr/bin/caddy", "/out/etc/caddy/Caddyfile", "/home/out/data", "/home/out/config", "/home/out/run/caddy"} {
		if !strings.Contains(built, path) {
			t.Errorf("nothing makes %s", path)
		}
	}
}

// TestReleaseFlags pins that the program is the same in the package and in the image, and
// that the tests build it like that beforehand.
func TestReleaseFlags(t *testing.T) {
	release := regexp.MustCompile(`CGO_ENABLED=0 (?:go|\$\(GO\)) build (.*) -o \S+ \./cmd/caddy\n`)
	want := release.FindStringSubmatch(read(t, dockerfile))
	got := release.FindAllStringSubmatch(read(t, "Makefile"), -1)
	if want == nil || len(got) != 2 || got[0][1] != want[1] || got[1][1] != want[1] {
		t.Errorf("the Dockerfile builds with %q, the Makefile with %q", want, got)
	}
}

// TestDockerignore does without what the builder does not get: every package of
// the server has to be there all the same.
func TestDockerignore(t *testing.T) {
	dir := t.TempDir()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	ignored := strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(read(t, ".dockerignore"), ""))
	for _, e := range entries {
		if slices.Contains(ignored, e.Name()) {
			continue
		}
		if e.IsDir() {
			err = os.CopyFS(filepath.Join(dir, e.Name()), os.DirFS(e.Name()))
		} else {
			err = os.WriteFile(filepath.Join(dir, e.Name()), []byte(read(t, e.Name())), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "list", "-deps", "./cmd/caddy")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go list: %v\n%s", err, out)
	}
}

// goVersion is the one of go.mod.
func goVersion(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	if m == nil {
		t.Fatal("go.mod names no version of Go")
	}
	return m[1]
}

// TestUnits compares the units with the pages and examples that speak of them.
func TestUnits(t *testing.T) {
	service := read(t, "packaging/caddy.service")
	for _, page := range []string{"docs/postfix.md", "docs/exim.md"} {
		for _, m := range regexp.MustCompile(`kept/unix/(/\S+)/[^/\s]+\|`).FindAllStringSubmatch(read(t, page), -1) {
			if !regexp.MustCompile(`(?m)^ReadWritePaths=.*-` + m[1] + `( |$)`).MatchString(service) {
				t.Errorf("%s has a socket in %s, and the unit does not let Caddy write there", page, m[1])
			}
		}
	}
	listen := regexp.MustCompile(`(?m)^ListenStream=`).FindAllString(read(t, "packaging/caddy.socket"), -1)
	example := regexp.MustCompile(`(?m)^\t\tfd/(\d)`).FindAllStringSubmatch(read(t, "docs/examples/systemd.Caddyfile"), -1)
	if len(listen) != len(example) {
		t.Errorf("there are %d sockets, and %d are used", len(listen), len(example))
	}
	for i, m := range example {
		if want := string(rune('3' + i)); m[1] != want {
			t.Errorf("the example has fd/%s in the place of fd/%s", m[1], want)
		}
	}
}
