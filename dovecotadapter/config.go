package dovecotadapter

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/mholt/caddy-l4/layer4"

	"github.com/caddy-imap/caddy-imap/caddyimap"
	"github.com/caddy-imap/caddy-imap/caddysasl"
	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

func warning(file, directive, text string) caddyconfig.Warning {
	return caddyconfig.Warning{File: file, Directive: directive, Message: text}
}

// config makes the configuration.
func (t *translation) config() *caddy.Config {
	version, _ := t.top.text("dovecot_config_version")
	if t.conf.Modern && version == "" {
		t.refuse(t.conf.Nodes[0], "the version is missing")
	}
	if hosts, n := t.top.words("listen"); n != nil && len(hosts) == 0 {
		t.refuse(n, "it cannot be empty; take it out to listen on all addresses")
	}
	app := &caddyimap.App{Certificates: t.certificates()}
	backend, identity := t.backend()
	app.Backends = map[string]*caddyimap.Backend{backendName: backend}
	app.Guard = t.guard()
	s := &servers{t: t, list: make(map[string]*layer4.Server)}
	mechanisms := t.mechanisms()
	t.imap(s, mechanisms)
	t.auth(s, mechanisms, identity)
	t.guardMail()
	if len(s.list) == 0 {
		t.warnings = append(t.warnings, warning(t.name, "protocols", "nothing is listened on: protocols has no imap, and service auth no listener with a port"))
	}
	// CADDY_ADMIN in the environment is the only way to say it beside dovecot.conf.
	if !strings.HasPrefix(caddy.DefaultAdminListen, "unix/") {
		t.warnings = append(t.warnings, warning(t.name, "admin",
			"every program of this machine can use Caddy's admin API at "+caddy.DefaultAdminListen+", move the backend and collect passwords; "+
				"where others have accounts, set CADDY_ADMIN=unix//run/caddy/admin.sock|0600 in Caddy's environment"))
	}
	var warnings []caddyconfig.Warning
	config := &caddy.Config{AppsRaw: caddy.ModuleMap{
		"imap":   caddyconfig.JSON(app, &warnings),
		"layer4": caddyconfig.JSON(&layer4.App{Servers: s.list}, &warnings),
	}}
	t.warnings = append(t.warnings, warnings...)
	return config
}

// mechanisms returns those to offer, or none for the default.
func (t *translation) mechanisms() (list []string) {
	words, n := t.top.words("auth_mechanisms")
	if n == nil {
		return nil
	}
	var missing, unknown []string
	for _, word := range words {
		switch word = strings.ToUpper(word); {
		case slices.Contains(login.Mechanisms, word):
			if !slices.Contains(list, word) {
				list = append(list, word)
			}
		case login.IsRelayed(word):
			missing = append(missing, word)
		default:
			unknown = append(unknown, word)
		}
	}
	switch {
	case len(list) == 0 && len(words) > 0:
		t.refuse(n, "none of these mechanisms can be carried over; add plain if users may log in with passwords")
	default:
		if len(missing) > 0 {
			t.warn(n, "%s: %s: only PLAIN and LOGIN are taken over; name others in the option mechanisms if the backend has them", NoEqual, strings.Join(missing, ", "))
		}
		if len(unknown) > 0 {
			t.warn(n, "%s: %s: there is no such mechanism here; users with certificates of their own (EXTERNAL) log in with client_certificate", NoEqual, strings.Join(unknown, ", "))
		}
	}
	if len(list) == 2 {
		return nil
	}
	return list
}

// guard carries over what slows guessing down, or nothing for the default.
func (t *translation) guard() *caddyimap.Guard {
	g := new(caddyimap.Guard)
	if n := t.top.get("auth_failure_delay"); n != nil {
		switch d := t.duration(n); {
		case d == 0:
			t.safe(n, "refusals are held back for 2 seconds")
		case time.Duration(d) > 10*time.Second:
			g.FailureDelay = caddy.Duration(10 * time.Second)
			t.warn(n, "refusals are held back for 10 seconds, which is the most")
		case time.Duration(d) != 2*time.Second:
			g.FailureDelay = d
		}
	}
	t.cache(g)
	if g.FailureDelay == 0 && g.PositiveCache == 0 {
		return nil
	}
	return g
}

// maxCache is the longest that an account that was disabled may go on sending.
const maxCache = 5 * time.Minute

// cache carries over the cache of right passwords.
func (t *translation) cache(g *caddyimap.Guard) {
	ttl := time.Hour
	at := t.top.get("auth_cache_ttl")
	if at != nil {
		ttl = time.Duration(t.duration(at))
	}
	size, n := t.top.text("auth_cache_size")
	switch {
	case n == nil || strings.Trim(size, "0 kMGTBiytes") == "" || ttl == 0:
		for _, n := range []*dovecotconf.Node{at, t.uncached} {
			if n != nil && ttl != 0 {
				t.leave(n, NoEffect, ": there is no cache without auth_cache_size")
			}
		}
		return
	case t.uncached != nil:
		for _, n := range []*dovecotconf.Node{n, at} {
			if n != nil {
				t.leave(n, NoEffect, ": %s:%d says that the passdb has no cache", t.uncached.File, t.uncached.Line)
			}
		}
		return
	}
	g.PositiveCache = caddy.Duration(ttl)
	if ttl > maxCache {
		g.PositiveCache = caddy.Duration(maxCache)
		if at == nil {
			at = n
		}
		t.safe(at, "a right password is believed for 5 minutes, and not for %s: an account that is disabled at the backend can send mail for as long", ttl)
	}
}

// imap adds the listeners for clients.
func (t *translation) imap(s *servers, mechanisms []string) {
	protocols, n := t.top.words("protocols")
	if n != nil && !slices.Contains(protocols, "imap") && !slices.Contains(protocols, "imaps") {
		t.warn(n, "IMAP is not among them, and so no IMAP is served")
		return
	}
	for _, name := range protocols {
		if name != "imap" && name != "imaps" {
			t.warn(n, "%s: %s is not served by Caddy; leave it to another server", NoEqual, name)
		}
	}
	h := caddyimap.Handler{Backend: backendName, Mechanisms: mechanisms}
	t.plaintext()
	t.banner(&h)
	t.trusted(&h)
	if policy := t.policy(); policy != nil {
		h.ConnectionPolicies = caddytls.ConnectionPolicies{policy}
	}
	for _, l := range t.imapListeners(t.hasTLS()) {
		h := h
		h.ImplicitTLS = l.implicit
		match, handlers := t.balancer(l)
		handlers = append(handlers, caddyconfig.JSONModuleObject(&h, "handler", "imap", nil))
		if addresses := l.addresses(); len(addresses) > 0 {
			s.add(addresses, match, handlers...)
		}
	}
}

// hasTLS carries over the setting ssl, without which there would be no TLS.
func (t *translation) hasTLS() bool {
	value, n := t.top.text("ssl", "ssl_server")
	if n == nil || value != "no" {
		return true
	}
	t.safe(n, "passwords are taken over TLS only, which clients begin with STARTTLS; certificates are needed for that")
	return false
}

// plaintext sees to it that passwords need TLS.
func (t *translation) plaintext() {
	disabled, n := t.top.yes(true, "disable_plaintext_auth")
	if !disabled {
		t.safe(n, "passwords are taken over TLS only; insecure_auth in a Caddyfile would change that")
	}
	if allowed, n := t.top.yes(false, "auth_allow_cleartext"); allowed {
		t.safe(n, "passwords are taken over TLS only; insecure_auth in a Caddyfile would change that")
	}
}

// banner carries the greeting over.
func (t *translation) banner(h *caddyimap.Handler) {
	value, n := t.top.text("login_greeting")
	value = strings.TrimSpace(value)
	if n == nil || value == "" {
		return
	}
	name, ready := strings.CutSuffix(value, " ready.")
	switch {
	case len(name) > 200 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' || r == '{' || r == '}' }):
		t.drop(n, "the greeting can have at most 200 printable ASCII characters, and no braces")
		return
	case !ready:
		t.warn(n, "the greeting will be %q", name+" ready.")
	}
	h.Banner = name
}

// trusted carries over who may say where clients come from.
func (t *translation) trusted(h *caddyimap.Handler) {
	words, n := t.top.words("login_trusted_networks")
	if n == nil || len(words) == 0 {
		return
	}
	networks, bad := parseNetworks(words)
	if len(bad) > 0 {
		t.warn(n, "%s: %s: neither a network nor an address", NoEqual, strings.Join(bad, ", "))
	}
	if everybody(networks) {
		t.safe(n, "everybody would be believed who names another address, and so could guess passwords without ever being banned; nobody is")
		return
	}
	h.TrustedClients = texts(networks)
	t.safe(n, "they are believed when they name the address of their own client, as with Dovecot, but passwords are taken over TLS only")
}

// balancer returns the handler for a load balancer before the listener, and whom to
// serve there.
func (t *translation) balancer(l *listener) (match caddy.ModuleMap, handlers []json.RawMessage) {
	if !l.isProxied() {
		return nil, nil
	}
	words, n := t.top.words("haproxy_trusted_networks")
	networks, bad := parseNetworks(words)
	if len(bad) > 0 || len(networks) == 0 {
		if n == nil {
			n = l.nodes[0]
		}
		t.refuse(n, "a listener has haproxy = yes, and haproxy_trusted_networks must name the addresses of the load balancers, which alone are believed")
		return nil, nil
	}
	if everybody(networks) {
		t.warn(n, "everybody who reaches the port is believed when he names another address; name those of the load balancers alone")
	}
	timeout := caddy.Duration(3 * time.Second)
	if n := t.top.get("haproxy_timeout"); n != nil {
		if timeout = t.duration(n); timeout == 0 {
			timeout = caddy.Duration(3 * time.Second)
			t.safe(n, "a load balancer has 3 seconds to say where a client comes from, or connections could pile up")
		}
	}
	match = caddy.ModuleMap{"remote_ip": caddyconfig.JSON(map[string]any{"ranges": texts(networks)}, nil)}
	return match, []json.RawMessage{caddyconfig.JSON(map[string]any{
		"handler": "proxy_protocol", "allow": texts(networks), "fallback_policy": "REJECT", "timeout": timeout,
	}, nil)}
}

// auth adds the listeners for mail servers.
func (t *translation) auth(s *servers, mechanisms []string, identity string) {
	service := t.services["auth"]
	if service == nil {
		return
	}
	for _, l := range service.listeners {
		h := caddysasl.DovecotAuth{Backend: backendName, Mechanisms: mechanisms, Identity: identity}
		var listen []string
		switch {
		case !l.unix:
			if l.port, _ = l.text("port"); l.port == "" || l.port == "0" {
				t.warn(l.nodes[0], "%s: it has no port", NoEffect)
				continue
			}
			if !isPort(l.port) {
				t.refuse(l.get("port"), "%q is no port", l.port)
			}
			listen, h.Allow = l.authAddresses()
		case socketKind(l.name) == otherSocket:
			for _, n := range l.nodes {
				t.leave(n, NotNeeded, ": Dovecot's own processes use this socket, or those that deliver mail to it; "+
					"of mail servers that check passwords only chasquid needs one of its kind, for which there is dovecot_userdb")
			}
			continue
		default:
			address := l.unixAddress()
			if address == "" {
				continue
			}
			listen = []string{address}
		}
		if l.unix && socketKind(l.name) == userdbSocket {
			s.add(listen, nil, caddyconfig.JSONModuleObject(&caddysasl.DovecotUserDB{}, "handler", "dovecot_userdb", nil))
			continue
		}
		s.add(listen, nil, caddyconfig.JSONModuleObject(&h, "handler", "dovecot_auth", nil))
		t.asked = true
	}
}

// parseCount reads a number.
func parseCount(value string) (int, bool) {
	n, err := strconv.ParseUint(value, 10, 31)
	return int(n), err == nil
}
