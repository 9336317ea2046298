//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const intro = `bench measures IMAP proxies side by side, in one run, on 127.0.0.1.

  bench [OPTIONS]           measure, and print tables
  bench tables FILE [PAGE]  print the tables of a run again, or write them into PAGE

Each repetition goes through all modes, and in each mode through all peers in
random order. A peer is started anew for each measurement. Behind it is a backend
of our own that does next to nothing. CPU is that of the proxy's processes alone,
also of those that have ended.

Peers, of which those that are not installed are left out with a word:
%s
Modes:
%s
Examples:

  bench -reps 1 -peers caddy,nginx -modes login,noop
  bench -reps 1 -logins 50 -messages 4 -noops 200 -sessions 50 -wake 50 -hold 1s
  bench -before bin/caddy-1.2 -peers caddy,caddy-before -modes login,fetch,append,noop
  bench -keep /tmp/b -peers caddy -modes login -logins 50000
        and meanwhile: curl --unix-socket /tmp/b/caddy/admin.sock \
          http://localhost/debug/pprof/profile?seconds=10 >profile

Options:
`

// counts says how much is done in one measurement.
type counts struct {
	Logins   int           // of a login measurement
	Messages int           // of 10 MiB each, in fetch and append
	Noops    int           // of a noop measurement
	Sessions int           // of an idle measurement
	Wake     int           // sessions of a wake measurement
	Slow     int           // sessions of a slow measurement
	Hold     time.Duration // for how long sessions are held before memory is read
}

type options struct {
	counts
	reps int
	// memoryReps are those that have the modes of memory, too.
	memoryReps int
	peers      []*peer
	modes      []*mode
	caddy      string // the product's binary
	before     string // another one to compare it with, or ""
	out        string // where results go
	page       string // where tables go; empty is standard output
	keep       string // the working directory, if it is to stay
}

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "backend": // a process of its own, so that its CPU is not the load's
			return runBackend(args[1:])
		case "authhttp":
			return runAuthHTTP(args[1:])
		case "tables":
			return runTables(args[1:])
		}
	}
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	return measureAll(o)
}

func runTables(args []string) error {
	if len(args) == 0 || len(args) > 2 {
		return errors.New("usage: bench tables FILE [PAGE]")
	}
	rec, err := readRecord(args[0])
	if err != nil {
		return err
	}
	if len(args) == 1 {
		fmt.Print(rec.render())
		return nil
	}
	return rec.writePage(args[1])
}

func parseOptions(args []string) (*options, error) {
	o := new(options)
	var peerNames, modeNames string
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.StringVar(&o.caddy, "caddy", "bin/caddy", "`FILE` of the product's server, built without the race detector")
	set.StringVar(&o.before, "before", "", "`FILE` of another build of it, to compare with; the peer caddy-before is left out unless given")
	set.IntVar(&o.reps, "reps", 7, "repetitions; below 5 a ratio may be off by a third")
	set.IntVar(&o.memoryReps, "memory-reps", 3, "of these, how many have the modes idle, wake and slow, which vary little")
	set.StringVar(&peerNames, "peers", "", "`NAMES` of peers, with commas between; all that are installed unless given")
	set.StringVar(&modeNames, "modes", "", "`NAMES` of modes, likewise")
	set.StringVar(&o.out, "out", "", "`FILE` for the results, one JSON object a line (default bench-DATE.jsonl beside the server)")
	set.StringVar(&o.page, "page", "", "`FILE` whose tables are replaced, docs/performance.md; they are printed unless given")
	set.StringVar(&o.keep, "keep", "", "`DIR` for the configurations and logs of the peers, which stays")
	set.IntVar(&o.Logins, "logins", 1000, "logins, by 16 clients at a time")
	set.IntVar(&o.Messages, "messages", 42, "messages of 10 MiB, over 4 sessions")
	set.IntVar(&o.Noops, "noops", 10000, "NOOPs, one after the other")
	set.IntVar(&o.Sessions, "sessions", 5000, "idle sessions in mode idle")
	set.IntVar(&o.Wake, "wake", 9000, "idle sessions in mode wake")
	set.IntVar(&o.Slow, "slow", 64, "slow readers")
	set.DurationVar(&o.Hold, "hold", 10*time.Second, "how long sessions are held before memory is read")
	set.Usage = func() {
		fmt.Fprintf(set.Output(), intro, describePeers(), describeModes())
		set.PrintDefaults()
	}
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unknown word %q; see bench --help", set.Arg(0))
	}
	for _, n := range []int{o.reps, o.memoryReps, o.Logins, o.Messages, o.Noops, o.Sessions, o.Wake, o.Slow} {
		if n < 1 {
			return nil, errors.New("counts and repetitions are 1 or more")
		}
	}
	var err error
	if o.peers, err = choose("peer", allPeers, peerNames, func(p *peer) string { return p.name }); err != nil {
		return nil, err
	}
	if o.modes, err = choose("mode", allModes, modeNames, func(m *mode) string { return m.name }); err != nil {
		return nil, err
	}
	if o.out == "" {
		o.out = filepath.Join(filepath.Dir(o.caddy), time.Now().Format("bench-20060102-150405.jsonl"))
	}
	return o, nil
}

// choose returns those of all that are named, in the order of all, which is that
// of the tables.
func choose[T any](kind string, all []T, names string, name func(T) string) ([]T, error) {
	if names == "" {
		return all, nil
	}
	wanted := strings.Split(names, ",")
	var chosen []T
	var known []string
	for _, one := range all {
		known = append(known, name(one))
		if slices.Contains(wanted, name(one)) {
			chosen = append(chosen, one)
		}
	}
	for _, w := range wanted {
		if !slices.Contains(known, w) {
			return nil, fmt.Errorf("no %s %q; there are %s", kind, w, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}
