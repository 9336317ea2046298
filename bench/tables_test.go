//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// testRecord has two repetitions of a login by us, nginx and no proxy.
func testRecord(t *testing.T) *record {
	t.Helper()
	path := filepath.Join(t.TempDir(), "below", "results.jsonl")
	w, err := createRecord(path, header{Peers: []string{us, "nginx", "direct"}, Modes: []string{"login"}, Reps: 2,
		Versions: map[string]string{"nginx": "1.2.3"}, Missing: map[string]string{"haproxy": "haproxy is not installed"}})
	if err != nil {
		t.Fatal(err)
	}
	add := func(rep int, peer string, cpu, p50 float64) {
		if err := w.add(result{Rep: rep, Mode: "login", Peer: peer, Values: values{"cpu_ms": cpu, "p50_ms": p50, "per_s": 100}}); err != nil {
			t.Fatal(err)
		}
	}
	add(1, "nginx", 1, 40)
	add(1, us, 0.5, 8)
	add(1, "direct", 0, 4)
	add(2, us, 1.2, 10)
	add(2, "nginx", 2, 40)
	if err := w.add(result{Rep: 2, Mode: "login", Peer: "direct", Error: "it does not answer"}); err != nil {
		t.Fatal(err)
	}
	if err := w.file.Close(); err != nil {
		t.Fatal(err)
	}
	rec, err := readRecord(path)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// A ratio is that of one repetition, not that of the medians.
func TestTables(t *testing.T) {
	text := testRecord(t).render()
	for _, want := range []string{
		"| this proxy | 100 [100–100] | 9 [8–10] | – | 0.85 [0.50–1.20] | – |\n",
		"| nginx mail | 100 [100–100] | 40 [40–40] | 0.23 [0.20–0.25] | 1.50 [1–2] | 0.55 [0.50–0.60] |\n",
		"| no proxy | 100 | 4 | 2 | – | – |\n",
		"| CPU a login | this proxy | nginx mail | 0.80 | 0.65 | 0.55 [0.50–0.60] | aim met |\n",
		"| time of a login | this proxy | nginx mail | 0.35 | 0.20 | 0.23 [0.20–0.25] | met |\n",
		"| CPU a login | this proxy | Dovecot login proxy | 0.60 | 0.45 | – | not measured |\n",
		"| nginx mail | `nginx` | 1.2.3 | – |\n",
		"| HAProxy | `haproxy` | left out: haproxy is not installed | – |\n",
		"| What went wrong | 0 operations, 1 measurements; the first, direct in mode login: `it does not answer` |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestVerdict(t *testing.T) {
	g := goal{most: 1, aim: 0.5}
	for _, tc := range []struct {
		numbers []float64
		want    string
	}{{nil, "not measured"}, {[]float64{0.5}, "aim met"}, {[]float64{1}, "met"}, {[]float64{0.2, 1.1, 1.2}, "**missed**"}} {
		if got := g.verdict(tc.numbers); got != tc.want {
			t.Errorf("verdict(%v) = %q, want %q", tc.numbers, got, tc.want)
		}
	}
}

func TestReplaceTable(t *testing.T) {
	page := "a\n<!-- bench: login -->\nold\n<!-- bench: end -->\nb\n<!-- bench: fetch -->\n<!-- bench: end -->\n"
	got, err := replaceTable(page, "login", "new\n")
	if want := strings.Replace(page, "old", "new", 1); err != nil || got != want {
		t.Errorf("replaceTable = %q, %v, want %q", got, err, want)
	}
	if _, err := replaceTable(page, "noop", "new\n"); err == nil {
		t.Error("a table that the page has not is no error")
	}
}

// The page has a place for each table and tells of each mode and option, and
// whom it speaks of is known.
func TestPage(t *testing.T) {
	b, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	names := []string{"run", "peers", "goals"}
	for _, m := range allModes {
		names = append(names, m.name)
		if !strings.Contains(page, "| `"+m.name+"` |") {
			t.Errorf("no word of the mode %s", m.name)
		}
	}
	var titles []string
	for _, p := range allPeers {
		titles = append(titles, p.title)
		if !strings.Contains(page, "| "+p.title+" | `"+p.name+"` |") {
			t.Errorf("no word of the peer %s", p.name)
		}
	}
	for _, name := range names {
		_, rest, ok := strings.Cut(page, fmt.Sprintf(tableBegin, name))
		table, _, ends := strings.Cut(rest, tableEnd)
		if !ok || !ends {
			t.Errorf("no place for the table %s", name)
			continue
		}
		i := slices.IndexFunc(allModes, func(m *mode) bool { return m.name == name })
		if i < 0 || table == "" {
			continue
		}
		lines := strings.Split(strings.TrimSpace(table), "\n")
		if want := strings.TrimSpace(head(headings(allModes[i])...)); want != strings.Join(lines[:min(2, len(lines))], "\n") {
			t.Errorf("the table %s has another head than %q", name, want)
		}
		for _, line := range lines[min(2, len(lines)):] {
			if title := strings.Trim(strings.Split(line, "|")[1], " "); !slices.Contains(titles, title) {
				t.Errorf("in the table %s is %q, which is no peer", name, title)
			}
		}
	}
}

// What goals speak of is there.
func TestGoals(t *testing.T) {
	for _, g := range goals {
		i := slices.IndexFunc(allModes, func(m *mode) bool { return m.name == g.mode })
		if i < 0 || !slices.ContainsFunc(allModes[i].columns, func(c column) bool { return c.key == g.key }) {
			t.Errorf("%s: no %s in mode %s", g.title, g.key, g.mode)
		}
		for _, name := range []string{g.ours, g.peer} {
			if name != "" && !slices.ContainsFunc(allPeers, func(p *peer) bool { return p.name == name }) {
				t.Errorf("%s: no peer %s", g.title, name)
			}
		}
		if g.aim > g.most {
			t.Errorf("%s: the aim %v is beyond %v", g.title, g.aim, g.most)
		}
	}
}
