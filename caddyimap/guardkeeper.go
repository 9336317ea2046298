package caddyimap

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

const (
	// snapshotEvery is how often what was counted is written to the storage.
	snapshotEvery = 10 * time.Second
	// storageTimeout bounds each use of it.
	storageTimeout = 5 * time.Second
)

// guards are the guards of the process, by the secret that they hash with. All
// configurations with one secret count with one guard, so that a reload forgets
// nothing.
var guards guardTable

// guardTable finds the guard for a secret.
type guardTable struct {
	mu      sync.Mutex
	keepers map[string]*keeper
	// latest is the one that was joined last and has not ended.
	latest *keeper
	// own is for apps that have no secret yet.
	own *guard.Guard
}

// fallback returns the guard of apps that have no secret yet.
func (t *guardTable) fallback() *guard.Guard {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.own == nil {
		t.own = newGuard([]byte(rand.Text()))
	}
	return t.own
}

// join has an app count with the guard of the secret.
func (t *guardTable) join(secret []byte, r *guardRun) *keeper {
	t.mu.Lock()
	k := t.keepers[string(secret)]
	if k == nil {
		k = &keeper{guard: newGuard(secret), secret: string(secret), ops: make(chan func()), done: make(chan struct{})}
		if t.keepers == nil {
			t.keepers = make(map[string]*keeper)
		}
		t.keepers[k.secret] = k
		go k.work()
	}
	k.users++
	t.latest = k
	t.mu.Unlock()
	k.do(func() { k.add(r) })
	return k
}

// joinLatest has an app that does not know its secret count with the guard that is
// in use. It returns nil if there is none.
func (t *guardTable) joinLatest(r *guardRun) *keeper {
	t.mu.Lock()
	k := t.latest
	if k == nil {
		t.mu.Unlock()
		return nil
	}
	k.users++
	t.mu.Unlock()
	k.do(func() { k.add(r) })
	return k
}

// leave ends that. The last app to leave waits for the guard's end.
func (t *guardTable) leave(k *keeper, r *guardRun) {
	k.do(func() { k.remove(r) })
	t.mu.Lock()
	k.users--
	last := k.users == 0
	if last {
		delete(t.keepers, k.secret)
		if t.latest == k {
			t.latest = nil
			for _, other := range t.keepers {
				t.latest = other
			}
		}
		close(k.ops)
	}
	t.mu.Unlock()
	if last {
		<-k.done
	}
}

// newGuard returns a guard whose events go to the newest app.
func newGuard(secret []byte) *guard.Guard {
	return guard.New(secret, guard.Events{
		AccountHeld: func(a *login.Attempt, failures int) {
			if app := apps.newest.Load(); app != nil {
				app.accountHeld(a, failures)
			}
		},
		SourceBanned: func(a *login.Attempt, until time.Time) {
			if app := apps.newest.Load(); app != nil {
				app.sourceBanned(a, until)
			}
		},
	})
}

// keeper keeps a guard as long as there is an app that counts with it: it restores
// the last snapshot, writes new ones, and has it count with a store, each as the
// app says that started last. While a configuration replaces another there are
// two; should the newer fail to start, the older has its way again.
//
// All of that is done on one goroutine, so that nothing is done twice at a time.
type keeper struct {
	guard  *guard.Guard
	secret string
	// users is how many apps have joined and not left. It belongs to the table.
	users int

	ops  chan func()
	done chan struct{}

	// What follows belongs to the goroutine.

	// runs are the apps, the newest last.
	runs []*guardRun
	// counting is the one whose store is used, and detach ends that.
	counting *guardRun
	detach   func()
	// restored says that the last snapshot was read, or that there is none that
	// can be. Before that, none is written over it.
	restored bool
	// saved is the state of the guard in the last snapshot, written by saver.
	saved  uint64
	saver  *guardRun
	warned bool
}

func (k *keeper) work() {
	defer close(k.done)
	ticker := time.NewTicker(snapshotEvery)
	defer ticker.Stop()
	for {
		select {
		case op, ok := <-k.ops:
			if !ok {
				return
			}
			k.safely(op)
		case <-ticker.C:
			k.safely(k.save)
		}
	}
}

// do has something done on the goroutine, and waits for it.
func (k *keeper) do(op func()) {
	over := make(chan struct{})
	k.ops <- func() {
		defer close(over)
		op()
	}
	<-over
}

// safely keeps a panic from ending the process.
func (k *keeper) safely(op func()) {
	defer func() {
		if p := recover(); p != nil && len(k.runs) > 0 {
			k.newest().logger.Error("panic while keeping what the guard counts", zap.String("panic", fmt.Sprintf("%T", p)), zap.Stack("stack"))
		}
	}()
	op()
}

func (k *keeper) newest() *guardRun { return k.runs[len(k.runs)-1] }

func (k *keeper) add(r *guardRun) {
	k.runs = append(k.runs, r)
	if !k.restored {
		// If it cannot be read now, the next save tries again.
		if err := k.restore(); err != nil {
			k.warn(err)
		}
		k.saver, k.saved = r, k.guard.Changes()
	}
	k.count(r)
}

func (k *keeper) remove(r *guardRun) {
	if len(k.runs) == 1 {
		k.save()
	}
	k.runs = slices.DeleteFunc(k.runs, func(other *guardRun) bool { return other == r })
	if len(k.runs) == 0 {
		k.count(nil)
	} else {
		k.count(k.newest())
	}
}

// count has the guard count with the store of an app, or with none.
func (k *keeper) count(r *guardRun) {
	if r == k.counting {
		return
	}
	before := k.detach
	k.counting, k.detach = r, nil
	if r != nil && r.counts != nil {
		k.detach = k.guard.Attach(r.counts, r.storeChanged)
	}
	if before != nil {
		before()
	}
}

// save writes a snapshot, if there is something new.
func (k *keeper) save() {
	if len(k.runs) == 0 || k.newest().key == "" {
		return
	}
	err := k.restore()
	if err == nil {
		err = k.write(k.newest())
	}
	if err != nil {
		k.warn(err)
		return
	}
	k.warned = false
}

// warn tells of the first of several failures.
func (k *keeper) warn(err error) {
	if !k.warned {
		k.newest().logger.Warn("what the guard counts cannot be kept in the storage, and would be lost in a restart", zap.Error(err))
	}
	k.warned = true
}

func (k *keeper) write(r *guardRun) error {
	changes := k.guard.Changes()
	// Another app may have another storage.
	if changes == k.saved && r == k.saver {
		return nil
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(k.guard.Snapshot()); err != nil {
		return fmt.Errorf("encoding a snapshot: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	if err := r.storage.Store(ctx, r.key, b.Bytes()); err != nil {
		return fmt.Errorf("writing a snapshot: %w", err)
	}
	k.saved, k.saver = changes, r
	return nil
}

// restore reads the last snapshot, unless that was done before. What cannot be
// decoded is as good as none.
func (k *keeper) restore() error {
	r := k.newest()
	if k.restored || r.key == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	b, err := r.storage.Load(ctx, r.key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the last snapshot: %w", err)
	}
	k.restored = true
	if err != nil {
		return nil
	}
	s := new(guard.Snapshot)
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(s); err != nil {
		r.logger.Warn("what the guard has counted before the restart is not readable and forgotten", zap.Error(err))
		return nil
	}
	k.guard.Restore(s)
	return nil
}
