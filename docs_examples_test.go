package caddyimap_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// TestExamples does with each example what "caddy fmt", "caddy adapt" and "caddy
// validate" do, and looks that a page has it as it stands, behind a link to it.
func TestExamples(t *testing.T) {
	examples, err := filepath.Glob("docs/examples/*.Caddyfile")
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	var all strings.Builder
	for _, page := range pages(t) {
		all.WriteString(read(t, page))
	}
	files := filesOfExamples(t)
	for _, example := range append(examples, "Caddyfile.example") {
		t.Run(filepath.Base(example), func(t *testing.T) {
			text := read(t, example)
			if formatted := string(caddyfile.Format([]byte(text))); formatted != text {
				t.Errorf("caddy fmt makes of it\n%s", formatted)
			}
			config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
			if err != nil || len(warnings) > 0 {
				t.Fatalf("adapting: %v, warnings %v", err, warnings)
			}
			if err := caddy.Validate(quiet(t, []byte(files.Replace(string(config))))); err != nil {
				t.Errorf("validating: %v", err)
			}
			name := filepath.ToSlash(strings.TrimPrefix(example, "docs/"))
			if example != "Caddyfile.example" && !strings.Contains(all.String(), "["+name+"]("+name+"):\n\n```caddyfile\n"+text+"```\n") {
				t.Errorf("no page has it, behind the line [%s](%s):", name, name)
			}
		})
	}
}

// TestIndex looks that the list of pages has them all.
func TestIndex(t *testing.T) {
	const index = "docs/README.md"
	var listed, there []string
	for _, m := range link.FindAllStringSubmatch(read(t, index), -1) {
		if strings.HasSuffix(m[1], ".md") {
			listed = append(listed, m[1])
		}
	}
	for _, page := range pages(t) {
		if name, ok := strings.CutPrefix(filepath.ToSlash(page), "docs/"); ok && page != index {
			there = append(there, name)
		}
	}
	same(t, index, listed, there)
}

// TestNoForeignEmail looks that no file of ours has an address at example.org for the
// authority: Let's Encrypt would refuse it, and who leaves it there gets no certificate.
func TestNoForeignEmail(t *testing.T) {
	live := regexp.MustCompile(`(?mi)^\s*"?email"?:?\s.*@example\.`)
	if !live.MatchString("\temail {$MAIL_ADMIN:postmaster@example.org}\n") || live.MatchString("\t# \temail a@example.org\n") {
		t.Fatal("the expression finds nothing, or too much")
	}
	files := append(pages(t), "Caddyfile.example")
	for _, dir := range []string{"docs/examples", "packaging"} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range files {
		if line := live.FindString(read(t, file)); line != "" {
			t.Errorf("%s: %s", file, strings.TrimSpace(line))
		}
	}
}
