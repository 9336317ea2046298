package imapext

import (
	"errors"
	"slices"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// maxFolders is how many mailboxes a list may have that is not passed on as it comes.
const maxFolders = 50_000

// maxListed is how many bytes they may take in all in the answer to one question.
const maxListed = 16 << 20

// errFolders says that there are more.
var errFolders = errors.New("too many mailboxes")

// listCommands are those of all features that have to do with lists.
var listCommands = map[string]handler{"LIST": {relay.Whole, listMailboxes}}

var (
	// listExtended is LIST-EXTENDED (RFC 5258). It is made of LIST and LSUB.
	listExtended = &feature{name: "LIST-EXTENDED", commands: listCommands}
	// childrenFeature is CHILDREN (RFC 3348).
	childrenFeature = &feature{name: "CHILDREN", commands: listCommands}
)

// listing says what of lists is answered here.
type listing struct {
	// extended, status, special and children say that the backend has not got it, or that
	// it is known as an option, where LIST is read.
	extended, status, special, children bool
	// hide says that folders which hold no mail are left out.
	hide bool
	// items are the STATUS items that are known, and tells says of one whether it is found
	// out here.
	items []string
	tells func(item string) bool
}

// answered returns what of lists is answered here, instead of by the backend.
func (o *Offer) answered() listing {
	return listing{
		extended: o.answers("LIST-EXTENDED"), status: o.answers("LIST-STATUS"), special: o.answers("SPECIAL-USE"),
		children: o.answers("CHILDREN"), hide: o.hide, tells: o.tells,
	}
}

// allowed returns which options clients may use, whoever answers.
func (o *Offer) allowed() listing {
	own := o.answered()
	return listing{
		status: own.status || o.native["LIST-STATUS"], special: own.special || o.native["SPECIAL-USE"],
		items: o.statusItems(),
	}
}

// listMailboxes plans LIST.
func listMailboxes(s *Session, c *command) func(*relay.Turn) error {
	own := s.offer.answered()
	r, err := parseList(c.args, s.offer.allowed())
	switch {
	case err != nil && !own.extended:
		return nil
	case err != nil:
		return refuse(c, err)
	case !r.extended && r.patterns[0] == "":
		// Not a list, but a question for the delimiter.
		return nil
	case r.extended && !own.extended && !s.offer.native["LIST-EXTENDED"]:
		return nil
	case !own.concerns(r):
		return nil
	}
	return func(t *relay.Turn) error {
		l := &lister{s: s, t: t, r: r, own: own, found: make(map[string]*folder)}
		return l.carryOut(c)
	}
}

// concerns says whether something is to be done for a LIST that the backend does not.
func (own listing) concerns(r *listRequest) bool {
	switch {
	case own.hide, own.extended && r.extended:
		return true
	case own.special && (!r.extended || r.special), own.children && (!r.extended || r.children):
		return true
	}
	return own.status && r.status != nil || slices.ContainsFunc(r.status, own.tells)
}

// refuse answers a command that is wrong.
func refuse(c *command, err error) func(*relay.Turn) error {
	return func(t *relay.Turn) error { return t.Tellf("%s BAD %s", c.tag, err) }
}

// lister carries out a LIST.
type lister struct {
	s   *Session
	t   *relay.Turn
	r   *listRequest
	own listing

	// found are the mailboxes that match, by key; order has them in the backend's order.
	found map[string]*folder
	order []*folder
	// subscribed are the names that are subscribed to.
	subscribed map[string]bool
	// uses are the special uses of mailboxes; nil until they are looked for.
	uses map[string]string
	// hidden are the roots of what is left out.
	hidden map[string]bool
}

// carryOut carries the command out and answers it.
func (l *lister) carryOut(c *command) error {
	steps := []func() (relay.Status, error){l.find, l.selectSubscribed, l.findUses, l.countChildren}
	for _, step := range steps {
		if status, err := step(); err != nil || !status.OK {
			return l.end(c, status, err)
		}
	}
	var line []byte
	for _, f := range l.order {
		if !l.shows(f) {
			continue
		}
		l.finish(f)
		line = f.appendList(line[:0], "LIST")
		if err := l.t.Tell(line); err != nil {
			return err
		}
		if l.r.status == nil || !f.selectable() || l.r.onlySubscribed && !l.subscribed[f.key] {
			// A parent that is there for what is below it has no status, either.
			continue
		}
		// A mailbox whose status cannot be had has none in the list (RFC 5819 section 2).
		if _, err := l.s.tellStatus(l.t, f.name, l.r.status); err != nil {
			return err
		}
	}
	return l.t.Tellf("%s OK LIST completed.", c.tag)
}

// end answers the command after a step that failed.
func (l *lister) end(c *command, status relay.Status, err error) error {
	switch {
	case errors.Is(err, errFolders):
		return l.t.Tellf("%s NO [LIMIT] Too many mailboxes.", c.tag)
	case err != nil:
		return err
	}
	return l.t.Tellf("%s %s", c.tag, refused(status))
}

// refused is the answer where a step failed: with the backend's response code, but not
// with words about a command that the client has not sent.
func refused(status relay.Status) string {
	if strings.HasPrefix(status.Text, "[") {
		if code, _, found := strings.Cut(status.Text, "]"); found {
			return "NO " + code + "] The mail server cannot do that now."
		}
	}
	return "NO The mail server cannot do that now."
}

// listed is the status of a step that needs no question.
var listed = relay.Status{OK: true}

// find asks for the mailboxes that match.
func (l *lister) find() (relay.Status, error) {
	for _, p := range l.r.patterns {
		if p == "" {
			continue // it has no meaning here (RFC 5258 section 3)
		}
		status, err := l.s.askFolders(l.t, "LIST", l.r.ref, p, func(f *folder) error {
			if l.found[f.key] != nil {
				return nil
			}
			l.found[f.key] = f
			return l.append(f)
		})
		if err != nil || !status.OK {
			return status, err
		}
	}
	return listed, nil
}

// append appends a mailbox to the list.
func (l *lister) append(f *folder) error {
	if len(l.order) >= maxFolders {
		return errFolders
	}
	l.order = append(l.order, f)
	return nil
}

// askFolders asks LIST or LSUB, and calls f with each mailbox.
func (s *Session) askFolders(t *relay.Turn, name, ref, pattern string, f func(*folder) error) (relay.Status, error) {
	size := 0
	return t.Ask(func(r []byte) error {
		number, got, rest := untagged(r)
		if number != 0 || got != name {
			return t.Pass(r)
		}
		one, ok := readFolder(&rest)
		if !ok {
			return nil
		}
		if size += len(r); size > maxListed {
			return errFolders
		}
		return f(one)
	}, withStrings(name, ref, pattern)...)
}

// selectSubscribed looks for subscriptions, if they matter, and selects by them.
func (l *lister) selectSubscribed() (relay.Status, error) {
	if !l.r.subscribed {
		return listed, nil
	}
	var all []*folder
	l.subscribed = make(map[string]bool)
	status, err := l.s.askFolders(l.t, "LSUB", "", "*", func(f *folder) error {
		if len(all) >= maxFolders {
			return errFolders
		}
		if !l.subscribed[f.key] {
			l.subscribed[f.key] = true
			all = append(all, f)
		}
		return nil
	})
	if err != nil || !status.OK || !l.r.onlySubscribed {
		return status, err
	}
	var patterns []pattern
	for _, p := range l.r.patterns {
		if p != "" {
			patterns = append(patterns, newPattern(l.r.ref, p))
		}
	}
	l.order = nil
	chosen := make(map[string]*folder)
	choose := func(key, name, delim string) (*folder, error) {
		f := chosen[key]
		if f != nil {
			return f, nil
		}
		if f = l.found[key]; f == nil {
			// What is subscribed to need not exist (RFC 5258 section 3.1).
			f = &folder{name: name, delim: delim, key: key, attrs: []string{attrNonExistent}}
		}
		chosen[key] = f
		return f, l.append(f)
	}
	for _, f := range all {
		match := l.found[f.key] != nil || matchesAny(patterns, f.name, f.delim)
		if match {
			if _, err := choose(f.key, f.name, f.delim); err != nil {
				return status, err
			}
		}
		if !l.r.recursive {
			continue
		}
		var failed error
		ancestors(f.name, f.delim, func(parent string) {
			key := nameKey(parent, f.delim)
			// A parent is listed for a mailbox that is not, or for its own sake.
			if match && !l.subscribed[key] || l.found[key] == nil && !matchesAny(patterns, parent, f.delim) || failed != nil {
				return
			}
			p, err := choose(key, parent, f.delim)
			p.below, failed = true, err
		})
		if failed != nil {
			return status, failed
		}
	}
	return status, nil
}

// shows says whether a mailbox is to be in the answer.
func (l *lister) shows(f *folder) bool {
	if l.hides(f) {
		return false
	}
	return !l.r.onlySpecial || l.use(f) != ""
}

// finish gives a mailbox the attributes that were asked for.
func (l *lister) finish(f *folder) {
	use := l.use(f)
	if l.r.extended {
		f.drop(func(attr string) bool {
			switch strings.ToLower(attr) {
			case `\haschildren`, `\hasnochildren`:
				return !l.r.children
			case `\subscribed`:
				return true
			}
			return isUse(attr)
		})
	}
	if l.r.subscribed && l.subscribed[f.key] {
		f.add(attrSubscribed)
	}
	if use != "" && (l.r.special || !l.r.extended) {
		f.add(use)
	}
}
