//go:build linux

package main

import (
	"crypto/tls"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// pair is one measurement of a repetition.
type pair struct {
	mode *mode
	peer *peer
}

// measureAll does all there is to do and prints or writes the tables.
func measureAll(o *options) error {
	h := newHeader(o)
	var peers []*peer
	for _, p := range o.peers {
		path, err := p.path(o.caddy, o.before)
		if err != nil {
			fmt.Fprintf(os.Stderr, "left out: %s: %v\n", p.name, err)
			h.Missing[p.name] = err.Error()
			continue
		}
		peers = append(peers, p)
		h.Peers = append(h.Peers, p.name)
		if v := p.versionOf(path); v != "" {
			h.Versions[p.name] = v
		}
	}
	if len(peers) == 0 {
		return fmt.Errorf("nothing to measure: none of the peers is there")
	}
	for _, m := range o.modes {
		h.Modes = append(h.Modes, m.name)
	}
	w, err := newWorld(o)
	if err != nil {
		return err
	}
	defer w.close()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go w.closeOn(interrupted)
	out, err := createRecord(o.out, h)
	if err != nil {
		return err
	}
	defer out.file.Close()
	if err := measureReps(o, peers, w, out); err != nil {
		return err
	}
	rec, err := readRecord(o.out)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "results are in", o.out)
	if o.page == "" {
		fmt.Print(rec.render())
		return nil
	}
	return rec.writePage(o.page)
}

func measureReps(o *options, peers []*peer, w *world, out *writer) error {
	plan := makePlan(o, peers)
	times := newClock()
	for i, step := range plan {
		fmt.Fprintf(os.Stderr, "%3d/%d  repetition %d, %-6s  %-12s", i+1, len(plan), step.rep, step.mode.name, step.peer.name)
		begin := time.Now()
		r := w.measure(step.pair, o.counts)
		r.Rep = step.rep
		if err := out.add(r); err != nil {
			return err
		}
		times.add(step.pair, time.Since(begin))
		fmt.Fprintf(os.Stderr, " %s; %v left\n", r.brief(step.mode), times.left(plan[i+1:]).Round(time.Second))
	}
	return nil
}

// measure starts the peer, measures, and stops it. What goes wrong is a part of
// the result.
func (w *world) measure(p pair, c counts) result {
	r := result{Mode: p.mode.name, Peer: p.peer.name}
	runtime.GC() // ours, lest it be in somebody's time
	t, err := w.startPeer(p.peer)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	defer t.stop()
	// A proxy has two files open for each session, and some of its own.
	most := max(1, (w.files-500)/2)
	if p.peer.sessions > 0 {
		most = min(most, p.peer.sessions)
	}
	c.Sessions, c.Wake = min(c.Sessions, most), min(c.Wake, most)
	v := make(values)
	f, err := p.mode.measure(t, &c, v)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	// If nothing went well, something was divided by nothing.
	maps.DeleteFunc(v, func(_ string, n float64) bool { return math.IsNaN(n) || math.IsInf(n, 0) })
	r.Values, r.Faults = v, f.count
	if f.first != nil {
		r.Error = f.first.Error()
	}
	r.TLS = t.negotiated()
	return r
}

// negotiated says what TLS a client gets.
func (t *target) negotiated() string {
	c, err := t.connect()
	if err != nil {
		return ""
	}
	defer c.close()
	s := c.conn.ConnectionState()
	return fmt.Sprintf("%s, %s, %v", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite), s.CurveID)
}

// brief is for the one who waits.
func (r *result) brief(m *mode) string {
	if r.Values == nil {
		return "failed: " + r.Error
	}
	text := ""
	for _, c := range m.columns[:min(4, len(m.columns))] {
		if n, ok := r.Values[c.key]; ok {
			text += fmt.Sprintf(" %s %s,", c.title, digits(n))
		}
	}
	if r.Faults > 0 {
		text += fmt.Sprintf(" %d faults (%s),", r.Faults, r.Error)
	}
	return text + fmt.Sprintf(" others %.0f %%", r.Values["other_pct"])
}

type step struct {
	rep int
	pair
}

// makePlan has all peers take their turn in each mode before the next mode, in
// another order each time, so that what the machine does beside is shared.
func makePlan(o *options, peers []*peer) (plan []step) {
	for rep := 1; rep <= o.reps; rep++ {
		for _, m := range o.modes {
			if m.memory && rep > o.memoryReps {
				continue
			}
			turn := slices.Clone(peers)
			rand.Shuffle(len(turn), func(i, j int) { turn[i], turn[j] = turn[j], turn[i] })
			for _, p := range turn {
				if !slices.Contains(p.not, m.name) {
					plan = append(plan, step{rep, pair{m, p}})
				}
			}
		}
	}
	return plan
}

// clock knows how long measurements took.
type clock struct {
	pairs map[pair]time.Duration
	modes map[*mode][]time.Duration
	all   []time.Duration
}

func newClock() *clock {
	return &clock{pairs: make(map[pair]time.Duration), modes: make(map[*mode][]time.Duration)}
}

func (c *clock) add(p pair, d time.Duration) {
	c.pairs[p] = d
	c.modes[p.mode] = append(c.modes[p.mode], d)
	c.all = append(c.all, d)
}

// left guesses how long the rest will take: as long as the same took before, or
// the same mode of other peers, or anything.
func (c *clock) left(rest []step) (sum time.Duration) {
	for _, s := range rest {
		d, ok := c.pairs[s.pair]
		if !ok {
			d = mean(c.modes[s.mode])
		}
		if d == 0 {
			d = mean(c.all)
		}
		sum += d
	}
	return sum
}

func mean(all []time.Duration) (m time.Duration) {
	for _, d := range all {
		m += d / time.Duration(len(all))
	}
	return m
}
