//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// mode is one kind of measurement.
type mode struct {
	name    string
	title   string
	columns []column
	// memory says that it reads memory, which takes long and varies little.
	memory  bool
	measure func(*target, *counts, values) (*faults, error)
}

// column is one number of a mode.
type column struct {
	key     string
	title   string
	ratio   bool // whether ours is compared with each peer's
	noProxy bool // whether it says something without a proxy
}

var allModes = []*mode{
	{name: "login", title: "connect, STARTTLS, LOGIN, LOGOUT, by 16 clients", measure: measureLogin, columns: []column{
		{key: "per_s", title: "logins a second", noProxy: true},
		{key: "p50_ms", title: "half are done in, ms", ratio: true, noProxy: true},
		{key: "cpu_ms", title: "CPU a login, ms", ratio: true},
	}},
	{name: "fetch", title: "FETCH of messages of 10 MiB, over 4 sessions", measure: measureFetch, columns: []column{
		{key: "mb_s", title: "MB a second", noProxy: true},
		{key: "cpu_s_gb", title: "CPU a GB, s", ratio: true},
	}},
	{name: "append", title: "APPEND of messages of 10 MiB, over 4 sessions", measure: measureAppend, columns: []column{
		{key: "mb_s", title: "MB a second", noProxy: true},
		{key: "cpu_s_gb", title: "CPU a GB, s", ratio: true},
	}},
	{name: "noop", title: "NOOP, one after the other, in one session", measure: measureNoop, columns: []column{
		{key: "p50_us", title: "half are done in, µs", ratio: true, noProxy: true},
		{key: "cpu_us", title: "CPU each, µs", ratio: true},
	}},
	{name: "idle", title: "many sessions in IDLE; each fetches two messages of 64 KiB; IDLE again", measure: measureIdle, memory: true, columns: []column{
		{key: "sessions", title: "sessions"},
		{key: "kib", title: "KiB a session", ratio: true},
		{key: "fetched_kib", title: "KiB after FETCH", ratio: true},
		{key: "growth_kib", title: "growth, KiB"},
		{key: "growth_pct", title: "growth, %"},
		{key: "idle_cpu", title: "CPU while idle, ms a second"},
		{key: "base_mib", title: "MiB without sessions"},
	}},
	{name: "wake", title: "more sessions in IDLE; all get mail at once", measure: measureWake, memory: true, columns: []column{
		{key: "sessions", title: "sessions"},
		{key: "kib", title: "KiB a session", ratio: true},
		{key: "half_s", title: "half are told in, s"},
		{key: "all_s", title: "all are told in, s"},
		{key: "cpu_us", title: "CPU each, µs", ratio: true},
	}},
	{name: "slow", title: "sessions that fetch 1 GiB each, and read slowly", measure: measureSlow, memory: true, columns: []column{
		{key: "sessions", title: "sessions"},
		{key: "extra_mib", title: "MiB more than idle", ratio: true},
	}},
}

func describeModes() string {
	var b strings.Builder
	for _, m := range allModes {
		fmt.Fprintf(&b, "  %-12s %s\n", m.name, m.title)
	}
	return b.String()
}

const (
	loginWorkers = 16
	bulkSessions = 4
)

func measureLogin(t *target, c *counts, v values) (*faults, error) {
	if err := t.warmUp(min(c.Logins/10+1, 200)); err != nil {
		return nil, err
	}
	took := make([]float64, c.Logins)
	s, err := t.beginSpan()
	if err != nil {
		return nil, err
	}
	f := crowd(loginWorkers, c.Logins, func(i int) error {
		begin := time.Now()
		client, err := t.login(i)
		if err != nil {
			return err
		}
		took[i] = time.Since(begin).Seconds()
		return client.logout()
	})
	if err := s.end(); err != nil {
		return nil, err
	}
	took = slices.DeleteFunc(took, func(s float64) bool { return s == 0 })
	n := float64(len(took))
	v["per_s"], v["p50_ms"], v["cpu_ms"], v["other_pct"] = n/s.wall, 1e3*median(took), 1e3*s.proxy/n, s.other()
	v["helper_cpu_ms"], v["backend_cpu_ms"] = 1e3*s.helper/n, 1e3*s.backend/n
	return f, nil
}

func measureFetch(t *target, c *counts, v values) (*faults, error) {
	return measureBulk(t, c, v, func(cl *client) error { return cl.do("FETCH 1 BODY.PEEK[]") })
}

func measureAppend(t *target, c *counts, v values) (*faults, error) {
	return measureBulk(t, c, v, func(cl *client) error { return cl.append(bigMessage) })
}

func measureBulk(t *target, c *counts, v values, one func(*client) error) (*faults, error) {
	clients, err := t.openSessions(bulkSessions, func(cl *client) error {
		// Fewer system calls of ours leave more of the machine to the proxy.
		cl.enlarge()
		return cl.do("SELECT INBOX")
	})
	if err != nil {
		return nil, err
	}
	defer closeAll(clients)
	if f := crowd(len(clients), len(clients), func(i int) error { return one(clients[i]) }); f.first != nil {
		return nil, fmt.Errorf("warming up: %w", f.first)
	}
	s, err := t.beginSpan()
	if err != nil {
		return nil, err
	}
	free := make(chan *client, len(clients))
	for _, cl := range clients {
		free <- cl
	}
	f := crowd(len(clients), c.Messages, func(int) error {
		cl := <-free
		defer func() { free <- cl }()
		return one(cl)
	})
	if err := s.end(); err != nil {
		return nil, err
	}
	bytes := float64(c.Messages-f.count) * bigMessage
	v["mb_s"], v["cpu_s_gb"], v["other_pct"] = bytes/1e6/s.wall, s.proxy/(bytes/1e9), s.other()
	return f, nil
}

func measureNoop(t *target, c *counts, v values) (*faults, error) {
	cl, err := t.login(0)
	if err != nil {
		return nil, err
	}
	defer cl.close()
	var f faults
	run := func(took []float64) {
		for i := range took {
			begin := time.Now()
			f.add(cl.do("NOOP"))
			took[i] = time.Since(begin).Seconds()
		}
	}
	run(make([]float64, c.Noops/20+1))
	s, err := t.beginSpan()
	if err != nil {
		return nil, err
	}
	took := make([]float64, c.Noops)
	run(took)
	if err := s.end(); err != nil {
		return nil, err
	}
	v["p50_us"], v["cpu_us"], v["other_pct"] = 1e6*median(took), 1e6*s.proxy/float64(c.Noops), s.other()
	return &f, nil
}

// measureSlow reads the memory of sessions whose clients take a fraction of what
// the backend would send, until the hold is over. So a GiB never arrives, but
// the proxy cannot know.
func measureSlow(t *target, c *counts, v values) (*faults, error) {
	clients, err := t.openSessions(c.Slow, func(cl *client) error { return cl.do("SELECT INBOX") })
	if err != nil {
		return nil, err
	}
	defer closeAll(clients)
	time.Sleep(c.Hold / 2)
	idle, err := memoryOf(t.process.pid())
	if err != nil {
		return nil, err
	}
	s, err := t.beginSpan()
	if err != nil {
		return nil, err
	}
	var f faults
	var readers sync.WaitGroup
	end := time.Now().Add(c.Hold)
	for _, cl := range clients {
		readers.Go(func() { f.add(cl.readSlowly(end)) })
	}
	most := idle
	for time.Now().Before(end) {
		time.Sleep(c.Hold / 20)
		now, err := memoryOf(t.process.pid())
		if err != nil {
			return nil, err
		}
		most = max(most, now)
	}
	readers.Wait()
	if err := s.end(); err != nil {
		return nil, err
	}
	v["sessions"], v["extra_mib"], v["other_pct"] = float64(c.Slow), float64(most-idle)/(1<<20), s.other()
	return &f, nil
}
