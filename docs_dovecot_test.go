package caddyimap_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/dovecotadapter"
)

var update = flag.Bool("update", false, "write the table of Dovecot's settings anew")

const migratePage = "docs/migrate.md"

// tableHead begins the table of all settings of Dovecot in migrate.md.
const tableHead = "| Setting | In | What becomes of it | Here |\n|---|---|---|---|\n"

// TestDovecotSettings compares the table with what the adapter goes by.
func TestDovecotSettings(t *testing.T) {
	page := read(t, migratePage)
	before, after, found := strings.Cut(page, tableHead)
	if !found {
		t.Fatalf("%s has no table that begins with\n%s", migratePage, tableHead)
	}
	documented, after, _ := strings.Cut(after, "\n\n")
	var b strings.Builder
	for _, rule := range dovecotadapter.Rules {
		names := make([]string, len(rule.Names))
		for i, name := range rule.Names {
			names[i] = "`" + name + "`"
		}
		in := "-"
		if rule.In != "" {
			in = "`" + rule.In + "`"
		}
		b.WriteString("| " + strings.Join(names, ", ") + " | " + in + " | " + rule.Fate.String() + " | " + rule.Here + " |\n")
	}
	rows := strings.TrimSuffix(b.String(), "\n")
	if *update {
		if err := os.WriteFile(migratePage, []byte(before+tableHead+rows+"\n\n"+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if documented == rows {
		return
	}
	code := strings.Split(rows, "\n")
	same(t, "settings of Dovecot (go test . -run "+t.Name()+" -update writes them anew)", strings.Split(documented, "\n"), code)
	t.Error("the rows are not in the same order")
}
