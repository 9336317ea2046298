package imapext

import (
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// countChildren says of each mailbox whether there are others below it (RFC 3348),
// where that is asked for and the backend has not said it.
func (l *lister) countChildren() (relay.Status, error) {
	if l.r.extended && !l.r.children || !l.r.extended && !l.own.children {
		return listed, nil
	}
	unknown, delim := false, ""
	for _, f := range l.order {
		if f.delim != "" && !f.has(attrChildren) && !f.has(attrNoChildren) {
			unknown, delim = true, f.delim
		}
	}
	if !unknown {
		return listed, nil
	}
	parents := make(map[string]bool)
	note := func(f *folder) error {
		ancestors(f.key, f.delim, func(parent string) { parents[parent] = true })
		if len(parents) > maxFolders {
			return errFolders
		}
		return nil
	}
	for _, f := range l.found {
		if err := note(f); err != nil {
			return relay.Status{}, err
		}
	}
	// What is below the mailboxes that match a pattern is what matches it with one level
	// more, unless the pattern matches that as well.
	for _, p := range l.r.patterns {
		if p == "" || strings.HasSuffix(p, "*") {
			continue
		}
		status, err := l.s.askFolders(l.t, "LIST", l.r.ref, p+delim+"%", note)
		if err != nil || !status.OK {
			return status, err
		}
	}
	for _, f := range l.order {
		switch {
		case f.delim == "" || f.has(attrChildren) || f.has(attrNoChildren):
		case parents[f.key]:
			f.add(attrChildren)
		case !f.has(attrNoinferiors):
			f.add(attrNoChildren)
		}
	}
	return listed, nil
}
