package dovecotadapter

import (
	"net"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-imap/caddy-imap/caddyimap"
	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
	"github.com/caddy-imap/caddy-imap/internal/imapext"
)

// backendName is what the one backend is called.
const backendName = "default"

// backend makes the backend. It is that of the first passdb that hands logins on, or of
// imapc.
func (t *translation) backend() (b *caddyimap.Backend, identity string) {
	storage := t.imapc(&t.top)
	storage.how = "imapc_ssl = starttls"
	names := &naming{t: t}
	var s *server
	var others []*passdb
	proxied, asked := false, false
	for i, p := range t.passdbs {
		p.read()
		if !p.guards(i == len(t.passdbs)-1) {
			continue
		}
		switch master, _ := p.yes(false, "master"); {
		case master:
			p.drop("nobody can log in for another user here")
			continue
		case p.isProxy():
			names.add(p.field("destuser"))
			s = t.better(s, t.proxied(p))
			proxied = true
			if driver := p.driver(); driver != "static" {
				t.refuse(p.source(), "only those logins are handed on that this passdb, with the driver %s, lets in, and there is no equal; "+
					"if the backend alone may decide who gets in, write driver = static and args = nopassword=y", driver)
			}
		case p.driver() == "imap":
			names.add(p.field("userdb_imapc_user"))
			names.add(p.text("imapc_user"))
			names.add(p.arg("username"))
			s = t.better(s, t.asks(p))
			asked = true
		default:
			others = append(others, p)
			continue
		}
		if cached, n := p.yes(true, "use_cache"); !cached {
			t.uncached = n
		}
		p.remark()
	}
	for _, p := range others {
		if driver := p.driver(); !proxied && !asked && driver != "static" {
			t.refuse(p.source(), "only users that the driver %s lets in get to the backend, and there is no equal; "+
				"if the backend alone may decide who gets in, take the passdb out", driver)
			continue
		}
		p.drop("it is not asked, and its users get in only if the backend lets them in")
	}
	names.add(t.top.text("imapc_user"))
	t.pass()
	if !proxied {
		t.guardSessions()
	}
	switch {
	case proxied:
		t.discard(storage, s, "logins are handed on to another server, by a passdb")
	case storage.host != "":
		s = t.merge(storage, s)
	case s != nil:
		t.discard(storage, s, "there is no imapc_host that it could be about")
	}
	if s == nil || s.host == "" {
		t.noServer()
		return new(caddyimap.Backend), ""
	}
	b = t.dial(s)
	t.clientCertificate(b)
	b.Username, identity = names.result()
	if storage.host != "" && !proxied {
		// With imapc, clients had an engine of Dovecot's before them.
		b.Extensions = []string{imapext.Auto}
	}
	if proxied && t.announces() {
		b.ForwardClient = "id"
	}
	if mechanisms, n := t.top.words("imapc_sasl_mechanisms"); n != nil {
		t.authCommand(b, mechanisms, n)
	}
	t.limitSessions(b)
	return b, identity
}

// noServer says that there is nothing to be a proxy for.
func (t *translation) noServer() {
	at := &dovecotconf.Node{File: t.name, Line: 1, Key: "imapc_host"}
	t.refuse(at, "nothing names the IMAP server behind this one; only a Dovecot that is a proxy can be adapted, "+
		"with imapc_host, with host= in a passdb imap, or with proxy=y host= in a passdb static")
}

// announces reports whether the backend is told where users come from: Dovecot's login
// proxies do so.
func (t *translation) announces() bool {
	for _, p := range t.passdbs {
		if _, n := p.field("proxy_not_trusted"); n != nil {
			return false
		}
	}
	return true
}

// pass says of settings with a password that it is the users' own that counts.
func (t *translation) pass() {
	for _, key := range []string{"imapc_password", "imapc_master_user"} {
		value, n := t.top.text(key)
		if n != nil && value != "" && !isPassword(value) {
			t.drop(n, "users log in at the backend as themselves, with the password that they typed")
		}
	}
}

// dial makes the upstream, with TLS even if Dovecot had none.
func (t *translation) dial(s *server) *caddyimap.Backend {
	b := new(caddyimap.Backend)
	switch {
	case strings.Contains(s.host, "%"):
		t.refuse(s.at, "the host depends on the name of the user; one backend for each needs a Caddyfile")
	case !isWord(s.host):
		t.refuse(s.at, "%q is no host", s.host)
	case s.port != "" && !isPort(s.port):
		t.refuse(s.at, "%q is no port", s.port)
	}
	var tls reverseproxy.TLSConfig
	usual := "143"
	switch {
	case s.mode == "" && s.clear != nil && isThisMachine(s.host):
		b.TLSMode = "off"
	case s.mode == "":
		tls.InsecureSkipVerify = true
		t.safe(s.at, "Dovecot sent passwords and mail to %s in clear text; now they go over STARTTLS, but its certificate is not verified. "+
			"To have it verified, add here: %s; "+
			"%sif its authority is your own, also: %s. "+
			"(In a Caddyfile: tls_trust_pool file /etc/ssl/corp-ca.pem in place of tls_insecure_skip_verify.)%s",
			s.host, s.how, nameHint(s.host), t.authorityLine(), localHint(s.host))
	case s.mode == "implicit":
		b.TLSMode, usual = "implicit", "993"
	}
	if s.mode != "" && s.unverified != nil {
		tls.InsecureSkipVerify = true
		t.warn(s.unverified, "anybody on the way to %s can pretend to be it, and collect passwords: its certificate is not verified, as with Dovecot. "+
			"To have it verified, take this out; if its authority is your own, add: %s", s.host, t.authorityLine())
	}
	if s.mode == "" && s.unverified != nil {
		t.lose(s.unverified, "Dovecot has no TLS with the backend that it could be about")
	}
	switch {
	case s.ca == "":
	case tls.InsecureSkipVerify || b.TLSMode == "off":
		t.lose(s.caAt, "the certificate of the backend is not verified, as the line with its host or its TLS says")
	default:
		tls.CARaw = trustPool(s.ca)
	}
	if b.TLSMode != "off" && (tls.InsecureSkipVerify || tls.CARaw != nil) {
		b.TLS = &tls
	}
	dial := s.host
	if s.port != "" && s.port != usual || strings.Contains(s.host, ":") {
		port := s.port
		if port == "" {
			port = usual
		}
		dial = net.JoinHostPort(s.host, port)
	}
	b.Upstreams = []*caddyimap.Upstream{{Dial: dial}}
	return b
}

// authorityLine is how the file with an authority is named.
func (t *translation) authorityLine() string {
	if t.conf.Modern {
		return "ssl_client_ca_file = /etc/ssl/corp-ca.pem"
	}
	return "ssl_client_ca_file = </etc/ssl/corp-ca.pem"
}

func nameHint(host string) string {
	if net.ParseIP(host) == nil {
		return ""
	}
	return "let the host be the name that the certificate is valid for, in place of " + host + "; "
}

func localHint(host string) string {
	if !isThisMachine(host) {
		return ""
	}
	return " If the server on this machine has no STARTTLS, write imapc_ssl = no."
}

// trustPool names a file with authorities, as tls_trust_pool file does.
func trustPool(file string) []byte {
	return caddyconfig.JSON(map[string]any{"provider": "file", "pem_files": []string{file}}, nil)
}

// clientCertificate has the backend be shown what Dovecot shows it.
func (t *translation) clientCertificate(b *caddyimap.Backend) {
	cert, n := t.top.path("ssl_client_cert", "ssl_client_cert_file")
	key, _ := t.top.path("ssl_client_key", "ssl_client_key_file")
	switch {
	case n == nil || cert == "":
		return
	case key == "":
		t.refuse(n, "there is no ssl_client_key for it")
		return
	case b.TLSMode == "off":
		t.drop(n, "there is no TLS to the backend")
		return
	}
	if b.TLS == nil {
		b.TLS = new(reverseproxy.TLSConfig)
	}
	b.TLS.ClientCertificateFile, b.TLS.ClientCertificateKeyFile = cert, key
}

// authCommand chooses how passwords are sent.
func (t *translation) authCommand(b *caddyimap.Backend, mechanisms []string, n *dovecotconf.Node) {
	if len(mechanisms) == 1 && strings.EqualFold(mechanisms[0], "plain") {
		b.AuthCommand = "plain"
		return
	}
	t.drop(n, "passwords are sent in the way that the client has chosen; auth_command of the backend chooses between LOGIN and PLAIN")
}

// limitSessions carries the limit of connections over.
func (t *translation) limitSessions(b *caddyimap.Backend) {
	n := t.top.get("mail_max_userip_connections")
	if n == nil {
		return
	}
	limit, ok := parseCount(n.Value)
	switch {
	case !ok:
		t.refuse(n, "the value must be a number")
	case limit > 0:
		b.MaxSessionsPerUser = limit
		t.warn(n, "Dovecot counts the sessions of a user by address, and this counts those from all addresses together; raise it if users have many devices")
	}
}

// duration reads a time.
func (t *translation) duration(n *dovecotconf.Node) caddy.Duration {
	d, err := parseTime(n.Value)
	if err != nil {
		t.refuse(n, "%w", err)
	}
	return caddy.Duration(d)
}
