package imapext

import (
	"encoding/base64"
	"reflect"
	"strings"
	"testing"
	"time"
)

// FuzzSearch has what is parsed written again, which must be the same program.
func FuzzSearch(f *testing.F) {
	for _, text := range []string{
		`FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"`, `(OR $ 1,3000:3021) TEXT {8+}` + "\r\nabcdefgh", `FUZZY (SUBJECT "IMAP break")`,
		`OR (SEEN) NOT (NOT (1:* UID 5:7,*))`, `MODSEQ "/flags/\\draft" all 620162338`, `HEADER x "" KEYWORD $Label1 LARGER 5`, `((((SEEN) DELETED)))`,
		`SUBJECT "\"\\"`, `OLDER 5 YOUNGER 0 SENTON "01-Jan-0001" X-GM-RAW "has:attachment"`, `SUBJECT {2}` + "\r\nü", `UID $ SEEN`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 64<<10 {
			return
		}
		key, err := parseSearch(&scanner{rest: []byte(text)})
		if err != nil {
			return
		}
		again := rewritten(t, key)
		if !reflect.DeepEqual(key, again) {
			t.Fatalf("%q was parsed again as another program", text)
		}
		checkPrepared(t, key)
	})
}

// rewritten writes a program and reads it again.
func rewritten(t *testing.T, key *searchKey) *searchKey {
	t.Helper()
	w := newCriteriaText("")
	w.key(key, false)
	var text strings.Builder
	for i, part := range w.parts {
		if i%2 == 1 {
			text.WriteString(literal(part))
		} else if strings.ContainsAny(part, "\r\n\x00") {
			t.Fatalf("%q is in the text of a command", part)
		} else {
			text.WriteString(part)
		}
	}
	again, err := parseSearch(&scanner{rest: []byte(text.String())})
	if err != nil {
		t.Fatalf("%q cannot be read: %v", text.String(), err)
	}
	return again
}

// checkPrepared has a program prepared for a backend that knows nothing, and checks that
// it knows all that it is asked.
func checkPrepared(t *testing.T, key *searchKey) {
	t.Helper()
	s := NewSession((&Config{Names: []string{Auto}}).Offer([]string{"IMAP4REV1"}))
	s.mailbox = &mailbox{saved: numbers{{5, 7}, {9, 9}}}
	for _, ascii := range []bool{true, false} {
		prepared := s.prepare(key, time.Unix(1_795_000_000, 0), ascii).condensed()
		check := func(k *searchKey) {
			k.each(func(k *searchKey) {
				if k.exact != nil || k.op == searchFuzzy || k.name == savedResult || k.name == "OLDER" || k.name == "YOUNGER" {
					t.Errorf("the backend is asked for %q", k.name)
				}
			})
			rewritten(t, k)
		}
		check(prepared.relax(false))
		check(prepared.relax(true))
		prepared.natives(true, check)
	}
}

// FuzzCriteria gives commands to a session that plans them.
func FuzzCriteria(f *testing.F) {
	f.Add(`SEARCH RETURN (MIN MAX PARTIAL 1:-5) CHARSET UTF-8 $`)
	f.Add(`UID SEARCH RETURN (SAVE UPDATE CONTEXT) OLDER 5`)
	f.Add(`FETCH $ (FLAGS)`)
	f.Fuzz(func(t *testing.T, text string) {
		s := NewSession((&Config{Names: []string{Auto}}).Offer([]string{"IMAP4REV1"}))
		_ = s.Plan([]byte("a " + text + "\r\n"))
	})
}

// FuzzHits reads SEARCH responses.
func FuzzHits(f *testing.F) {
	f.Add("* SEARCH  1 2 (MODSEQ 5)")
	f.Add("* SEARCH 4294967296")
	f.Add("* ESEARCH (TAG \"x\") UID ALL 1:3,7 MODSEQ 5")
	f.Add("* ESEARCH ALL 1:4000000000,1:*")
	f.Fuzz(func(t *testing.T, text string) {
		_, _, s := untagged([]byte(text))
		h := &hits{}
		if h.read(&s) == nil && len(h.ids) > len(text) {
			t.Fatalf("%d numbers in %q", len(h.ids), text)
		}
		_, _, s = untagged([]byte(text))
		if h = new(hits); h.readExtended(&s) == nil && len(h.ids) > maxHits {
			t.Fatalf("%d numbers in %q", len(h.ids), text)
		}
	})
}

// FuzzSearchedText looks through messages, which has to give the same in whatever pieces
// they come.
func FuzzSearchedText(f *testing.F) {
	f.Add(mixedMessage, "ü", 5)
	f.Add("Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"+base64.StdEncoding.EncodeToString([]byte("grüße")), "SSE", 3)
	f.Add("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n--x\r\n\r\n--x--\r\n--x", "-", 1)
	f.Fuzz(func(t *testing.T, message, needle string, size int) {
		if len(message) > maxLine || casemap(needle) == "" {
			return
		}
		size = max(size, 1)
		for _, headers := range []bool{true, false} {
			if whole, pieces := foundIn(message, needle, headers, len(message)+1), foundIn(message, needle, headers, size); whole != pieces {
				t.Fatalf("%q is found in %q: %v, in pieces of %d: %v", needle, message, whole, size, pieces)
			}
		}
	})
}
