package imapext

import (
	"cmp"
	"slices"
	"strings"
)

// sortKind is what a sort key compares.
type sortKind uint8

const (
	byArrival sortKind = iota
	byDate
	bySize
	byText
)

// sortKey is one key of SORT (RFC 5256 section 3, RFC 5957).
type sortKey struct {
	kind    sortKind
	text    textKey
	reverse bool
}

// sortKeys are the keys by name.
var sortKeys = map[string]sortKey{
	"ARRIVAL":     {kind: byArrival},
	"DATE":        {kind: byDate},
	"SIZE":        {kind: bySize},
	"FROM":        {kind: byText, text: keyFrom},
	"TO":          {kind: byText, text: keyTo},
	"CC":          {kind: byText, text: keyCc},
	"SUBJECT":     {kind: byText, text: keySubject},
	"DISPLAYFROM": {kind: byText, text: keyDisplayFrom},
	"DISPLAYTO":   {kind: byText, text: keyDisplayTo},
}

// order is what SORT orders by. A key that comes again cannot change anything.
type order []sortKey

// readOrder reads the list of sort keys. reverse says whether what comes next is to be
// reversed; twice REVERSE is none.
func readOrder(s *scanner) (order, error) {
	var keys order
	seen := make(map[string]bool)
	reverse, open := false, false
	err := s.list(func() error {
		word, err := s.astring()
		if err != nil {
			return err
		}
		word = strings.ToUpper(word)
		if open = word == "REVERSE"; open {
			reverse = !reverse
			return nil
		}
		key, known := sortKeys[word]
		if !known {
			return errSyntax
		}
		if !seen[word] {
			seen[word] = true
			key.reverse = reverse
			keys = append(keys, key)
			reverse = false
		}
		return nil
	})
	if err != nil || open || len(keys) == 0 {
		return nil, errSyntax
	}
	return keys, nil
}

// needs returns what has to be known of messages.
func (o order) needs() fields {
	var f fields
	for _, k := range o {
		switch k.kind {
		case byArrival:
			f |= hasArrival
		case bySize:
			f |= hasSize
		case byDate:
			f |= hasHeader | hasArrival
		case byText:
			f |= hasHeader
		}
	}
	return f
}

// display says whether a key is of RFC 5957.
func (o order) display() bool {
	return slices.ContainsFunc(o, func(k sortKey) bool {
		return k.kind == byText && (k.text == keyDisplayFrom || k.text == keyDisplayTo)
	})
}

// message is one that is to be ordered.
type message struct {
	// number is what the client names it by, which may be its UID. The uid is 0 if it
	// is not known.
	number, uid uint32
	*record
}

// sort orders messages. Those that no key tells apart are in order of their numbers,
// which is never reversed.
func (o order) sort(messages []message) {
	slices.SortFunc(messages, func(a, b message) int {
		for _, k := range o {
			if c := k.compare(a.record, b.record); c != 0 {
				if k.reverse {
					return -c
				}
				return c
			}
		}
		return cmp.Compare(a.number, b.number)
	})
}

func (k sortKey) compare(a, b *record) int {
	switch k.kind {
	case byArrival:
		return cmp.Compare(a.arrival, b.arrival)
	case byDate:
		return cmp.Compare(a.sent(), b.sent())
	case bySize:
		return cmp.Compare(a.size, b.size)
	}
	return strings.Compare(a.text(k.text), b.text(k.text))
}
