package imapext

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func someKnown(uids ...uint32) []known {
	out := make([]known, len(uids))
	for i, uid := range uids {
		out[i] = known{uid, &record{has: hasArrival, arrival: int64(uid)}}
	}
	return out
}

func TestCache(t *testing.T) {
	c := NewCache(4 << 10)
	key := func(i int) shelfKey { return shelfKey{"b\x00u", "INBOX", uint64(i)} }
	c.put(key(1), someKnown(1, 3, 5), nil)
	c.put(key(1), []known{{2, &record{has: hasSize}}, {3, &record{has: hasSize, size: 7}}}, nil)
	got := c.get(key(1))
	if len(got) != 4 || got[2].uid != 3 || got[2].size != 7 || got[2].arrival != 3 {
		t.Errorf("got %v", got)
	}
	// What has gone is forgotten, but of what came later nothing is known.
	c.put(key(1), someKnown(9), []uint32{1, 3})
	if got = c.get(key(1)); len(got) != 4 || got[1].uid != 3 || got[2].uid != 5 {
		t.Errorf("got %v", got)
	}
	if c.get(key(2)) != nil {
		t.Error("another UIDVALIDITY is the same")
	}
	if s := c.Stats(); s.Mailboxes != 1 || s.Bytes != shelfSize+int64(len("b\x00uINBOX"))+4*recordSize {
		t.Errorf("got %+v", s)
	}
	for i := range 100 {
		c.put(key(i), someKnown(1, 2, 3, 4), nil)
		c.get(key(1))
	}
	s := c.Stats()
	if s.Bytes > 4<<10 || s.Evicted == 0 || c.get(key(1)) == nil || c.get(key(99)) == nil || c.get(key(50)) != nil {
		t.Errorf("got %+v", s)
	}
	big := make([]uint32, 1000)
	for i := range big {
		big[i] = uint32(i + 1)
	}
	if c.put(key(200), someKnown(big...), nil); c.get(key(200)) != nil || c.Stats() != s {
		t.Errorf("too big a mailbox is held: %+v", c.Stats())
	}
	if c.SetLimit(0); c.Stats().Bytes != 0 || c.Stats().Mailboxes != 0 {
		t.Errorf("got %+v", c.Stats())
	}
}

// TestCacheAtOnce has many sessions use one mailbox.
func TestCacheAtOnce(t *testing.T) {
	c := NewCache(1 << 20)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				c.put(shelfKey{mailbox: "x"}, someKnown(uint32(1+i+8*j)), nil)
				for k, known := range c.get(shelfKey{mailbox: "x"}) {
					if known.arrival != int64(known.uid) {
						t.Errorf("at %d: %v", k, known)
					}
				}
			}
		})
	}
	wg.Wait()
	if n := len(c.get(shelfKey{mailbox: "x"})); n != 800 {
		t.Errorf("got %d", n)
	}
}

// typical is the header of an ordinary answer in a thread.
func typical(i int) []byte {
	var refs strings.Builder
	for j := range i % 6 {
		fmt.Fprintf(&refs, " <%d.%d@mail.example.org>", i, j)
	}
	return fmt.Appendf(nil, "Date: Mon, %d Nov 2026 12:%02d:%02d +0100\r\nFrom: =?utf-8?q?J=C3=B6rg?= Sender %d <sender%d@example.org>\r\n"+
		"To: Some Receiver <receiver%d@example.net>, Another <another@example.com>\r\nCc: list@example.org\r\n"+
		"Subject: Re: A question about the order of messages, number %d\r\nMessage-ID: <%d@mail.example.org>\r\nReferences:%s\r\n\r\n",
		1+i%28, i%60, i/60%60, i%500, i%500, i%20, i/3, i, refs.String())
}

func typicalMessages(n int) []message {
	var w recorder
	out := make([]message, n)
	for i := range out {
		r := &record{has: hasArrival | hasSize, arrival: int64(i), size: uint32(i * 7919 % 100000)}
		w.header(r, typical(i))
		out[i] = message{number: uint32(i + 1), record: r}
	}
	return out
}

// TestCacheSize has the headers of 10,000 messages take less than 4 MiB.
func TestCacheSize(t *testing.T) {
	c := NewCache(64 << 20)
	var all []known
	for _, m := range typicalMessages(10_000) {
		all = append(all, known{m.number, m.record})
	}
	c.put(shelfKey{"b\x00u", "INBOX", 1}, all, nil)
	if size := c.Stats().Bytes; size > 4<<20 {
		t.Errorf("%d bytes", size)
	} else {
		t.Logf("%d bytes", size)
	}
}

func BenchmarkRecord(b *testing.B) {
	var w recorder
	text := typical(5)
	b.ReportAllocs()
	for b.Loop() {
		var r record
		w.header(&r, text)
	}
}

func BenchmarkSort(b *testing.B) {
	messages := typicalMessages(10_000)
	for name, key := range sortKeys {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				order{key}.sort(append([]message(nil), messages...))
			}
		})
	}
}

func BenchmarkThread(b *testing.B) {
	messages := typicalMessages(10_000)
	for name, f := range threadings {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f(nil, append([]message(nil), messages...))
			}
		})
	}
}
