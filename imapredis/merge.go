package imapredis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-imap/caddy-imap/internal/guard"
)

const (
	// A run of a script merges at most so many accounts or sources, and stops
	// adding to them at so many arguments. The server does nothing else
	// meanwhile.
	runKeys = 64
	runArgs = 2000
	// batchRuns are sent at once.
	batchRuns = 8
)

// Merge implements guard.Store.
func (c *counts) Merge(ctx context.Context, s *guard.Snapshot) error {
	if err := c.join(ctx); err != nil {
		return fmt.Errorf("reading the generation: %w", err)
	}
	now := time.Now()
	m := merger{ctx: ctx, client: c.client, script: mergeAccountsScript, head: []any{
		now.UnixMilli(), c.skew.Milliseconds(), keptFor.Milliseconds(), maxFailures, maxKnown, knownFor.Milliseconds(),
	}}
	for i := range s.Accounts {
		a := &s.Accounts[i]
		m.add(accountArgs(a, now), c.account(a.ID))
	}
	if err := m.flush(); err != nil {
		return fmt.Errorf("merging accounts: %w", err)
	}
	m = merger{ctx: ctx, client: c.client, script: mergeSourcesScript, head: []any{
		now.UnixMilli(), c.skew.Milliseconds(), keptFor.Milliseconds(), maxPairs,
	}}
	for i := range s.Sources {
		src := &s.Sources[i]
		m.add(sourceArgs(src, now), c.ban(src.ID), c.source(src.ID))
	}
	if err := m.flush(); err != nil {
		return fmt.Errorf("merging sources: %w", err)
	}
	return nil
}

// join finds out what the server's data is called, or names it.
func (c *counts) join(ctx context.Context) error {
	if err := c.client.SetNX(ctx, c.generationKey(), rand.Text(), generationFor).Err(); err != nil {
		return err
	}
	generation, err := c.client.Get(ctx, c.generationKey()).Result()
	if err != nil {
		return err
	}
	c.generation.Store(&generation)
	return c.client.PExpire(ctx, c.generationKey(), generationFor).Err()
}

// accountArgs returns what the script is told about an account, or nil if all of
// it is too old.
func accountArgs(a *guard.AccountSnapshot, now time.Time) []any {
	failures := a.Failures[max(0, len(a.Failures)-maxFailures):]
	args := make([]any, 0, 3+2*len(a.Pauses)+4*len(failures)+2*len(a.Known))
	args = append(args, len(a.Pauses))
	paused := false
	for _, p := range a.Pauses {
		args = append(args, hex.EncodeToString(p.Backend[:]), p.Until)
		paused = paused || p.Until >= now.UnixMilli()
	}
	at, count := len(args), 0
	args = append(args, 0)
	for _, f := range failures {
		if now.Sub(time.UnixMilli(f.At)) < keptFor {
			args = append(args, ticket(f.Ticket), hex.EncodeToString(f.Source[:]), f.At, f.Stale)
			count++
		}
	}
	args[at] = count
	if count == 0 && len(a.Known) == 0 && !paused {
		return nil
	}
	args = append(args, len(a.Known))
	for _, k := range a.Known {
		args = append(args, hex.EncodeToString(k.Source[:]), k.At)
	}
	return args
}

// sourceArgs is the like for a source.
func sourceArgs(s *guard.SourceSnapshot, now time.Time) []any {
	pairs := s.Pairs[max(0, len(s.Pairs)-maxPairs):]
	args := make([]any, 0, 2+2*len(pairs))
	args = append(args, s.Banned, 0)
	count := 0
	for _, p := range pairs {
		if now.Sub(time.UnixMilli(p.At)) < keptFor {
			args = append(args, hex.EncodeToString(p.Source[:]), p.At)
			count++
		}
	}
	args[1] = count
	if count == 0 && s.Banned < now.UnixMilli() {
		return nil
	}
	return args
}

// merger runs a script for many keys, so many at a time.
type merger struct {
	ctx    context.Context
	client redis.UniversalClient
	script *redis.Script
	// head are the arguments that all runs have.
	head []any

	keys   []string
	args   []any
	runs   []run
	loaded bool
	err    error
}

// run is what one run of the script is told.
type run struct {
	keys []string
	args []any
}

// add adds what there is about some keys, unless that is nothing.
func (m *merger) add(args []any, keys ...string) {
	if len(args) == 0 || m.err != nil {
		return
	}
	if len(m.args) == 0 {
		m.args = append(m.args, m.head...)
	}
	m.keys, m.args = append(m.keys, keys...), append(m.args, args...)
	if len(m.keys) >= runKeys || len(m.args) >= runArgs {
		m.next()
	}
}

// next ends a run, and sends a batch when there is one.
func (m *merger) next() {
	if len(m.keys) > 0 {
		m.runs = append(m.runs, run{m.keys, m.args})
		m.keys, m.args = nil, nil
	}
	if len(m.runs) >= batchRuns {
		m.send()
	}
}

// flush sends what is left.
func (m *merger) flush() error {
	m.next()
	m.send()
	return m.err
}

func (m *merger) send() {
	runs := m.runs
	m.runs = nil
	if len(runs) == 0 || m.err != nil {
		return
	}
	if !m.loaded {
		// The first run tells the server the script, if it must be told.
		if m.err = m.script.Run(m.ctx, m.client, runs[0].keys, runs[0].args...).Err(); m.err != nil {
			return
		}
		m.loaded, runs = true, runs[1:]
	}
	_, m.err = m.client.Pipelined(m.ctx, func(p redis.Pipeliner) error {
		for _, r := range runs {
			m.script.EvalSha(m.ctx, p, r.keys, r.args...)
		}
		return nil
	})
}
