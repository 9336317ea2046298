package imapext

import (
	"slices"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// searchResult is SEARCHRES (RFC 5182): $ stands for the result that was saved. It is kept
// by UIDs, so that messages that have gone need not be taken out of it.
var searchResult = &feature{name: "SEARCHRES", commands: withMailbox(searching, withSets)}

// withSets are the commands on sets of messages. If they are on $, they are carried out on
// the messages that it stands for, whoever answers them.
var withSets = map[string]handler{
	"FETCH": {relay.Whole, nil}, "UID FETCH": {relay.Whole, nil},
	"STORE": {relay.Whole, nil}, "UID STORE": {relay.Whole, nil},
	"COPY": {relay.Whole, nil}, "UID COPY": {relay.Whole, nil},
	"MOVE": {relay.Whole, nil}, "UID MOVE": {relay.Whole, nil},
	"UID EXPUNGE": {relay.Whole, nil},
}

const (
	// maxSaved is how many runs of numbers are saved in a session.
	maxSaved = 8 << 10
	// maxSavedLine is how long a set of them may be in a command that must not be cut into
	// pieces, in bytes.
	maxSavedLine = 2 * maxSetLine
)

// save saves what was found. If the search has failed, nothing is saved any more.
func (s *Session) save(t *relay.Turn, ret *returnOptions, f *found, status relay.Status) (relay.Status, error) {
	if !s.offer.answers("SEARCHRES") {
		return s.saveThere(t, ret, f, status)
	}
	if s.mailbox == nil || status.Bad {
		return status, nil
	}
	s.mailbox.saved = nil
	if !status.OK {
		return status, nil
	}
	set := numbersOf(ret.saves(f.uids))
	if len(set) > maxSaved {
		return relay.Status{Text: "[NOTSAVED] The result is too large to be saved."}, nil
	}
	s.mailbox.saved = slices.Clip(set)
	return status, nil
}

// saveThere has a backend that knows $ save what was found here.
func (s *Session) saveThere(t *relay.Turn, ret *returnOptions, f *found, status relay.Status) (relay.Status, error) {
	if status.Bad {
		return status, nil
	}
	key, refused := matchNone, status
	if status.OK && len(f.uids) > 0 {
		set := numbersOf(ret.saves(f.uids)).text()
		if len(set) <= maxSavedLine {
			key = &searchKey{name: "UID", args: []string{set}}
		} else {
			refused = relay.Status{Text: "[NOTSAVED] The result is too large to be saved."}
		}
	}
	text := newCriteriaText("SEARCH RETURN (SAVE) ")
	text.key(key, false)
	saved, err := t.Ask(func(r []byte) error { return s.aside(t, r, true) }, text.parts...)
	if err != nil || refused.OK && saved.OK {
		return status, err
	}
	if !refused.OK {
		return refused, nil
	}
	return saved, nil
}

// savedKey is what stands for $ in a search program.
func (s *Session) savedKey() *searchKey {
	if s.mailbox == nil || len(s.mailbox.saved) == 0 {
		return matchNone
	}
	saved := s.mailbox.saved
	if set := saved.text(); len(set) <= maxSetLine {
		return &searchKey{name: "UID", args: []string{set}}
	}
	return &searchKey{name: savedResult, exact: &matcher{needs: needsDates, matches: func(c *candidate) bool {
		return saved.has(c.uid)
	}}}
}

// useSaved carries out commands on $. It has no plan for others.
func useSaved(s *Session, c *command) func(*relay.Turn) error {
	if _, there := withSets[c.name]; !there || s.mailbox == nil {
		return nil
	}
	args := c.args
	args.spaces()
	if !args.take(savedResult[0]) || args.next() != ' ' && !(c.name == "UID EXPUNGE" && args.end()) {
		return nil
	}
	rest := string(args.rest) + "\r\n"
	return func(t *relay.Turn) error {
		if len(s.mailbox.saved) == 0 {
			return t.Tellf("%s OK No messages.", c.tag)
		}
		name, set := c.name, s.mailbox.saved.text()
		switch {
		case name == "COPY" || name == "MOVE":
			// Messages may go during them in any case.
			name = "UID " + name
		case !c.uid:
			status, err := s.numberSaved(t, &set)
			if err != nil {
				return err
			}
			if !status.OK || set == "" {
				return t.Tellf("%s %s", c.tag, status)
			}
		}
		return s.inSets(t, c, name, set, rest)
	}
}

// numberSaved returns the numbers of the messages that were saved, as they are now.
func (s *Session) numberSaved(t *relay.Turn, set *string) (relay.Status, error) {
	var ids []uint32
	var status relay.Status
	for _, piece := range cutSet(*set) {
		h, st, err := s.askSearch(t, false, "", &searchKey{name: "UID", args: []string{piece}})
		if status = st; err != nil || !status.OK {
			return status, err
		}
		ids = append(ids, h.ids...)
	}
	if len(s.held) > 0 {
		return expunged, nil
	}
	slices.Sort(ids)
	*set = string(appendNumbers(nil, slices.Compact(ids)))
	return status, nil
}

// inSets carries out a command on a set of messages, in several pieces if it is too long
// for one. Mails are passed on as they come.
func (s *Session) inSets(t *relay.Turn, c *command, name, set, rest string) error {
	if len(set) > maxSavedLine && (strings.HasSuffix(name, "COPY") || strings.HasSuffix(name, "MOVE")) {
		// Part of it would be no answer: all is copied, or nothing.
		return t.Tellf("%s NO [LIMIT] Too many messages at once.", c.tag)
	}
	pieces := []string{set}
	if len(set) > maxSavedLine {
		pieces = cutSet(set)
	}
	last := len(pieces) - 1
	for _, piece := range pieces[:last] {
		all := parts([]byte(rest))
		all[0] = name + " " + piece + all[0]
		all[len(all)-1] = strings.TrimRight(all[len(all)-1], "\r\n")
		status, err := t.Stream(
			func([]byte) bool { return len(s.held) == 0 },
			func(r []byte) error { return s.aside(t, r, !c.uid) }, all...,
		)
		switch {
		case err != nil:
			return err
		case !status.OK:
			return t.Tellf("%s %s", c.tag, status)
		case len(s.held) > 0:
			return t.Tellf("%s %s", c.tag, expunged)
		}
	}
	return s.goOn(t, parseCommand([]byte(c.tag+" "+name+" "+pieces[last]+rest)))
}

// goOn carries a command out in the place of another: by another feature, or by the
// backend.
func (s *Session) goOn(t *relay.Turn, c *command) error {
	if plan := s.planFor(c); plan != nil {
		return plan(t)
	}
	t.Forward(c.text)
	return nil
}
