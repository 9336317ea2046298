package imapredis

import (
	"context"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-imap/caddy-imap/internal/guard"
)

const (
	// maxSkew is how far the clock of an instance may be from the server's. One
	// that is farther off is counted by the clock of the server.
	maxSkew = time.Minute
	// reservedFor is how long an attempt under way counts whose instance has
	// died.
	reservedFor = time.Minute
	// knownFor is for how long a source is known that does not log in again, and
	// maxKnown how many of one account are.
	knownFor = 90 * 24 * time.Hour
	maxKnown = 32
	// keptFor is for how long is kept what nobody says how long it counts: what
	// an instance has counted on its own, until the next login to the same
	// account, and that an operator has had an account's failures forgotten.
	keptFor = 24 * time.Hour
	// Of one account, and of one source, no more is kept than the latest of these.
	// Both are more than anybody will need.
	maxFailures = 1000
	maxPairs    = 1000
	// generationFor is for how long the server knows its generation if nobody
	// merges.
	generationFor = 2 * knownFor
)

// errLost says that the server has forgotten what was merged, as when it was
// started anew without its data.
var errLost = errors.New("the server has lost what was counted")

// The scripts. Each is run by the server in one step.
var (
	//go:embed scripts/common.lua
	commonLua string
	//go:embed scripts/admit.lua
	admitLua string
	//go:embed scripts/settle.lua
	settleLua string
	//go:embed scripts/lift.lua
	liftLua string
	//go:embed scripts/merge_accounts.lua
	mergeAccountsLua string
	//go:embed scripts/merge_sources.lua
	mergeSourcesLua string

	admitScript         = redis.NewScript(commonLua + admitLua)
	settleScript        = redis.NewScript(commonLua + settleLua)
	liftScript          = redis.NewScript(commonLua + liftLua)
	mergeAccountsScript = redis.NewScript(commonLua + mergeAccountsLua)
	mergeSourcesScript  = redis.NewScript(commonLua + mergeSourcesLua)
)

// counts is a guard.Store.
type counts struct {
	client redis.UniversalClient
	prefix string
	// generation is what the server's data was called when this instance merged
	// its own. Data that was lost does not come back under the same name.
	generation atomic.Pointer[string]
	// reservedFor and skew are constants, except for tests.
	reservedFor, skew time.Duration
}

func newCounts(client redis.UniversalClient, prefix string) *counts {
	// The braces have a Redis Cluster keep everything in one place, without which
	// no script could use several keys.
	c := &counts{client: client, prefix: "{" + prefix + "}:", reservedFor: reservedFor, skew: maxSkew}
	c.generation.Store(new(string))
	return c
}

// The keys. What is in them are hashes under a secret that the server does not
// know.
func (c *counts) account(id guard.ID) string {
	return c.prefix + "account:" + hex.EncodeToString(id[:])
}
func (c *counts) ban(source [8]byte) string { return c.prefix + "ban:" + hex.EncodeToString(source[:]) }
func (c *counts) crowd(id [8]byte) string   { return c.prefix + "crowd:" + hex.EncodeToString(id[:]) }
func (c *counts) generationKey() string     { return c.prefix + "generation" }
func (c *counts) source(id [8]byte) string  { return c.prefix + "source:" + hex.EncodeToString(id[:]) }

// Admit implements guard.Store.
func (c *counts) Admit(ctx context.Context, a guard.Admission) (guard.Admitted, error) {
	got, err := admitScript.Run(ctx, c.client, []string{c.account(a.Account), c.ban(a.Source), c.generationKey(), c.source(a.Source), c.crowd(a.Source)},
		a.Now.UnixMilli(), c.skew.Milliseconds(), a.Window.Milliseconds(), a.AccountFailures, a.KnownReserve,
		ticket(a.Ticket), hex.EncodeToString(a.Home[:]), a.Known, a.Again,
		knownFor.Milliseconds(), c.reservedFor.Milliseconds(), *c.generation.Load(),
		a.SourceFailures, a.Exempt, hex.EncodeToString(a.Backend[:]),
	).Int64Slice()
	if err != nil {
		return guard.Admitted{}, fmt.Errorf("running the script admit: %w", err)
	}
	if len(got) == 0 {
		return guard.Admitted{}, errLost
	}
	if len(got) != 4 {
		return guard.Admitted{}, fmt.Errorf("running the script admit: got %d numbers, want 4", len(got))
	}
	return guard.Admitted{Allowed: got[0] == 1, Banned: fromMillis(got[1]), HeldOff: fromMillis(got[2]), Crowded: got[3] == 1}, nil
}

// Settle implements guard.Store.
func (c *counts) Settle(ctx context.Context, s guard.Settlement) error {
	err := settleScript.Run(ctx, c.client, []string{c.account(s.Account), c.ban(s.Source), c.source(s.Source), c.crowd(s.Source)},
		s.Now.UnixMilli(), c.skew.Milliseconds(), s.Window.Milliseconds(),
		ticket(s.Ticket), hex.EncodeToString(s.Home[:]), hex.EncodeToString(s.Pair[:]),
		s.Granted, s.Failed, s.Stale, s.Exempt, toMillis(s.HeldOff),
		maxFailures, s.SourceFailures, s.SourceBan.Milliseconds(), maxKnown, knownFor.Milliseconds(), s.Forgive, hex.EncodeToString(s.Backend[:]),
	).Err()
	if err != nil {
		return fmt.Errorf("running the script settle: %w", err)
	}
	return nil
}

// LiftAccount implements guard.Store.
func (c *counts) LiftAccount(ctx context.Context, account guard.ID) error {
	err := liftScript.Run(ctx, c.client, []string{c.account(account)},
		time.Now().UnixMilli(), c.skew.Milliseconds(), keptFor.Milliseconds()).Err()
	if err != nil {
		return fmt.Errorf("running the script lift: %w", err)
	}
	return nil
}

// LiftSource implements guard.Store.
func (c *counts) LiftSource(ctx context.Context, source [8]byte) error {
	if err := c.client.Del(ctx, c.ban(source), c.source(source)).Err(); err != nil {
		return fmt.Errorf("deleting the ban: %w", err)
	}
	return nil
}

func ticket(t uint64) string { return strconv.FormatUint(t, 16) }

// toMillis and fromMillis have 0 for no time.
func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// Interface guard.
var _ guard.Store = (*counts)(nil)
