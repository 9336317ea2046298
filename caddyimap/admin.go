package caddyimap

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/guard"
)

func init() {
	caddy.RegisterModule(new(adminAPI))
}

// adminAPI adds to Caddy's admin API:
//
//	GET    /imap/backends                 how the upstreams are, and how many sessions each has
//	GET    /imap/guard                    what the guard holds, on this instance
//	DELETE /imap/guard/accounts/{user}    forgets the failures of an account, by name or user_hash
//	DELETE /imap/guard/sources/{ip}       forgets the failures of a source
//	GET    /imap/sessions                 what is live, on this instance
//	DELETE /imap/sessions                 ends what the filters say
//	DELETE /imap/sessions/{id}            ends one
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (*adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.imap",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

const guardPath = "/imap/guard"

// Routes implements caddy.AdminRouter.
func (api *adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: backendsPath, Handler: caddy.AdminHandlerFunc(api.backends)},
		{Pattern: guardPath, Handler: caddy.AdminHandlerFunc(api.guard)},
		{Pattern: guardPath + "/", Handler: caddy.AdminHandlerFunc(api.guard)},
		{Pattern: sessionsPath, Handler: caddy.AdminHandlerFunc(api.sessions)},
		{Pattern: sessionsPath + "/", Handler: caddy.AdminHandlerFunc(api.sessions)},
	}
}

var (
	errMethod  = errors.New("method not allowed")
	errNoGuard = errors.New("there is no guard: the configuration has no imap app, or the guard is off")
	errNoPath  = errors.New("unknown path; known are " + guardPath + ", " + guardPath + "/accounts/{user} and " + guardPath + "/sources/{ip}")
)

func apiError(status int, err error) error { return caddy.APIError{HTTPStatus: status, Err: err} }

func (api *adminAPI) guard(w http.ResponseWriter, r *http.Request) error {
	app := apps.newest.Load()
	if app == nil || app.Guard.Off {
		return apiError(http.StatusNotFound, errNoGuard)
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, guardPath), "/")
	kind, name, _ := strings.Cut(rest, "/")
	want := http.MethodDelete
	switch {
	case rest == "":
		want = http.MethodGet
	case name == "" || kind != "accounts" && kind != "sources":
		return apiError(http.StatusNotFound, errNoPath)
	}
	if r.Method != want {
		w.Header().Set("Allow", want)
		return apiError(http.StatusMethodNotAllowed, errMethod)
	}
	switch kind {
	case "accounts":
		lifted, err := app.liftAccount(r.Context(), app.heldName(name))
		return api.lifted(w, lifted, err)
	case "sources":
		addr, err := netip.ParseAddr(name)
		if err != nil {
			return apiError(http.StatusBadRequest, errors.New("the path does not end in an IP address"))
		}
		lifted, err := app.Guard.current().LiftSource(r.Context(), plain(addr))
		return api.lifted(w, lifted, err)
	default:
		return api.list(w, app)
	}
}

// heldAccount is an account as the API shows it. Where its name may not be shown,
// there is the hash that the log has.
type heldAccount struct {
	guard.AccountHold
	UserHash string `json:"user_hash,omitempty"`
}

// heldName returns the name of the account that list shows by this hash, or what it
// was given: a name.
func (a *App) heldName(nameOrHash string) string {
	accounts, _ := a.Guard.current().Holds()
	for _, hold := range accounts {
		if _, hash := a.nameToShow(hold.User, false); hash != "" && hash == nameOrHash {
			return hold.User
		}
	}
	return nameOrHash
}

// list shows the holds.
func (api *adminAPI) list(w http.ResponseWriter, app *App) error {
	answer := struct {
		Accounts []heldAccount      `json:"accounts"`
		Sources  []guard.SourceHold `json:"sources"`
	}{Accounts: []heldAccount{}, Sources: []guard.SourceHold{}}
	accounts, sources := app.Guard.current().Holds()
	for _, hold := range accounts {
		held := heldAccount{AccountHold: hold}
		held.User, held.UserHash = app.nameToShow(hold.User, false)
		answer.Accounts = append(answer.Accounts, held)
	}
	answer.Sources = append(answer.Sources, sources...)
	return writeJSON(w, answer)
}

func (api *adminAPI) lifted(w http.ResponseWriter, lifted bool, err error) error {
	if err != nil {
		return apiError(http.StatusBadGateway, err)
	}
	return writeJSON(w, map[string]bool{"lifted": lifted})
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return apiError(http.StatusInternalServerError, err)
	}
	return nil
}

// Interface guard.
var _ caddy.AdminRouter = (*adminAPI)(nil)
