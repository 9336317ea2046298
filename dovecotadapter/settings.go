package dovecotadapter

import (
	"slices"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
)

// settings are those of one place: the top level, or a block. Blocks of the same kind
// and name are one place.
type settings struct {
	t       *translation
	entries []entry
}

// entry is a setting under the name that it has in full.
type entry struct {
	key  string
	node *dovecotconf.Node
	// level is higher for what counts more wherever it stands.
	level int
}

func (s *settings) add(key string, n *dovecotconf.Node, level int) {
	s.entries = append(s.entries, entry{key, n, level})
}

// get returns the setting that counts, of those with one of the names, or nil. It is
// carried over as far as nothing else is said of it.
func (s *settings) get(names ...string) *dovecotconf.Node {
	var found *entry
	for i := range s.entries {
		e := &s.entries[i]
		if !slices.Contains(names, e.key) || s.t.fates[e.node] == Refused {
			continue
		}
		if found != nil && found.level > e.level {
			s.overridden(e.node, found.node)
			continue
		}
		if found != nil {
			s.overridden(found.node, e.node)
		}
		found = e
	}
	if found == nil {
		return nil
	}
	if _, done := s.t.fates[found.node]; !done {
		s.t.mark(found.node, Carried)
	}
	return found.node
}

// in returns the first of several places that has one of the settings, or the last.
func in(places []*settings, names ...string) *settings {
	for _, s := range places {
		if slices.ContainsFunc(s.entries, func(e entry) bool { return slices.Contains(names, e.key) }) {
			return s
		}
	}
	return places[len(places)-1]
}

func (s *settings) overridden(n, by *dovecotconf.Node) {
	if s.t.fates[n] != NoEffect {
		s.t.leave(n, NoEffect, ": %s:%d sets it again", by.File, by.Line)
	}
}

// text returns the value of a setting, or "" if there is none.
func (s *settings) text(names ...string) (string, *dovecotconf.Node) {
	n := s.get(names...)
	if n == nil {
		return "", nil
	}
	value, err := n.Text()
	if err != nil {
		s.t.refuse(n, "%w", err)
	}
	return value, n
}

// path returns the file that a setting names, with < before it or not.
func (s *settings) path(names ...string) (string, *dovecotconf.Node) {
	n := s.get(names...)
	if n == nil {
		return "", nil
	}
	path := n.Path
	if path == "" {
		path = n.Value
	}
	if strings.ContainsAny(path, "{}\n") {
		s.t.refuse(n, "the value must be the name of a file, without braces; write the text into a file, and < and its name here")
		return "", nil
	}
	return path, n
}

// yes returns whether a setting is yes. Without it, it is what otherwise says.
func (s *settings) yes(otherwise bool, names ...string) (bool, *dovecotconf.Node) {
	value, n := s.text(names...)
	if n == nil {
		return otherwise, nil
	}
	switch strings.ToLower(value) {
	case "yes", "y", "true", "1":
		return true, n
	case "no", "n", "false", "0", "":
		return false, n
	}
	s.t.refuse(n, "the value must be yes or no")
	return otherwise, n
}

// words returns the list that a setting has. In Dovecot 2.4 it may be a block, whose
// settings say of each word whether it is in the list. The node is that of the last
// line, or nil if there is none.
func (s *settings) words(names ...string) (list []string, last *dovecotconf.Node) {
	level := 0
	for _, e := range s.entries {
		if slices.Contains(names, e.key) {
			level = max(level, e.level)
		}
	}
	for _, e := range s.entries {
		if !slices.Contains(names, e.key) {
			continue
		}
		switch {
		case e.node.Block:
			s.t.markAll(e.node, Carried)
			for _, n := range e.node.Nodes {
				list = slices.DeleteFunc(list, func(word string) bool { return word == n.Key })
				if !n.Block && isYes(n.Value) {
					list = append(list, n.Key)
				}
			}
		case e.level < level:
			s.overridden(e.node, s.lastOf(names, level))
			continue
		default:
			if last != nil {
				s.overridden(last, e.node)
			}
			value, err := e.node.Text()
			if err != nil {
				s.t.refuse(e.node, "%w", err)
			}
			s.t.mark(e.node, Carried)
			list = strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '\n' })
		}
		last = e.node
	}
	return list, last
}

func (s *settings) lastOf(names []string, level int) *dovecotconf.Node {
	for _, e := range slices.Backward(s.entries) {
		if slices.Contains(names, e.key) && e.level == level {
			return e.node
		}
	}
	return nil
}

func isYes(value string) bool {
	return slices.Contains([]string{"yes", "y", "true", "1"}, strings.ToLower(value))
}

// lists are settings that may be blocks of words in Dovecot 2.4.
var lists = []string{
	"protocols", "listen", "auth_mechanisms", "login_trusted_networks", "haproxy_trusted_networks",
	"imapc_sasl_mechanisms", "imapc_features", "imap_capability", "login_source_ips", "login_plugins",
	"mail_plugins", "auth_realms",
}

// prefixes are blocks of Dovecot 2.4 that only stand for the beginning of the names
// in them.
var prefixes = []string{
	"ssl", "ssl_server", "ssl_client", "auth", "auth_policy", "auth_cache", "imapc", "login", "login_proxy",
	"mail", "imap", "haproxy",
}

// collect sorts what there is at the top level, and in blocks that belong to it.
func (t *translation) collect(nodes []*dovecotconf.Node, level int) {
	for _, n := range nodes {
		switch {
		case !n.Block || slices.Contains(lists, n.Key):
			t.top.add(n.Key, n, level)
		case n.Key == "passdb":
			t.addPassdb(n)
		case n.Key == "userdb":
			t.userdbs = append(t.userdbs, n)
		case n.Key == "service" && (n.Name == "imap-login" || n.Name == "auth"):
			t.addService(n)
		case n.Key == "service" && n.Name == "imap":
			t.sessions = append(t.sessions, n)
		case n.Key == "protocol" && isIMAP(n.Name):
			// It counts more than what stands outside, wherever that is.
			t.mark(n, Carried)
			t.collect(n.Nodes, 1)
			if !isMail(n.Name) {
				t.imapOnly = append(t.imapOnly, n)
			}
		case n.Key == "protocol" && isMail(n.Name):
			t.mailOnly = append(t.mailOnly, n)
		case n.Key == "local" || n.Key == "remote" || n.Key == "local_name":
			t.narrowed = append(t.narrowed, n)
		case n.Name == "" && slices.Contains(prefixes, n.Key):
			t.mark(n, Carried)
			for _, in := range n.Nodes {
				t.top.add(fullName(n.Key, in.Key), in, level)
			}
		}
	}
}

// isIMAP reports whether what is said for a protocol is said for IMAP.
func isIMAP(protocol string) bool {
	if other, not := strings.CutPrefix(protocol, "!"); not {
		return other != "imap"
	}
	return protocol == "imap"
}

// isMail reports whether what is said for a protocol is said for mail servers, whose
// questions about passwords are of the protocol smtp.
func isMail(protocol string) bool {
	if other, not := strings.CutPrefix(protocol, "!"); not {
		return other != "smtp"
	}
	return protocol == "smtp" || protocol == "submission"
}

// fullName returns the name of a setting that stands in a block, with the block's own
// before it or not.
func fullName(block, key string) string {
	full := block + "_" + key
	switch {
	case strings.HasPrefix(key, block+"_"):
		return key
	case exactRule("", full) == nil && exactRule("", key) != nil:
		return key
	}
	return full
}
