package dovecotadapter

import (
	"crypto/tls"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/caddy-imap/caddy-imap/caddyimap"
	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
)

// certificates returns the files with certificates: those for all clients, and those
// that stand in local_name and local.
func (t *translation) certificates() (list []caddyimap.CertificateFiles) {
	for _, names := range [][2][]string{
		{{"ssl_cert", "ssl_server_cert", "ssl_server_cert_file"}, {"ssl_key", "ssl_server_key", "ssl_server_key_file"}},
		{{"ssl_alt_cert", "ssl_server_alt_cert_file"}, {"ssl_alt_key", "ssl_server_alt_key_file"}},
	} {
		list = t.certificate(list, &t.top, names[0], names[1])
	}
	for _, n := range t.narrowed {
		list = t.narrow(list, n)
	}
	if len(list) == 0 {
		t.top.t.warnings = append(t.warnings, warning(t.name, "ssl_cert",
			"no client can log in, since there is no certificate; add ssl_cert and ssl_key, or write a Caddyfile with hostname, for which Caddy gets one"))
	}
	return list
}

func (t *translation) certificate(list []caddyimap.CertificateFiles, from *settings, certs, keys []string) []caddyimap.CertificateFiles {
	cert, at := from.path(certs...)
	key, keyAt := from.path(keys...)
	switch {
	case cert != "" && key != "":
		return append(list, caddyimap.CertificateFiles{Certificate: cert, Key: key})
	case cert != "":
		t.refuse(at, "there is no key for this certificate")
	case key != "":
		t.leave(keyAt, NoEffect, ": there is no certificate for this key")
	}
	return list
}

// narrow takes the certificates out of a block that holds for some addresses or names
// only. Nothing else in it can be carried over.
func (t *translation) narrow(list []caddyimap.CertificateFiles, n *dovecotconf.Node) []caddyimap.CertificateFiles {
	from := settings{t: t}
	var rest []*dovecotconf.Node
	for _, in := range n.Nodes {
		switch key := strings.TrimPrefix(strings.TrimPrefix(in.Key, "ssl_server_"), "ssl_"); {
		case in.Block && (in.Key == "local" || in.Key == "local_name" || in.Key == "remote" || in.Key == "protocol" && isIMAP(in.Name)):
			list = t.narrow(list, in)
		case in.Block && (in.Key == "ssl_server" || in.Key == "ssl"):
			t.mark(in, Carried)
			for _, line := range in.Nodes {
				from.add(strings.TrimPrefix(fullName(in.Key, line.Key), "ssl_server_"), line, 0)
			}
		case !in.Block && n.Key != "remote" && slices.Contains([]string{"cert", "cert_file", "key", "key_file"}, key):
			from.add(key, in, 0)
		default:
			rest = append(rest, in)
		}
	}
	t.mark(n, Carried)
	before := len(list)
	list = t.certificate(list, &from, []string{"cert", "cert_file"}, []string{"key", "key_file"})
	if len(list) > before && n.Key != "local_name" {
		t.warn(n, "clients get this certificate by the name that they ask for, and not by the address that they connect to")
	}
	for _, in := range rest {
		if guardsLogin(in) {
			t.refuse(in, "it keeps people out by the address or name that they connect from or to, which cannot be carried over; "+
				"let it hold for all, outside of %s, or take it out", n.Key)
			continue
		}
		t.drop(in, "nothing but certificates can hold for %s %s alone; write it outside if it may hold for all clients", n.Key, n.Name)
	}
	return list
}

// policy returns the connection policy of the handlers imap, or nil if the default will
// do.
func (t *translation) policy() *caddytls.ConnectionPolicy {
	p := new(caddytls.ConnectionPolicy)
	changed := t.clientAuth(p)
	if value, n := t.top.text("ssl_min_protocol"); n != nil {
		switch value {
		case "TLSv1.3":
			p.ProtocolMin = "tls1.3"
			changed = true
		case "TLSv1.2", "LATEST":
			if value == "LATEST" {
				p.ProtocolMin = "tls1.3"
				changed = true
			}
		default:
			t.safe(n, "TLS 1.2 is the oldest that is accepted, instead of %s", value)
		}
	}
	if value, n := t.top.text("ssl_protocols"); n != nil {
		t.safe(n, "TLS 1.2 and 1.3 are accepted, instead of %s", value)
	}
	if value, n := t.top.text("ssl_cipher_list"); n != nil && value != "" {
		p.CipherSuites = t.ciphers(value, n)
		changed = changed || len(p.CipherSuites) > 0
	}
	if !changed {
		return nil
	}
	return p
}

// suites are the cipher suites of TLS 1.2 that Caddy has, by the names that OpenSSL has for
// them. Those of 1.3 cannot be chosen.
var suites = map[string]uint16{
	"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	"ECDHE-RSA-AES128-GCM-SHA256":   tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-RSA-AES256-GCM-SHA384":   tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-RSA-CHACHA20-POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// ciphers reads a list of OpenSSL's. One that names each suite is carried over, as far
// as Caddy has them; one that describes them, such as ALL:!LOW, is not.
func (t *translation) ciphers(value string, n *dovecotconf.Node) (names []string) {
	var missing []string
	for word := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ':' || r == ',' || r == ' ' }) {
		switch id, known := suites[word]; {
		case known:
			if name := tls.CipherSuiteName(id); !slices.Contains(names, name) {
				names = append(names, name)
			}
		case strings.HasPrefix(word, "TLS_"):
		case strings.ContainsAny(word[:1], "!-+@") || !strings.Contains(word, "-"):
			t.safe(n, "Caddy's own choice of ciphers is offered, with nothing obsolete among it; to narrow it, name each cipher here, "+
				"such as ECDHE-RSA-AES128-GCM-SHA256, or use ciphers in a connection_policy")
			return nil
		default:
			missing = append(missing, word)
		}
	}
	switch {
	case len(names) == 0:
		t.safe(n, "Caddy's own choice of ciphers is offered, with nothing obsolete among it, since it has none of these")
	case len(missing) > 0:
		t.safe(n, "Caddy does not have %s, and offers the others", strings.Join(missing, ", "))
	}
	return names
}

// clientAuth carries over whether clients must show a certificate.
func (t *translation) clientAuth(p *caddytls.ConnectionPolicy) bool {
	required, at := t.top.yes(false, "auth_ssl_require_client_cert")
	asked, askedAt := t.top.yes(false, "ssl_verify_client_cert")
	if value, n := t.top.text("ssl_server_request_client_cert"); n != nil && value != "no" && value != "" {
		asked, askedAt = true, n
	}
	ca, caAt := t.top.path("ssl_ca", "ssl_server_ca_file", "ssl_server_ca")
	switch {
	case !required && !asked && caAt == nil:
		return false
	case !required && !asked:
		t.drop(caAt, "clients show no certificates here. If it has the intermediate certificates of the server's own, "+
			"append them to the file of ssl_cert: cat %s >>FILE", ca)
		return false
	case ca == "" && required:
		t.refuse(at, "there is no ssl_ca that says who signs the certificates of clients")
		return false
	case ca == "":
		t.drop(askedAt, "there is no ssl_ca that says who signs the certificates of clients")
		return false
	}
	mode := "verify_if_given"
	if required {
		mode = "require_and_verify"
	}
	p.ClientAuthentication = &caddytls.ClientAuthentication{CARaw: trustPool(ca), Mode: mode}
	if revoked, n := t.top.yes(true, "ssl_require_crl", "ssl_server_require_crl"); revoked {
		if n == nil {
			n = caAt
		}
		t.warn(n, "lists of revoked certificates are not looked at: a client's certificate is good until it ends; the password is checked all the same")
	}
	return true
}
