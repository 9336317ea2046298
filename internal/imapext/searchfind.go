package imapext

import (
	"slices"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// criteria are what a client searches by. SORT and THREAD have them, too.
type criteria struct {
	// charset is as the client has written it; empty without.
	charset string
	// key is the program; nil if it has something in it that only the backend can know.
	key *searchKey
	// raw is the program as it came.
	raw []byte
}

// parseCriteria reads a search program up to the end.
func parseCriteria(charset string, s scanner) *criteria {
	cr := &criteria{charset: charset, raw: s.rest}
	if key, err := parseSearch(&s); err == nil {
		cr.key = key
	}
	return cr
}

// need says whether there is something in it that the backend does not know.
func (s *Session) needs(cr *criteria) bool {
	if cr.key == nil {
		return false
	}
	answers := s.offer.answers
	return answers("I18NLEVEL=1") && cr.charset != "" || cr.key.any(func(k *searchKey) bool {
		switch {
		case k.op == searchFuzzy:
			return answers("SEARCH=FUZZY")
		case k.name == savedResult:
			return answers("SEARCHRES")
		case k.name == "OLDER" || k.name == "YOUNGER":
			return answers("WITHIN")
		}
		return false
	})
}

// wanted is what a search is to find.
type wanted uint8

const (
	wantNumbers wanted = 1 << iota
	wantUIDs
)

// found are the messages that match, in the order of the mailbox. Of numbers and uids
// those are there that were wanted, in the same order; a message that has gone meanwhile
// may be missing in both.
type found struct {
	numbers, uids []uint32
	// modseq is the highest mod-sequence of theirs; 0 if there is none. loose says that
	// it may be that of another message.
	modseq uint64
	loose  bool
}

// find looks for messages. If the status is not OK, it is to be told to the client.
func (s *Session) find(t *relay.Turn, cr *criteria, want wanted) (*found, relay.Status, error) {
	f, status, err := s.findAny(t, cr, want)
	if err == nil && status.OK && s.shifted {
		return nil, expunged, nil
	}
	return f, status, err
}

func (s *Session) findAny(t *relay.Turn, cr *criteria, want wanted) (*found, relay.Status, error) {
	if cr.charset != "" && !isFieldName(cr.charset) {
		return nil, unknownCharset, nil
	}
	if cr.key == nil {
		return s.findRaw(t, cr, want)
	}
	charset := cr.charset
	mine := s.offer.answers("I18NLEVEL=1")
	if mine && (charset == "" || isUTF8(charset)) && cr.key.isASCII() {
		charset = ""
	}
	ascii := mine && isUTF8(charset) && s.offer.asciiOnly.Load()
	if !ascii {
		f, status, err := s.findBy(t, s.prepare(cr.key, s.now(), false), charset, want)
		if err != nil || charset == "" || !mine || !refusesCharset(status) {
			return f, status, err
		}
		if !isUTF8(charset) {
			return nil, unknownCharset, nil
		}
		s.offer.asciiOnly.Store(true)
	}
	return s.findBy(t, s.prepare(cr.key, s.now(), true), "", want)
}

// unknownCharset refuses a charset.
var unknownCharset = relay.Status{Text: "[BADCHARSET (US-ASCII UTF-8)] This charset is not known."}

func isUTF8(charset string) bool {
	return strings.EqualFold(charset, "UTF-8") || strings.EqualFold(charset, "US-ASCII")
}

// refusesCharset says whether a backend has refused a search because of its charset. Some
// do not understand the word.
func refusesCharset(s relay.Status) bool {
	return s.Bad || !s.OK && strings.Contains(strings.ToUpper(s.Text), "CHARSET")
}

// findBy looks for what matches a program that was prepared.
func (s *Session) findBy(t *relay.Turn, key *searchKey, charset string, want wanted) (*found, relay.Status, error) {
	if key == matchNone && s.mailbox != nil {
		return &found{}, relay.Status{OK: true, Text: "Search completed."}, nil
	}
	if key.ours() {
		return s.findHere(t, key, charset, want)
	}
	if want == wantUIDs {
		h, status, err := s.askSearch(t, true, charset, key)
		return &found{uids: h.ids, modseq: h.modseq}, status, err
	}
	h, status, err := s.askSearch(t, false, charset, key)
	return s.withUIDs(t, h, status, err, want)
}

// findRaw is find for a program that only the backend understands.
func (s *Session) findRaw(t *relay.Turn, cr *criteria, want wanted) (*found, relay.Status, error) {
	p := parts(cr.raw)
	text := "SEARCH "
	if want == wantUIDs {
		text = "UID SEARCH "
	}
	if cr.charset != "" {
		text += "CHARSET " + cr.charset + " "
	}
	p[0] = text + p[0]
	h, status, err := s.askHits(t, want == wantUIDs, p)
	if want == wantUIDs {
		return &found{uids: h.ids, modseq: h.modseq}, status, err
	}
	return s.withUIDs(t, h, status, err, want)
}

// withUIDs adds the UIDs to messages that were found by number, if they are wanted.
func (s *Session) withUIDs(t *relay.Turn, h *hits, status relay.Status, err error, want wanted) (*found, relay.Status, error) {
	f := &found{numbers: h.ids, modseq: h.modseq}
	if err != nil || !status.OK || want&wantUIDs == 0 {
		return f, status, err
	}
	f.uids = make([]uint32, len(f.numbers))
	failed, err := s.askFetch(t, f.numbers, "(UID)", func(number uint32, name string, value *scanner) (bool, error) {
		if name != "UID" {
			return false, nil
		}
		uid, err := value.number()
		if i, there := slices.BinarySearch(f.numbers, number); there {
			f.uids[i] = uint32(uid)
			return true, err
		}
		return false, err
	})
	if err == nil && failed.Bad {
		return f, failed, nil
	}
	f.clean()
	return f, status, err
}

// clean drops messages whose UIDs are not known: they have gone.
func (f *found) clean() {
	n := 0
	for i, uid := range f.uids {
		if uid > 0 {
			f.uids[n], f.numbers[n] = uid, f.numbers[i]
			n++
		}
	}
	f.uids, f.numbers = f.uids[:n], f.numbers[:n]
}
