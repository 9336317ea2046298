package caddyimap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Guard makes password guessing hard, for all handlers together. It lets fewer
// wrong passwords through than directories lock an account for, so that nobody can
// lock the accounts of others, answers a wrong password that it knows from memory,
// and bans sources that try many. A password that was right before gets through
// all the same.
//
// Different spellings of a name are one account: case does not matter, nor does
// whose mailbox is asked for besides (`user/shared`). Domains that are not mapped
// by `domains` do not matter either, so that `user`, `user@example.org` and
// `CORP\user` are one account.
type Guard struct {
	// Whether to do nothing of it, except for `failure_delay`. Default: `false`.
	Off bool `json:"off,omitempty"`

	// How many wrong passwords for one account reach the backend within
	// `account_window`, wherever they come from. It should be less than the
	// backend's directory locks an account for. It can be at most 1000. Default:
	// `4`.
	AccountFailures int `json:"account_failures,omitempty"`

	// How many of these are kept for sources that have logged in to the account
	// before. It must be less than `account_failures`. Default: `1`.
	KnownReserve *int `json:"known_reserve,omitempty"`

	// For how long a wrong password counts. Default: `30m`.
	AccountWindow caddy.Duration `json:"account_window,omitempty"`

	// How long after a login has begun its refusal is sent, at the earliest. It
	// is the same whatever the reason is, a backend that is away included, so
	// that guessing is slow and the time tells nothing. It can be at most 10s.
	// Default: `2s`.
	FailureDelay caddy.Duration `json:"failure_delay,omitempty"`

	// How many different wrong logins, each an account with a password, an IPv4
	// address or IPv6 /64 network may have within `account_window` before it is
	// banned. Logins that are under way count as if they were wrong, and more of them
	// wait, unless the password was right before. It can be at most 1000. Default: `20`.
	SourceFailures int `json:"source_failures,omitempty"`

	// For how long it is banned. Default: `15m`.
	SourceBan caddy.Duration `json:"source_ban,omitempty"`

	// Networks and addresses that are never banned, in CIDR notation, such as
	// the one that a company's users come from. Default: none.
	Exempt []string `json:"exempt,omitempty"`

	// Which short domain names stand for which domains. Default: none.
	Domains []GuardDomain `json:"domains,omitempty"`

	// For how long `dovecot_auth` believes a right password without asking the
	// backend. An account that is disabled there can send mail for as long. It
	// can be at most 5m. Default: not at all.
	PositiveCache caddy.Duration `json:"positive_cache,omitempty"`

	// Where several instances count together. Default: `local`, which counts for
	// this instance alone.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=imap.guard.stores inline_key=store"`

	store  GuardStore
	exempt glue.Networks
	// cfg is the same for all backends, but for the name of the backend.
	cfg guard.Config
	// active is the guard that the started app counts with.
	active atomic.Pointer[guard.Guard]
}

// GuardDomain maps a domain.
type GuardDomain struct {
	// The short name, such as the NetBIOS name of a Windows domain, as in
	// `CORP\user`.
	Name string `json:"name,omitempty"`
	// The domain that it stands for, as in `user@corp.example.org`. The first
	// domain is that of names without one.
	Domain string `json:"domain,omitempty"`
}

const (
	defaultAccountFailures = 4
	defaultKnownReserve    = 1
	defaultAccountWindow   = 30 * time.Minute
	defaultFailureDelay    = 2 * time.Second
	maxFailureDelay        = 10 * time.Second
	defaultSourceFailures  = 20
	maxAccountFailures     = 1000
	maxSourceFailures      = 1000
	defaultSourceBan       = 15 * time.Minute
	maxPositiveCache       = 5 * time.Minute
)

// provision fills in the defaults and checks the options.
func (g *Guard) provision(ctx caddy.Context) error {
	for _, d := range []struct {
		name  string
		field *caddy.Duration
		value time.Duration
	}{
		{"account_window", &g.AccountWindow, defaultAccountWindow},
		{"failure_delay", &g.FailureDelay, defaultFailureDelay},
		{"source_ban", &g.SourceBan, defaultSourceBan},
	} {
		if *d.field == 0 {
			*d.field = caddy.Duration(d.value)
		}
		if *d.field < 0 {
			return fmt.Errorf("%s %s: must be more than 0", d.name, time.Duration(*d.field))
		}
	}
	if d := time.Duration(g.FailureDelay); d > maxFailureDelay {
		return fmt.Errorf("failure_delay %s: must be more than 0 and at most %s", d, maxFailureDelay)
	}
	if d := time.Duration(g.PositiveCache); d < 0 || d > maxPositiveCache {
		return fmt.Errorf("positive_cache %s: must be more than 0 and at most %s", d, maxPositiveCache)
	}
	if g.AccountFailures == 0 {
		g.AccountFailures = defaultAccountFailures
	}
	if g.KnownReserve == nil {
		reserve := min(defaultKnownReserve, g.AccountFailures-1)
		g.KnownReserve = &reserve
	}
	if g.SourceFailures == 0 {
		g.SourceFailures = defaultSourceFailures
	}
	switch {
	case g.AccountFailures < 1 || g.AccountFailures > maxAccountFailures:
		return fmt.Errorf("account_failures %d: must be more than 0 and at most %d", g.AccountFailures, maxAccountFailures)
	case *g.KnownReserve < 0 || *g.KnownReserve >= g.AccountFailures:
		return fmt.Errorf("known_reserve %d: must be at least 0 and less than account_failures, which is %d", *g.KnownReserve, g.AccountFailures)
	case g.SourceFailures < 1 || g.SourceFailures > maxSourceFailures:
		return fmt.Errorf("source_failures %d: must be more than 0 and at most %d", g.SourceFailures, maxSourceFailures)
	}
	g.cfg = guard.Config{
		AccountFailures: g.AccountFailures,
		KnownReserve:    *g.KnownReserve,
		Window:          time.Duration(g.AccountWindow),
		SourceFailures:  g.SourceFailures,
		SourceBan:       time.Duration(g.SourceBan),
		PositiveCache:   time.Duration(g.PositiveCache),
	}
	exempt, err := glue.ParseNetworks("exempt", g.Exempt)
	if err != nil {
		return err
	}
	g.exempt, g.cfg.Exempt = exempt, exempt
	for _, d := range g.Domains {
		if err := g.cfg.Domains.Map(d.Name, d.Domain); err != nil {
			return err
		}
	}
	return g.loadStore(ctx)
}

// decide asks a backend about an attempt as far as the guard, which is on, lets it.
func (g *Guard) decide(ctx context.Context, b *Backend, a *login.Attempt, checkOnly bool, ask guard.Ask) login.Verdict {
	if checkOnly {
		return g.current().Check(ctx, &b.guard, a, ask)
	}
	return g.current().Open(ctx, &b.guard, a, ask)
}

// liftAccount forgets the failures of an account, by the name that users type or one
// that a backend is told.
func (a *App) liftAccount(ctx context.Context, user string) (lifted bool, err error) {
	names := map[string]bool{user: true}
	for _, b := range a.Backends {
		names[b.username.Expand(user)] = true
	}
	for name := range names {
		one, liftErr := a.Guard.current().LiftAccount(ctx, &a.Guard.cfg, name)
		lifted, err = lifted || one, errors.Join(err, liftErr)
	}
	return lifted, err
}

// hold waits with a refusal until it may be told.
func (g *Guard) hold(ctx context.Context, a *login.Attempt, v login.Verdict) {
	guard.Hold(ctx, a, v, time.Duration(g.FailureDelay))
}

// exempts says whether an address is shared by many who are let in.
func (g *Guard) exempts(addr netip.Addr) bool { return g.exempt.Contains(addr) }

// banned says whether a source is banned now.
func (g *Guard) banned(addr netip.Addr) bool {
	return !g.Off && g.current().Banned(&g.cfg, addr)
}
