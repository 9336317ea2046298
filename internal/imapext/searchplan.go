package imapext

import (
	"slices"
	"strconv"
	"time"
)

// need is how much has to be known of a message.
type need uint8

const (
	// needsDates is its UID and INTERNALDATE.
	needsDates need = iota + 1
	needsHeaders
	needsTexts
)

// matcher tells whether a message matches what the backend cannot look for.
type matcher struct {
	needs   need
	matches func(*candidate) bool
	// may is a program for the backend that all matching messages match, mayNot one that
	// all others match, and sure one that none but matching messages do. Nil is none.
	may, mayNot, sure *searchKey
	// fields are the header fields that it looks at.
	fields []string
	// needle is what it looks for in texts, mapped as it is compared, and headers
	// says that it looks for it in headers, too.
	needle  []byte
	headers bool
}

// Programs that all messages match, and none.
var (
	matchAll  = &searchKey{name: "ALL"}
	matchNone = &searchKey{op: searchNot, subs: []*searchKey{matchAll}}
)

// each calls f for a program and all its parts.
func (k *searchKey) each(f func(*searchKey)) {
	f(k)
	for _, sub := range k.subs {
		sub.each(f)
	}
}

// any says whether f is true for a program or one of its parts.
func (k *searchKey) any(f func(*searchKey) bool) bool {
	return f(k) || slices.ContainsFunc(k.subs, func(sub *searchKey) bool { return sub.any(f) })
}

// ours says whether a part of it is not for the backend.
func (k *searchKey) ours() bool {
	return k.any(func(k *searchKey) bool { return k.exact != nil })
}

// condensed returns a program as it is evaluated: what has parts that are ours is marked,
// and in a list all that is for the backend is one part. So its size does not depend on
// that.
func (k *searchKey) condensed() *searchKey {
	if !k.ours() || k.exact != nil {
		return k
	}
	out, native := &searchKey{op: k.op, mixed: true}, &searchKey{op: searchAnd}
	for _, sub := range k.subs {
		if k.op == searchAnd && !sub.ours() {
			native.subs = append(native.subs, sub)
			continue
		}
		out.subs = append(out.subs, sub.condensed())
	}
	if len(native.subs) > 0 {
		out.subs = slices.Insert(out.subs, 0, native.simple())
	}
	return out
}

// native says whether a part of a condensed program is for the backend.
func (k *searchKey) native() bool { return k.exact == nil && !k.mixed }

// prepare returns a program as it is carried out: what the backend does not know is
// replaced. ascii says that it only knows US-ASCII.
func (s *Session) prepare(k *searchKey, now time.Time, ascii bool) *searchKey {
	switch {
	case k.op == searchFuzzy && s.offer.answers("SEARCH=FUZZY"):
		return s.prepare(k.subs[0], now, ascii)
	case k.op == searchFuzzy:
		if sub := s.prepare(k.subs[0], now, ascii); !sub.ours() {
			return &searchKey{op: searchFuzzy, subs: []*searchKey{sub}}
		} else {
			return sub
		}
	case k.op != searchLeaf:
		subs := make([]*searchKey, len(k.subs))
		for i, sub := range k.subs {
			subs[i] = s.prepare(sub, now, ascii)
		}
		return combine(k.op, subs)
	case k.name == savedResult && s.offer.answers("SEARCHRES"):
		return s.savedKey()
	case (k.name == "OLDER" || k.name == "YOUNGER") && s.offer.answers("WITHIN"):
		return within(k, now)
	case ascii && !k.isASCII():
		return textLeaf(k)
	}
	return k
}

// isASCII says that a program has nothing but US-ASCII in it.
func (k *searchKey) isASCII() bool {
	return !k.any(func(k *searchKey) bool {
		return slices.ContainsFunc(k.args, func(arg string) bool { return !isASCII(arg) })
	})
}

// combine puts programs together, and leaves out what makes no difference.
func combine(op searchOp, subs []*searchKey) *searchKey {
	// One part decides an AND if it matches nothing, and an OR if it matches all.
	decides, neutral := matchNone, matchAll
	switch op {
	case searchNot:
		switch subs[0] {
		case matchAll:
			return matchNone
		case matchNone:
			return matchAll
		}
		return &searchKey{op: searchNot, subs: subs}
	case searchOr:
		decides, neutral = matchAll, matchNone
	}
	if slices.Contains(subs, decides) {
		return decides
	}
	subs = slices.DeleteFunc(slices.Clone(subs), func(k *searchKey) bool { return k == neutral })
	switch {
	case len(subs) == 0:
		return neutral
	case len(subs) == 1:
		return subs[0]
	case op == searchAnd:
		all := &searchKey{op: searchAnd}
		for _, sub := range subs {
			all.add(sub)
		}
		return all
	}
	return &searchKey{op: op, subs: subs}
}

// relax returns a program for the backend that matches all that k matches, and maybe more;
// or, if not is set, all that k does not match.
func (k *searchKey) relax(not bool) *searchKey {
	switch {
	case k.exact != nil && not && k.exact.mayNot != nil:
		return k.exact.mayNot
	case k.exact != nil && !not && k.exact.may != nil:
		return k.exact.may
	case k.exact != nil:
		return matchAll
	case k.native() && not:
		return combine(searchNot, []*searchKey{k})
	case k.native():
		return k
	case k.op == searchNot:
		return k.subs[0].relax(!not)
	}
	subs := make([]*searchKey, len(k.subs))
	for i, sub := range k.subs {
		subs[i] = sub.relax(not)
	}
	if (k.op == searchAnd) != not {
		return combine(searchAnd, subs)
	}
	// OR has two parts.
	any := matchNone
	for _, sub := range subs {
		any = combine(searchOr, []*searchKey{any, sub})
	}
	return any
}

// natives calls f for the largest parts that the backend can look for and that relax does
// not settle.
func (k *searchKey) natives(settled bool, f func(*searchKey)) {
	switch {
	case k.exact != nil:
		if k.exact.sure != nil {
			f(k.exact.sure)
		}
	case k.native():
		if !settled {
			f(k)
		}
	default:
		for _, sub := range k.subs {
			sub.natives(settled && k.op == searchAnd, f)
		}
	}
}

// parseNumber reads a number that was read before.
func parseNumber(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}
