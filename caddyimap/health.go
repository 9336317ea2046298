package caddyimap

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/pool"
)

// LoadBalancing says how logins are spread over the upstreams of a backend.
type LoadBalancing struct {
	// In which order the upstreams are tried.
	Selection *Selection `json:"selection,omitempty"`
}

// Selection names a policy.
type Selection struct {
	// The policy, which puts the upstreams in order for each login. Those that are
	// down come last in any case.
	//
	// Policy | Begins with
	// -------|------------
	// `first` | The first of the configuration
	// `round_robin` | Each in turn
	// `least_conn` | The one with the fewest sessions, on this instance
	// `random` | Any
	// `client_ip_hash` | The same for a client's IPv4 address or IPv6 /64 network
	// `user_hash` | The same for a user, however the name is spelled
	//
	// Default: `first`.
	Policy string `json:"policy,omitempty"`
}

// HealthChecks says how it is noticed that an upstream is down.
type HealthChecks struct {
	// Checks without a login. There are none unless this is set; an empty object
	// is enough.
	Active *ActiveHealthChecks `json:"active,omitempty"`

	// What is learned from logins.
	Passive *PassiveHealthChecks `json:"passive,omitempty"`
}

// ActiveHealthChecks describes checks of each upstream: connection, TLS, greeting
// and capabilities must be such that a user could log in.
type ActiveHealthChecks struct {
	// The time from one check of an upstream to the next, 1 second at least.
	// Default: `30s`.
	Interval caddy.Duration `json:"interval,omitempty"`

	// How long a check may take. Default: `5s`.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How many checks in a row must fail to bring an upstream down. Default: `1`.
	Fall int `json:"fall,omitempty"`

	// How many checks in a row must succeed to bring it up again. Default: `1`.
	Rise int `json:"rise,omitempty"`
}

// PassiveHealthChecks describes how failures are counted that logins meet with
// before the upstream knows who wants to log in: it cannot be connected to, its
// TLS, greeting or capabilities are wrong or take more than a second, or it holds
// off everybody. What it says to somebody's name and password is not counted.
type PassiveHealthChecks struct {
	// How long failures are remembered, and how long an upstream is down that had
	// `max_fails` of them in such a time. Then one login tries it. Default: `30s`.
	FailDuration caddy.Duration `json:"fail_duration,omitempty"`

	// How many failures within `fail_duration` bring an upstream down. Default:
	// `1`.
	MaxFails int `json:"max_fails,omitempty"`
}

const (
	// defaultFailDuration is for upstreams nobody has said anything about.
	defaultFailDuration = 30 * time.Second
	// minCheckInterval keeps checks from becoming a load.
	minCheckInterval = time.Second
)

// provisionHealth puts in the defaults for what is not said, and checks the rest.
func (b *Backend) provisionHealth() error {
	if b.LoadBalancing == nil {
		b.LoadBalancing = new(LoadBalancing)
	}
	if b.LoadBalancing.Selection == nil {
		b.LoadBalancing.Selection = new(Selection)
	}
	policy, err := pool.ParsePolicy(b.LoadBalancing.Selection.Policy)
	if err != nil {
		return fmt.Errorf("lb_%w", err)
	}
	b.LoadBalancing.Selection.Policy = string(policy)
	if b.HealthChecks == nil {
		b.HealthChecks = new(HealthChecks)
	}
	if b.HealthChecks.Passive == nil {
		b.HealthChecks.Passive = new(PassiveHealthChecks)
	}
	passive := b.HealthChecks.Passive
	err = errors.Join(
		positive("fail_duration", &passive.FailDuration, defaultFailDuration),
		atLeastOne("max_fails", &passive.MaxFails, pool.DefaultMaxFails),
	)
	active := b.HealthChecks.Active
	if err != nil || active == nil {
		return err
	}
	if err := errors.Join(
		positive("health_interval", &active.Interval, pool.DefaultCheckInterval),
		positive("health_timeout", &active.Timeout, pool.DefaultCheckTimeout),
		atLeastOne("health_fall", &active.Fall, 1),
		atLeastOne("health_rise", &active.Rise, 1),
	); err != nil {
		return err
	}
	if d := time.Duration(active.Interval); d < minCheckInterval {
		return fmt.Errorf("health_interval %s: must be at least %s", d, minCheckInterval)
	}
	return nil
}

// positive puts in the default, or refuses what is below 0.
func positive(option string, field *caddy.Duration, preset time.Duration) error {
	if *field == 0 {
		*field = caddy.Duration(preset)
	}
	if *field < 0 {
		return fmt.Errorf("%s %s: must be more than 0", option, time.Duration(*field))
	}
	return nil
}

func atLeastOne(option string, field *int, preset int) error {
	if *field == 0 {
		*field = preset
	}
	if *field < 0 {
		return fmt.Errorf("%s %d: must be more than 0", option, *field)
	}
	return nil
}
