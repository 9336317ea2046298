package caddyimap

import (
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/guard"
)

func init() {
	caddy.RegisterModule(new(LocalStore))
}

// GuardStore is a module in which several instances count together. It is in the
// namespace imap.guard.stores.
type GuardStore interface {
	// Open returns the store. It is called when the app starts, and does not
	// wait for a server. A nil store counts for one instance alone.
	Open() (SharedCounts, error)
	// Close ends what Open began.
	Close() error
}

// What a GuardStore of another module needs to name.
type (
	// SharedCounts counts for several instances at once.
	SharedCounts = guard.Store
	// GuardAdmission is the question whether an attempt may reach the backend.
	GuardAdmission = guard.Admission
	// GuardAdmitted is the answer to it.
	GuardAdmitted = guard.Admitted
	// GuardSettlement is what the backend said.
	GuardSettlement = guard.Settlement
	// GuardID is the keyed hash of an account.
	GuardID = guard.ID
	// GuardSnapshot is what an instance has counted.
	GuardSnapshot = guard.Snapshot
)

// LocalStore counts for this instance alone. What is counted is in memory, and
// written to Caddy's storage every ten seconds, so that a restart does not forget
// it. That is so with the other stores, too.
type LocalStore struct{}

// CaddyModule returns the Caddy module information.
func (*LocalStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "imap.guard.stores.local",
		New: func() caddy.Module { return new(LocalStore) },
	}
}

// Open implements GuardStore.
func (*LocalStore) Open() (SharedCounts, error) { return nil, nil }

// Close implements GuardStore.
func (*LocalStore) Close() error { return nil }

// UnmarshalCaddyfile reads the name of the store, which is all there is. Syntax:
//
//	store local
func (*LocalStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the name of the module
	return glue.Options{}.Block(d)
}

// loadStore loads the module of the store.
func (g *Guard) loadStore(ctx caddy.Context) error {
	g.store = new(LocalStore)
	if g.StoreRaw == nil {
		return nil
	}
	module, err := ctx.LoadModule(g, "StoreRaw")
	if err != nil {
		return fmt.Errorf("loading the store: %w", err)
	}
	store, ok := module.(GuardStore)
	if !ok {
		return fmt.Errorf("store: the module %T is no store for the guard", module)
	}
	g.store = store
	return nil
}

// Interface guards.
var (
	_ GuardStore            = (*LocalStore)(nil)
	_ caddyfile.Unmarshaler = (*LocalStore)(nil)
)
