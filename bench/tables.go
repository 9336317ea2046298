//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// A page has each table between a line of its own and the line tableEnd.
const (
	tableBegin = "<!-- bench: %s -->\n"
	tableEnd   = "<!-- bench: end -->\n"
)

// tables returns those of the record by their names in the page. Modes that were
// not measured have none.
func (r *record) tables() (names []string, text map[string]string) {
	text = map[string]string{"run": r.runTable(), "peers": r.peerTable(), "goals": r.goalTable()}
	names = []string{"run", "peers", "goals"}
	for _, m := range allModes {
		if slices.Contains(r.header.Modes, m.name) {
			names = append(names, m.name)
			text[m.name] = r.modeTable(m)
		}
	}
	return names, text
}

// render returns all tables for a terminal.
func (r *record) render() string {
	var b strings.Builder
	names, text := r.tables()
	for _, name := range names {
		fmt.Fprintf(&b, "\n%s\n\n%s", name, text[name])
	}
	return b.String()
}

// writePage replaces the tables of a page.
func (r *record) writePage(path string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the page: %w", err)
	}
	names, text := r.tables()
	out := string(page)
	for _, name := range names {
		if out, err = replaceTable(out, name, text[name]); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	fmt.Fprintln(os.Stderr, "tables are in", path)
	return nil
}

func replaceTable(page, name, text string) (string, error) {
	begin := fmt.Sprintf(tableBegin, name)
	before, rest, ok := strings.Cut(page, begin)
	_, after, ends := strings.Cut(rest, tableEnd)
	if !ok || !ends {
		return "", fmt.Errorf("no lines %q and %q", strings.TrimSpace(begin), strings.TrimSpace(tableEnd))
	}
	return before + begin + text + tableEnd + after, nil
}

func row(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

func head(cells ...string) string {
	return row(cells...) + "|" + strings.Repeat("---|", len(cells)) + "\n"
}

func headings(m *mode) []string {
	titles := []string{"Proxy"}
	for _, c := range m.columns {
		titles = append(titles, c.title)
		if c.ratio {
			titles = append(titles, "ours to it")
		}
	}
	return titles
}

func (r *record) modeTable(m *mode) string {
	text := head(headings(m)...)
	for _, p := range allPeers {
		if len(r.of(m.name, p.name)) == 0 {
			continue
		}
		cells := []string{p.title}
		for _, c := range m.columns {
			isNumber := p.program != "" || c.noProxy
			if !isNumber {
				cells = append(cells, "–")
			} else {
				cells = append(cells, spread(r.numbers(m.name, p.name, c.key)))
			}
			switch {
			case !c.ratio:
			case p.name == p.ours || !isNumber:
				cells = append(cells, "–")
			default:
				cells = append(cells, spread(r.ratios(m.name, p.ours, p.name, c.key)))
			}
		}
		text += row(cells...)
	}
	return text
}

func (r *record) peerTable() string {
	text := head("Proxy", "Name", "Version", "TLS with clients")
	for _, p := range allPeers {
		if why, ok := r.header.Missing[p.name]; ok {
			text += row(p.title, "`"+p.name+"`", "left out: "+why, "–")
			continue
		}
		if !slices.Contains(r.header.Peers, p.name) {
			continue
		}
		version := r.header.Versions[p.name]
		switch {
		case p.program == "caddy" && r.header.Commit != "":
			version = "commit " + r.header.Commit
		case version == "":
			version = "–"
		}
		seen := "–"
		for _, one := range r.results {
			if one.Peer == p.name && one.TLS != "" {
				seen = one.TLS
			}
		}
		text += row(p.title, "`"+p.name+"`", version, seen)
	}
	return text
}

func (r *record) runTable() string {
	var others []float64
	faults, failed, first := 0, 0, ""
	for _, one := range r.results {
		if n, ok := one.Values["other_pct"]; ok {
			others = append(others, n)
		}
		faults += one.Faults
		if one.Values == nil {
			failed++
		}
		if one.Error != "" && first == "" {
			first = fmt.Sprintf("; the first, %s in mode %s: `%s`", one.Peer, one.Mode, strings.ReplaceAll(one.Error, "|", "/"))
		}
	}
	h := r.header
	c := h.Counts
	reps := fmt.Sprint(h.Reps)
	if h.MemoryReps < h.Reps {
		reps += fmt.Sprintf("; %d of idle, wake and slow", h.MemoryReps)
	}
	if h.Reps < 5 {
		reps += "; too few to believe a ratio by more than a third"
	}
	return head("", "") +
		row("Date", h.Date) +
		row("Machine", fmt.Sprintf("%d CPUs, %s, %s", h.CPUs, h.CPU, h.System)) +
		row("Go", h.Go) +
		row("Repetitions", reps) +
		row("In each", fmt.Sprintf("%d logins, %d messages, %d NOOPs, %d and %d idle sessions held for %v, %d slow readers",
			c.Logins, c.Messages, c.Noops, c.Sessions, c.Wake, c.Hold, c.Slow)) +
		row("CPU that others used, %", spread(others)) +
		row("What went wrong", fmt.Sprintf("%d operations, %d measurements%s", faults, failed, first))
}
