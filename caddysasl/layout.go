package caddysasl

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/mholt/caddy-l4/layer4"

	"github.com/caddy-imap/caddy-imap/keptnet"
)

// layout says which handlers a configuration has on which listeners.
//
// A handler is not told where it listens, and layer4 keeps to itself what its
// routes have become. So what each listener's handlers will be is read from the
// configuration while it is being provisioned, and they are known again by their
// options: two with the same options are as good as one.
type layout struct {
	places []place
	// byOptions are the handlers that there are so far.
	byOptions map[string]*DovecotAuth
	// users counts them.
	users int
}

// place is the addresses of one server, and the options of the handlers there.
type place struct {
	addrs   []caddy.NetworkAddress
	options []string
}

// layouts are those of all configurations that are not over.
var layouts = layoutTable{byApp: make(map[*layer4.App]*layout)}

type layoutTable struct {
	mu    sync.Mutex
	byApp map[*layer4.App]*layout
}

// optionsOf returns the handler's options, in a form that is the same for all
// handlers which have the same.
func optionsOf(h *DovecotAuth) string {
	b, err := json.Marshal(h)
	if err != nil {
		return "" // there is nothing in it that could not be
	}
	return string(b)
}

// join notes a handler of an app that is being provisioned. When the first one of
// an app comes, no route with such a handler has forgotten its configuration yet.
func (t *layoutTable) join(app *layer4.App, h *DovecotAuth) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.byApp[app]
	if l == nil {
		l = &layout{places: readPlaces(app), byOptions: make(map[string]*DovecotAuth)}
		t.byApp[app] = l
	}
	l.byOptions[h.options] = h
	l.users++
	h.app, h.layout = app, l
}

// leave forgets a handler whose configuration is over.
func (t *layoutTable) leave(app *layer4.App) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.byApp[app]; l != nil {
		if l.users--; l.users == 0 {
			delete(t.byApp, app)
		}
	}
}

// at returns the handlers that the configuration has on the listener of a local
// address, of those with the same options one.
func (t *layoutTable) at(app *layer4.App, local net.Addr) (handlers []*DovecotAuth) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.byApp[app]
	if l == nil {
		return nil
	}
	for _, options := range l.optionsAt(local) {
		if h := l.byOptions[options]; h != nil {
			handlers = append(handlers, h)
		}
	}
	return handlers
}

// optionsAt returns the options that a connection to the local address may be served
// with, each once.
func (l *layout) optionsAt(local net.Addr) (all []string) {
	for _, p := range l.places {
		if slices.ContainsFunc(p.addrs, func(a caddy.NetworkAddress) bool { return listensAt(a, local) }) {
			all = append(all, p.options...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func readPlaces(app *layer4.App) (places []place) {
	repl := caddy.NewReplacer()
	for _, srv := range app.Servers {
		var p place
		for _, text := range srv.Listen {
			if addr, err := caddy.ParseNetworkAddress(repl.ReplaceAll(text, "")); err == nil { // else it will not start
				p.addrs = append(p.addrs, addr)
			}
		}
		for _, route := range srv.Routes {
			for _, raw := range route.HandlersRaw {
				p.options = appendOptions(p.options, raw)
			}
		}
		places = append(places, p)
	}
	return places
}

// appendOptions finds the handlers in a piece of configuration, such as a route
// within a route.
func appendOptions(found []string, raw json.RawMessage) []string {
	var object map[string]json.RawMessage
	var list []json.RawMessage
	switch {
	case json.Unmarshal(raw, &object) == nil:
		if string(object["handler"]) == `"dovecot_auth"` {
			h := new(DovecotAuth)
			if json.Unmarshal(raw, h) == nil {
				found = append(found, optionsOf(h))
			}
			return found
		}
		for _, value := range object {
			found = appendOptions(found, value)
		}
	case json.Unmarshal(raw, &list) == nil:
		for _, value := range list {
			found = appendOptions(found, value)
		}
	}
	return found
}

// listensAt says whether a connection with that local address may have come to a
// listener. Where it cannot be told, it may.
func listensAt(listener caddy.NetworkAddress, local net.Addr) bool {
	listener, err := keptnet.Plain(listener)
	if err != nil {
		return false // it will not start
	}
	if listener.IsFdNetwork() {
		return true
	}
	switch local := local.(type) {
	case *net.UnixAddr:
		path, _, _ := strings.Cut(listener.Host, "|")
		return listener.IsUnixNetwork() && path == local.Name
	case *net.TCPAddr:
		if listener.IsUnixNetwork() || uint(local.Port) < listener.StartPort || uint(local.Port) > listener.EndPort {
			return false
		}
		ip, err := netip.ParseAddr(listener.Host)
		if err != nil || ip.IsUnspecified() {
			return true // a name, or all addresses
		}
		return ip.Unmap().WithZone("") == local.AddrPort().Addr().Unmap().WithZone("")
	}
	return true
}
