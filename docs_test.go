package caddyimap_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/mholt/caddy-l4"

	_ "github.com/caddy-imap/caddy-imap"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

const (
	designPage = "docs/design.md"
	modulePath = "github.com/caddy-imap/caddy-imap"
)

// TestRooms compares the packages of design.md, and which of them knows which,
// with the code. A package that none but tests import may be there or not.
func TestRooms(t *testing.T) {
	code := make(map[string][]string)
	used := []string{"cmd/caddy"}
	for _, file := range goFiles(t, ".") {
		dir := filepath.ToSlash(filepath.Dir(file))
		if dir == "." {
			dir = "the root"
		}
		code[dir] = append(code[dir], []string{}...) // even without imports
		for _, spec := range parse(t, file, parser.ImportsOnly).Imports {
			path, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), modulePath)
			if !ok {
				continue
			}
			if path = strings.TrimPrefix(path, "/"); path == "" {
				path = "the root"
			}
			code[dir] = append(code[dir], path)
			used = append(used, path)
		}
	}
	var documented []string
	for _, row := range table(t, read(t, designPage), "Rooms", "Room") {
		name := strings.Trim(row[0], "`")
		documented = append(documented, name)
		var knows []string
		if row[2] != "-" {
			for _, other := range strings.Split(row[2], ", ") {
				knows = append(knows, strings.Trim(other, "`"))
			}
		}
		same(t, "rooms that "+name+" knows", knows, code[name])
	}
	for _, name := range documented {
		if _, ok := code[name]; !ok {
			t.Errorf("rooms: the page has %s, the code has not", name)
		}
	}
	slices.Sort(used)
	for _, name := range slices.Compact(used) {
		if !slices.Contains(documented, name) {
			t.Errorf("rooms: the code has %s, the page has not", name)
		}
	}
}

// pages are all pages that people read.
func pages(t *testing.T) []string {
	t.Helper()
	top, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	below, err := filepath.Glob("docs/*.md")
	if err != nil || len(below) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	return append(top, below...)
}

var (
	fence   = regexp.MustCompile("(?ms)^```([a-z]*)( same)?\n(.*?)^```$")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// filesOfExamples puts files that are there in the place of those that the pages
// name. It sets the environment that they want, too.
func filesOfExamples(t *testing.T) *strings.Replacer {
	t.Helper()
	t.Setenv("REDIS_PASSWORD", "for the test alone")
	ca := imaptest.NewCA(t)
	leaf := ca.Issue(imaptest.Leaf{Names: []string{"mail.example.org"}})
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("for the test alone\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("/etc/ssl/corp-ca.pem", ca.File(), "/etc/ssl/mail.pem", leaf.CertFile, "/etc/ssl/mail.key", leaf.KeyFile,
		"/etc/caddy/oauth-secret", secret, "/etc/caddy/imap-master", secret)
}

// TestSnippets formats, adapts and validates each Caddyfile of the pages. A snippet
// that does not begin with a brace is a part of the global options, and gets a
// backend if it has no app imap. JSON is parsed; behind the info string "json same"
// it has to be what the Caddyfile before it adapts to.
func TestSnippets(t *testing.T) {
	files := filesOfExamples(t)
	for _, page := range pages(t) {
		var before []byte
		for i, m := range fence.FindAllStringSubmatch(read(t, page), -1) {
			t.Run(fmt.Sprintf("%s/%d", page, i+1), func(t *testing.T) {
				switch m[1] {
				case "caddyfile":
					text := m[3]
					if formatted := string(caddyfile.Format([]byte(text))); formatted != text {
						t.Errorf("caddy fmt makes of it\n%s", formatted)
					}
					if !strings.HasPrefix(text, "{\n") {
						if !strings.Contains("\n"+text, "\nimap {") {
							text += "imap {\nbackend exchange {\nupstream ex1.corp.example.org\n}\n}\n"
						}
						text = "{\n" + text + "}\n"
					}
					config, err := adapt(text)
					if err != nil {
						t.Fatal(err)
					}
					before = config
					if err := caddy.Validate(quiet(t, []byte(files.Replace(string(config))))); err != nil {
						t.Error(err)
					}
				case "json":
					var value any
					if err := json.Unmarshal([]byte(m[3]), &value); err != nil {
						t.Fatal(err)
					}
					var want any
					if m[2] != "" {
						if err := json.Unmarshal(before, &want); err != nil || !reflect.DeepEqual(value, want) {
							t.Errorf("the Caddyfile before it adapts to %s, %v", before, err)
						}
					}
				}
			})
		}
	}
}

// TestLinks follows the links between pages, to their headings.
func TestLinks(t *testing.T) {
	for _, page := range pages(t) {
		text := read(t, page)
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: link to %s: %v", page, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s: link to %s: no such heading", page, m[1])
			}
		}
	}
}

// anchors returns the fragments that GitHub gives to the headings of a page.
func anchors(text string) (found []string) {
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		found = append(found, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z':
				return r
			}
			return -1
		}, strings.ToLower(m[1])))
	}
	return found
}

// table returns the cells of the first table behind a heading, without its head,
// of which the first column must have the name given.
func table(t *testing.T, page, under, first string) (rows [][]string) {
	t.Helper()
	_, text, found := strings.Cut(page, "# "+under+"\n")
	if !found {
		t.Fatalf("no heading %q", under)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || len(rows) > 0 && !strings.HasPrefix(line, "|") {
			break
		}
		if strings.HasPrefix(line, "|") {
			cells := strings.Split(strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00"), "|")
			for i := range cells {
				cells[i] = strings.ReplaceAll(strings.TrimSpace(cells[i]), "\x00", "|")
			}
			rows = append(rows, cells)
		}
	}
	if len(rows) < 3 || rows[0][0] != first {
		t.Fatalf("no table with the first column %q under %q", first, under)
	}
	for _, row := range rows {
		if len(row) != len(rows[0]) {
			t.Fatalf("row %q has %d cells, want %d", row[0], len(row), len(rows[0]))
		}
	}
	return rows[2:]
}

// codeSpans returns what is between backticks.
func codeSpans(text string) (spans []string) {
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			spans = append(spans, part)
		}
	}
	return spans
}

// same compares two sets.
func same(t *testing.T, what string, documented, code []string) {
	t.Helper()
	for _, name := range documented {
		if !slices.Contains(code, name) {
			t.Errorf("%s: the page has %s, the code has not", what, name)
		}
	}
	for _, name := range code {
		if !slices.Contains(documented, name) {
			t.Errorf("%s: the code has %s, the page has not", what, name)
		}
	}
}

// goFiles returns the files of the packages at and below the directories, without
// tests.
func goFiles(t *testing.T, dirs ...string) (files []string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
				return filepath.SkipDir
			case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
				files = append(files, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func parse(t *testing.T, file string, mode parser.Mode) *ast.File {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, mode)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")))
}

func adapt(text string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	return config, err
}

// quiet returns the configuration with a storage of the test's own, and without a
// word on stderr.
func quiet(t *testing.T, config []byte) *caddy.Config {
	t.Helper()
	cfg := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(config, cfg); err != nil {
		t.Fatal(err)
	}
	root, err := json.Marshal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.StorageRaw = json.RawMessage(`{"module": "file_system", "root": ` + string(root) + `}`)
	discard := caddy.BaseLog{WriterRaw: json.RawMessage(`{"output": "discard"}`)}
	cfg.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: discard}}}
	return cfg
}

var adminLine = regexp.MustCompile(`(?m)^\s*admin +(.*)$`)

// TestAdminSocket pins that whoever follows our examples has an admin endpoint that
// only Caddy's own user can reach: who else could would see who is logged in from
// where, and could collect passwords.
func TestAdminSocket(t *testing.T) {
	found := 0
	for _, page := range append(pages(t), "Caddyfile.example") {
		blocks := []string{read(t, page)}
		if page != "Caddyfile.example" {
			blocks = nil
			for _, m := range fence.FindAllStringSubmatch(read(t, page), -1) {
				if m[1] == "caddyfile" {
					blocks = append(blocks, m[3])
				}
			}
		}
		for _, text := range blocks {
			for _, m := range adminLine.FindAllStringSubmatch(text, -1) {
				found++
				if !strings.HasPrefix(m[1], "unix/") || !strings.HasSuffix(m[1], "|0600") {
					t.Errorf("%s: admin %s", page, m[1])
				}
			}
		}
	}
	if found < 4 {
		t.Errorf("only %d admin endpoints were found", found)
	}
	unit := read(t, "packaging/caddy.service")
	if !strings.Contains(unit, "\nRuntimeDirectory=caddy\n") || strings.Contains(unit, "CADDY_ADMIN") || strings.Contains(unit, "--address") {
		t.Error("packaging/caddy.service does not make the directory of the socket, or has the endpoint elsewhere")
	}
}
