package caddyimap

import (
	"context"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/pool"
)

// upstreams is what is known of the upstreams of all configurations. It belongs to
// the process: a reload changes neither who is down nor how many sessions there are.
var upstreams pool.Table

// lookupIP is the resolver for the names of upstreams.
var lookupIP pool.LookupFunc = net.DefaultResolver.LookupNetIP

// provisionPool makes the pool of the upstreams. It takes part in what is known of
// them only from when the configuration has started as a whole.
func (b *Backend) provisionPool(app *App) (err error) {
	cfg := pool.Config{
		Name:         b.name,
		Policy:       pool.Policy(b.LoadBalancing.Selection.Policy),
		FailDuration: time.Duration(b.HealthChecks.Passive.FailDuration),
		MaxFails:     b.HealthChecks.Passive.MaxFails,
		OnChange:     app.upstreamChanged,
		OnLookup:     func(upstream string, found []string, err error) { app.upstreamLookedUp(b.name, upstream, found, err) },
		OnDrained:    func(upstream string, sessions int) { app.upstreamDrained(b.name, upstream, sessions) },
		Logger:       app.logger,
	}
	if active := b.HealthChecks.Active; active != nil {
		cfg.Check = &pool.Check{
			Probe:    b.ping,
			Interval: time.Duration(active.Interval),
			Timeout:  time.Duration(active.Timeout),
			Fall:     active.Fall,
			Rise:     active.Rise,
		}
	}
	draining := 0
	for i, address := range b.addresses {
		u := b.Upstreams[i]
		if u.Drain {
			draining++
		}
		cfg.Upstreams = append(cfg.Upstreams, pool.Upstream{
			Address:      address,
			Drain:        u.Drain,
			DrainTimeout: time.Duration(u.DrainTimeout),
			Endpoints:    pool.Names(b.configs[address].Network, address, lookupIP),
		})
	}
	if draining == len(b.addresses) {
		app.logger.Warn("nobody can log in at this backend, because every upstream of it drains; add another one, or take drain away",
			zap.String("backend", b.name))
	}
	b.pool, err = upstreams.New(cfg)
	return err
}

// startPools has the app's pools watch the upstreams, and decide from now on what
// is known of them.
func (a *App) startPools() {
	for _, b := range a.Backends {
		b.pool.Start()
	}
}

// stopPools ends that, and waits for checks that are under way. What is known of
// upstreams that a newer app has as well is kept.
func (a *App) stopPools() {
	for _, b := range a.Backends {
		b.pool.Stop()
	}
}

// open logs a renamed attempt in. Without an auth_command the one given is used.
// The session is the upstream's until its End is called.
func (b *Backend) open(ctx context.Context, a *login.Attempt, command imapauth.AuthCommand, on *link) (session *login.Session, v login.Verdict) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(b.AuthTimeout))
	defer cancel()
	c, lease, v := b.linked(ctx, a, on)
	if c == nil {
		return nil, v
	}
	defer func() {
		if session == nil { // even after a panic
			lease.Release()
		}
	}()
	start := time.Now()
	session, v = b.logIn(ctx, c, a, command)
	since(b.measures().answer, start)
	learn(lease, v)
	if session != nil {
		session.End, session.Stay = lease.Release, lease.Stay()
	}
	return session, v
}

// check logs a renamed attempt in and out again. Without an auth_command the one given is
// used.
func (b *Backend) check(ctx context.Context, a *login.Attempt, command imapauth.AuthCommand, on *link) login.Verdict {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(b.AuthTimeout))
	defer cancel()
	c, lease, v := b.linked(ctx, a, on)
	if c == nil {
		return v
	}
	defer lease.Release()
	start := time.Now()
	v = c.Check(ctx, b.asDelegate(a), command)
	since(b.measures().answer, start)
	learn(lease, v)
	return v
}

// learn notes what a login says about its upstream. Failures count only as long as
// the upstream has not heard who comes: they are the same for all then, and nothing
// that a client has sent can bring them about. From a name on, whoever knows one
// user with a full quota, a mailbox that hangs or a server behind the server that
// is away could take the upstream from everybody, so that neither a refusal nor
// words like "Server Unavailable", nor a time-out or a lost connection count. If the
// upstream is really dead, the next login does not get that far, and it counts.
func learn(lease *pool.Lease, v login.Verdict) {
	if v.Everybody {
		lease.Failed(v.Err)
	}
}

// connect returns a connection that the attempt can be logged in on, or the verdict
// that there is none.
func (b *Backend) connect(ctx context.Context, a *login.Attempt) (*imapauth.Client, *pool.Lease, login.Verdict) {
	client := pool.Client{Addr: a.Remote, User: b.guard.Domains.Account(a.User)}
	start := time.Now()
	c, lease, err := pool.Open(ctx, b.pool, client, b.dialFor(a.Ends()), (*imapauth.Client).Close)
	since(b.measures().handshake, start)
	if err != nil {
		v := imapauth.Failure(err)
		v.Upstream = strings.Join(b.addresses, " ")
		return nil, nil, v
	}
	// All that counts as a failure could have happened by now. What comes is no
	// better proof, and may be late: a login that hangs says nothing about a server
	// that has died meanwhile.
	lease.Succeeded()
	return c, lease, login.Verdict{}
}

// dialFor returns how to connect to an upstream for a client; the zero Ends are
// nobody in particular.
func (b *Backend) dialFor(ends login.Ends) func(context.Context, pool.Endpoint) (*imapauth.Client, error) {
	return func(ctx context.Context, e pool.Endpoint) (*imapauth.Client, error) {
		return imapauth.Dial(ctx, b.config(e), ends)
	}
}

func (b *Backend) ping(ctx context.Context, e pool.Endpoint) error {
	return imapauth.Ping(ctx, b.config(e))
}

// config is what there is to know about an endpoint. One of several addresses of
// a name is verified by the name.
func (b *Backend) config(e pool.Endpoint) *imapauth.Config {
	cfg := b.configs[e.Upstream]
	if e.Address == e.Upstream {
		return cfg
	}
	one := *cfg
	one.DialAddress = e.Address
	return &one
}

// upstreamChanged tells of an upstream that has gone down or come up.
func (a *App) upstreamChanged(c pool.Change) {
	countHealthChange(c.Pool, c.Upstream, c.Up)
	fields := []zap.Field{zap.String("backend", c.Pool), zap.String("upstream", c.Upstream)}
	if c.Address != c.Upstream {
		fields = append(fields, zap.String("endpoint", c.Address))
	}
	switch {
	case c.Expired:
		a.logger.Info("upstream is taken to be up again, since its fail_duration is over and no login has tried it", fields...)
		return
	case c.Up:
		a.logger.Info("upstream is up", fields...)
		return
	}
	a.logger.Warn("upstream is down, and is tried after all others until it is up: see that it runs, can be reached from here, "+
		"and is trusted as tls_trust_pool and tls_server_name say", append(fields, zap.Error(c.Err))...)
}

// upstreamLookedUp tells of other addresses of a name, or that it cannot be looked
// up any more.
func (a *App) upstreamLookedUp(backend, upstream string, found []string, err error) {
	fields := []zap.Field{zap.String("backend", backend), zap.String("upstream", upstream)}
	switch {
	case err != nil && len(found) == 0:
		a.logger.Warn("the name of this upstream cannot be looked up: see that it is right, and that DNS works",
			append(fields, zap.Error(err))...)
		return
	case err != nil:
		a.logger.Warn("the name of this upstream cannot be looked up, and the addresses from before are used: see that DNS works",
			append(fields, zap.Error(err), zap.Strings("endpoints", found))...)
		return
	}
	a.logger.Info("upstream has other addresses", append(fields, zap.Strings("endpoints", found))...)
}

// upstreamDrained tells that what is left at an upstream has to go.
func (a *App) upstreamDrained(backend, upstream string, sessions int) {
	a.logger.Info("drain_timeout is over, and the sessions at this upstream are ended",
		zap.String("backend", backend), zap.String("upstream", upstream), zap.Int("sessions", sessions))
}
