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
// has to be known of them; uids says that this is also their UIDs. If the status is not OK,
// it is for the client, and there are no messages. The memory that they take is taken from
// what all may have together, until it is given back.
func (s *Session) findMessages(t *relay.Turn, memory *share, c *command, cr *criteria, need fields, uids bool) (*found, []message, relay.Status, error) {
	if need&hasHeader != 0 {
		need |= hasArrival // which costs little then, and is asked for next
	}
	want := wantNumbers
	if c.uid {
		want = wantUIDs
	} else if uids {
		want |= wantUIDs
	}
	f, status, err := s.find(t, cr, want)
	if err != nil || !status.OK {
		return &found{}, nil, status, err
	}
	count := max(len(f.numbers), len(f.uids))
	switch {
	case count > maxOrdered:
		return &found{}, nil, tooMuch, nil
	case !memory.take(int64(count) * orderingSize):
		return &found{}, nil, tooMuchNow, nil
	}
	r := &recall{session: s, turn: t, memory: memory, need: need, uid: c.uid, all: cr.key != nil && cr.key.name == "ALL"}
	r.list = make([]message, count)
	for i := range r.list {
		m := &r.list[i]
		if len(f.uids) > 0 {
			m.uid = f.uids[i]
		}
		if m.number = m.uid; !c.uid {
			m.number = f.numbers[i]
		}
	}
	refused, err := r.learn()
	if err == nil && refused == nil && s.shifted {
		refused = &expunged
	}
	if refused != nil {
		return &found{}, nil, *refused, err
	}
	return f, r.list, status, err
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
	// list has the messages, in the order of the mailbox.
	list []message

	write recorder
	// got has what is found out, by what messages are named by; full is why there is no room
	// for more of it.
	got    map[uint32]known
	size   int
	full   *relay.Status
	memory *share
}

// nothing stands for what is known of a message of which the backend tells nothing.
var nothing = &record{}

// learn finds it out.
func (r *recall) learn() (*relay.Status, error) {
	cache := r.session.offer.cache
	key, cached := r.session.shelf()
	if cached {
		if refused, err := r.remember(cache.get(key)); refused != nil || err != nil {
			return refused, err
		}
	}
	missing := make([]uint32, 0, len(r.list))
	for _, m := range r.list {
		if m.record == nil {
			missing = append(missing, m.number)
		}
	}
	if cached {
		cache.count(len(r.list)-len(missing), len(missing))
	}
	if len(missing) == 0 {
		return nil, nil
	}
	if refused, err := r.ask(missing, r.items()); refused != nil || err != nil {
		return refused, err
	}
	added := make([]known, 0, len(missing))
	for i := range r.list {
		m := &r.list[i]
		if m.record != nil {
			continue
		}
		k := r.got[m.number]
		if m.record = k.record; k.record == nil {
			m.record = nothing
			continue
		}
		if m.uid == 0 {
			m.uid = k.uid
		}
		if k.uid > 0 && k.has&r.need == r.need {
			added = append(added, k)
		}
	}
	if cached {
		slices.SortFunc(added, func(a, b known) int { return cmp.Compare(a.uid, b.uid) })
		cache.put(key, added, r.present())
	}
	return nil, nil
}

// present returns the UIDs of all messages; nil if they are not known.
func (r *recall) present() []uint32 {
	if !r.all {
		return nil
	}
	uids := make([]uint32, len(r.list))
	for i, m := range r.list {
		uids[i] = m.uid
	}
	slices.Sort(uids)
	return uids
}

// remember fills in what is known already. If the UIDs of messages are not known, they
// have to be asked for.
func (r *recall) remember(shelf []known) (*relay.Status, error) {
	if len(shelf) == 0 {
		return nil, nil
	}
	if len(r.list) > 0 && r.list[0].uid == 0 {
		numbers := make([]uint32, len(r.list))
		for i, m := range r.list {
			numbers[i] = m.number
		}
		if refused, err := r.ask(numbers, "(UID)"); refused != nil || err != nil {
			return refused, err
		}
		for i := range r.list {
			r.list[i].uid = r.got[r.list[i].number].uid
		}
	}
	for i := range r.list {
		m := &r.list[i]
		// Mostly it is the next one.
		for len(shelf) > 0 && shelf[0].uid < m.uid {
			shelf = shelf[1:]
		}
		if len(shelf) > 0 && shelf[0].uid == m.uid && shelf[0].has&r.need == r.need {
			m.record = shelf[0].record
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
			return &relay.Status{Text: "[CANNOT] The mail server cannot tell what is needed for this."}, nil
		case r.full != nil:
			return r.full, nil
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
	r.session.numbered(!r.uid)
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
		case r.full != nil:
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
	switch r.size += rec.cost(); {
	case r.full != nil:
	case r.size > maxOrderedSize:
		r.full = &tooMuch
	case !r.memory.take(int64(rec.cost())):
		r.full = &tooMuchNow
	default:
		r.got[id] = known{uid, rec}
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
	return shelfKey{s.Owner, nameKey(m.name, ""), m.validity}, true
}
