package imapext

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// Limits of what is looked at here. A search beyond them is refused.
const (
	// maxOurs is how many parts of a program are answered here, and maxNatives how many
	// times the backend is asked for one program.
	maxOurs    = 32
	maxNatives = 16
	// maxHeaders is how many messages have their header fields fetched, and maxTexts how
	// many all of their text; maxSearched is how much of it, in bytes.
	maxHeaders  = 50_000
	maxTexts    = 2_000
	maxSearched = 128 << 20
)

// errLimit says that too much would have to be looked at.
var errLimit = fmt.Errorf("more than %d texts, %d headers or %d bytes to search", maxTexts, maxHeaders, maxSearched)

// candidate is a message that may match.
type candidate struct {
	number, uid uint32
	date        int64
	// known is how much is known of it.
	known need
	// verdict is whether it matches.
	verdict verdict
	// header and text have what is looked at just now.
	header *searchedHeader
	text   *searchedText
}

// verdict is whether a message matches.
type verdict uint8

const (
	undecided verdict = iota
	matched
	unmatched
)

func verdictOf(ok bool) verdict {
	if ok {
		return matched
	}
	return unmatched
}

// here is a search of which a part is answered here. All of it is done by numbers of
// messages, so that these cannot change between two questions.
type here struct {
	session *Session
	turn    *relay.Turn
	key     *searchKey
	want    wanted
	// natives are the parts of the program for which the backend is asked, and nativeHits
	// the messages that match them.
	natives    []*searchKey
	nativeHits map[*searchKey][]uint32
	// candidates are in the order of their numbers.
	candidates []candidate
	// needs says which needs there are, fields what header fields.
	needs  [needsTexts + 1]bool
	fields []string
	// searched is how many bytes were looked at.
	searched int64
}

// findHere looks for what matches a program of which a part is answered here: the backend
// tells which messages may match, and these are looked at, the cheap way first.
func (s *Session) findHere(t *relay.Turn, key *searchKey, charset string, want wanted) (*found, relay.Status, error) {
	h := &here{session: s, turn: t, key: key.condensed(), want: want, nativeHits: make(map[*searchKey][]uint32)}
	if !h.measure() {
		return nil, relay.Status{Text: "[LIMIT] The search is too complex."}, nil
	}
	may, status, err := s.askSearch(t, false, charset, h.key.relax(false))
	if err != nil || !status.OK {
		return nil, status, err
	}
	memory := &share{budget: orderBudget}
	defer memory.giveBack()
	if !memory.take(int64(len(may.ids)) * candidateSize) {
		return nil, tooMuchNow, nil
	}
	h.candidates = make([]candidate, len(may.ids))
	for i, id := range may.ids {
		h.candidates[i].number = id
	}
	if refused, err := h.askNatives(charset); err != nil || refused != nil {
		return nil, *refused, err
	}
	h.judge()
	for level := needsDates; level <= needsTexts; level++ {
		refused, err := h.learn(level)
		switch {
		case errors.Is(err, errLimit):
			return nil, relay.Status{Text: "[LIMIT] Too many messages would have to be read for this search."}, nil
		case err != nil:
			return nil, relay.Status{}, err
		case refused != nil:
			return nil, *refused, nil
		}
	}
	hit := &hits{modseq: may.modseq}
	for i := range h.candidates {
		if h.candidates[i].verdict == matched {
			hit.ids = append(hit.ids, h.candidates[i].number)
		}
	}
	f, status, err := s.withUIDs(t, hit, status, nil, want)
	f.loose = true
	return f, status, err
}

// measure notes what the program needs, and says whether it can be done.
func (h *here) measure() bool {
	ours := 0
	h.key.each(func(k *searchKey) {
		if k.exact != nil {
			ours++
			h.needs[k.exact.needs] = true
			h.fields = append(h.fields, k.exact.fields...)
		}
	})
	slices.Sort(h.fields)
	h.fields = slices.Compact(h.fields)
	h.key.natives(true, func(k *searchKey) { h.natives = append(h.natives, k) })
	return ours <= maxOurs && len(h.natives) <= maxNatives
}

// askNatives asks for the parts of the program that the backend can look for.
func (h *here) askNatives(charset string) (*relay.Status, error) {
	if len(h.candidates) == 0 {
		return nil, nil
	}
	for _, key := range h.natives {
		hit, status, err := h.session.askSearch(h.turn, false, charset, key)
		if err != nil || !status.OK {
			return &status, err
		}
		h.nativeHits[key] = hit.ids
	}
	return nil, nil
}

// judge decides what can be decided.
func (h *here) judge() {
	for i := range h.candidates {
		if c := &h.candidates[i]; c.verdict == undecided {
			c.verdict = h.eval(h.key, c, true)
		}
	}
}

// eval says whether a message matches a part of the program. settled says that the backend
// has told so already, for parts that are its own.
func (h *here) eval(k *searchKey, c *candidate, settled bool) verdict {
	switch {
	case k.exact != nil:
		if c.known < k.exact.needs {
			if _, sure := slices.BinarySearch(h.nativeHits[k.exact.sure], c.number); sure {
				return matched
			}
			return undecided
		}
		return verdictOf(k.exact.matches(c))
	case k == matchAll:
		return matched
	case k.native():
		if settled {
			return matched
		}
		_, there := slices.BinarySearch(h.nativeHits[k], c.number)
		return verdictOf(there)
	case k.op == searchNot:
		switch h.eval(k.subs[0], c, false) {
		case matched:
			return unmatched
		case unmatched:
			return matched
		}
		return undecided
	}
	decides, all := unmatched, matched
	if k.op == searchOr {
		decides, all = matched, unmatched
	}
	for _, sub := range k.subs {
		switch v := h.eval(sub, c, settled && k.op == searchAnd); {
		case v == decides:
			return decides
		case v == undecided:
			all = undecided
		}
	}
	return all
}

// open returns the numbers of messages that are undecided.
func (h *here) open() []uint32 {
	var ids []uint32
	for i := range h.candidates {
		if h.candidates[i].verdict == undecided {
			ids = append(ids, h.candidates[i].number)
		}
	}
	return ids
}

// candidate returns the one with a number; nil if there is none that is undecided.
func (h *here) candidate(number uint32) *candidate {
	i, there := slices.BinarySearchFunc(h.candidates, number, func(c candidate, n uint32) int { return cmp.Compare(c.number, n) })
	if !there || h.candidates[i].verdict != undecided {
		return nil
	}
	return &h.candidates[i]
}

// learn fetches what a level of knowledge needs, and decides by it.
func (h *here) learn(level need) (*relay.Status, error) {
	if !h.needs[level] {
		return nil, nil
	}
	ids := h.open()
	var status relay.Status
	var err error
	switch {
	case len(ids) == 0:
		return nil, nil
	case level == needsDates:
		status, err = h.learnDates(ids)
	case level == needsHeaders:
		status, err = h.learnHeaders(ids)
	default:
		status, err = h.learnTexts(ids)
	}
	if err == nil && status.Bad {
		return &status, nil
	}
	return nil, err
}

// learnDates fetches UIDs and INTERNALDATEs.
func (h *here) learnDates(ids []uint32) (relay.Status, error) {
	status, err := h.session.askFetch(h.turn, ids, "(UID INTERNALDATE)", func(number uint32, name string, value *scanner) (bool, error) {
		c := h.candidate(number)
		switch {
		case c == nil:
			return false, nil
		case name == "UID":
			uid, err := value.number()
			c.uid = uint32(uid)
			return true, err
		case name == "INTERNALDATE":
			text, err := value.astring()
			if err != nil {
				return false, err
			}
			if date, ok := parseInternalDate(text); ok {
				c.date, c.known = date, needsDates
			}
			return true, nil
		}
		return false, nil
	})
	h.judge()
	return status, err
}

// learnHeaders fetches header fields, and decides by each message's as they come.
func (h *here) learnHeaders(ids []uint32) (relay.Status, error) {
	if len(ids) > maxHeaders {
		return relay.Status{}, errLimit
	}
	items := "(BODY.PEEK[HEADER.FIELDS (" + strings.Join(h.fields, " ") + ")])"
	return h.session.askFetch(h.turn, ids, items, func(number uint32, name string, value *scanner) (bool, error) {
		c := h.candidate(number)
		if c == nil || !strings.HasPrefix(name, "BODY[HEADER") {
			return false, nil
		}
		text, _, err := value.nstring()
		if err != nil {
			return false, err
		}
		if h.searched += int64(len(text)); h.searched > maxSearched {
			return true, errLimit
		}
		if h.needs[needsDates] && c.known < needsDates {
			return true, nil // it was about to go when its date was asked for
		}
		known := c.known
		c.header, c.known = parseSearchedHeader([]byte(text)), needsHeaders
		c.verdict = h.eval(h.key, c, true)
		c.header, c.known = nil, known
		return true, nil
	})
}

// learnTexts looks through the texts, one after the other.
func (h *here) learnTexts(ids []uint32) (relay.Status, error) {
	if len(ids) > maxTexts {
		return relay.Status{}, errLimit
	}
	for _, id := range ids {
		c := h.candidate(id)
		reader := &messageReader{here: h, number: id}
		c.text, c.known = newSearchedText(reader.more, h.key), needsTexts
		if reader.err == nil && reader.there {
			c.header = c.text.header
			c.verdict = h.eval(h.key, c, true)
		}
		c.header, c.text, c.known = nil, nil, needsDates
		switch {
		case reader.err != nil:
			return relay.Status{}, reader.err
		case reader.status.Bad:
			return reader.status, nil
		}
	}
	return relay.Status{OK: true}, nil
}
