//go:build linux

package main

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"
)

// crowdOfIdlers is many sessions in IDLE at one peer.
type crowdOfIdlers struct {
	t       *target
	clients []*client
	base    int64 // memory without them
}

// openIdlers opens the sessions and holds them for a time, as a garbage
// collector may not have run yet, and sessions may be parked after a while.
func (t *target) openIdlers(n int, v values) (*crowdOfIdlers, error) {
	if err := t.warmUp(200); err != nil {
		return nil, err
	}
	base, err := memoryOf(t.process.pid())
	if err != nil {
		return nil, err
	}
	clients, err := t.openSessions(n, func(c *client) error {
		if err := c.do("SELECT INBOX"); err != nil {
			return err
		}
		return c.idle()
	})
	if err != nil {
		return nil, err
	}
	v["sessions"], v["base_mib"] = float64(n), float64(base)/(1<<20)
	return &crowdOfIdlers{t: t, clients: clients, base: base}, nil
}

// kib is the memory of a session.
func (i *crowdOfIdlers) kib() (float64, error) {
	now, err := memoryOf(i.t.process.pid())
	return float64(now-i.base) / 1024 / float64(len(i.clients)), err
}

func measureIdle(t *target, c *counts, v values) (*faults, error) {
	i, err := t.openIdlers(c.Sessions, v)
	if err != nil {
		return nil, err
	}
	defer closeAll(i.clients)
	s, err := t.beginSpan()
	if err != nil {
		return nil, err
	}
	time.Sleep(c.Hold)
	if err := s.end(); err != nil {
		return nil, err
	}
	v["idle_cpu"], v["other_pct"] = 1e3*s.proxy/s.wall, s.other()
	before, err := i.kib()
	if err != nil {
		return nil, err
	}
	f := crowd(loginWorkers, len(i.clients), func(at int) error {
		cl := i.clients[at]
		if err := cl.done(); err != nil {
			return err
		}
		for range 2 {
			if err := cl.do("FETCH 2 BODY.PEEK[]"); err != nil {
				return err
			}
		}
		return cl.idle()
	})
	time.Sleep(c.Hold)
	after, err := i.kib()
	if err != nil {
		return nil, err
	}
	v["kib"], v["fetched_kib"] = before, after
	v["growth_kib"], v["growth_pct"] = after-before, 100*(after-before)/before
	return f, nil
}

func measureWake(t *target, c *counts, v values) (*faults, error) {
	i, err := t.openIdlers(c.Wake, v)
	if err != nil {
		return nil, err
	}
	defer closeAll(i.clients)
	time.Sleep(c.Hold)
	if v["kib"], err = i.kib(); err != nil {
		return nil, err
	}
	s, err := t.beginSpan()
	if err != nil {
		return nil, err
	}
	var f faults
	var readers sync.WaitGroup
	told := make([]time.Time, len(i.clients))
	for at, cl := range i.clients {
		_ = cl.conn.SetDeadline(time.Now().Add(patience))
		readers.Go(func() {
			f.add(cl.awaitLine(func(line []byte) bool { return bytes.HasSuffix(line, []byte(" EXISTS\r\n")) }))
			told[at] = time.Now()
		})
	}
	woken, begin, err := t.wake()
	readers.Wait()
	if err != nil {
		return nil, err
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	if woken != len(i.clients) {
		return nil, fmt.Errorf("the backend has %d sessions in IDLE, of %d", woken, len(i.clients))
	}
	took := make([]float64, len(told))
	for at := range told {
		took[at] = told[at].Sub(begin).Seconds()
	}
	v["half_s"], v["all_s"], v["other_pct"] = median(took), slices.Max(took), s.other()
	v["cpu_us"] = 1e6 * s.proxy / float64(len(told))
	return &f, nil
}
