package dovecotadapter

import (
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
)

// passdb is where Dovecot looks passwords up. Blocks with the same name are one.
type passdb struct {
	settings
	name string
	// blocks are where it stands, the first of them at.
	blocks []*dovecotconf.Node
	at     *dovecotconf.Node
	fields []field
	// args are those of the driver.
	args []field
}

// field is a word of args or default_fields, or a line of fields { }.
type field struct {
	key, value string
	node       *dovecotconf.Node
	// secret says that it is behind a password, and may be a piece of it, behind a space.
	secret bool
}

// shown is how a field that is not known is named in a warning. One without a value may be
// what is behind a space in a password, too.
func (f field) shown() string {
	switch {
	case f.secret:
		return "behind a password"
	case f.value == "":
		return "without a value"
	}
	return f.key
}

func (t *translation) addPassdb(n *dovecotconf.Node) {
	t.mark(n, Carried)
	var p *passdb
	for _, other := range t.passdbs {
		if n.Name != "" && other.name == n.Name {
			p = other
		}
	}
	if p == nil {
		p = &passdb{settings: settings{t: t}, name: n.Name, at: n}
		t.passdbs = append(t.passdbs, p)
	}
	p.blocks = append(p.blocks, n)
	for _, in := range n.Nodes {
		key := strings.TrimPrefix(in.Key, "passdb_")
		switch {
		case in.Block && key == "fields":
			t.mark(in, Carried)
			for _, line := range in.Nodes {
				t.mark(line, Carried)
				p.fields = append(p.fields, field{key: line.Key, value: line.Value, node: line})
			}
		case in.Block && in.Name == "" && (key == "imapc" || strings.HasPrefix(key, "ssl")):
			t.mark(in, Carried)
			for _, line := range in.Nodes {
				p.add(fullName(key, line.Key), line, 0)
			}
		default:
			p.add(key, in, 0)
		}
	}
}

// driver returns what kind it is. In newer files that is its name, unless something else is
// said.
func (p *passdb) driver() string {
	if driver, n := p.text("driver"); n != nil {
		return driver
	}
	return p.name
}

// read reads the lists of fields. What comes later counts more.
func (p *passdb) read() {
	for _, key := range []string{"default_fields", "args", "override_fields"} {
		value, n := p.text(key)
		secret := false
		for word := range strings.FieldsSeq(value) {
			k, v, _ := strings.Cut(word, "=")
			f := field{k, v, n, secret}
			secret = secret || strings.Contains(k, "pass") && k != "nopassword" && !isPassword(v)
			if key == "args" {
				p.args = append(p.args, f)
			}
			if key != "args" || p.driver() == "static" {
				p.fields = append(p.fields, f)
			}
		}
	}
}

// field returns the last field of that name.
func (p *passdb) field(key string) (string, *dovecotconf.Node) { return lastField(p.fields, key) }

func (p *passdb) arg(key string) (string, *dovecotconf.Node) { return lastField(p.args, key) }

func lastField(fields []field, key string) (value string, n *dovecotconf.Node) {
	for _, f := range fields {
		if f.key == key {
			value, n = f.value, f.node
		}
	}
	return value, n
}

// isProxy reports whether logins are handed on to another server.
func (p *passdb) isProxy() bool {
	for _, key := range []string{"proxy", "proxy_maybe"} {
		if value, n := p.field(key); n != nil && value != "n" && value != "no" {
			return true
		}
	}
	return false
}

// guards refuses what keeps people out and cannot be done here. It says whether the
// passdb is one to go on with. The last has no others behind it.
func (p *passdb) guards(last bool) bool {
	if denies, n := p.yes(false, "deny"); denies {
		p.t.refuse(n, "the users of this passdb are kept out, and there is no equal; disable them at the backend, and take the block out")
		return false
	}
	if value, n := p.text("username_filter"); value != "" {
		p.t.refuse(n, "it lets only some users in, and there is no equal; see to it at the backend, and take the line out")
	}
	switch value, n := p.text("result_success"); value {
	case "", "return", "return-ok":
	default:
		p.t.refuse(n, "a right password is to be confirmed by another passdb, and there is no equal; take the line out if the backend alone may decide")
	}
	if value, n := p.text("result_failure"); stops(value) && !last {
		p.t.refuse(n, "whoever is not in this passdb is kept out, and there is no equal; take the line out if the backend alone may decide")
	}
	for _, key := range []string{"allow_nets", "allow_real_nets"} {
		if _, n := p.field(key); n != nil {
			p.t.refuse(n, "with %s, users get in from some networks only, and there is no equal; see to it at the backend or in a firewall, and take it out", key)
		}
	}
	if _, n := p.field("nologin"); n != nil {
		p.t.refuse(n, "with nologin, nobody gets in, and there is no equal; take it out if users are to log in through Caddy")
	}
	return true
}

// stops reports whether no other passdb is asked after a result that has this value.
func stops(result string) bool { return result == "return" || result == "return-fail" }

// source is the line that says which users there are in it.
func (p *passdb) source() *dovecotconf.Node {
	if n := p.get("driver"); n != nil {
		return n
	}
	return p.at
}

// drop says why it is not asked.
func (p *passdb) drop(why string) {
	for _, n := range p.blocks {
		p.t.drop(n, "%s", why)
	}
}

// knownFields are fields that are dealt with elsewhere, or make no difference.
var knownFields = map[string]string{
	"proxy": "", "proxy_maybe": "", "host": "", "hostip": "", "port": "", "ssl": "", "starttls": "", "destuser": "",
	"nopassword": "", "proxy_not_trusted": "", "userdb_imapc_user": "", "userdb_imapc_password": "", "userdb_imapc_master_user": "",
	"pass": "", "master": "", "allow_nets": "", "allow_real_nets": "", "nologin": "",

	"proxy_timeout":      "a login takes as long as auth_timeout of the backend says, 9s by default",
	"proxy_nopipelining": "the login is over before anything else is sent",
	"proxy_mech":         "users log in with PLAIN or LOGIN; auth_command of the backend chooses between them",
	"proxy_always":       "all users are at one backend",
	"source_ip":          "connections to the backend have the address that the system chooses; set it with a route of the system",
	"userdb_imapc_host":  "users have one backend, that of imapc_host",
	"userdb_imapc_port":  "users have one backend, that of imapc_host",
	"userdb_imapc_ssl":   "the setting imapc_ssl decides for all users",
	"protocol":           "IMAP is the only one",
	"nodelay":            "refusals are held back for failure_delay of the guard",
	"password":           "the backend knows the passwords",
	"delay_until":        "logins are not held back",
	"user":               "the name goes to the backend as it was typed; the option username of the backend changes it",
	"username":           "the name goes to the backend as it was typed; the option username of the backend changes it",
	"login_user":         "nobody logs in for another user here",
	"noauthenticate":     "the backend always checks the password",
	"event_":             "the log has lines of its own",
	"forward_":           "nothing but addresses and the session id is handed on, with forward_client id",
	"userdb_":            "there is no mail here, and nothing to look up for it",
}

// remark warns of fields that make a difference elsewhere and none here.
func (p *passdb) remark() {
	said := make(map[string]bool)
	for _, f := range p.fields {
		text, known := knownFields[f.key]
		for _, prefix := range []string{"userdb_", "event_", "forward_"} {
			if !known && strings.HasPrefix(f.key, prefix) {
				text, known = knownFields[prefix], true
			}
		}
		if last, n := p.field(f.key); last != f.value && known {
			p.t.warn(f.node, "%s: the field %s is set again in %s:%d", NoEffect, f.shown(), n.File, n.Line)
		}
		switch {
		case said[f.key]:
		case !known:
			p.t.warn(f.node, "%s: the field %s is not known here", Unknown, f.shown())
		case strings.HasPrefix(f.key, "userdb_") && text == knownFields["userdb_"]:
			p.t.warn(f.node, "%s: the field %s: %s", NotNeeded, f.shown(), text)
		case text != "":
			p.t.warn(f.node, "%s: the field %s: %s", NoEqual, f.shown(), text)
		}
		said[f.key] = true
	}
	for _, key := range []string{"pass", "master"} {
		if _, n := p.field(key); n != nil {
			p.t.safe(n, "the backend is asked with the password that the user typed, and not with the one of the field %s", key)
		}
	}
	if value, n := p.field("userdb_imapc_password"); n != nil && !isPassword(value) {
		p.t.safe(n, "the backend is asked with the password that the user typed, and not with the one of userdb_imapc_password")
	}
	if _, n := p.field("userdb_imapc_master_user"); n != nil {
		p.t.safe(n, "users log in at the backend as themselves, and not by a master user")
	}
}
