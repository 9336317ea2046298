package caddyimap

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

const (
	sessionsPath = "/imap/sessions"
	// listTimeout bounds how long a list may take to be read.
	listTimeout = time.Minute
	// kickedText is what clients are told whose session is ended by request.
	kickedText = "The administrator has ended this session."
)

var (
	errNoFilter   = errors.New("name the sessions to end with user, ip, backend or upstream, or say all=true")
	errAllAnd     = errors.New("all=true goes with no filter")
	errNoSession  = errors.New("there is no such session")
	errListMethod = errors.New("method not allowed; sessions are listed with GET and ended with DELETE")
)

// sessions lists what is live, and ends it.
func (api *adminAPI) sessions(w http.ResponseWriter, r *http.Request) error {
	id := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, sessionsPath), "/")
	switch {
	case r.Method == http.MethodDelete && id != "":
		list := live.List(func(e *sessions.Entry) bool { return e.ID == id })
		if len(list) == 0 {
			return apiError(http.StatusNotFound, errNoSession)
		}
		return api.kicked(w, list)
	case r.Method == http.MethodDelete, r.Method == http.MethodGet && id == "":
	case id != "":
		w.Header().Set("Allow", http.MethodDelete)
		return apiError(http.StatusMethodNotAllowed, errListMethod)
	default:
		w.Header().Set("Allow", http.MethodGet+", "+http.MethodDelete)
		return apiError(http.StatusMethodNotAllowed, errListMethod)
	}
	match, err := parseFilter(r.URL.RawQuery, r.Method == http.MethodDelete)
	if err != nil {
		return apiError(http.StatusBadRequest, err)
	}
	list := live.List(match)
	if r.Method == http.MethodDelete {
		return api.kicked(w, list)
	}
	return api.listSessions(w, list)
}

func (api *adminAPI) kicked(w http.ResponseWriter, list []*sessions.Entry) error {
	return writeJSON(w, map[string]int{"kicked": kick(list, kickedText)})
}

// filters make a condition of the value of a query parameter.
var filters = map[string]func(value string) (func(*sessions.Entry) bool, error){
	"user": func(value string) (func(*sessions.Entry) bool, error) {
		account := accounts()
		want := account(value)
		return func(e *sessions.Entry) bool { return e.User != "" && account(e.User) == want }, nil
	},
	"ip": func(value string) (func(*sessions.Entry) bool, error) {
		network, err := glue.ParseNetwork(value)
		if err != nil {
			return nil, fmt.Errorf("ip %q: %w", value, err)
		}
		networks := glue.Networks{network}
		return func(e *sessions.Entry) bool {
			return e.RemoteIP.IsValid() && networks.Contains(e.RemoteIP) || networks.Contains(addrOf(e.Remote))
		}, nil
	},
	"backend": func(value string) (func(*sessions.Entry) bool, error) {
		return func(e *sessions.Entry) bool { return e.Backend == value }, nil
	},
	"upstream": func(value string) (func(*sessions.Entry) bool, error) {
		return func(e *sessions.Entry) bool { return e.Upstream == value }, nil
	},
}

// accounts returns what all spellings of a name have in common.
func accounts() func(name string) string {
	if app := apps.newest.Load(); app != nil {
		return app.Guard.cfg.Domains.Account
	}
	return new(Guard).cfg.Domains.Account
}

// parseFilter reads the conditions of a request, all of which have to be met.
// Without any, all is meant, if no choice is needed, or if it is said.
func parseFilter(query string, choose bool) (func(*sessions.Entry) bool, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("reading the query: %w", err)
	}
	all := choose && slices.Equal(values["all"], []string{"true"})
	if all {
		delete(values, "all")
	}
	var conditions []func(*sessions.Entry) bool
	for name, given := range values {
		filter := filters[name]
		if filter == nil {
			return nil, fmt.Errorf("%s: unknown filter, or value; known are %s", name, strings.Join(slices.Sorted(maps.Keys(filters)), ", "))
		}
		if len(given) != 1 || given[0] == "" {
			return nil, fmt.Errorf("%s: needs one value", name)
		}
		condition, err := filter(given[0])
		if err != nil {
			return nil, err
		}
		conditions = append(conditions, condition)
	}
	switch {
	case all && len(conditions) > 0:
		return nil, errAllAnd
	case choose && !all && len(conditions) == 0:
		return nil, errNoFilter
	}
	return func(e *sessions.Entry) bool {
		for _, condition := range conditions {
			if !condition(e) {
				return false
			}
		}
		return true
	}, nil
}

func addrOf(addr net.Addr) netip.Addr {
	if a, ok := addr.(*net.TCPAddr); ok {
		return plain(a.AddrPort().Addr())
	}
	return netip.Addr{}
}

// shownSession is an entry as the API shows it.
type shownSession struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind"`
	Service  string    `json:"service,omitempty"`
	User     string    `json:"user,omitempty"`
	UserHash string    `json:"user_hash,omitempty"`
	Remote   string    `json:"remote"`
	RemoteIP string    `json:"remote_ip,omitempty"`
	Backend  string    `json:"backend"`
	Upstream string    `json:"upstream,omitempty"`
	Started  time.Time `json:"started"`
	State    string    `json:"state"`

	ClientTLS  *shownTLS `json:"client_tls,omitempty"`
	BackendTLS *shownTLS `json:"backend_tls,omitempty"`

	*shownRelay
	*shownAuth
}

// shownRelay is what only sessions of IMAP clients have.
type shownRelay struct {
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
	Commands int64 `json:"commands"`
}

// shownAuth is what only connections of mail servers have.
type shownAuth struct {
	PID      uint32 `json:"pid,omitempty"`
	Requests int64  `json:"requests"`
	InFlight int64  `json:"in_flight"`
}

type shownTLS struct {
	Version string `json:"version"`
	Cipher  string `json:"cipher"`
}

// The states of an entry.
const (
	stateIdle       = "idle"
	stateBusy       = "busy"
	stateCompressed = "compressed"
)

func show(e *sessions.Entry, app *App) *shownSession {
	a := e.Activity()
	s := &shownSession{
		ID: e.ID, Kind: string(e.Kind), Service: a.Service, Remote: e.Remote.String(), RemoteIP: addrText(e.RemoteIP),
		Backend: e.Backend, Upstream: e.Upstream, Started: e.Started.UTC(), State: stateBusy,
		ClientTLS: showTLS(e.ClientTLS), BackendTLS: showTLS(e.BackendTLS),
	}
	switch {
	case a.Opaque:
		s.State = stateCompressed
	case a.Idle:
		s.State = stateIdle
	}
	if e.Kind == sessions.Auth {
		s.shownAuth = &shownAuth{PID: a.PID, Requests: a.Commands, InFlight: a.InFlight}
		return s
	}
	s.Service = "imap"
	s.shownRelay = &shownRelay{BytesIn: a.BytesIn, BytesOut: a.BytesOut, Commands: a.Commands}
	s.User, s.UserHash = "?", hashName(e.User)
	if app != nil {
		s.User, s.UserHash = app.nameToShow(e.User, true)
	}
	return s
}

func showTLS(t sessions.TLS) *shownTLS {
	if t.Version == 0 {
		return nil
	}
	return &shownTLS{Version: caddytls.ProtocolName(t.Version), Cipher: tls.CipherSuiteName(t.Cipher)}
}

// listSessions writes one entry after the other, each as it is when its turn has
// come, so that the length of the list costs no memory.
func (api *adminAPI) listSessions(w http.ResponseWriter, list []*sessions.Entry) error {
	w.Header().Set("Content-Type", "application/json")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(listTimeout)) // where there is one
	app, buf := apps.newest.Load(), bufio.NewWriter(w)
	_, _ = buf.WriteString(`{"sessions":[`)
	for i, e := range list {
		if i > 0 {
			_ = buf.WriteByte(',')
		}
		b, err := json.Marshal(show(e, app))
		if err == nil {
			_, err = buf.Write(b)
		}
		if err != nil {
			return apiError(http.StatusInternalServerError, err)
		}
	}
	_, _ = buf.WriteString("]}\n") // an error stays, and is returned by Flush
	if err := buf.Flush(); err != nil {
		return apiError(http.StatusInternalServerError, err)
	}
	return nil
}
