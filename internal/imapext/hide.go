package imapext

import (
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// hidingCommands are those whose answers leave out folders that hold no mail.
var hidingCommands = map[string]handler{"LIST": {relay.Whole, listMailboxes}, "LSUB": {relay.Whole, lsub}}

// looksLikeExchange says whether capabilities are those of an Exchange: some are
// nobody else's, and few others list IMAP4 beside IMAP4rev1 and have nothing newer.
func looksLikeExchange(native map[string]bool) bool {
	for _, c := range [...]string{"XPROXY3", "CLIENTACCESSRULES", "CLIENTNETWORKPRESENCELOCATION", "BACKENDAUTHENTICATE", "AUTH=NTLM"} {
		if native[c] {
			return true
		}
	}
	for _, c := range [...]string{"ENABLE", "SORT", "CONDSTORE", "ESEARCH", "QUOTA", "ACL", "SPECIAL-USE"} {
		if native[c] {
			return false
		}
	}
	return native["IMAP4"]
}

// emptyRoots returns which mailboxes hold no mail, by key: calendar, contacts and the like
// in the mailbox's language. They are left alone unless there are calendar and contacts:
// else these may be folders that somebody has made. One that cannot be selected and has
// nothing below it holds nothing in any case.
func emptyRoots(top map[string]*folder, lang *language) map[string]bool {
	roots := make(map[string]bool)
	there := func(k kind) (found []*folder) {
		for _, name := range lang.names[k] {
			if f := top[strings.ToLower(name)]; f != nil {
				found = append(found, f)
			}
		}
		return found
	}
	if lang != nil && there(calendar) != nil && there(contacts) != nil {
		for k := calendar; k < kinds; k++ {
			for _, f := range there(k) {
				roots[f.key] = true
			}
		}
	}
	for _, f := range top {
		if f.has(attrNoselect) && f.has(attrNoChildren) {
			roots[f.key] = true
		}
	}
	return roots
}

// hides says whether a mailbox is left out.
func (l *lister) hides(f *folder) bool {
	root, _, _ := strings.Cut(f.key, delimOr(f.delim))
	return l.hidden[root]
}

// lsub plans LSUB, which must not name what LIST does not.
func lsub(s *Session, c *command) func(*relay.Turn) error {
	r, err := parseList(c.args, listing{})
	if err != nil || r.extended || r.patterns[0] == "" {
		return nil
	}
	return func(t *relay.Turn) error {
		l := &lister{s: s, t: t, own: listing{hide: true}, found: make(map[string]*folder)}
		status, err := s.askFolders(t, "LSUB", r.ref, r.patterns[0], l.append)
		if err != nil || !status.OK {
			return l.end(c, status, err)
		}
		// Subscriptions say nothing about the language: the list of all does.
		l.r = &listRequest{}
		if status, err := l.findUses(); err != nil || !status.OK {
			return l.end(c, status, err)
		}
		var line []byte
		for _, f := range l.order {
			if l.hides(f) {
				continue
			}
			line = f.appendList(line[:0], "LSUB")
			if err := t.Tell(line); err != nil {
				return err
			}
		}
		return t.Tellf("%s OK LSUB completed.", c.tag)
	}
}
