package caddyimap

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

const (
	// maxExchanges is how many relayed exchanges may wait for their clients at a backend,
	// each of which holds a connection there, and maxExchangesOfSource how many of them
	// from one source.
	maxExchanges         = 64
	maxExchangesOfSource = 16
	// dawdling is how long a client may take for an answer while others want its place.
	// Programs take no time but that of the way.
	dawdling = 5 * time.Second
)

var (
	errCrowded = errors.New("as many exchanges wait for their clients as may, at the backend or of this address")
	errDawdled = errors.New("the client was slow to answer, and others wanted its place")
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
// place of the one that has waited for longest, if that is too long: its context is
// done. A source that is not valid has no limit of its own.
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
// anybody has. The lock is held.
func (t *exchangeTable) room(backend string, source netip.Addr) (leaves *exchange, err error) {
	all := t.backends[backend]
	var ofSource []*exchange
	if source.IsValid() {
		ofSource = slices.DeleteFunc(slices.Clone(all), func(x *exchange) bool { return x.source != source })
	}
	switch {
	case len(ofSource) >= maxExchangesOfSource:
		leaves = ofSource[0]
	case len(all) >= maxExchanges:
		leaves = all[0]
	}
	if leaves != nil && time.Since(leaves.since) < dawdling {
		return nil, errCrowded
	}
	return leaves, nil
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
	if a.Guard.exempts(plain(at.Remote)) {
		return netip.Addr{} // many share it
	}
	return guard.Source(at.Remote)
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
