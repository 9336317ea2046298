package imapext

import (
	"slices"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// specialUse is SPECIAL-USE (RFC 6154): what mailboxes are for is told by their names.
// Mailboxes cannot be created for a use: that would be CREATE-SPECIAL-USE.
var specialUse = &feature{name: "SPECIAL-USE", commands: listCommands}

// uses are the attributes for special uses (RFC 6154 section 2, RFC 8457 section 4).
var uses = []string{`\All`, `\Archive`, `\Drafts`, `\Flagged`, `\Junk`, `\Sent`, `\Trash`, `\Important`}

// Uses returns the attributes that a mailbox for a special use may have.
func Uses() []string { return slices.Clone(uses) }

// isUse says whether an attribute is one of them.
func isUse(attr string) bool {
	return slices.ContainsFunc(uses, func(use string) bool { return strings.EqualFold(use, attr) })
}

// use returns the special use of a mailbox; "" if it has none.
func (l *lister) use(f *folder) string {
	if !l.own.special {
		for _, attr := range f.attrs {
			if isUse(attr) {
				return attr
			}
		}
		return ""
	}
	if !f.selectable() {
		return ""
	}
	return l.uses[f.key]
}

// findUses finds out what the mailboxes are for, and which ones hold no mail, if that
// matters.
func (l *lister) findUses() (relay.Status, error) {
	special := l.own.special && (l.r.special || !l.r.extended)
	if !special && !l.own.hide {
		return listed, nil
	}
	l.uses = make(map[string]string)
	if special {
		l.namedUses()
	}
	suspect := func(f *folder) bool {
		root, _, _ := strings.Cut(f.key, delimOr(f.delim))
		return wellKnown[strings.ToLower(root)] || l.own.hide && root == f.key && f.has(attrNoselect)
	}
	if !slices.ContainsFunc(l.order, suspect) {
		return listed, nil
	}
	top := make(map[string]*folder)
	note := func(f *folder) error {
		if f.delim == "" || !strings.Contains(f.key, f.delim) {
			top[strings.ToLower(f.key)] = f
		}
		return nil
	}
	status, err := listed, error(nil)
	if l.r.ref == "" && (slices.Contains(l.r.patterns, "*") || slices.Contains(l.r.patterns, "%")) {
		for _, f := range l.found {
			_ = note(f)
		}
	} else {
		status, err = l.s.askFolders(l.t, "LIST", "", "%", note)
	}
	if err != nil || !status.OK {
		return status, err
	}
	lang := languageOf(top)
	if special {
		l.knownUses(top, lang)
	}
	if l.own.hide {
		l.hidden = emptyRoots(top, lang)
	}
	return listed, nil
}

// delimOr returns a delimiter that is in no name where there is none.
func delimOr(delim string) string {
	if delim == "" {
		return "\x00"
	}
	return delim
}

// namedUses takes the uses from the configuration.
func (l *lister) namedUses() {
	for use, names := range l.s.offer.cfg.SpecialUse {
		for _, name := range names {
			l.uses[name] = use
			if isInbox(name, "") {
				l.uses[inbox] = use
			}
		}
	}
}

// knownUses adds those that are known by their names, one mailbox for each use.
func (l *lister) knownUses(top map[string]*folder, lang *language) {
	for k, use := range useOf {
		if _, named := l.s.offer.cfg.SpecialUse[use]; named {
			continue
		}
		if f := lang.pick(top, kind(k)); f != nil {
			if _, taken := l.uses[f.key]; !taken {
				l.uses[f.key] = use
			}
		}
	}
}

// pick returns the mailbox of a kind: by the mailbox's language or, if there is none of
// that, the only one by any language.
func (lang *language) pick(top map[string]*folder, k kind) *folder {
	if lang != nil {
		for _, name := range lang.names[k] {
			if f := top[strings.ToLower(name)]; f != nil && f.selectable() {
				return f
			}
		}
	}
	var only *folder
	for i := range languages {
		for _, name := range languages[i].names[k] {
			f := top[strings.ToLower(name)]
			if f == nil || !f.selectable() || f == only {
				continue
			}
			if only != nil {
				return nil
			}
			only = f
		}
	}
	return only
}

// languageOf returns the language whose names most of the mailboxes have; nil if it
// cannot be told.
func languageOf(top map[string]*folder) *language {
	var best *language
	most := 1 // one name in common may be chance
	for i := range languages {
		score := 0
		for _, names := range languages[i].names {
			if slices.ContainsFunc(names, func(name string) bool { return top[strings.ToLower(name)] != nil }) {
				score++
			}
		}
		if score > most {
			best, most = &languages[i], score
		}
	}
	return best
}
