package caddyimap

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/pool"
)

// offers is which of login.RelayedForIMAP an upstream offers: a bit for each, and one
// that says that this is known.
type offers struct{ bits atomic.Uint32 }

const offersKnown = 1 << 31

func (o *offers) known() bool { return o.bits.Load()&offersKnown != 0 }

func (o *offers) note(mechanisms []string) {
	bits := uint32(offersKnown)
	for _, m := range mechanisms {
		bits |= offerOf(m)
	}
	o.bits.Store(bits)
}

// offerOf is the bit of a mechanism; 0 for one that is not relayed.
func offerOf(mechanism string) uint32 {
	if i := slices.Index(login.RelayedForIMAP, mechanism); i >= 0 {
		return 1 << i
	}
	return 0
}

// offered returns what all upstreams have that are known: a client that comes again may
// meet with another one.
func (b *Backend) offered() (bits uint32) {
	for _, o := range b.offers {
		switch more := o.bits.Load(); {
		case more == 0:
		case bits == 0:
			bits = more
		default:
			bits &= more
		}
	}
	return bits
}

// Mechanisms returns a function that says which of the configured mechanisms clients are
// offered: those for passwords, and those that the backend has as well, as far as that
// is known. What it returns is not to be changed. Handlers call Mechanisms when they are
// provisioned. The error is for those that cannot be relayed to this backend.
func (r *BackendRef) Mechanisms(configured []string) (offered func() []string, err error) {
	b, err := r.own.backend(r.name)
	if err != nil {
		return nil, err
	}
	relayed := slices.DeleteFunc(slices.Clone(configured), func(m string) bool { return !login.IsRelayed(m) })
	b.takesPasswords = b.takesPasswords || len(relayed) < len(configured)
	if len(relayed) == 0 {
		return func() []string { return configured }, nil
	}
	if !b.username.IsIdentity() {
		return nil, fmt.Errorf("mechanisms %s: clients tell the backend %s their names themselves, so that its option username, "+
			"which is %q, could not change them; take one of the two away", strings.Join(relayed, " "), b.name, b.Username)
	}
	b.pass(relayed)
	return (&offering{ref: r, configured: configured}).now, nil
}

// namesLate are mechanisms by which a client is connected to an upstream before it has said
// its name.
var namesLate = []string{login.CramMD5, login.NTLM, login.GSSAPI}

// warnHash tells the operator of mechanisms with which the users of a backend do not get
// where the backend's policy wants them.
func (r *BackendRef) warnHash(configured []string, logger *zap.Logger) {
	late := slices.DeleteFunc(slices.Clone(configured), func(m string) bool { return !slices.Contains(namesLate, m) })
	b, err := r.own.backend(r.name)
	if err != nil || len(late) == 0 || b.LoadBalancing.Selection.Policy != string(pool.PolicyUserHash) {
		return
	}
	logger.Warn("lb_policy user_hash does not hold for all mechanisms: with some of them an upstream is connected to before the user's name is known, "+
		"which is the same one for all users; take these away, or choose another policy",
		zap.String("backend", b.name), zap.Strings("mechanisms", late))
}

// pass notes what a handler passes on. The configuration has not started yet.
func (b *Backend) pass(mechanisms []string) {
	for _, m := range mechanisms {
		if !slices.Contains(b.relayed, m) {
			b.relayed = append(b.relayed, m)
		}
	}
	for address, cfg := range b.configs {
		cfg.Relayed, cfg.Offered = b.relayed, b.offers[address].note
	}
}

// offering is what a handler offers.
type offering struct {
	ref        *BackendRef
	configured []string
	// last is what was offered last, which is the same nearly always.
	last atomic.Pointer[offeredList]
}

type offeredList struct {
	bits uint32
	list []string
}

func (o *offering) now() []string {
	var bits uint32
	if _, b, err := o.ref.find(); err == nil {
		bits = b.offered()
	}
	if last := o.last.Load(); last != nil && last.bits == bits {
		return last.list
	}
	list := make([]string, 0, len(o.configured))
	for _, m := range o.configured {
		if !login.IsRelayed(m) || bits&offerOf(m) != 0 {
			list = append(list, m)
		}
	}
	o.last.Store(&offeredList{bits, list})
	return list
}

// learnAgain is how long it takes until an upstream is asked again for its mechanisms
// that could not be asked.
var learnAgain = 5 * time.Second

// learning asks upstreams for their mechanisms, from the start of an app to its end, or
// until all are known.
type learning struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// startLearning has it known what the backends offer whose clients want to know. What
// the app before has found out is not forgotten.
func (a *App) startLearning() {
	ctx, cancel := context.WithCancel(context.Background())
	a.learning.cancel = cancel
	before := apps.newest.Load()
	for name, b := range a.Backends {
		if len(b.relayed) == 0 {
			continue
		}
		if b.OAuth2 != nil && !b.takesPasswords {
			a.logger.Warn("the option oauth2 is never used, since it is for clients with a password, and no handler of this backend takes one; "+
				"add PLAIN to mechanisms, or take oauth2 away", zap.String("backend", name))
		}
		if before != nil && before.Backends[name] != nil {
			b.inherit(before.Backends[name])
		}
		for i, address := range b.addresses {
			if b.Upstreams[i].Drain {
				continue // it may be away
			}
			a.learning.done.Add(1)
			go a.learnOffers(ctx, b, address)
		}
	}
}

func (a *App) stopLearning() {
	if a.learning.cancel != nil {
		a.learning.cancel()
	}
	a.learning.done.Wait()
}

func (b *Backend) inherit(before *Backend) {
	for address, o := range b.offers {
		if old := before.offers[address]; old != nil {
			o.bits.CompareAndSwap(0, old.bits.Load())
		}
	}
}

// learnOffers asks an upstream for its mechanisms, once at least, until they are known, be it
// by a login.
func (a *App) learnOffers(ctx context.Context, b *Backend, address string) {
	defer a.learning.done.Done()
	defer glue.Recovered(a.logger, "asking an upstream for its mechanisms")
	fields := []zap.Field{zap.String("backend", b.name), zap.String("upstream", address)}
	o := b.offers[address]
	for tries := 0; tries == 0 || !o.known(); tries++ {
		if tries > 0 && !pause(ctx, learnAgain) {
			return
		}
		err := b.inquire(ctx, address)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && tries == 0:
			a.logger.Warn("this upstream cannot be asked which mechanisms it offers, and clients are offered only those that are known: see that it runs, can be reached from here, and is trusted as tls_trust_pool and tls_server_name say",
				append(fields, zap.Error(err))...)
		}
	}
	bits := o.bits.Load()
	missing := slices.DeleteFunc(slices.Clone(b.relayed), func(m string) bool { return bits&offerOf(m) != 0 })
	if len(missing) > 0 {
		a.logger.Warn("clients are not offered all that the option mechanisms names, since this upstream does not have it: "+
			"switch it on there, or take it away here", append(fields, zap.Strings("missing", missing))...)
	}
}

// inquire does what a login does, up to the login, by which what is offered is noted.
func (b *Backend) inquire(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(b.AuthTimeout))
	defer cancel()
	return imapauth.Ping(ctx, b.configs[address])
}

// pause waits, and says whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
