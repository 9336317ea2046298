//go:build integration && unix

package guard_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/imapredis"
	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/redistest"
)

// TestRedisDecidesAsMemory has several instances with one Redis decide about the
// same random attempts as one instance does on its own.
func TestRedisDecidesAsMemory(t *testing.T) {
	server := redistest.Start(t)
	crowded := 0
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			prefix := fmt.Sprint("seed-", seed)
			// Redis takes the time of an instance that is wrong by less than a minute.
			now := time.Now().Truncate(time.Second).Add(-53 * time.Second)
			p := &play{
				t: t, rng: rand.New(rand.NewPCG(seed, 1)), reference: guard.NewReference(now),
				stores: []guard.Store{openRedis(t, server, prefix), openRedis(t, server, prefix)},
				now:    now,
			}
			p.rules()
			for range 105 {
				p.now = p.now.Add(time.Second)
				p.step()
			}
			for account := range accounts {
				for source := range sources {
					p.admit(account, source)
				}
			}
			crowded += p.crowded
		})
	}
	if crowded < 100 {
		t.Errorf("a source had too much under way %d times only", crowded)
	}
}

func openRedis(t *testing.T, server *redistest.Server, prefix string) guard.Store {
	t.Helper()
	s := &imapredis.Store{Addresses: []string{"unix/" + server.Socket}, KeyPrefix: prefix}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := s.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	store, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Merge(t.Context(), new(guard.Snapshot)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// Of the sources, the first is unknown.
const accounts, sources = 2, 20

// play is one random sequence.
type play struct {
	t         *testing.T
	rng       *rand.Rand
	reference guard.Reference
	stores    []guard.Store
	now       time.Time

	budget, reserve, sourceFailures int
	window, ban                     time.Duration
	// few is how many sources are used; grants is how many of ten attempts are
	// granted, and known how many of a hundred steps are attempts with a password
	// that was right before, which are not asked about here.
	few, grants, known int
	tickets            uint64
	running            []guard.Settlement
	log                []string
	// crowded is how often a source had too much under way.
	crowded int
}

func (p *play) rules() {
	p.budget = 1 + p.rng.IntN(5)
	p.reserve = p.rng.IntN(p.budget)
	p.sourceFailures = 1 + p.rng.IntN(6)
	p.few = 2 + p.rng.IntN(sources-1)
	p.grants = p.rng.IntN(9)
	p.known = 5 + p.rng.IntN(60)
	p.window = time.Duration(1+p.rng.IntN(40)) * time.Second
	p.ban = time.Duration(1+p.rng.IntN(20)) * time.Second
}

func (p *play) note(format string, args ...any) {
	p.log = append(p.log, p.now.Format("05 ")+fmt.Sprintf(format, args...))
}

func (p *play) store() guard.Store { return p.stores[p.rng.IntN(len(p.stores))] }

func (p *play) step() {
	account, source := p.rng.IntN(accounts), p.rng.IntN(p.few)
	switch n := p.rng.IntN(100); {
	case n < p.known:
		// Such a password has the same ticket every time. Of an account there are
		// few, or the reference would keep fewer failures.
		p.settle(p.settlement(1000+uint64(p.rng.IntN(p.budget)), account, source))
	case n < 75 || n < 97 && len(p.running) == 0:
		p.admit(account, source)
	case n < 97:
		i := p.rng.IntN(len(p.running))
		s := p.running[i]
		p.running = append(p.running[:i], p.running[i+1:]...)
		p.settle(s)
	case n < 99:
		p.note("lift account %d", account)
		p.reference.LiftAccount(accountID(account))
		p.check(p.store().LiftAccount(context.Background(), accountID(account)))
	default:
		p.note("lift source %d", source)
		p.reference.LiftSource(sourceID(source))
		p.check(p.store().LiftSource(context.Background(), sourceID(source)))
	}
}

func (p *play) admit(account, source int) {
	p.t.Helper()
	p.tickets++
	a := guard.Admission{
		Ticket: p.tickets, Account: accountID(account), Source: sourceID(source), Home: homeID(account, source),
		Backend: backendID(p.rng.IntN(2)), Again: p.rng.IntN(4) == 0, Now: p.now, Window: p.window, AccountFailures: p.budget, KnownReserve: p.reserve,
		SourceFailures: p.sourceFailures, Exempt: p.exempt(source),
	}
	want := p.reference.Admit(a)
	got, err := p.store().Admit(context.Background(), a)
	p.check(err)
	p.note("admit %d to %d from %d: allowed %t, crowded %t, banned %s, held off %s", a.Ticket, account, source,
		want.Allowed, want.Crowded, clock(want.Banned), clock(want.HeldOff))
	if got.Allowed != want.Allowed || got.Crowded != want.Crowded || !got.Banned.Equal(want.Banned) || !got.HeldOff.Equal(want.HeldOff) {
		for _, line := range p.log {
			p.t.Log(line)
		}
		p.t.Fatalf("Redis says allowed %t, crowded %t, banned %s, held off %s; budget %d-%d in %v, %d bans for %v", got.Allowed, got.Crowded,
			clock(got.Banned), clock(got.HeldOff), p.budget, p.reserve, p.window, p.sourceFailures, p.ban)
	}
	if got.Crowded {
		p.crowded++
	}
	if got.Allowed && got.HeldOff.IsZero() {
		p.running = append(p.running, p.settlement(a.Ticket, account, source))
	}
}

func (p *play) settlement(ticket uint64, account, source int) guard.Settlement {
	return guard.Settlement{
		Ticket: ticket, Account: accountID(account), Source: sourceID(source), Home: homeID(account, source),
		Exempt: p.exempt(source), Forgive: p.budget,
		Pair: [8]byte{0: byte(account), 4: byte(p.rng.IntN(5)), 5: 7}, Window: p.window, Backend: backendID(p.rng.IntN(2)),
		Stale: p.rng.IntN(3) == 0, SourceFailures: p.sourceFailures, SourceBan: p.ban,
	}
}

func (p *play) settle(s guard.Settlement) {
	p.t.Helper()
	s.Now = p.now
	switch n := p.rng.IntN(10); {
	case n < p.grants:
		s.Granted = true
	case n == 9:
		s.HeldOff = p.now.Add(time.Duration(1+p.rng.IntN(10)) * time.Second)
		s.Failed = p.rng.IntN(2) == 0
	default:
		s.Failed = p.rng.IntN(8) > 0
	}
	p.note("settle %d: granted %t, failed %t, held off %s", s.Ticket, s.Granted, s.Failed, clock(s.HeldOff))
	p.reference.Settle(s, p.budget)
	p.check(p.store().Settle(context.Background(), s))
}

func (p *play) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format("05.000")
}

func accountID(n int) guard.ID { return guard.ID{0: 0xa0, 15: byte(n)} }

func backendID(n int) [8]byte { return [8]byte{0: 0xc0, 7: byte(n)} }

func sourceID(n int) [8]byte { return [8]byte{7: byte(n)} }

// homeID has each source known to each account by another name.
func homeID(account, source int) [8]byte {
	if source == 0 {
		return [8]byte{}
	}
	return [8]byte{0: 0xb0, 6: byte(account), 7: byte(source)}
}

// exempt has the instances not agree about the second source.
func (p *play) exempt(source int) bool { return source == 1 && p.rng.IntN(2) == 0 }
