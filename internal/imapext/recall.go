package imapext

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// Limits of what is ordered here. More is refused.
const (
	// maxOrdered is how many messages are ordered, and maxOrderedSize how much memory
	// what is known of them may take, in bytes.
	maxOrdered     = 250_000
	maxOrderedSize = 128 << 20
)

// tooMuch is for what is beyond the limits.
var tooMuch = relay.Status{Text: "[LIMIT] There are too many messages to be put in order."}

// findMessages returns the messages that match, in the order of the mailbox, with what
// has to be known of them. If the status is not OK, it is for the client.
func (s *Session) findMessages(t *relay.Turn, c *command, cr *criteria, need fields) (messages []message, modseq uint64, status relay.Status, err error) {
	want := wantNumbers
	if c.uid {
		want = wantUIDs
	}
	f, status, err := s.find(t, cr, want)
	if err != nil || !status.OK {
		return nil, 0, status, err
	}
	ids := f.numbers
	if c.uid {
		ids = f.uids
	}
	if len(ids) > maxOrdered {
		return nil, 0, tooMuch, nil
	}
	r := &recall{session: s, turn: t, need: need, uid: c.uid, all: cr.key != nil && cr.key.name == "ALL"}
	messages, refused, err := r.messages(ids)
	if refused != nil {
		status = *refused
	}
	return messages, f.modseq, status, err
}

// recall finds out what has to be known of messages: by the cache, and what it does not
// have from the backend.
type recall struct {
	session *Session
	turn    *relay.Turn
	need    fields
	// uid says that messages are named by UID and not by number, in questions as well.
	uid bool
	// all says that these are all messages of the mailbox.
	all bool

	write recorder
	// got has what is found out, by what messages are named by.
	got  map[uint32]known
	size int
}

// nothing stands for a message of which the backend tells nothing.
var nothing = &record{}

// messages returns messages that are named in ascending order.
func (r *recall) messages(ids []uint32) ([]message, *relay.Status, error) {
	out := make([]message, len(ids))
	for i, id := range ids {
		out[i] = message{id, nil}
	}
	key, cached := r.session.shelf()
	if cached {
		if refused, err := r.remember(out, r.session.offer.cache.get(key)); refused != nil || err != nil {
			return nil, refused, err
		}
	}
	var missing []uint32
	for _, m := range out {
		if m.record == nil {
			missing = append(missing, m.number)
		}
	}
	if cached {
		r.session.offer.cache.count(len(out)-len(missing), len(missing))
	}
	if len(missing) == 0 {
		return out, nil, nil
	}
	if refused, err := r.ask(missing, r.items()); refused != nil || err != nil {
		return nil, refused, err
	}
	added := make([]known, 0, len(missing))
	for i := range out {
		m := &out[i]
		if m.record != nil {
			continue
		}
		k := r.got[m.number]
		if m.record = k.record; k.record == nil {
			m.record = nothing
		} else if k.uid > 0 && k.has&r.need == r.need {
			added = append(added, k)
		}
	}
	if cached {
		slices.SortFunc(added, func(a, b known) int { return cmp.Compare(a.uid, b.uid) })
		r.session.offer.cache.put(key, added, r.present(out))
	}
	return out, nil, nil
}

// present returns the UIDs of all messages; nil if they are not known.
func (r *recall) present(messages []message) []uint32 {
	if !r.all {
		return nil
	}
	uids := make([]uint32, len(messages))
	for i, m := range messages {
		if uids[i] = m.number; !r.uid {
			uids[i] = r.got[m.number].uid
		}
	}
	slices.Sort(uids)
	return uids
}

// remember fills in what is known already. If messages are named by number, their UIDs
// have to be asked for.
func (r *recall) remember(messages []message, list []known) (*relay.Status, error) {
	if len(list) == 0 {
		return nil, nil
	}
	if !r.uid {
		numbers := make([]uint32, len(messages))
		for i, m := range messages {
			numbers[i] = m.number
		}
		if refused, err := r.ask(numbers, "(UID)"); refused != nil || err != nil {
			return refused, err
		}
	}
	for i := range messages {
		m := &messages[i]
		uid := m.number
		if !r.uid {
			uid = r.got[m.number].uid
		}
		// Mostly it is the next one.
		for len(list) > 0 && list[0].uid < uid {
			list = list[1:]
		}
		if len(list) > 0 && list[0].uid == uid && list[0].has&r.need == r.need {
			m.record = list[0].record
		}
	}
	return nil, nil
}

// items returns what to fetch.
func (r *recall) items() string {
	items := "(UID"
	if r.need&hasArrival != 0 {
		items += " INTERNALDATE"
	}
	if r.need&hasSize != 0 {
		items += " RFC822.SIZE"
	}
	if r.need&hasHeader != 0 {
		items += " BODY.PEEK[HEADER.FIELDS (" + headerFields + ")]"
	}
	return items + ")"
}

// ask fetches items. A backend that says NO has told what it could.
func (r *recall) ask(ids []uint32, items string) (*relay.Status, error) {
	if r.got == nil {
		r.got = make(map[uint32]known, len(ids))
	}
	command := "FETCH "
	if r.uid {
		command = "UID FETCH "
	}
	for _, set := range inPieces(ids) {
		status, err := r.turn.Ask(r.hear, command+set+" "+items)
		switch {
		case err != nil:
			return nil, err
		case status.Bad:
			return &status, nil
		case r.size > maxOrderedSize:
			return &tooMuch, nil
		}
	}
	return nil, nil
}

// hear reads one response.
func (r *recall) hear(response []byte) error {
	number, name, list := untagged(response)
	if name != "FETCH" || number == 0 || number > math.MaxUint32 {
		return r.session.aside(r.turn, response, !r.uid)
	}
	var uid uint32
	var flags string
	rec := &record{}
	asked, others := false, false
	err := list.list(func() error {
		name, err := list.atom()
		if err != nil {
			return err
		}
		list.spaces()
		switch name = strings.ToUpper(name); {
		case name == "UID":
			n, err := list.number()
			uid = uint32(min(n, math.MaxUint32))
			return err
		case name == "FLAGS":
			value := list.rest
			err = list.skip()
			flags = string(value[:len(value)-len(list.rest)])
			return err
		case r.size > maxOrderedSize:
			asked = true
			return list.skip()
		}
		mine, err := r.item(rec, name, &list)
		asked, others = asked || mine, others || !mine
		return err
	})
	if err != nil || others || flags != "" && !asked {
		// What was not asked for is news to the client.
		err = r.session.aside(r.turn, response, !r.uid)
	} else if flags != "" {
		news := "* " + formatNumber(uint32(number)) + " FETCH ("
		if r.uid {
			news += "UID " + formatNumber(uid) + " "
		}
		err = r.session.aside(r.turn, []byte(news+"FLAGS "+flags+")\r\n"), !r.uid)
	}
	id := uint32(number)
	if r.uid {
		id = uid
	}
	if have := r.got[id]; have.record != nil {
		rec = have.with(rec)
	}
	if r.size <= maxOrderedSize {
		r.got[id] = known{uid, rec}
		r.size += rec.cost()
	}
	return err
}

// item reads an item and says whether it is one that is asked for.
func (r *recall) item(rec *record, name string, s *scanner) (bool, error) {
	switch {
	case name == "INTERNALDATE":
		text, err := s.astring()
		if err != nil {
			return true, err
		}
		rec.arrival, _ = internalDate(text)
		rec.has |= hasArrival
	case name == "RFC822.SIZE":
		n, err := s.number()
		rec.size = saturated(n)
		rec.has |= hasSize
		return true, err
	case strings.HasPrefix(name, "BODY[HEADER.FIELDS"):
		text, _, err := s.nstring()
		if err != nil {
			return true, err
		}
		r.write.header(rec, []byte(text))
	default:
		return false, s.skip()
	}
	return true, nil
}

// shelf returns where the cache has the mailbox that is selected; false if it may have
// nothing of it.
func (s *Session) shelf() (shelfKey, bool) {
	m := s.mailbox
	if s.offer.cache == nil || s.Owner == "" || m == nil || m.validity == 0 || m.uidNotSticky {
		return shelfKey{}, false
	}
	name := m.name
	if strings.EqualFold(name, "INBOX") {
		name = "INBOX"
	}
	return shelfKey{s.Owner, name, m.validity}, true
}
