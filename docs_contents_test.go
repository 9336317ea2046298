package caddyimap_test

import (
	"encoding/json"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	chapter  = regexp.MustCompile(`(?m)^## .*$`)
	packaged = regexp.MustCompile(`(?m)^  - src: (\S+)\n    dst: /usr/share/doc/caddy-imap(/\S+)$`)
)

// TestContents looks that a page that begins with links to its chapters has all of them
// there.
func TestContents(t *testing.T) {
	found := 0
	for _, page := range pages(t) {
		text := fence.ReplaceAllString(read(t, page), "")
		at := chapter.FindStringIndex(text)
		if at == nil || !strings.Contains(text[:at[0]], "](#") {
			continue
		}
		found++
		for _, heading := range chapter.FindAllString(text, -1) {
			if anchor := anchors(heading)[0]; !strings.Contains(text[:at[0]], "](#"+anchor+")") {
				t.Errorf("%s: no link to %q at its top", page, heading)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d pages have a table of contents", found)
	}
	for _, page := range []string{"docs/security.md", "docs/operations.md", "docs/install.md"} {
		before, _, _ := strings.Cut(read(t, page), "\n## ")
		if !strings.Contains(before, "](#") {
			t.Errorf("%s has none", page)
		}
	}
}

// TestPackagedLinks looks that the pages of the package, too, link to what is there.
func TestPackagedLinks(t *testing.T) {
	there := make(map[string]string) // by their places in the package
	for _, m := range packaged.FindAllStringSubmatch(read(t, "packaging/nfpm.yaml"), -1) {
		there[m[2]] = m[1]
	}
	if there["/docs"] != "docs" {
		t.Fatalf("the package has no docs: %v", there)
	}
	has := func(place string) bool {
		_, whole := there[place]
		return whole || place == "/docs" || strings.HasPrefix(place, "/docs/") // TestLinks has looked at these
	}
	for _, page := range pages(t) {
		place := "/" + filepath.ToSlash(page)
		if !has(place) {
			t.Errorf("%s is not in the package", page)
		}
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, page), ""), -1) {
			file, _, _ := strings.Cut(m[1], "#")
			if file == "" || strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			if target := path.Join(path.Dir(place), file); !has(target) {
				t.Errorf("%s: link to %s, which is not in the package", page, m[1])
			}
		}
	}
}

// TestConsoleJSON parses what the samples of commands show as JSON.
func TestConsoleJSON(t *testing.T) {
	found := 0
	for _, page := range pages(t) {
		for _, m := range fence.FindAllStringSubmatch(read(t, page), -1) {
			if m[1] != "console" {
				continue
			}
			for _, part := range regexp.MustCompile(`(?m)^\$ .*\n`).Split(m[3], -1) {
				if !strings.HasPrefix(part, "{") && !strings.HasPrefix(part, "[") {
					continue
				}
				found++
				if !json.Valid([]byte(part)) {
					t.Errorf("%s: this is no JSON:\n%s", page, part)
				}
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d samples were found", found)
	}
}
