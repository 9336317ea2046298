package caddyimap_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imapext"
)

// TestExtensionsPage compares the table of extensions with the code.
func TestExtensionsPage(t *testing.T) {
	var documented, auto []string
	for _, row := range table(t, read(t, "docs/extensions.md"), "Extensions", "Name") {
		name := strings.Trim(row[0], "`")
		documented = append(documented, name)
		if row[2] == "yes" {
			auto = append(auto, name)
		}
		for i, cell := range row {
			if cell == "" {
				t.Errorf("%s: column %d is empty", name, i+1)
			}
		}
	}
	same(t, "extensions", documented, imapext.Known())
	if !slices.IsSorted(documented) {
		t.Error("the rows are not in alphabetical order")
	}
	same(t, "extensions in auto", auto, imapext.Automatic())
}
