package imapext

import (
	"strings"
	"testing"
)

func TestParseHeader(t *testing.T) {
	h := parseHeader([]byte("From: a\r\n\tb\r\nSUBJECT : \r\n c\r\nsubject: no\r\nnonsense\r\n folded\r\nX: y\r\n" +
		"To:\r\nTo: second\r\nMessage-Id: <a@b>\r\nin-reply-to:x\nReferences: <c@d>\n <e@f>\nCc: z\nDate: 1"))
	for name, c := range map[string][2]string{
		"from": {string(h.from), "a b"}, "subject": {string(h.subject), "c"}, "to": {string(h.to), ""},
		"id": {string(h.messageID), "<a@b>"}, "in-reply-to": {string(h.inReplyTo), "x"},
		"references": {string(h.references), "<c@d> <e@f>"}, "cc": {string(h.cc), "z"}, "date": {string(h.date), "1"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: got %q, want %q", name, c[0], c[1])
		}
	}
}

func TestMessageIDs(t *testing.T) {
	for value, want := range map[string]string{
		"<a@b> <c@d>":                       "a@b c@d",
		"a@b":                               "",
		"<ab> <c@d>":                        "c@d",
		"<a@\r\n b>":                        "a@b",
		`<"a"@b>`:                           "a@b",
		`<"a b"@c> x`:                       "a b@c",
		"< a (x) @ b (y)>":                  "a@b",
		`<"a@b> <c@d>`:                      "c@d",
		"<a(@b> <c@d>":                      "c@d",
		"<a@[1.2]> <c@d>":                   "a@[1.2] c@d",
		"<a <b@c>":                          "a<b@c",
		"<a@b":                              "",
		strings.Repeat("<(", 200) + "<c@d>": "",
	} {
		var got []string
		ids := messageIDs{value: []byte(value)}
		for id := ids.next(); id != nil; id = ids.next() {
			got = append(got, string(id))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}

func TestRecord(t *testing.T) {
	var w recorder
	var r record
	w.header(&r, []byte("From: =?utf-8?q?J=C3=B6rg?= <Jo@x.org>\r\nTo: b@c\r\nSubject: Re: x\r\nMessage-ID: <1@x>\r\n"+
		"References: <2@x> <3@x>\r\nIn-Reply-To: <4@x>\r\n\r\n"))
	for k, want := range []string{"JO", "B", "", "JO\u0308RG", "B@C", "X"} {
		if got := r.text(textKey(k)); got != want {
			t.Errorf("key %d: got %q, want %q", k, got, want)
		}
	}
	id := func(text string) uint64 { return messageID(&messageIDs{value: []byte(text)}) }
	if r.id != id("<1@x>") || r.references() != 2 || r.reference(0) != id("<2@x>") || r.reference(1) != id("<3@x>") || !r.reply || r.dated {
		t.Errorf("got %+v", r)
	}
	var bytes record
	w.header(&bytes, []byte("From: \xe4 <a@b>\r\nTo: \xdf x <c@d>\r\n\r\n"))
	if from, to := bytes.text(keyDisplayFrom), bytes.text(keyDisplayTo); from != "\uFFFD" || to != "\uFFFD X" {
		t.Errorf("got %q and %q", from, to)
	}
	arrival := &record{has: hasArrival, arrival: 7}
	both := arrival.with(&r)
	if both.has != hasArrival|hasHeader || both.sent() != 7 || both.text(keySubject) != "X" || both.with(arrival) != both || arrival.with(both) != both {
		t.Errorf("got %+v", both)
	}
}

// TestManyReferences has only the last ones count.
func TestManyReferences(t *testing.T) {
	var w recorder
	var r record
	w.header(&r, []byte("References: <first@x>"+strings.Repeat(" <x@x>", 2*maxReferences)+" <last@x>\r\n"))
	if n := r.references(); n != maxReferences || r.reference(n-1) != messageID(&messageIDs{value: []byte("<last@x>")}) {
		t.Errorf("got %d references", n)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte("From: a@b\r\nSubject: =?utf-8?q?x?=\r\n y\r\nReferences: <a@b>\r\n <c@\"d\">\r\n\r\n"))
	f.Add([]byte("Message-ID: <(((((\nDate: 1 Jan 2020 1:1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var w recorder
		var r record
		w.header(&r, text)
		end := 0
		for k := range textKeys {
			if len(r.text(k)) > maxKey {
				t.Fatalf("key %d is too long", k)
			}
			end += len(r.text(k))
		}
		if end+8*r.references() != len(r.texts) {
			t.Fatal("something is left over")
		}
	})
}
