package dovecotadapter

import (
	"slices"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
)

// guardsLogin reports whether a setting, or one in a block, keeps clients out.
func guardsLogin(n *dovecotconf.Node) (guards bool) {
	dovecotconf.Walk([]*dovecotconf.Node{n}, func(n *dovecotconf.Node) bool {
		rule := ruleOf(n)
		guards = guards || rule != nil && rule.Fate == Refused && isSet(n.Value) ||
			n.Key == "auth_ssl_require_client_cert" && isYes(n.Value) || guardsInPassdb(n)
		return true
	})
	return guards
}

// guardsInPassdb reports whether a setting of a passdb, or of the fields in it, keeps
// clients out by its value.
func guardsInPassdb(n *dovecotconf.Node) bool {
	guards := func(field string) bool {
		return slices.Contains([]string{"allow_nets", "allow_real_nets", "nologin"}, field)
	}
	switch strings.TrimPrefix(n.Key, "passdb_") {
	case "result_failure":
		return stops(n.Value)
	case "args", "default_fields", "override_fields":
		for word := range strings.FieldsSeq(n.Value) {
			if field, _, _ := strings.Cut(word, "="); guards(field) {
				return true
			}
		}
	}
	return n.Parent() != nil && strings.HasSuffix(n.Parent().Key, "fields") && guards(n.Key)
}

// guardSessions refuses what keeps those out whose password is right: they are looked up
// in a userdb, and a script may be run before their session begins. A login that is
// handed on to another server knows neither.
func (t *translation) guardSessions() {
	drivers := make([]string, len(t.userdbs))
	for i, n := range t.userdbs {
		drivers[i] = n.Name
		for _, in := range n.Nodes {
			if strings.TrimPrefix(in.Key, "userdb_") == "driver" {
				drivers[i] = in.Value
			}
		}
	}
	if !slices.Contains(drivers, "static") && !slices.Contains(drivers, "prefetch") {
		for i, n := range t.userdbs {
			t.refuse(n, "users that the driver %s does not know are kept out, and there is no equal; "+
				"if the backend alone may decide who gets in, write driver = static, or take the block out", drivers[i])
		}
	}
	for _, n := range t.sessions {
		for _, in := range n.Nodes {
			words := strings.Fields(in.Value)
			if strings.TrimPrefix(in.Key, "service_") != "executable" || len(words) < 2 {
				continue
			}
			if i := slices.IndexFunc(words[1:], func(word string) bool { return !strings.HasPrefix(word, "-") }); i >= 0 {
				t.refuse(in, "the script of the service %s is run after each login and can keep people out, and there is no equal; "+
					"see to it at the backend, and take the line out", words[1+i])
			}
		}
	}
}

// guardMail looks at what holds for mail servers and clients in different ways, which
// nothing does here. It is called when it is known whether mail servers can ask.
func (t *translation) guardMail() {
	if !t.asked {
		return
	}
	for _, n := range t.mailOnly {
		t.mark(n, Carried)
		for _, in := range n.Nodes {
			switch rule := ruleOf(in); {
			case guardsLogin(in):
				t.refuse(in, "it keeps people from sending mail, which cannot be carried over for mail servers alone; "+
					"let it hold for all, outside of protocol %s, or take it out", n.Name)
			case rule == nil && in.Block, rule != nil && rule.Fate == Carried:
				t.drop(in, "nothing can hold for mail servers alone; write it outside if it may hold for IMAP, too")
			}
		}
	}
	for _, n := range t.imapOnly {
		if slices.ContainsFunc(n.Nodes, isAboutLogins) {
			t.warn(n, "what it says of logins and of the backend holds for mail servers, too")
		}
	}
	var required *dovecotconf.Node
	for _, e := range t.top.entries {
		if e.level == 0 && e.key == "auth_ssl_require_client_cert" {
			required = e.node
		}
	}
	if required != nil && isYes(required.Value) {
		t.refuse(required, "with it, Dovecot refuses all that mail servers ask, since they do not say that their clients have shown a certificate; "+
			"take the listeners of service auth out, or write it into protocol imap { } if users may send mail without one")
	}
}

// isAboutLogins reports whether mail servers would be told other things without it.
func isAboutLogins(n *dovecotconf.Node) bool {
	if n.Key == "passdb" {
		return true
	}
	for _, prefix := range []string{"auth", "imapc", "ssl_client"} {
		if n.Key == prefix || strings.HasPrefix(n.Key, prefix+"_") {
			return n.Key != "auth_ssl_require_client_cert"
		}
	}
	return false
}
