package caddyimap_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const attacksPage = "docs/attacks.md"

var testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]*)\(`)

// TestAttacksPage looks for the tests that the page of attacks names, and for the fuzz
// targets that it does not.
func TestAttacksPage(t *testing.T) {
	tests := allTests(t)
	named := namedTests(t, attacksPage, 3, tests)
	for name := range tests {
		if strings.Contains(name, ".Fuzz") && !named[name] {
			t.Errorf("the page does not have %s", name)
		}
	}
}

// TestThreatModelPage looks for the tests that the threat model names.
func TestThreatModelPage(t *testing.T) { namedTests(t, "docs/threat-model.md", 4, allTests(t)) }

// allTests are the tests and fuzz targets that there are, with the last part of their
// directory.
func allTests(t *testing.T) map[string]bool {
	t.Helper()
	tests := make(map[string]bool)
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		room := filepath.Base(filepath.Dir(path))
		if room == "." {
			room = "root"
		}
		for _, m := range testFunc.FindAllStringSubmatch(read(t, path), -1) {
			tests[room+"."+m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

// namedTests returns the tests that are named in the last column of the tables of a
// page, of which each row has so many cells.
func namedTests(t *testing.T, page string, columns int, tests map[string]bool) map[string]bool {
	t.Helper()
	named := make(map[string]bool)
	rows := 0
	for line := range strings.Lines(read(t, page)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if last := strings.TrimSpace(cells[len(cells)-1]); last == "Tests" || last == "Targets" {
			continue
		}
		if len(cells) != columns {
			t.Errorf("row with %d cells: %s", len(cells), line)
		}
		rows++
		spans := codeSpans(cells[len(cells)-1])
		if len(spans) == 0 {
			t.Errorf("no test is named by %s", line)
		}
		for _, name := range spans {
			if named[name] = true; !tests[name] {
				t.Errorf("there is no test %s", name)
			}
		}
	}
	if rows < 20 {
		t.Fatalf("%d rows were read", rows)
	}
	return named
}
