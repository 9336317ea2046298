package caddyimap

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

const (
	// maxExchanges is how many relayed exchanges may wait for their clients at a backend,
	// each of which holds a connection there; maxExchangesOfSource is how many of them from
	// one source, and maxExchangesApart from all that have no limit of their own, together.
	maxExchanges         = 64
	maxExchangesOfSource = 16
	maxExchangesApart    = 32
	// dawdling is how long a client may take for an answer while others want its place.
	// Programs take no time but that of the way.
	dawdling = 5 * time.Second
	// ipv6Site is the network that counts as one source of exchanges. A site gets that
	// many addresses, or asks for them.
	ipv6Site = 48
)

var (
	errCrowded = errors.New("as many exchanges wait for their clients as may, at the backend or of this address")
	errDawdled = errors.New("others wanted the place of the client, which was slow to answer, or its address had more than others")
)

// exchanges are those that wait for their clients, whatever configuration they began
// with.
var exchanges = exchangeTable{backends: make(map[string][]*exchange)}

type exchangeTable struct {
	mu       sync.Mutex
	backends map[string][]*exchange // the oldest first
	// full tells the operator that there are too many.
	full glue.Seldom
}

type exchange struct {
	source netip.Addr
	since  time.Time
	// giveUp ends it.
	giveUp context.CancelCauseFunc
}

// begin adds an exchange that waits, until end is called; if there are too many, in the
// place of another one, as room says: the context of that is done. A source that is not
// valid stands for all that have no limit of their own.
func (t *exchangeTable) begin(ctx context.Context, backend string, source netip.Addr) (_ context.Context, end func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	leaves, err := t.room(backend, source)
	switch {
	case err != nil:
		return nil, nil, err
	case leaves != nil:
		t.remove(backend, leaves)
		leaves.giveUp(errDawdled)
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	x := &exchange{source, time.Now(), giveUp}
	t.backends[backend] = append(t.backends[backend], x)
	return ctx, func() { t.end(backend, x) }, nil
}

// hasRoom returns the error that begin would return.
func (t *exchangeTable) hasRoom(backend string, source netip.Addr) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.room(backend, source)
	return err
}

// room says whether there is room for one more, and who has to leave for that, if
// anybody has: of a source that has its share already, the oldest, if that dawdles. If all
// places are taken, the source with the most gives one up to any that would not have as
// many then; so a few addresses cannot keep others out. The lock is held.
func (t *exchangeTable) room(backend string, source netip.Addr) (leaves *exchange, err error) {
	all := t.backends[backend]
	counts := make(map[netip.Addr]int, len(all))
	for _, x := range all {
		counts[x.source]++
	}
	limit := maxExchangesOfSource
	if !source.IsValid() {
		limit = maxExchangesApart
	}
	switch {
	case counts[source] >= limit:
		leaves = oldestOf(all, func(x *exchange) bool { return x.source == source })
	case len(all) >= maxExchanges:
		most := slices.Max(slices.Collect(maps.Values(counts)))
		if most > counts[source]+1 {
			return oldestOf(all, func(x *exchange) bool { return counts[x.source] == most }), nil
		}
		leaves = all[0]
	}
	if leaves != nil && time.Since(leaves.since) < dawdling {
		return nil, errCrowded
	}
	return leaves, nil
}

// oldestOf returns the first exchange that is one of those, of which there is one.
func oldestOf(all []*exchange, isOne func(*exchange) bool) *exchange {
	return all[slices.IndexFunc(all, isOne)]
}

func (t *exchangeTable) end(backend string, x *exchange) {
	x.giveUp(nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(backend, x)
}

// remove takes an exchange out, if it is there. The lock is held.
func (t *exchangeTable) remove(backend string, x *exchange) {
	left := slices.DeleteFunc(t.backends[backend], func(other *exchange) bool { return other == x })
	if t.backends[backend] = left; len(left) == 0 {
		delete(t.backends, backend)
	}
}

// answer puts a challenge to the client, and returns its answer and whether that is the
// proof. The error is the client's, or says that it cannot be waited for.
func (b *Backend) answer(ctx context.Context, app *App, a *login.Attempt, challenge []byte) (message []byte, proof bool, err error) {
	ctx, end, err := exchanges.begin(ctx, b.name, app.exchangeSource(a))
	if err != nil {
		return nil, false, err
	}
	defer end()
	message, proof, err = a.Relay.Answer(ctx, challenge)
	if err != nil && errors.Is(context.Cause(ctx), errDawdled) {
		err = errDawdled
	}
	return message, proof, err
}

// exchangeSource returns the source with whose exchanges that of an attempt is counted.
func (a *App) exchangeSource(at *login.Attempt) netip.Addr {
	remote := plain(at.Remote)
	switch {
	case a.Guard.exempts(remote):
		return netip.Addr{} // many share it
	case remote.Is6():
		return netip.PrefixFrom(remote, ipv6Site).Masked().Addr()
	}
	return remote
}

// crowdedOut tells of an exchange that was not waited for.
func (b *Backend) crowdedOut(ctx context.Context, app *App, a *login.Attempt, from entrance, why error) login.Verdict {
	v := login.ThrottledFor(imap.ResponseCodeUnavailable, 0, why)
	b.tell(ctx, app, a, from, v)
	if n, due := exchanges.full.Due(); due {
		app.logger.Warn("clients that log in with a relayed mechanism are told to try again later, since too many exchanges wait for their clients, "+
			"at the backend or of an address; see who they are in the lines about logins", zap.String("backend", b.name), zap.Int("exchanges", n))
	}
	return v
}
