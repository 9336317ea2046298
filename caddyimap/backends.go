package caddyimap

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/pool"
)

const backendsPath = "/imap/backends"

// What GET /imap/backends answers.
type (
	backendStatus struct {
		Name string `json:"name"`
		// Policy is empty if the configuration does not have the backend any more.
		Policy    string            `json:"lb_policy,omitempty"`
		Upstreams []*upstreamStatus `json:"upstreams"`
	}
	upstreamStatus struct {
		// Index is the upstream's place in the configuration, and nil if it has none.
		Index   *int   `json:"index,omitempty"`
		Address string `json:"address"`
		// Configured is false if the upstream is only here for the sessions that it
		// has.
		Configured bool             `json:"configured"`
		Drain      bool             `json:"drain"`
		DrainSince *time.Time       `json:"drain_since,omitempty"`
		Sessions   int              `json:"sessions"`
		Endpoints  []endpointStatus `json:"endpoints"`
	}
	endpointStatus struct {
		Address string `json:"address"`
		// Configured is false if the name no longer has the address.
		Configured bool      `json:"configured"`
		Up         bool      `json:"up"`
		Since      time.Time `json:"since"`
		Error      string    `json:"error,omitempty"`
		Fails      int       `json:"fails"`
		Sessions   int       `json:"sessions"`
	}
)

// backends shows what is known of the upstreams, and works without an app, too:
// sessions may be left of one.
func (api *adminAPI) backends(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		return apiError(http.StatusMethodNotAllowed, errMethod)
	}
	return writeJSON(w, map[string][]*backendStatus{"backends": backendStatuses(apps.newest.Load(), upstreams.Snapshot())})
}

// backendStatuses arranges what is known, which is sorted. Upstreams are in the order
// of the configuration, since commands to the admin API name them by their index in it.
// Those that are gone come last.
func backendStatuses(app *App, snapshot []pool.Status) []*backendStatus {
	list := []*backendStatus{}
	var b *backendStatus
	var u *upstreamStatus
	for _, s := range snapshot {
		if b == nil || b.Name != s.Pool {
			b, u = &backendStatus{Name: s.Pool}, nil
			if app != nil && app.Backends[s.Pool] != nil {
				b.Policy = app.Backends[s.Pool].LoadBalancing.Selection.Policy
			}
			list = append(list, b)
		}
		if u == nil || u.Address != s.Upstream {
			u = &upstreamStatus{Address: s.Upstream}
			b.Upstreams = append(b.Upstreams, u)
		}
		u.add(s)
	}
	if app == nil {
		return list
	}
	for _, b := range list {
		if configured := app.Backends[b.Name]; configured != nil {
			b.order(configured.addresses)
		}
	}
	return list
}

// order puts the upstreams in the order of these addresses.
func (b *backendStatus) order(addresses []string) {
	place := func(u *upstreamStatus) int {
		if u.Index == nil {
			return len(addresses)
		}
		return *u.Index
	}
	for _, u := range b.Upstreams {
		if i := slices.Index(addresses, u.Address); i >= 0 {
			u.Index = &i
		}
	}
	slices.SortStableFunc(b.Upstreams, func(u, v *upstreamStatus) int { return cmp.Compare(place(u), place(v)) })
}

func (u *upstreamStatus) add(s pool.Status) {
	e := endpointStatus{
		Address: s.Address, Configured: s.Configured, Up: s.Up, Since: s.Since.UTC(), Fails: s.Fails, Sessions: s.Sessions,
	}
	if s.Err != nil {
		e.Error = s.Err.Error()
	}
	u.Endpoints = append(u.Endpoints, e)
	u.Configured = u.Configured || s.Configured
	u.Sessions += s.Sessions
	if s.Draining {
		u.Drain = true
		if since := s.DrainingSince.UTC(); u.DrainSince == nil || since.Before(*u.DrainSince) {
			u.DrainSince = &since
		}
	}
}
