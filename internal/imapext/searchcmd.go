package imapext

import (
	"strconv"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// searching are the commands that search. Whatever of a search the backend does not know,
// they are answered in the same way.
var searching = withMailbox(map[string]handler{
	"SEARCH":     {relay.Whole, search},
	"UID SEARCH": {relay.Whole, search},
})

var (
	// esearch is ESEARCH (RFC 4731): what SEARCH returns can be chosen.
	esearch = &feature{name: "ESEARCH", commands: searching}
	// searchWithin is WITHIN (RFC 5032): OLDER and YOUNGER.
	searchWithin = &feature{name: "WITHIN", commands: searching}
	// searchFuzzily is SEARCH=FUZZY (RFC 6203), where what matches loosely is what matches.
	searchFuzzily = &feature{name: "SEARCH=FUZZY", commands: searching}
	// searchUTF8 is I18NLEVEL=1 (RFC 5255): SEARCH in UTF-8.
	searchUTF8 = &feature{name: "I18NLEVEL=1", native: []string{"I18NLEVEL=2"}, commands: searching}
	// searchContext is CONTEXT=SEARCH (RFC 5267): parts of a result. Nobody is told of
	// changes of it, which the RFC allows for in section 4.3.1.
	searchContext = &feature{name: "CONTEXT=SEARCH", needs: []string{"ESEARCH"}, commands: withMailbox(searching, map[string]handler{
		"CANCELUPDATE": {relay.Whole, cancelUpdate},
	})}
)

// search carries out SEARCH and UID SEARCH, if there is something in it that the backend
// does not know.
func search(s *Session, c *command) func(*relay.Turn) error {
	args := c.args
	ret, err := parseReturn(&args)
	if err != nil {
		return s.refuseReturn(c)
	}
	charset, err := parseCharset(&args)
	if err != nil {
		return nil
	}
	cr := parseCriteria(charset, args)
	if !s.needs(cr) && !s.needsReturn(ret) {
		return nil
	}
	return func(t *relay.Turn) error {
		want := wantNumbers
		if c.uid {
			want = wantUIDs
		}
		if ret != nil && ret.save {
			want |= wantUIDs
		}
		if cr.byModseq() {
			want |= wantNumbers
		}
		f, status, err := s.find(t, cr, want)
		if err != nil {
			return err
		}
		if ret != nil && ret.save {
			if status, err = s.save(t, ret, f, status); err != nil {
				return err
			}
		}
		if status.OK {
			if err := s.narrowModseq(t, ret, f); err != nil {
				return err
			}
			ids := f.numbers
			if c.uid {
				ids = f.uids
			}
			if err := tellFound(t, c, ret, "SEARCH", ids, f.modseq); err != nil {
				return err
			}
		}
		return t.Tellf("%s %s", c.tag, status)
	}
}

// refuseReturn is for a RETURN that is not understood: if the backend knows none, it is
// refused here.
func (s *Session) refuseReturn(c *command) func(*relay.Turn) error {
	if !s.offer.answers("ESEARCH") {
		return nil
	}
	return func(t *relay.Turn) error { return t.Tellf("%s BAD Unknown or broken result options.", c.tag) }
}

// needsReturn says whether there are options that the backend does not know.
func (s *Session) needsReturn(r *returnOptions) bool {
	if r == nil {
		return false
	}
	answers := s.offer.answers
	return answers("ESEARCH") || r.save && answers("SEARCHRES") ||
		(r.partial != "" || r.update || r.context) && answers("CONTEXT=SEARCH")
}

// parseCharset takes CHARSET with its name, and the space behind it. Without it the name
// is empty.
func parseCharset(s *scanner) (string, error) {
	rest := *s
	if !strings.EqualFold(rest.word(), "CHARSET") {
		return "", nil
	}
	rest.spaces()
	name, err := rest.astring()
	if err != nil || !rest.take(' ') {
		return "", errSyntax
	}
	rest.spaces()
	*s = rest
	return name, nil
}

// tellFound answers SEARCH and SORT, by name, with messages in the order in which they are
// returned. A modseq of 0 is none.
func tellFound(t *relay.Turn, c *command, ret *returnOptions, name string, ids []uint32, modseq uint64) error {
	if ret == nil {
		line := append(append(make([]byte, 0, 16+8*len(ids)), "* "...), name...)
		for _, id := range ids {
			line = strconv.AppendUint(append(line, ' '), uint64(id), 10)
		}
		if modseq > 0 && len(ids) > 0 {
			line = append(strconv.AppendUint(append(line, " (MODSEQ "...), modseq, 10), ')')
		}
		return t.Tell(append(line, "\r\n"...))
	}
	if ret.update {
		// RFC 5267 section 4.3.1 leaves it to servers whether they tell changes.
		if err := t.Tellf("* NO [NOUPDATE %s] Changes of the result are not told.", quote(c.tag)); err != nil {
			return err
		}
	}
	if ret.quiet() {
		return nil
	}
	return t.Tell(ret.appendResult(nil, c, ids, modseq))
}

// cancelUpdate answers CANCELUPDATE (RFC 5267 section 4.3.5).
func cancelUpdate(_ *Session, c *command) func(*relay.Turn) error {
	return func(t *relay.Turn) error {
		return t.Tellf("%s NO There are no updates to be cancelled.", c.tag)
	}
}
