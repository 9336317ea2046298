package caddyimap

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/certmagic"
)

func init() { caddy.RegisterModule(new(storageModule)) }

// storage is one in memory, which several configurations of a test may have, and
// which can be made to fail.
type storage struct {
	key string

	mu     sync.Mutex
	values map[string][]byte
	locks  map[string]chan struct{}
	// fail, if it is set, is asked before each use.
	fail func(op, key string) error
	// used are all uses, as "load imap/guard/key".
	used []string
}

var (
	storages    sync.Map
	storageKeys atomic.Int64
)

func newStorage(tb testing.TB) *storage {
	s := &storage{
		key:    strconv.FormatInt(storageKeys.Add(1), 10),
		values: make(map[string][]byte), locks: make(map[string]chan struct{}),
	}
	storages.Store(s.key, s)
	tb.Cleanup(func() { storages.Delete(s.key) })
	return s
}

// config is what Caddy's configuration says of it.
func (s *storage) config() []byte {
	return caddyconfig.JSON(map[string]any{"module": "imap_test", "key": s.key}, nil)
}

// failing has all uses fail from now on for which the function returns an error.
func (s *storage) failing(fail func(op, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

// uses are those of the guard's keys.
func (s *storage) uses() (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, use := range s.used {
		if strings.Contains(use, guardPrefix) {
			found = append(found, use)
		}
	}
	return found
}

// all is everything that is stored, and how it is called.
func (s *storage) all() (b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.values)) {
		b = append(append(append(append(b, key...), '\n'), s.values[key]...), '\n')
	}
	return b
}

// get and put look and change from outside.
func (s *storage) get(key string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[key]
}

func (s *storage) put(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = value
}

// use is to be called with the lock held.
func (s *storage) use(op, key string) error {
	s.used = append(s.used, op+" "+key)
	if s.fail != nil {
		return s.fail(op, key)
	}
	return nil
}

func (s *storage) Load(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.use("load", key); err != nil {
		return nil, err
	}
	if value, ok := s.values[key]; ok {
		return slices.Clone(value), nil
	}
	return nil, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
}

func (s *storage) Store(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.use("store", key); err != nil {
		return err
	}
	s.values[key] = slices.Clone(value)
	return nil
}

func (s *storage) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.values, key)
	return s.use("delete", key)
}

func (s *storage) Exists(_ context.Context, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.values[key]
	return ok && s.use("exists", key) == nil
}

func (s *storage) List(_ context.Context, path string, _ bool) (keys []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.values {
		if strings.HasPrefix(key, path) {
			keys = append(keys, key)
		}
	}
	return keys, s.use("list", path)
}

func (s *storage) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.values[key]
	if !ok {
		return certmagic.KeyInfo{}, fs.ErrNotExist
	}
	return certmagic.KeyInfo{Key: key, Modified: time.Now(), Size: int64(len(value)), IsTerminal: true}, s.use("stat", key)
}

func (s *storage) Lock(ctx context.Context, key string) error {
	s.mu.Lock()
	err := s.use("lock", key)
	lock := s.locks[key]
	if lock == nil {
		lock = make(chan struct{}, 1)
		s.locks[key] = lock
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *storage) Unlock(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	<-s.locks[key]
	return nil
}

// storageModule leads to the storage of a test.
type storageModule struct {
	Key string `json:"key,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*storageModule) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.imap_test", New: func() caddy.Module { return new(storageModule) }}
}

// CertMagicStorage implements caddy.StorageConverter.
func (m *storageModule) CertMagicStorage() (certmagic.Storage, error) {
	s, ok := storages.Load(m.Key)
	if !ok {
		return nil, fmt.Errorf("no storage %s", m.Key)
	}
	return s.(*storage), nil
}

// Interface guards.
var (
	_ certmagic.Storage      = (*storage)(nil)
	_ caddy.StorageConverter = (*storageModule)(nil)
)
