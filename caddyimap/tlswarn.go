package caddyimap

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// warnTLS tells the operator if caddy-l4's handler tls stands before the handler imap.
// It waits for a handshake for as long as a client likes, and we hear of the client only
// after that: neither our deadlines nor our limits hold.
func (a *App) warnTLS(ctx caddy.Context) {
	servers := layer4Servers(ctx)
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		if server := servers[name]; tlsBefore(server.Routes) {
			a.logger.Warn("a tls handler stands before the handler imap: clients that do not go on with its handshake stay for ever, and "+
				"max_connections does not count them; take it away, and set implicit_tls of imap",
				zap.String("server", name), zap.Strings("listen", server.Listen))
		}
	}
}

// layer4Server is what is looked at of a server of caddy-l4.
type layer4Server struct {
	Listen []string      `json:"listen"`
	Routes []layer4Route `json:"routes"`
}

type layer4Route struct {
	Handle []struct {
		Handler string        `json:"handler"`
		Routes  []layer4Route `json:"routes"`
	} `json:"handle"`
}

// layer4Servers returns the servers of the configuration. As in adminEndpoints, it is
// only looked at, and where it is not as in Caddy 2.11, nothing is said.
func layer4Servers(ctx caddy.Context) map[string]layer4Server {
	cfg := reflect.Indirect(reflect.ValueOf(ctx).FieldByName("cfg"))
	if !cfg.IsValid() || cfg.Type() != reflect.TypeFor[caddy.Config]() {
		return nil
	}
	raw := cfg.FieldByName("AppsRaw").MapIndex(reflect.ValueOf("layer4"))
	if !raw.IsValid() {
		return nil
	}
	var app struct {
		Servers map[string]layer4Server `json:"servers"`
	}
	if json.Unmarshal(raw.Bytes(), &app) != nil {
		return nil // layer4 itself tells what is wrong
	}
	return app.Servers
}

// tlsBefore says whether a handler tls stands before a handler imap.
func tlsBefore(routes []layer4Route) bool {
	found, _ := findTLS(routes, false)
	return found
}

// findTLS goes through routes in their order, with or without TLS that stands already,
// and says whether it stands behind them. Mostly what follows tls in its route serves
// the client to the end. If nothing does, the routes behind it do.
func findTLS(routes []layer4Route, stands bool) (found, after bool) {
	for _, route := range routes {
		within := stands
		for i, h := range route.Handle {
			switch h.Handler {
			case "tls":
				within = true
				stands = stands || i == len(route.Handle)-1
			case "imap":
				found = found || within
			case "subroute":
				inner, behind := findTLS(h.Routes, within)
				found, within = found || inner, within || behind
				stands = stands || behind && i == len(route.Handle)-1
			}
		}
	}
	return found, stands
}
