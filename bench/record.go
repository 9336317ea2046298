//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// header is the first line of a file of results.
type header struct {
	Date   string `json:"date"`
	Commit string `json:"commit,omitempty"`
	Go     string `json:"go"` // that the bench was built with, and so the product
	System string `json:"system"`
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Counts counts `json:"counts"`
	Reps   int    `json:"reps"`
	// MemoryReps are those of Reps that have the modes of memory, too.
	MemoryReps int               `json:"memory_reps"`
	Peers      []string          `json:"peers"`
	Modes      []string          `json:"modes"`
	Versions   map[string]string `json:"versions"`
	Missing    map[string]string `json:"missing,omitempty"` // why
}

// result is each other line.
type result struct {
	Rep    int    `json:"rep"`
	Mode   string `json:"mode"`
	Peer   string `json:"peer"`
	TLS    string `json:"tls,omitempty"` // as negotiated with the client
	Values values `json:"values,omitempty"`
	Faults int    `json:"faults,omitempty"`
	Error  string `json:"error,omitempty"` // the first of the faults, or why there are no values
}

// record is a file of results.
type record struct {
	header  header
	results []result
}

func newHeader(o *options) header {
	h := header{
		Date: time.Now().Format("2006-01-02"), Go: runtime.Version(), CPUs: runtime.NumCPU(),
		Counts: o.counts, Reps: o.reps, MemoryReps: min(o.reps, o.memoryReps), Versions: make(map[string]string), Missing: make(map[string]string),
	}
	if out, err := exec.Command("git", "describe", "--always", "--dirty", "--exclude=*").Output(); err == nil {
		h.Commit = strings.TrimSpace(string(out))
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		h.System = "Linux " + strings.TrimSpace(string(text))
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, model, _ := strings.Cut(string(text), "model name")
		model, _, _ = strings.Cut(model, "\n")
		h.CPU = strings.Trim(model, " \t:")
	}
	return h
}

// writer appends lines to a file of results.
type writer struct{ file *os.File }

func createRecord(path string, h header) (*writer, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making a directory for the results: %w", err)
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("making the file of results: %w", err)
	}
	w := &writer{file: file}
	return w, w.add(h)
}

func (w *writer) add(line any) error {
	if err := json.NewEncoder(w.file).Encode(line); err != nil {
		return fmt.Errorf("writing a result: %w", err)
	}
	return nil
}

func readRecord(path string) (*record, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the results: %w", err)
	}
	defer file.Close()
	rec := new(record)
	d := json.NewDecoder(bufio.NewReader(file))
	if err := d.Decode(&rec.header); err != nil {
		return nil, fmt.Errorf("reading the head of the results: %w", err)
	}
	for {
		var r result
		err := d.Decode(&r)
		if errors.Is(err, io.EOF) {
			return rec, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading result %d: %w", len(rec.results)+1, err)
		}
		rec.results = append(rec.results, r)
	}
}

// of returns the results of a peer in a mode that have values, by repetition.
func (r *record) of(mode, peer string) map[int]result {
	found := make(map[int]result)
	for _, one := range r.results {
		if one.Mode == mode && one.Peer == peer && one.Values != nil {
			found[one.Rep] = one
		}
	}
	return found
}

// numbers returns a column of a peer.
func (r *record) numbers(mode, peer, key string) (all []float64) {
	for _, one := range r.of(mode, peer) {
		if n, ok := one.Values[key]; ok {
			all = append(all, n)
		}
	}
	return all
}

// ratios returns what our number is, divided by the peer's of the same repetition.
func (r *record) ratios(mode, ours, peer, key string) (all []float64) {
	theirs := r.of(mode, peer)
	for rep, one := range r.of(mode, ours) {
		n, ok := theirs[rep].Values[key]
		if mine, has := one.Values[key]; ok && has && n > 0 {
			all = append(all, mine/n)
		}
	}
	return all
}
