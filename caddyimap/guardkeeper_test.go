package caddyimap

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestGuardReload pins that a reload forgets nothing, that the new limits hold from
// then on, and that a reload which fails changes nothing.
func TestGuardReload(t *testing.T) {
	w := newWorld(t)
	w.storage = newStorage(t)
	fake := w.anyAlice()
	first := w.load(w.guarded(strict(), fake.Addr()))
	first.start()
	ref := first.ref("")
	check(t, ref, from("192.0.2.1", "alice", testSecret), login.Granted)
	check(t, ref, from("198.51.100.1", "alice", "guess-1"), login.Denied)
	check(t, ref, from("198.51.100.2", "alice", "guess-2"), login.Denied)

	second := w.load(w.guarded(strict(), fake.Addr()))
	second.start()
	first.stop()
	check(t, ref, from("198.51.100.3", "alice", "guess-3"), login.Denied)
	check(t, ref, from("198.51.100.4", "alice", "guess-4"), login.Throttled)
	check(t, ref, from("198.51.100.4", "alice", "guess-3"), login.Denied) // remembered

	// With another storage, it begins anew; and when that fails to start, all is
	// as before.
	w.storage = newStorage(t)
	third := w.load(w.guarded(strict(), fake.Addr()))
	third.start()
	check(t, ref, from("198.51.100.5", "alice", "guess-5"), login.Denied)
	third.stop()
	check(t, ref, from("198.51.100.6", "alice", "guess-6"), login.Throttled)

	w.storage = second.storage
	g := strict()
	g.AccountFailures = 5
	fourth := w.load(w.guarded(g, fake.Addr()))
	fourth.start()
	second.stop()
	check(t, ref, from("198.51.100.7", "alice", "guess-7"), login.Denied)
	check(t, ref, from("198.51.100.8", "alice", "guess-8"), login.Throttled)
	check(t, ref, from("203.0.113.1", "alice", testSecret), login.Granted)
	fourth.stop()

	snapshots := 0
	for _, use := range second.storage.uses() {
		if strings.HasPrefix(use, "store imap/guard/snapshots/") {
			snapshots++
		}
	}
	if snapshots != 1 {
		t.Errorf("%d snapshots were written, want one, by the last: %q", snapshots, second.storage.uses())
	}
	if n := len(guards.keepers); n != 0 {
		t.Errorf("%d guards are kept without anybody who counts with them", n)
	}
}

// TestGuardRestart pins what a new process knows: all that was counted and who was
// known, and no password. The storage tells nothing to whoever reads it.
func TestGuardRestart(t *testing.T) {
	w := newWorld(t)
	w.storage = newStorage(t)
	fake := w.anyAlice()
	before := w.load(w.guarded(strict(), fake.Addr()))
	before.start()
	ref := before.ref("")
	check(t, ref, from("192.0.2.1", "alice@example.org", testSecret), login.Granted)
	for i := range 3 {
		check(t, ref, from("198.51.100.1", "alice@example.org", fmt.Sprintf("guessed-password-%d", i)), login.Denied)
	}
	before.stop()

	stored := w.storage.all()
	if found := imaptest.Revealed(stored, testSecret, "alice", "example.org", "guessed-password", "192.0.2.1", "198.51.100.1",
		string([]byte{192, 0, 2, 1}), string([]byte{198, 51, 100, 1})); found != nil {
		t.Errorf("the storage shows %s", found)
	}

	// No guard is kept, so this is a new process as far as it matters.
	after := w.load(w.guarded(strict(), fake.Addr()))
	after.start()
	defer after.stop()
	ref = after.ref("")
	check(t, ref, from("198.51.100.2", "alice@example.org", "guess"), login.Throttled)
	check(t, ref, from("192.0.2.1", "alice@example.org", "mistyped"), login.Denied) // from a known address
	check(t, ref, from("192.0.2.1", "alice@example.org", "mistyped again"), login.Throttled)
	if n := wrong(fake); n != 4 {
		t.Errorf("the backend was asked about %d wrong passwords, want 4", n)
	}
}

// TestGuardStorage pins that nobody is kept out by a storage that fails, that the
// operator hears of it, and that nothing is destroyed.
func TestGuardStorage(t *testing.T) {
	broken := errors.New("the disk is gone")
	on := func(op, part string) func(string, string) error {
		return func(o, key string) error {
			if o == op && strings.Contains(key, part) {
				return broken
			}
			return nil
		}
	}
	const noSecret = "the guard's secret cannot be read from the storage, or written to it; until it can, this instance counts alone, and would forget in a restart"
	const noSnapshot = "what the guard counts cannot be kept in the storage, and would be lost in a restart"
	for i, tc := range []struct {
		name string
		fail func(op, key string) error
		want string
	}{
		{"the secret cannot be read", on("load", guardKey), noSecret},
		{"the secret cannot be written", on("store", guardKey), noSecret},
		{"the secret cannot be locked", on("lock", guardKey), noSecret},
		{"the snapshot cannot be read", on("load", "snapshots"), noSnapshot},
		{"the snapshot cannot be written", on("store", "snapshots"), noSnapshot},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.storage = newStorage(t)
			w.storage.failing(tc.fail)
			fake := w.anyAlice()
			c := w.load(w.guarded(strict(), fake.Addr()))
			c.start()
			ref := c.ref("")
			// Without a secret, all of these count with one guard.
			user := fmt.Sprintf("alice%d", i)
			check(t, ref, from("192.0.2.1", user, testSecret), login.Granted)
			for i := range 3 {
				check(t, ref, from("198.51.100.1", user, fmt.Sprintf("guess-%d", i)), login.Denied)
			}
			check(t, ref, from("198.51.100.1", user, "guess"), login.Throttled)
			c.stop()
			if got := c.log.one("warn", tc.want); !strings.Contains(got.text("error"), broken.Error()) {
				t.Errorf("logged %v", got)
			}
			if b := w.storage.all(); tc.want == noSnapshot && bytes.Contains(b, []byte("snapshots")) {
				t.Errorf("a snapshot was written: %q", b)
			}
		})
	}
}

// TestGuardReloadWithoutStorage pins that a reload forgets nothing while the storage
// does not say what the secret is, and that the right guard is used when it does.
func TestGuardReloadWithoutStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		working, broken := newStorage(t), newStorage(t)
		first := run(working)
		if err := first.join(t.Context()); err != nil {
			t.Fatal(err)
		}
		away := func(string, string) error { return errors.New("away") }
		for _, tc := range []struct {
			name    string
			storage *storage
			same    bool
		}{
			{"the same storage", working, true},
			{"another storage", broken, false},
		} {
			tc.storage.failing(away)
			second := run(tc.storage)
			second.joinOrRetry(t.Context())
			if second.cfg.active.Load() != first.keeper.guard {
				t.Errorf("%s: what was counted is not used", tc.name)
			}
			tc.storage.failing(nil)
			time.Sleep(retryEvery)
			<-second.done
			if got := second.cfg.active.Load() == first.keeper.guard; got != tc.same {
				t.Errorf("%s: the same guard is used: %t", tc.name, got)
			}
			if second.cfg.active.Load() != second.keeper.guard {
				t.Errorf("%s: another guard is used than is kept", tc.name)
			}
			deny(second.keeper.guard, "alice")
			time.Sleep(snapshotEvery)
			synctest.Wait()
			if !slices.Contains(tc.storage.uses(), "store "+second.place) {
				t.Errorf("%s: no snapshot was written", tc.name)
			}
			guards.leave(second.keeper, second)
		}
		guards.leave(first.keeper, first)
		if guards.latest != nil || len(guards.keepers) != 0 {
			t.Error("a guard is kept")
		}
	})
}

// TestGuardGarbage pins that a snapshot and a secret that are none are replaced.
func TestGuardGarbage(t *testing.T) {
	w := newWorld(t)
	w.storage = newStorage(t)
	w.storage.put(guardKey, []byte("too short"))
	fake := w.anyAlice()
	one := w.load(w.guarded(strict(), fake.Addr()))
	one.start()
	check(t, one.ref(""), from("192.0.2.1", "alice", testSecret), login.Granted)
	one.stop()
	secret := w.storage.get(guardKey)
	if len(secret) != guardKeyBytes {
		t.Errorf("the secret has %d bytes", len(secret))
	}
	i := slices.IndexFunc(w.storage.uses(), func(use string) bool { return strings.HasPrefix(use, "store imap/guard/snapshots/") })
	if i < 0 {
		t.Fatalf("no snapshot: %q", w.storage.uses())
	}
	key := strings.TrimPrefix(w.storage.uses()[i], "store ")
	w.storage.put(key, []byte("no snapshot"))
	two := w.load(w.guarded(strict(), fake.Addr()))
	two.start()
	two.log.one("warn", "what the guard has counted before the restart is not readable and forgotten")
	check(t, two.ref(""), from("192.0.2.1", "alice", testSecret), login.Granted)
	two.stop()
	if err := gob.NewDecoder(bytes.NewReader(w.storage.get(key))).Decode(new(guard.Snapshot)); err != nil {
		t.Errorf("no snapshot was written over it: %v", err)
	}
	if !bytes.Equal(secret, w.storage.get(guardKey)) {
		t.Error("the secret has changed")
	}
}

// TestValidateLeavesStorageAlone pins that provisioning does no I/O, whatever is
// configured, and neither does a login before the start.
func TestValidateLeavesStorageAlone(t *testing.T) {
	w := newWorld(t)
	w.storage = newStorage(t)
	state := newStoreState(t, "one")
	fake := w.fake()
	c := w.load(w.guarded(stored("one"), fake.Addr()))
	c.handler(new(Handler))
	check(t, c.ref(""), from("192.0.2.1", testUser, testSecret), login.Granted)
	c.cancel()
	if uses := w.storage.uses(); len(uses) != 0 {
		t.Errorf("the storage was used: %q", uses)
	}
	state.counted(t, 0, 0)
}

// run is what a started app has of the guard, without an app.
func run(s *storage) *guardRun {
	return &guardRun{cfg: new(Guard), storage: s, place: guardPrefix + "/snapshots/x", logger: zap.NewNop(), done: make(chan struct{})}
}

// deny counts a wrong password.
func deny(g *guard.Guard, secret string) {
	cfg := &guard.Config{AccountFailures: 4, Window: time.Hour, SourceFailures: 20, SourceBan: time.Hour}
	g.Check(context.Background(), cfg, from("192.0.2.1", "alice", secret), func(context.Context, bool) login.Verdict { return login.DeniedWith("") })
}

// TestSnapshots pins when snapshots are written: ten seconds after a change at the
// latest, and not without one.
func TestSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage(t)
		r := run(s)
		if err := r.join(t.Context()); err != nil {
			t.Fatal(err)
		}
		written := func() (n int) {
			synctest.Wait()
			for _, use := range s.uses() {
				if use == "store "+r.key {
					n++
				}
			}
			return n
		}
		time.Sleep(time.Minute)
		if n := written(); n != 0 {
			t.Errorf("%d snapshots of nothing", n)
		}
		deny(r.keeper.guard, "a")
		time.Sleep(snapshotEvery)
		if n := written(); n != 1 {
			t.Errorf("%d snapshots after ten seconds, want 1", n)
		}
		time.Sleep(time.Minute)
		if n := written(); n != 1 {
			t.Errorf("%d snapshots without a change, want 1", n)
		}
		// While the storage is away, what it has is not lost, and it gets the rest
		// when it is back.
		s.failing(func(string, string) error { return errors.New("away") })
		deny(r.keeper.guard, "b")
		time.Sleep(time.Minute)
		s.failing(nil)
		time.Sleep(snapshotEvery)
		synctest.Wait()
		got := new(guard.Snapshot)
		if err := gob.NewDecoder(bytes.NewReader(s.get(r.key))).Decode(got); err != nil || len(got.Accounts) != 1 || len(got.Accounts[0].Failures) != 2 {
			t.Errorf("the snapshot is %+v, %v", got, err)
		}
		guards.leave(r.keeper, r)
	})
}

// TestRestoreLater pins that a snapshot which cannot be read at the start is read
// later, before anything is written over it.
func TestRestoreLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage(t)
		r := run(s)
		if err := r.join(t.Context()); err != nil {
			t.Fatal(err)
		}
		deny(r.keeper.guard, "a")
		guards.leave(r.keeper, r)

		s.failing(func(op, key string) error {
			if op == "load" && key == r.key {
				return errors.New("away")
			}
			return nil
		})
		again := run(s)
		if err := again.join(t.Context()); err != nil {
			t.Fatal(err)
		}
		deny(again.keeper.guard, "b")
		time.Sleep(time.Minute)
		s.failing(nil)
		time.Sleep(snapshotEvery)
		synctest.Wait()
		if got := again.keeper.guard.Snapshot(); len(got.Accounts) != 1 || len(got.Accounts[0].Failures) != 2 {
			t.Errorf("counted %+v, want two failures", got)
		}
		guards.leave(again.keeper, again)
	})
}

// TestRetry pins that the secret is got as soon as the storage gives it.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage(t)
		s.failing(func(string, string) error { return errors.New("away") })
		r := run(s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if err := r.join(ctx); err == nil {
			t.Fatal("joined without a secret")
		}
		go r.retry(ctx)
		time.Sleep(time.Minute)
		if r.cfg.active.Load() != nil {
			t.Error("there is a guard without a secret")
		}
		s.failing(nil)
		time.Sleep(retryEvery)
		<-r.done
		if r.cfg.active.Load() != r.keeper.guard {
			t.Error("the guard is not used")
		}
		guards.leave(r.keeper, r)

		// One that never gets it ends when it is told to.
		s.failing(func(string, string) error { return errors.New("away") })
		r = run(s)
		go r.retry(ctx)
		cancel()
		<-r.done
		if r.keeper != nil {
			t.Error("joined without a secret")
		}
	})
}

// TestSecretRace pins that instances which start together agree on one secret.
func TestSecretRace(t *testing.T) {
	s := newStorage(t)
	secrets := make(chan []byte)
	for range 8 {
		go func() {
			secret, err := loadSecret(context.Background(), s)
			if err != nil {
				t.Error(err)
			}
			secrets <- secret
		}()
	}
	first := <-secrets
	for range 7 {
		if got := <-secrets; !bytes.Equal(first, got) || len(got) != guardKeyBytes {
			t.Errorf("secrets %x and %x", first, got)
		}
	}
}

// TestInstanceID pins that the file of the id, which another app is about to write, is
// waited for.
func TestInstanceID(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	file := filepath.Join(caddy.AppDataDir(), "instance.uuid")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const id = "6f1c6a4e-2f4b-4c8e-9d0a-6f0c7b1a2d3e"
	written := make(chan error, 1)
	time.AfterFunc(50*time.Millisecond, func() { written <- os.WriteFile(file, []byte(id), 0o600) })
	if got, err := instanceID(); got != id || err != nil {
		t.Errorf("the id is %s, %v", got, err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	// What cannot be read is not waited for.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if got, err := instanceID(); err == nil || time.Since(start) > 500*time.Millisecond {
		t.Errorf("the id is %s, after %v", got, time.Since(start))
	}
}
