package imapcmd

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/doctor"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// listeners are those of a configuration.
type listeners struct {
	fronts []doctor.Front
	auths  []doctor.Auth
}

// readListeners finds the handlers of ours, and where they listen. It reads the
// configuration before it is set up, since layer4 shows neither its listeners nor its
// handlers. What is wrong with it is found out when it is set up.
func readListeners(layer4 json.RawMessage) (l listeners) {
	var app struct {
		Servers map[string]struct {
			Listen []string `json:"listen"`
			Routes []route  `json:"routes"`
		} `json:"servers"`
	}
	if json.Unmarshal(layer4, &app) != nil {
		return l
	}
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		srv := app.Servers[name]
		for _, listen := range srv.Listen {
			for _, r := range srv.Routes {
				l.walk(listen, r, way{})
			}
		}
	}
	return l
}

// route is as in layer4.
type route struct {
	Match  []json.RawMessage `json:"match"`
	Handle []json.RawMessage `json:"handle"`
}

// way is what comes before a handler.
type way struct {
	tls, matched, clientAuth bool
	proxy                    *doctor.Proxied
}

// handler is what is of interest in the handlers of layer4.
type handler struct {
	Handler     string   `json:"handler"`
	Backend     string   `json:"backend"`
	ImplicitTLS bool     `json:"implicit_tls"`
	Delegates   bool     `json:"allow_delegates"`
	Mechanisms  []string `json:"mechanisms"`
	Routes      []route  `json:"routes"`
	Policies    []struct {
		ClientAuth json.RawMessage `json:"client_authentication"`
	} `json:"connection_policies"`
	Allow    []string `json:"allow"`
	Deny     []string `json:"deny"`
	Fallback string   `json:"fallback_policy"`
}

// clientAuth says whether clients may have to show certificates.
func (h *handler) clientAuth() bool {
	for _, p := range h.Policies {
		if len(p.ClientAuth) > 0 {
			return true
		}
	}
	return false
}

// relayed are the mechanisms that are passed on to the backend.
func (h *handler) relayed() (all []string) {
	for _, m := range h.Mechanisms {
		if m = strings.ToUpper(m); login.IsRelayed(m) {
			all = append(all, m)
		}
	}
	return all
}

// proxied says from whom the handler proxy_protocol takes a header.
func (h *handler) proxied(repl *caddy.Replacer) *doctor.Proxied {
	networks := func(texts []string) (all []netip.Prefix) {
		for _, text := range texts {
			if p, err := netip.ParsePrefix(repl.ReplaceAll(text, "")); err == nil {
				all = append(all, p)
			}
		}
		return all
	}
	others := !strings.EqualFold(h.Fallback, "reject") && !strings.EqualFold(h.Fallback, "skip")
	return &doctor.Proxied{Allow: networks(h.Allow), Deny: networks(h.Deny), Others: others}
}

// walk finds the handlers of a route, in the order in which a connection comes to them,
// and those of routes within it.
func (l *listeners) walk(listen string, r route, w way) {
	repl := caddy.NewReplacer()
	w.matched = w.matched || len(r.Match) > 0
	for _, raw := range r.Handle {
		var h handler
		if json.Unmarshal(raw, &h) != nil {
			continue
		}
		backend := repl.ReplaceAll(h.Backend, "")
		switch h.Handler {
		case "tls":
			w.tls, w.clientAuth = true, w.clientAuth || h.clientAuth()
		case "proxy_protocol":
			w.proxy = h.proxied(repl)
		case "imap":
			for _, at := range dialable(repl.ReplaceAll(listen, "")) {
				l.addFront(doctor.Front{Address: at.shown, Backend: backend, Network: at.network, Dial: at.address,
					Implicit: h.ImplicitTLS || w.tls, Proxy: w.proxy, Matched: w.matched, ClientAuth: w.clientAuth || h.clientAuth(), Relayed: h.relayed()})
			}
		case "dovecot_auth":
			for _, at := range dialable(repl.ReplaceAll(listen, "")) {
				l.addAuth(doctor.Auth{Address: at.shown, Backend: backend, Network: at.network, Dial: at.address,
					Delegates: h.Delegates, Matched: w.matched})
			}
		}
		for _, inner := range h.Routes {
			l.walk(listen, inner, w)
		}
	}
}

// addFront notes a listener. Of several with one address and backend, the first counts
// that no matcher stands before.
func (l *listeners) addFront(front doctor.Front) {
	i := slices.IndexFunc(l.fronts, func(other doctor.Front) bool { return other.Address == front.Address && other.Backend == front.Backend })
	switch {
	case i < 0:
		l.fronts = append(l.fronts, front)
	case l.fronts[i].Matched && !front.Matched:
		l.fronts[i] = front
	}
}

func (l *listeners) addAuth(auth doctor.Auth) {
	i := slices.IndexFunc(l.auths, func(other doctor.Auth) bool { return other.Address == auth.Address && other.Backend == auth.Backend })
	switch {
	case i < 0:
		l.auths = append(l.auths, auth)
	case l.auths[i].Matched && !auth.Matched:
		l.auths[i] = auth
	}
}
