//go:build linux

package main

import "slices"

// goal is a number that we want to keep, as a ratio to a peer's number or, if it
// names no peer, by itself.
type goal struct {
	title string
	mode  string
	key   string
	ours  string
	peer  string
	most  float64 // more is a failure
	aim   float64
}

var goals = []goal{
	{"CPU a login", "login", "cpu_ms", us, "nginx", 0.80, 0.65},
	{"CPU a login", "login", "cpu_ms", us, "dovecot", 0.60, 0.45},
	{"CPU a login", "login", "cpu_ms", us, "imapc", 0.12, 0.09},
	{"CPU a login", "login", "cpu_ms", usTLS, "dovecot-tls", 0.55, 0.45},
	{"time of a login", "login", "p50_ms", us, "nginx", 0.35, 0.20},
	{"time of a login", "login", "p50_ms", us, "imapc", 0.25, 0.12},
	{"CPU a GB of FETCH", "fetch", "cpu_s_gb", us, "nginx", 0.60, 0.40},
	{"CPU a GB of FETCH", "fetch", "cpu_s_gb", us, "haproxy", 0.80, 0.55},
	{"CPU a GB of FETCH", "fetch", "cpu_s_gb", us, "dovecot", 0.08, 0.05},
	{"CPU a GB of APPEND", "append", "cpu_s_gb", us, "nginx", 0.75, 0.62},
	{"CPU a GB of APPEND", "append", "cpu_s_gb", us, "haproxy", 0.80, 0.65},
	{"time of a NOOP", "noop", "p50_us", us, "nginx", 1.15, 1.0},
	{"CPU a NOOP", "noop", "cpu_us", us, "nginx", 1.2, 1.0},
	{"KiB an idle session", "idle", "kib", us, "", 29, 17},
	{"KiB an idle session", "idle", "kib", usTLS, "", 40, 24},
	{"growth by two FETCH, %", "idle", "growth_pct", us, "", 10, 5},
	{"growth by two FETCH, KiB", "idle", "growth_kib", usTLS, "", 60, 24},
	{"MiB for slow readers", "slow", "extra_mib", us, "", 64, 24},
	{"all idle sessions are told in, s", "wake", "all_s", us, "", 1, 0.4},
}

func (r *record) goalTable() string {
	text := head("What", "Of", "Compared with", "At most", "Aim", "Measured", "")
	for _, g := range goals {
		numbers, with := r.numbers(g.mode, g.ours, g.key), "–"
		if g.peer != "" {
			numbers = r.ratios(g.mode, g.ours, g.peer, g.key)
			with = titleOf(g.peer)
		}
		text += row(g.title, titleOf(g.ours), with, digits(g.most), digits(g.aim), spread(numbers), g.verdict(numbers))
	}
	return text
}

func (g goal) verdict(numbers []float64) string {
	switch m := median(numbers); {
	case len(numbers) == 0:
		return "not measured"
	case m > g.most:
		return "**missed**"
	case m > g.aim:
		return "met"
	}
	return "aim met"
}

func titleOf(name string) string {
	i := slices.IndexFunc(allPeers, func(p *peer) bool { return p.name == name })
	return allPeers[i].title
}
