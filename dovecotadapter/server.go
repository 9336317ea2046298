package dovecotadapter

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
)

// server is what one place says of the IMAP server behind Dovecot.
type server struct {
	host, port string
	// mode is how the connection is protected: starttls, implicit, or "" for not at
	// all.
	mode string
	// clear is the line that says in so many words that it is not.
	clear *dovecotconf.Node
	// unverified is the line that says that any certificate will do.
	unverified *dovecotconf.Node
	// ca is the file with the authorities to trust.
	ca string
	// at is the line with the host, and the others those with the rest.
	at, portAt, modeAt, caAt *dovecotconf.Node
	// how is the line that turns verified TLS on.
	how string
}

// better returns the first of two servers that is one, and warns of a second.
func (t *translation) better(first, second *server) *server {
	switch {
	case first == nil:
		return second
	case first.host == "":
		t.discard(first, second, "another passdb names the backend")
		return second
	}
	t.discard(second, first, "there is one backend, which is "+first.host+"; a second one needs a Caddyfile")
	return first
}

// merge joins what imapc says with what the passdb says: TLS, where one of them has it.
func (t *translation) merge(storage, asked *server) *server {
	kept, other := storage, asked
	switch {
	case asked == nil:
		return storage
	case asked.host == "":
		asked.host = storage.host
	case asked.host != storage.host:
		t.discard(asked, storage, "passwords are checked where the mailboxes are, at "+storage.host+", and not at "+asked.host)
		return storage
	}
	if storage.mode == "" && asked.mode != "" {
		kept, other = asked, storage
		kept.at = storage.at
	}
	if kept.port == "" && kept.mode == other.mode {
		kept.port, kept.portAt = other.port, other.portAt
	}
	if kept.ca == "" {
		kept.ca, kept.caAt = other.ca, other.caAt
	}
	t.discard(other, kept, "the connection is made as "+kept.lines()+" says")
	return kept
}

// lines names the line that says most of how the connection is made.
func (s *server) lines() string {
	n := cmp.Or(s.modeAt, s.portAt, s.at)
	return fmt.Sprintf("%s:%d", n.File, n.Line)
}

// discard says of the lines of a server why they are not carried over, as far as the
// one that is kept does not have the same.
func (t *translation) discard(s, kept *server, why string) {
	said := map[*dovecotconf.Node]bool{nil: true, kept.at: true, kept.portAt: true, kept.modeAt: true, kept.caAt: true, kept.unverified: true}
	elsewhere := s.host != kept.host
	for _, line := range []struct {
		n     *dovecotconf.Node
		other bool
	}{
		{s.at, elsewhere},
		{s.portAt, elsewhere || s.port != kept.port},
		{s.modeAt, elsewhere || s.mode != kept.mode},
		{s.caAt, elsewhere || s.ca != kept.ca},
		{s.unverified, elsewhere || kept.unverified == nil},
	} {
		if !line.other || said[line.n] || t.fates[line.n] == Refused {
			continue
		}
		said[line.n] = true
		t.lose(line.n, why)
	}
}

// lose notes that a setting has no equal, or a field of one.
func (t *translation) lose(n *dovecotconf.Node, why string) {
	if slices.Contains([]string{"args", "default_fields", "override_fields"}, n.Key) {
		t.warn(n, "%s: %s", NoEqual, why) // there are other things in this line
		return
	}
	t.drop(n, "%s", why)
}

// imapc reads the settings of imapc, at the top level or in a passdb. The first place
// that has one counts.
func (t *translation) imapc(from ...*settings) *server {
	s := new(server)
	s.host, s.at = in(from, "imapc_host").text("imapc_host")
	s.port, s.portAt = in(from, "imapc_port").text("imapc_port")
	value, n := in(from, "imapc_ssl").text("imapc_ssl")
	s.modeAt = n
	switch value {
	case "":
	case "no":
		s.clear = n
	case "imaps", "yes":
		s.mode = "implicit"
	case "starttls":
		s.mode = "starttls"
	default:
		t.refuse(n, "the value must be no, imaps or starttls")
	}
	for _, key := range []string{"imapc_ssl_verify", "ssl_client_require_valid_cert"} {
		if verify, n := in(from, key).yes(true, key); !verify {
			s.unverified = n
		}
	}
	s.ca, s.caAt = in(from, "ssl_client_ca_file").path("ssl_client_ca_file")
	return s
}

// asks reads a passdb imap, whose server is in args, or in settings of imapc. With
// Dovecot 2.4 those at the top level are its own, too.
func (t *translation) asks(p *passdb) *server {
	from := []*settings{&p.settings}
	if t.conf.Modern {
		from = append(from, &t.top)
	}
	s := t.imapc(from...)
	s.how = "imapc_ssl = starttls"
	for _, f := range p.args {
		switch f.key {
		case "host":
			s.host, s.at = f.value, f.node
			s.how = "ssl=starttls, in args"
		case "port":
			s.port, s.portAt = f.value, f.node
		case "username":
		case "ssl":
			s.modeAt = f.node
			switch f.value {
			case "imaps":
				s.mode = "implicit"
			case "starttls":
				s.mode = "starttls"
			default:
				t.refuse(f.node, "ssl= must be imaps or starttls")
			}
		case "ssl_ca_file":
			if s.ca, s.caAt = f.value, f.node; !isWord(s.ca) {
				t.refuse(f.node, "ssl_ca_file= must be the name of a file, without braces")
			}
		case "ssl_ca_dir":
			t.warn(f.node, "%s: ssl_ca_dir: the authorities that this machine trusts are used; for others name a file, with ssl_ca_file=", NoEqual)
		case "allow_invalid_cert":
			if isYes(f.value) {
				s.unverified = f.node
			}
		case "rawlog_dir":
			t.warn(f.node, "%s: rawlog_dir: nothing is recorded of what is said to the backend", NotNeeded)
		default:
			t.warn(f.node, "%s: the argument %s is not known here", Unknown, f.shown())
		}
	}
	if s.ca == "" {
		s.ca, s.caAt = t.top.path("ssl_client_ca_file")
	}
	return s
}

// proxied reads a passdb whose users are handed on to another server.
func (t *translation) proxied(p *passdb) *server {
	s := &server{how: "starttls=yes, beside host="}
	s.host, s.at = p.field("host")
	s.port, s.portAt = p.field("port")
	for _, tls := range []struct{ field, mode string }{{"ssl", "implicit"}, {"starttls", "starttls"}} {
		switch value, n := p.field(tls.field); {
		case n == nil || value == "no" || value == "n":
		case value == "any-cert":
			s.mode, s.modeAt, s.unverified = tls.mode, n, n
		default:
			s.mode, s.modeAt = tls.mode, n
		}
	}
	s.ca, s.caAt = t.top.path("ssl_client_ca_file")
	if s.at == nil {
		t.refuse(p.at, "it hands logins on, but has no host=; without one for all users, this needs a Caddyfile")
	}
	return s
}
