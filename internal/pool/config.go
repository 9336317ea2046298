package pool

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
)

const (
	// DefaultStagger is how long an upstream is waited for before the next one
	// is begun.
	DefaultStagger = time.Second
	// DefaultMaxFails is how many failures bring an upstream down.
	DefaultMaxFails = 1
	// DefaultCheckInterval is the time from one check to the next.
	DefaultCheckInterval = 30 * time.Second
	// DefaultCheckTimeout is how long a check may take.
	DefaultCheckTimeout = 5 * time.Second
	// DefaultLookupInterval is the time from one lookup of a name to the next.
	DefaultLookupInterval = 30 * time.Second
)

// Config describes a Pool. It is not changed once in use.
type Config struct {
	// Name tells this pool's upstreams from those of others: the same address
	// may be healthy in one backend and useless in another that has different
	// TLS settings. A later configuration's pool of the same name carries on.
	Name string
	// Upstreams are what is chosen from. Each address occurs once.
	Upstreams []Upstream
	// Policy decides about the order. Default: PolicyFirst.
	Policy Policy
	// Stagger is how long an upstream is waited for before Open begins the
	// next one. Default: DefaultStagger.
	Stagger time.Duration

	// FailDuration is how long failures are remembered, and how long an
	// upstream stays down that had MaxFails of them in such a time. 0 means
	// that failures are not counted.
	FailDuration time.Duration
	// MaxFails is the number of failures within FailDuration that bring an
	// upstream down. Default: DefaultMaxFails.
	MaxFails int
	// Check describes the active health checks. Without it there are none.
	Check *Check

	// LookupInterval is the time from one call of Upstream.Endpoints to the
	// next. Default: DefaultLookupInterval.
	LookupInterval time.Duration

	// OnChange is told of each upstream that goes down or comes up: in the
	// order in which that happens, each change once, one at a time for the
	// whole Table, and while no lock is held. It must not wait for anything.
	OnChange func(Change)
	// OnLookup is told of the endpoints of an upstream when they are others
	// than before, and of the error when a lookup fails after one that did not,
	// with the endpoints from before that are used on. None means that Address
	// itself is used.
	OnLookup func(upstream string, endpoints []string, err error)
	// OnDrained is told that a draining upstream's time is over, and how many
	// sessions are told to end.
	OnDrained func(upstream string, sessions int)
	// Logger is for panics of the functions above. Default: no log.
	Logger *zap.Logger
}

// Upstream is a server, or a name of several.
type Upstream struct {
	// Address names it, and is what to connect to.
	Address string
	// Drain keeps new logins away, and checks: what is being repaired is not
	// news when it goes down.
	Drain bool
	// DrainTimeout is how long sessions may stay at an upstream that drains,
	// from when it began to. 0 means until they end by themselves.
	DrainTimeout time.Duration
	// Endpoints looks up the addresses to use instead of Address, each of
	// which then has a health of its own. If there are none, Address itself is
	// used. After an error those from before are kept. Names makes such a
	// function. Nil means that Address is all there is.
	Endpoints func(context.Context) ([]string, error)
}

// Check describes how upstreams are checked that nobody logs in at.
type Check struct {
	// Probe reports what is wrong with an endpoint. It has to return soon when
	// its context is done.
	Probe func(context.Context, Endpoint) error
	// Interval is the time from one check of an upstream to the next. The
	// first is at once. Default: DefaultCheckInterval.
	Interval time.Duration
	// Timeout is how long a check may take. Default: DefaultCheckTimeout.
	Timeout time.Duration
	// Fall is the number of failed checks in a row that bring an upstream
	// down, Rise that of good ones that bring it up again. Default: 1.
	Fall, Rise int
}

// complete puts in the defaults.
func (cfg *Config) complete() error {
	if len(cfg.Upstreams) == 0 {
		return ErrNoUpstream
	}
	policy, err := ParsePolicy(string(cfg.Policy))
	if err != nil {
		return err
	}
	cfg.Policy = policy
	orDefault(&cfg.Stagger, DefaultStagger)
	orDefault(&cfg.MaxFails, DefaultMaxFails)
	orDefault(&cfg.LookupInterval, DefaultLookupInterval)
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Check == nil {
		return nil
	}
	check := *cfg.Check
	if check.Probe == nil {
		return errors.New("there is no function to check upstreams with")
	}
	orDefault(&check.Interval, DefaultCheckInterval)
	orDefault(&check.Timeout, DefaultCheckTimeout)
	orDefault(&check.Fall, 1)
	orDefault(&check.Rise, 1)
	cfg.Check = &check
	return nil
}

func orDefault[N int | time.Duration](value *N, preset N) {
	if *value <= 0 {
		*value = preset
	}
}
