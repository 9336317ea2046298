package imapext

import (
	"errors"
	"slices"
	"strings"
)

const (
	// maxPatterns is how many patterns a LIST may have, and maxPattern how long each of
	// them and the reference may be, in bytes.
	maxPatterns = 100
	maxPattern  = 1000
)

// listError is an error in a LIST. It is told to the client.
type listError string

func (e listError) Error() string { return string(e) }

// Errors in a LIST.
const (
	errListSyntax    = listError("Syntax error in LIST.")
	errSelectOption  = listError("Unknown selection option.")
	errReturnOption  = listError("Unknown return option.")
	errRecursive     = listError("RECURSIVEMATCH must not be the only selection option.")
	errStatusItem    = listError("Unknown STATUS item.")
	errListTooLong   = listError("Pattern too long.")
	errListTooMany   = listError("Too many patterns.")
	errStatusNothing = listError("No STATUS items.")
)

// listRequest is a LIST as RFC 5258 has extended it.
type listRequest struct {
	// extended says that it has what plain LIST has not.
	extended bool

	onlySubscribed, onlySpecial, recursive bool

	ref      string
	patterns []string

	subscribed, children, special bool
	// status are the STATUS items to return for each mailbox, in upper case.
	status []string
}

// parseList reads a LIST from behind its name. allowed says which options are known
// besides those of RFC 5258.
func parseList(s scanner, allowed listing) (*listRequest, error) {
	r := new(listRequest)
	if s.next() == '(' {
		r.extended = true
		if err := r.selection(&s, allowed); err != nil {
			return nil, err
		}
		if !s.take(' ') {
			return nil, errListSyntax
		}
		s.spaces()
	}
	var err error
	if r.ref, err = s.listMailbox(); err != nil || !s.take(' ') {
		return nil, errListSyntax
	}
	s.spaces()
	if err := r.readPatterns(&s); err != nil {
		return nil, err
	}
	if s.end() {
		return r, nil
	}
	if err := r.returns(&s, allowed); err != nil {
		return nil, err
	}
	if !s.end() {
		return nil, errListSyntax
	}
	return r, nil
}

// selection reads the selection options.
func (r *listRequest) selection(s *scanner, allowed listing) error {
	err := s.list(func() error {
		word, err := s.atom()
		if err != nil {
			return errListSyntax
		}
		switch word = strings.ToUpper(word); {
		case word == "SUBSCRIBED":
			r.onlySubscribed = true
		case word == "RECURSIVEMATCH":
			r.recursive = true
		case word == "REMOTE":
			// Which mailboxes are on other servers, a backend does not tell us.
		case word == "SPECIAL-USE" && allowed.special:
			r.onlySpecial = true
		default:
			return errSelectOption
		}
		return nil
	})
	switch {
	case errors.Is(err, errSyntax):
		return errListSyntax
	case err != nil:
		return err
	case r.recursive && !r.onlySubscribed && !r.onlySpecial:
		return errRecursive
	}
	// These options ask for the attribute as well.
	r.subscribed, r.special = r.onlySubscribed, r.onlySpecial
	return nil
}

// readPatterns reads one pattern, or several in parentheses.
func (r *listRequest) readPatterns(s *scanner) error {
	add := func() error {
		p, err := s.listMailbox()
		switch {
		case err != nil:
			return errListSyntax
		case len(p)+len(r.ref) > maxPattern:
			return errListTooLong
		case len(r.patterns) == maxPatterns:
			return errListTooMany
		}
		if !slices.Contains(r.patterns, p) {
			r.patterns = append(r.patterns, p)
		}
		return nil
	}
	if s.next() != '(' {
		return add()
	}
	r.extended = true
	if err := s.list(add); err != nil {
		if errors.Is(err, errSyntax) {
			return errListSyntax
		}
		return err
	}
	return nil
}

// returns reads RETURN and its options.
func (r *listRequest) returns(s *scanner, allowed listing) error {
	r.extended = true
	if !s.take(' ') {
		return errListSyntax
	}
	s.spaces()
	if word, _ := s.atom(); !strings.EqualFold(word, "RETURN") || !s.take(' ') {
		return errListSyntax
	}
	s.spaces()
	err := s.list(func() error {
		word, err := s.atom()
		if err != nil {
			return errListSyntax
		}
		switch word = strings.ToUpper(word); {
		case word == "SUBSCRIBED":
			r.subscribed = true
		case word == "CHILDREN":
			r.children = true
		case word == "SPECIAL-USE" && allowed.special:
			r.special = true
		case word == "STATUS" && allowed.status:
			s.spaces()
			r.status, err = statusItems(s, allowed)
			return err
		default:
			return errReturnOption
		}
		return nil
	})
	if errors.Is(err, errSyntax) {
		return errListSyntax
	}
	return err
}

// statusItems reads a list of STATUS items.
func statusItems(s *scanner, allowed listing) ([]string, error) {
	var items []string
	err := s.list(func() error {
		item, err := s.atom()
		if item = strings.ToUpper(item); err != nil || !slices.Contains(allowed.items, item) {
			return errStatusItem
		}
		if !slices.Contains(items, item) {
			items = append(items, item)
		}
		return nil
	})
	switch {
	case errors.Is(err, errSyntax):
		return nil, errListSyntax
	case err == nil && len(items) == 0:
		return nil, errStatusNothing
	}
	return items, err
}

// listMailbox takes a mailbox's name, or a pattern of such names.
func (s *scanner) listMailbox() (string, error) {
	switch s.next() {
	case '"', '{':
		return s.astring()
	}
	n := 0
	for n < len(s.rest) && s.rest[n] > ' ' && strings.IndexByte(`(){"`, s.rest[n]) < 0 {
		n++
	}
	if n == 0 {
		return "", errSyntax
	}
	name := string(s.rest[:n])
	s.rest = s.rest[n:]
	return name, nil
}
