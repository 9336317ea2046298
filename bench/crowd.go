//go:build linux

package main

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// faults counts what went wrong in a measurement.
type faults struct {
	mu    sync.Mutex
	count int
	first error
}

func (f *faults) add(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count++; f.first == nil {
		f.first = err
	}
}

// crowd does one thing n times, by so many workers at once, and returns what went
// wrong.
func crowd(workers, n int, do func(i int) error) *faults {
	var f faults
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(workers, n) {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f.add(do(i))
			}
		})
	}
	all.Wait()
	return &f
}

// openSessions logs so many users in and prepares their sessions.
func (t *target) openSessions(n int, prepare func(*client) error) ([]*client, error) {
	clients := make([]*client, n)
	f := crowd(min(n, 48), n, func(i int) error {
		c, err := t.login(i)
		if err != nil {
			return err
		}
		clients[i] = c
		return prepare(c)
	})
	if f.first != nil {
		closeAll(clients)
		return nil, fmt.Errorf("opening %d sessions, of which %d failed: %w", n, f.count, f.first)
	}
	return clients, nil
}

func closeAll(clients []*client) {
	crowd(32, len(clients), func(i int) error {
		if clients[i] != nil {
			clients[i].close()
		}
		return nil
	})
}

// warmUp has the peer make what it makes at the first logins.
func (t *target) warmUp(logins int) error {
	f := crowd(loginWorkers, logins, func(i int) error { return t.once(i) })
	if f.first != nil {
		return fmt.Errorf("warming up: %w", f.first)
	}
	return nil
}

func (t *target) once(user int) error {
	c, err := t.login(user)
	if err != nil {
		return err
	}
	return c.logout()
}
