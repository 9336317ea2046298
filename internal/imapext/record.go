package imapext

import (
	"encoding/binary"
	"hash/maphash"
	"math"
)

// fields are parts of a record, which are fetched by themselves.
type fields uint8

const (
	hasArrival fields = 1 << iota
	hasSize
	hasHeader
)

// textKey is one of the texts by which messages are ordered.
type textKey uint8

const (
	keyFrom textKey = iota
	keyTo
	keyCc
	keyDisplayFrom
	keyDisplayTo
	keySubject
	textKeys
)

const (
	// maxKey is how much of a text counts, in bytes.
	maxKey = 1 << 10
	// maxReferences is how many references of a message count. The last ones are those
	// nearest to it.
	maxReferences = 1000
)

// record is what SORT and THREAD know of a message. It is never changed.
type record struct {
	has fields
	// dated says that there is a sent date; reply that the subject is one of a reply, or
	// of what was forwarded.
	dated, reply bool
	size         uint32
	// arrival and date are seconds since 1970 UTC; id stands for the Message-ID, 0 if
	// there is none.
	arrival, date int64
	id            uint64
	// texts has all keys, ready to be compared, and the references behind them, 8 bytes
	// each. ends says where each key ends.
	texts string
	ends  [textKeys]uint16
}

// recordSize is what a record takes besides its texts, with its place in a list, in
// bytes.
const recordSize = 80

// cost is how much memory a record takes, in bytes.
func (r *record) cost() int { return recordSize + (len(r.texts)+15)&^15 }

// text returns a key.
func (r *record) text(k textKey) string {
	if k == 0 {
		return r.texts[:r.ends[0]]
	}
	return r.texts[r.ends[k-1]:r.ends[k]]
}

// sent returns the sent date, or the INTERNALDATE if there is none.
func (r *record) sent() int64 {
	if r.dated {
		return r.date
	}
	return r.arrival
}

// references returns how many there are.
func (r *record) references() int { return (len(r.texts) - int(r.ends[textKeys-1])) / 8 }

// reference returns one of them, the oldest first.
func (r *record) reference(i int) uint64 {
	return binary.LittleEndian.Uint64([]byte(r.texts[int(r.ends[textKeys-1])+8*i:][:8]))
}

// with returns a record that has also what another one has.
func (r *record) with(o *record) *record {
	if r == nil || r.has&^o.has == 0 {
		return o
	}
	if o.has&^r.has == 0 {
		return r
	}
	out := *r
	if o.has&hasArrival != 0 {
		out.arrival = o.arrival
	}
	if o.has&hasSize != 0 {
		out.size = o.size
	}
	if o.has&hasHeader != 0 {
		out.dated, out.reply, out.date, out.id = o.dated, o.reply, o.date, o.id
		out.texts, out.ends = o.texts, o.ends
	}
	out.has |= o.has
	return &out
}

// recorder makes records. Its buffers are used again.
type recorder struct{ texts, text []byte }

// header sets what is in the header of a message.
func (w *recorder) header(r *record, text []byte) {
	h := parseHeader(text)
	r.has |= hasHeader
	r.date, r.dated = sentDate(h.date)
	w.texts = w.texts[:0]
	end := func(k textKey) { r.ends[k] = uint16(len(w.texts)) }
	from, to := w.addressOf(h.from), w.addressOf(h.to)
	w.add(from.mailbox)
	end(keyFrom)
	w.add(to.mailbox)
	end(keyTo)
	w.add(w.addressOf(h.cc).mailbox)
	end(keyCc)
	w.add(w.display(from))
	end(keyDisplayFrom)
	w.add(w.display(to))
	end(keyDisplayTo)
	w.text = appendDecoded(w.text[:0], h.subject)
	var base []byte
	base, r.reply = baseSubject(appendCasemap(nil, w.text))
	w.texts = append(w.texts, base[:min(len(base), maxKey)]...)
	end(keySubject)
	r.id = messageID(&messageIDs{value: h.messageID})
	w.addReferences(h)
	r.texts = string(w.texts)
}

func (w *recorder) addressOf(value []byte) address {
	a, _ := firstAddress(value)
	return a
}

// display returns what RFC 5957 section 3 orders by.
func (w *recorder) display(a address) []byte {
	if w.text = appendDecoded(w.text[:0], a.name); len(w.text) > 0 {
		return w.text
	}
	return a.full()
}

// add adds a text to the keys.
func (w *recorder) add(text []byte) {
	before := len(w.texts)
	w.texts = appendCasemap(w.texts, text[:min(len(text), maxKey)])
	w.texts = w.texts[:min(len(w.texts), before+maxKey)]
}

// addReferences adds the Message-IDs of References, or if there is none in it the first
// one of In-Reply-To (RFC 5256 section 3, REFERENCES).
func (w *recorder) addReferences(h header) {
	begin, count := len(w.texts), 0
	for ids := (messageIDs{value: h.references}); ; count++ {
		id := messageID(&ids)
		if id == 0 {
			break
		}
		w.texts = binary.LittleEndian.AppendUint64(w.texts, id)
	}
	if extra := count - maxReferences; extra > 0 {
		w.texts = append(w.texts[:begin], w.texts[begin+8*extra:]...)
	}
	if count > 0 {
		return
	}
	if id := messageID(&messageIDs{value: h.inReplyTo}); id != 0 {
		w.texts = binary.LittleEndian.AppendUint64(w.texts, id)
	}
}

// idSeed is that of the numbers that stand for Message-IDs. Nobody can look for two with
// one number.
var idSeed = maphash.MakeSeed()

// messageID returns the number of the next Message-ID, 0 if there is none.
func messageID(ids *messageIDs) uint64 {
	text := ids.next()
	if text == nil {
		return 0
	}
	return max(1, maphash.Bytes(idSeed, text))
}

// saturated returns a size in 32 bits.
func saturated(n uint64) uint32 { return uint32(min(n, math.MaxUint32)) }
