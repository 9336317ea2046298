package dovecotadapter

import (
	"encoding/json"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/mholt/caddy-l4/layer4"

	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
)

// service is a service { } with what it listens on.
type service struct {
	settings
	listeners []*listener
}

// listener is an inet_listener or unix_listener. Blocks with the same name are one.
type listener struct {
	settings
	unix  bool
	name  string
	nodes []*dovecotconf.Node
	// implicit says that TLS begins at once unless the listener says otherwise, and
	// port is the default one.
	implicit bool
	port     string
}

func (t *translation) addService(n *dovecotconf.Node) {
	t.mark(n, Carried)
	s := t.services[n.Name]
	if s == nil {
		s = &service{settings: settings{t: t}}
		t.services[n.Name] = s
	}
	for _, in := range n.Nodes {
		kind := strings.TrimPrefix(in.Key, "service_")
		if !in.Block || kind != "inet_listener" && kind != "unix_listener" {
			s.add(kind, in, 0)
			continue
		}
		t.mark(in, Carried)
		var l *listener
		for _, other := range s.listeners {
			if in.Name != "" && other.name == in.Name && other.unix == (kind == "unix_listener") {
				l = other
			}
		}
		if l == nil {
			l = &listener{settings: settings{t: t}, unix: kind == "unix_listener", name: in.Name}
			s.listeners = append(s.listeners, l)
		}
		l.nodes = append(l.nodes, in)
		for _, line := range in.Nodes {
			l.add(strings.TrimPrefix(line.Key, kind+"_"), line, 0)
		}
	}
}

// servers collects those of layer4.
type servers struct {
	t    *translation
	list map[string]*layer4.Server
}

// add adds a server whose one route has the handlers, for clients that match.
func (s *servers) add(listen []string, match caddy.ModuleMap, handlers ...json.RawMessage) {
	route := &layer4.Route{HandlersRaw: handlers}
	if match != nil {
		route.MatcherSetsRaw = []caddy.ModuleMap{match}
	}
	s.list["srv"+strconv.Itoa(len(s.list))] = &layer4.Server{Listen: listen, Routes: layer4.RouteList{route}}
}

// imapListeners returns those for clients: the usual two, as the file changes them,
// and further ones.
func (t *translation) imapListeners(withTLS bool) (list []*listener) {
	list = []*listener{
		{settings: settings{t: t}, name: "imap", port: "143"},
		{settings: settings{t: t}, name: "imaps", port: "993", implicit: true},
	}
	if s := t.services["imap-login"]; s != nil {
		for _, l := range s.listeners {
			switch i := slices.IndexFunc(list, func(o *listener) bool { return o.name == l.name && !l.unix }); {
			case l.unix:
				for _, n := range l.nodes {
					t.drop(n, "clients connect over a network; Dovecot's processes use this socket among themselves")
				}
			case l.name != "" && i >= 0:
				l.port, l.implicit = list[i].port, list[i].implicit
				list[i] = l
			default:
				list = append(list, l)
			}
		}
	}
	return slices.DeleteFunc(list, func(l *listener) bool {
		if port, n := l.text("port"); n != nil {
			l.port = port
			if port != "0" && !isPort(port) {
				t.refuse(n, "%q is no port", port)
			}
		}
		if implicit, n := l.yes(l.implicit, "ssl"); n != nil {
			l.implicit = implicit
		}
		return l.port == "" || l.port == "0" || l.implicit && !withTLS
	})
}

// addresses returns where the listener listens, in Caddy's words.
func (l *listener) addresses() []string {
	hosts, n := l.words("address", "listen")
	if len(hosts) == 0 {
		hosts, n = l.t.top.words("listen")
	}
	for i, host := range hosts {
		if hosts[i] = strings.Trim(host, "[]"); !isWord(hosts[i]) || strings.Contains(host, "/") {
			l.t.refuse(n, "%q is no address", host)
			return nil
		}
	}
	all4, all6 := slices.Contains(hosts, "*") || slices.Contains(hosts, "0.0.0.0"), slices.Contains(hosts, "::")
	switch {
	case len(hosts) == 0 || all4 && all6:
		return []string{"kept/:" + l.port}
	case all4:
		return []string{"kept4/:" + l.port}
	case all6:
		return []string{"kept6/:" + l.port}
	}
	for i, host := range hosts {
		hosts[i] = "kept/" + net.JoinHostPort(host, l.port)
	}
	return hosts
}

// isProxied reports whether a load balancer stands before the listener.
func (l *listener) isProxied() bool {
	proxied, _ := l.yes(false, "haproxy")
	return proxied
}

// authAddresses returns where mail servers connect that check passwords, and who may
// if it is not only this machine's own programs. Everybody else could guess
// passwords there.
func (l *listener) authAddresses() (listen, allow []string) {
	hosts, n := l.words("address", "listen")
	at := l.nodes[len(l.nodes)-1]
	own := len(hosts) > 0
	if own {
		at = n
	} else {
		hosts, _ = l.t.top.words("listen")
	}
	var open []string
	for _, host := range hosts {
		ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
		ip = ip.Unmap()
		switch {
		case host == "localhost" || err == nil && ip.IsLoopback():
			listen = append(listen, "kept/"+net.JoinHostPort(strings.Trim(host, "[]"), l.port))
		case own && err == nil && !ip.IsUnspecified():
			// One of this machine's own addresses, which programs on it may use.
			listen = append(listen, "kept/"+net.JoinHostPort(ip.String(), l.port))
			allow = append(allow, ip.String())
		default:
			open = append(open, host)
		}
	}
	if len(listen) == 0 {
		listen = []string{"kept/127.0.0.1:" + l.port}
		open = append(open, "")
	}
	if len(open) > 0 {
		l.t.safe(at, "Dovecot lets every machine that reaches port %s try passwords; only programs of this one can connect now, at 127.0.0.1. "+
			"For a mail server on another machine, address = here, and the option allow of dovecot_auth in a Caddyfile", l.port)
	}
	if len(allow) > 0 {
		l.t.safe(at, "only programs of this machine may connect, by 127.0.0.1 or %s; "+
			"for a mail server on another one, name it with the option allow of dovecot_auth, in a Caddyfile", strings.Join(allow, ", "))
		allow = append([]string{"127.0.0.0/8", "::1/128"}, allow...)
	}
	return listen, allow
}

// The kinds of unix sockets of service auth, which Dovecot tells by the ends of their names.
const (
	clientSocket = iota
	userdbSocket
	otherSocket
)

func socketKind(name string) int {
	base := path.Base(name)
	switch {
	case base == "auth-userdb" && !strings.HasPrefix(name, "/"):
		return otherSocket // the one of Dovecot's own processes
	case strings.HasSuffix(base, "-userdb"):
		return userdbSocket
	case strings.HasSuffix(base, "-master") || strings.HasSuffix(base, "-login") || strings.HasSuffix(base, "-worker") ||
		base == "login" || base == "tokenlogin":
		return otherSocket
	}
	return clientSocket
}

// unixAddress returns the address of a unix listener with its mode, or "" if it is off.
func (l *listener) unixAddress() string {
	mode, off := l.mode()
	if off {
		return ""
	}
	file := l.name
	if value, n := l.text("path"); n != nil {
		file = value
	}
	at := l.nodes[0]
	base, _ := l.t.top.text("base_dir")
	if !strings.HasPrefix(file, "/") {
		if base == "" {
			base = "/run/dovecot"
		}
		file = path.Join(base, file)
		l.t.warn(at, "the socket will be %s; its directory must be there, and the user that Caddy runs as must be able to write to it", file)
	}
	if !isWord(file) || strings.ContainsAny(file, ":|") {
		l.t.refuse(at, "the path of the socket may have no space, brace, colon or bar in it")
	}
	if dir := path.Dir(file); path.Base(dir) == "private" {
		l.t.warn(at, "Caddy's user cannot write to %s, which is Postfix's own: use %s/caddy/auth.sock, and change smtpd_sasl_path to caddy/auth.sock; docs/postfix.md shows how",
			dir, path.Dir(dir))
	}
	for _, key := range []string{"user", "group"} {
		if value, n := l.text(key); value != "" {
			l.t.drop(n, "the socket belongs to the user that Caddy runs as. For another %s let the directory have it, with the mode 2750: docs/postfix.md shows how", key)
		}
	}
	return "kept/unix/" + file + "|" + mode
}

// mode returns that of the socket, or that the listener is off.
func (l *listener) mode() (mode string, off bool) {
	value, n := l.text("mode")
	if n == nil {
		return "0600", false
	}
	bits, err := strconv.ParseUint(value, 8, 32)
	switch {
	case err != nil || bits > 0o777:
		l.t.refuse(n, "the mode must be one such as 0660")
	case bits == 0:
		for _, block := range l.nodes {
			l.t.leave(block, NoEffect, ": the listener is off, since its mode is 0")
		}
		return "", true
	case bits&0o002 != 0:
		l.t.warn(n, "every program that can enter the directory can try passwords; 0660 and a directory with the group of the mail server are better")
	}
	return "0" + strconv.FormatUint(bits, 8), false
}
