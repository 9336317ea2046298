package imapext

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// maxHits is how many messages a backend may find.
const maxHits = 5_000_000

// hits are messages that a backend has found, by number or by UID, in order.
type hits struct {
	ids []uint32
	// modseq is the highest mod-sequence of theirs (RFC 7162); 0 if none was told.
	modseq uint64
}

// askSearch has the backend search.
func (s *Session) askSearch(t *relay.Turn, uid bool, charset string, key *searchKey) (*hits, relay.Status, error) {
	text := newCriteriaText("SEARCH ")
	if uid {
		text = newCriteriaText("UID SEARCH ")
	}
	if charset != "" {
		text.text("CHARSET " + charset + " ")
	}
	text.key(key, false)
	return s.askHits(t, uid, text.parts)
}

// askHits puts a command to the backend that is answered by SEARCH.
func (s *Session) askHits(t *relay.Turn, uid bool, parts []string) (*hits, relay.Status, error) {
	found := &hits{}
	status, err := t.Ask(func(r []byte) error {
		switch _, name, list := untagged(r); name {
		case "SEARCH":
			return found.read(&list)
		case "ESEARCH":
			return found.readExtended(&list)
		}
		return s.aside(t, r, !uid)
	}, parts...)
	slices.Sort(found.ids)
	found.ids = slices.Compact(found.ids)
	return found, status, err
}

// read reads what is behind the name of a SEARCH response.
func (h *hits) read(s *scanner) error {
	for {
		s.spaces()
		switch b := s.next(); {
		case b == 0:
			return nil
		case b == '(':
			if err := s.list(func() error {
				name, err := s.atom()
				s.spaces()
				if err == nil && strings.EqualFold(name, "MODSEQ") {
					h.modseq, err = s.number()
				}
				return err
			}); err != nil {
				return relay.ErrResponse
			}
		default:
			n, err := s.number()
			if err != nil || n == 0 || n > math.MaxUint32 || len(h.ids) == maxHits {
				return relay.ErrResponse
			}
			h.ids = append(h.ids, uint32(n))
		}
	}
}

// readExtended reads what is behind the name of an ESEARCH response, with which a backend
// answers any search if the client has enabled IMAP4rev2 (RFC 9051 section 7.3.4).
func (h *hits) readExtended(s *scanner) error {
	s.spaces()
	if s.next() == '(' && s.skip() != nil {
		return relay.ErrResponse
	}
	for s.spaces(); !s.end(); s.spaces() {
		name, err := s.atom()
		if err != nil {
			return relay.ErrResponse
		}
		s.spaces()
		switch name = strings.ToUpper(name); name {
		case "UID":
		case "MODSEQ":
			h.modseq, err = s.number()
		case "ALL":
			var text string
			if text, err = s.atom(); err == nil {
				err = h.add(text)
			}
		default:
			err = s.skip()
		}
		if err != nil {
			return relay.ErrResponse
		}
	}
	return nil
}

// add adds a set of numbers.
func (h *hits) add(text string) error {
	set, err := parseNumbers(text, 0)
	if err != nil {
		return err
	}
	for _, s := range set {
		if s.first == 0 || int64(s.last-s.first) >= int64(maxHits-len(h.ids)) {
			return errSyntax
		}
		for n := s.first; ; n++ {
			if h.ids = append(h.ids, n); n == s.last {
				break
			}
		}
	}
	return nil
}

// askFetch has items of messages fetched, in several commands if need be. each gets the
// items of a message, one after the other, and says which of them it has asked for; what
// else the backend says passes. ids are numbers of messages, never UIDs. A status
// other than OK is that of the first command that failed, and the rest is asked for all the same.
func (s *Session) askFetch(t *relay.Turn, ids []uint32, items string, each func(number uint32, name string, value *scanner) (bool, error)) (relay.Status, error) {
	result := relay.Status{OK: true}
	for _, set := range inPieces(ids) {
		status, err := t.Ask(func(r []byte) error {
			number, name, list := untagged(r)
			if name != "FETCH" || number == 0 || number > math.MaxUint32 {
				return s.aside(t, r, true)
			}
			return s.fetched(t, r, uint32(number), &list, each)
		}, "FETCH "+set+" "+items)
		if err != nil {
			return status, err
		}
		if !status.OK && result.OK {
			result = status
		}
	}
	return result, nil
}

// fetched reads the items of one FETCH response. Flags that have changed are told to the
// client, if nothing else was said.
func (s *Session) fetched(t *relay.Turn, r []byte, number uint32, list *scanner, each func(uint32, string, *scanner) (bool, error)) error {
	s.numbered(true)
	var flags []byte
	asked := false
	err := list.list(func() error {
		name, err := list.atom()
		if err != nil {
			return err
		}
		list.spaces()
		value := *list
		if err := list.skip(); err != nil {
			return err
		}
		value.rest = value.rest[:len(value.rest)-len(list.rest)]
		if name = strings.ToUpper(name); name == "FLAGS" {
			flags = value.rest
			return nil
		}
		mine, err := each(number, name, &value)
		asked = asked || mine
		return err
	})
	switch {
	case err != nil && !errors.Is(err, errSyntax):
		return err
	case !asked:
		return s.aside(t, r, true)
	case flags != nil:
		return s.aside(t, bytes.Join([][]byte{[]byte("* " + formatNumber(number) + " FETCH (FLAGS "), flags, []byte(")\r\n")}, nil), true)
	}
	return nil
}

// parseInternalDate reads an INTERNALDATE (RFC 3501 section 9, date-time), as seconds
// since 1970.
func parseInternalDate(text string) (int64, bool) {
	at, err := time.Parse("_2-Jan-2006 15:04:05 -0700", text)
	if err != nil {
		at, err = time.Parse("2-Jan-2006 15:04:05 -0700", strings.TrimSpace(text))
	}
	return at.Unix(), err == nil
}
