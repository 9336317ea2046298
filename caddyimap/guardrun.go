package caddyimap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/guard"
)

// Where the guard keeps things in Caddy's storage.
const (
	guardPrefix   = "imap/guard"
	guardKey      = guardPrefix + "/key"
	guardKeyBytes = 32
)

// retryEvery is how often a storage is tried again that did not give the secret.
const retryEvery = 10 * time.Second

// guardRun is the guard as one started app uses it.
type guardRun struct {
	cfg     *Guard
	storage certmagic.Storage
	// place is where the snapshots of this instance belong; empty if it is not
	// known which instance this is. key is the same once the secret is known, and
	// belongs to the keeper when there is one.
	place, key string
	counts     SharedCounts
	logger     *zap.Logger

	// cancel ends the goroutine, if there is one, that tries to join; done is
	// closed when it has ended.
	cancel context.CancelFunc
	done   chan struct{}
	// keeper is nil until this app has joined. Without the secret it may be one
	// of another secret.
	keeper *keeper
}

// startGuard opens the store and joins those who count with the same secret.
//
// A storage that does not give the secret is no reason to let nobody log in:
// until it does, this instance goes on with what it counts already, or counts alone,
// and a restart forgets what it has counted.
func (a *App) startGuard() error {
	if a.Guard.Off {
		return nil
	}
	r := &guardRun{cfg: a.Guard, storage: a.storage, logger: a.logger, done: make(chan struct{})}
	if instance, err := instanceID(); err == nil {
		r.place = path.Join(guardPrefix, "snapshots", instance)
	} else {
		r.logger.Warn("what the guard counts is lost in a restart, because this instance has no id; see that Caddy can write to its data directory", zap.Error(err))
	}
	var err error
	if r.counts, err = a.Guard.store.Open(); err != nil {
		return fmt.Errorf("guard: opening the store: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	a.guardRun = r
	r.joinOrRetry(ctx)
	return nil
}

// instanceID returns the id of this instance. When a Caddy starts for the first time,
// its apps make it side by side, and one may find a file that another has not written
// to yet.
func instanceID() (string, error) {
	const pause, patience = 10 * time.Millisecond, time.Second
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		id, err := caddy.InstanceID()
		var file *fs.PathError
		if err == nil || errors.As(err, &file) || time.Now().After(end) {
			return id.String(), err
		}
	}
}

// joinOrRetry joins now, or as soon as the storage lets it.
func (r *guardRun) joinOrRetry(ctx context.Context) {
	if err := r.join(ctx); err != nil {
		r.logger.Warn("the guard's secret cannot be read from the storage, or written to it; until it can, this instance counts alone, "+
			"and would forget in a restart", zap.Error(err))
		if r.keeper = guards.joinLatest(r); r.keeper != nil {
			r.cfg.active.Store(r.keeper.guard)
		}
		go r.retry(ctx)
		return
	}
	close(r.done)
}

// stopGuard waits for everything that startGuard began.
func (a *App) stopGuard() error {
	r := a.guardRun
	if r == nil {
		return nil
	}
	a.guardRun = nil
	r.cancel()
	<-r.done
	if r.keeper != nil {
		guards.leave(r.keeper, r)
	}
	if err := a.Guard.store.Close(); err != nil {
		return fmt.Errorf("guard: closing the store: %w", err)
	}
	return nil
}

// current returns the guard to count with. An app that has not started, or has no
// secret yet, counts with the guard that is in use.
func (g *Guard) current() *guard.Guard {
	if active := g.active.Load(); active != nil {
		return active
	}
	if app := apps.newest.Load(); app != nil {
		if active := app.Guard.active.Load(); active != nil {
			return active
		}
	}
	return guards.fallback()
}

// join gets the secret, and the guard for it.
func (r *guardRun) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	secret, err := loadSecret(ctx, r.storage)
	if err != nil {
		return err
	}
	switch k := r.keeper; {
	case k == nil:
	case k.secret == string(secret):
		k.do(func() { r.key = r.place })
		return nil
	default:
		guards.leave(k, r)
	}
	r.key = r.place
	r.keeper = guards.join(secret, r)
	r.cfg.active.Store(r.keeper.guard)
	return nil
}

// retry joins as soon as the storage lets it.
func (r *guardRun) retry(ctx context.Context) {
	defer close(r.done)
	defer glue.Recovered(r.logger, "getting the guard's secret")
	ticker := time.NewTicker(retryEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if r.join(ctx) == nil {
			r.logger.Info("the guard's secret has been read from the storage")
			return
		}
	}
}

// storeChanged tells whether the store is used.
func (r *guardRun) storeChanged(up bool, err error) {
	if up {
		guardStoreUp.Set(1)
		r.logger.Info("the guard's store is used")
		return
	}
	guardStoreUp.Set(0)
	r.logger.Warn("the guard's store gives no answer; until it is back, this instance counts alone", zap.Error(err))
}

// loadSecret reads the secret that all instances with this storage share, or
// makes it.
func loadSecret(ctx context.Context, storage certmagic.Storage) ([]byte, error) {
	secret, err := readSecret(ctx, storage)
	if secret != nil || err != nil {
		return secret, err
	}
	if err := storage.Lock(ctx, guardKey); err != nil {
		return nil, fmt.Errorf("locking the secret: %w", err)
	}
	defer func() { _ = storage.Unlock(context.WithoutCancel(ctx), guardKey) }()
	// Another instance may have been faster.
	secret, err = readSecret(ctx, storage)
	if secret != nil || err != nil {
		return secret, err
	}
	secret = make([]byte, guardKeyBytes)
	_, _ = rand.Read(secret) // it never fails
	if err := storage.Store(ctx, guardKey, secret); err != nil {
		return nil, fmt.Errorf("storing the secret: %w", err)
	}
	return secret, nil
}

// readSecret returns nil if there is no secret, or what there is cannot be one.
func readSecret(ctx context.Context, storage certmagic.Storage) ([]byte, error) {
	secret, err := storage.Load(ctx, guardKey)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(secret) != guardKeyBytes:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading the secret: %w", err)
	}
	return secret, nil
}
