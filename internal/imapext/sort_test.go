package imapext

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// allOrder are the names of what is ordered here.
const allOrder = "SORT SORT=DISPLAY ESORT CONTEXT=SORT THREAD=ORDEREDSUBJECT THREAD=REFERENCES THREAD=REFS"

// cachedDialog has a session whose headers are kept, before a backend with these
// capabilities.
func cachedDialog(t *testing.T, caps, names string, cache *Cache, steps ...step) {
	t.Helper()
	backend := imaptest.NewScript(t, func(c *imaptest.Conn) {
		for _, s := range steps {
			for _, a := range s.asks {
				line := whole(c)
				tag, rest, _ := strings.Cut(line, " ")
				if rest != a.gets {
					t.Errorf("after %q the backend was asked\n%q, want\n%q", s.says, rest, a.gets)
				}
				c.Send(a.says + tag + " " + a.done + "\r\n")
			}
		}
		c.Rest()
	})
	cfg := &Config{Names: strings.Fields(names), Cache: cache}
	session := NewSession(cfg.Offer(strings.Fields(caps)))
	session.Owner = "backend\x00user"
	client := relayTo(t, backend.Addr(), session)
	for _, s := range steps {
		client.send(s.says)
		client.expect(s.gets)
	}
	client.end()
}

const (
	headerItems = " (UID INTERNALDATE BODY.PEEK[HEADER.FIELDS (" + headerFields + ")])"
	headerItem  = "BODY[HEADER.FIELDS (" + headerFields + ")]"
)

// fetchedMail is what a backend says of a message.
func fetchedMail(number, uid int, day int, header string) string {
	return fmt.Sprintf("* %d FETCH (UID %d INTERNALDATE \"%2d-Jan-2026 00:00:00 +0000\" %s {%d}\r\n%s)\r\n", number, uid, day, headerItem, len(header), header)
}

// selectStep selects a mailbox.
var selectStep = step{"s SELECT INBOX\r\n",
	[]ask{{"SELECT INBOX", "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n", "OK [READ-WRITE] done"}},
	"* 3 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\ns OK [READ-WRITE] done\r\n"}

var (
	mailA = "Subject: Re: b\r\nFrom: Zoe <a@x>\r\nMessage-ID: <a@x>\r\nReferences: <c@x>\r\n\r\n"
	mailB = "Subject: a\r\nFrom: Yan <b@x>\r\nMessage-ID: <b@x>\r\n\r\n"
	mailC = "Subject: =?utf-8?q?B?=\r\nFrom: Xan <c@x>\r\nMessage-ID: <c@x>\r\n\r\n"
	three = fetchedMail(1, 11, 3, mailA) + fetchedMail(2, 12, 2, mailB) + fetchedMail(3, 13, 1, mailC)
)

func TestSortAndThread(t *testing.T) {
	cache := NewCache(1 << 20)
	all := ask{"UID SEARCH ALL", "* SEARCH 11 12 13\r\n", "OK SEARCH completed."}
	numbers := ask{"SEARCH ALL", "* SEARCH 1 2 3\r\n", "OK SEARCH completed."}
	uids := ask{"FETCH 1:3 (UID)", "* 1 FETCH (UID 11)\r\n* 2 FETCH (UID 12)\r\n* 3 FETCH (UID 13)\r\n", "OK x"}
	cachedDialog(t, "IMAP4rev1 LITERAL+", allOrder, cache, selectStep,
		step{"a UID SORT (SUBJECT) UTF-8 ALL\r\n", []ask{
			all, {"UID FETCH 11:13" + headerItems, "* 5 EXISTS\r\n" + three, "OK done"},
		}, "* 5 EXISTS\r\n* SORT 12 11 13\r\na OK Sort completed.\r\n"},
		// All is known now.
		step{"b UID SORT (REVERSE DATE) US-ASCII ALL\r\n", []ask{all}, "* SORT 11 12 13\r\nb OK Sort completed.\r\n"},
		step{"c uid sort (displayfrom) us-ascii ALL\r\n", []ask{all}, "* SORT 13 12 11\r\nc OK Sort completed.\r\n"},
		step{"d UID THREAD REFERENCES UTF-8 ALL\r\n", []ask{all}, "* THREAD (13 11)(12)\r\nd OK Thread completed.\r\n"},
		step{"e SORT (SUBJECT REVERSE ARRIVAL) UTF-8 ALL\r\n", []ask{numbers, uids}, "* SORT 2 1 3\r\ne OK Sort completed.\r\n"},
		step{"f THREAD REFS UTF-8 ALL\r\n", []ask{numbers, uids}, "* THREAD (2)(3 1)\r\nf OK Thread completed.\r\n"},
		step{"g THREAD ORDEREDSUBJECT UTF-8 ALL\r\n", []ask{numbers, uids}, "* THREAD (3 1)(2)\r\ng OK Thread completed.\r\n"},
		step{"h UID SORT RETURN (MIN MAX ALL COUNT) (REVERSE SUBJECT) UTF-8 ALL\r\n", []ask{all},
			"* ESEARCH (TAG \"h\") UID MIN 11 MAX 12 ALL 11,13,12 COUNT 3\r\nh OK Sort completed.\r\n"},
		step{"i UID SORT RETURN (PARTIAL 2:9 UPDATE) (SUBJECT) UTF-8 ALL\r\n", []ask{all},
			"* NO [NOUPDATE \"i\"] Changes of the result are not told.\r\n* ESEARCH (TAG \"i\") UID PARTIAL (2:9 11,13)\r\ni OK Sort completed.\r\n"},
		// Sizes are not, and what a backend adds is told.
		step{"j UID SORT (SIZE) UTF-8 ALL\r\n", []ask{all, {"UID FETCH 11:13 (UID RFC822.SIZE)",
			"* 1 FETCH (RFC822.SIZE 9 UID 11)\r\n* 2 FETCH (UID 12 FLAGS (\\Seen) RFC822.SIZE 8)\r\n* 3 FETCH (FLAGS ())\r\n* 3 FETCH (UID 13 RFC822.SIZE 7)\r\n",
			"OK done"}},
			"* 2 FETCH (UID 12 FLAGS (\\Seen))\r\n* 3 FETCH (FLAGS ())\r\n* SORT 13 12 11\r\nj OK Sort completed.\r\n"},
		step{"k UID SORT (SIZE SUBJECT) UTF-8 ALL\r\n", []ask{all}, "* SORT 13 12 11\r\nk OK Sort completed.\r\n"},
	)
	// Another session has them, too, but not of another mailbox of that name.
	cachedDialog(t, "IMAP4rev1 LITERAL+", allOrder, cache,
		step{"s EXAMINE inbox\r\n", []ask{{"EXAMINE inbox", "* OK [UIDVALIDITY 7] x\r\n", "OK done"}}, "* OK [UIDVALIDITY 7] x\r\ns OK done\r\n"},
		step{"a UID SORT (SUBJECT) UTF-8 ALL\r\n", []ask{all}, "* SORT 12 11 13\r\na OK Sort completed.\r\n"},
		step{"t EXAMINE inbox\r\n", []ask{{"EXAMINE inbox", "* OK [UIDVALIDITY 8] x\r\n", "OK done"}}, "* OK [UIDVALIDITY 8] x\r\nt OK done\r\n"},
		step{"b UID SORT (CC) UTF-8 ALL\r\n", []ask{all, {"UID FETCH 11:13" + headerItems, three, "OK done"}}, "* SORT 11 12 13\r\nb OK Sort completed.\r\n"},
	)
	if s := cache.Stats(); s.Hits == 0 || s.Misses != 9 || s.Mailboxes != 2 {
		t.Errorf("got %+v", s)
	}
}

func TestSortRefused(t *testing.T) {
	steps := []step{
		{"z UID SORT (SUBJECT) UTF-8 ALL\r\n", []ask{{"UID SEARCH ALL", "", "BAD Command received in Invalid state."}}, "z BAD Command received in Invalid state.\r\n"},
		selectStep,
		{"x UID SORT (SUBJECT) UTF-8 SEEN\r\n", []ask{{"UID SEARCH SEEN", "* SEARCH\r\n", "OK x"}}, "* SORT\r\nx OK Sort completed.\r\n"},
		{"y THREAD REFS UTF-8 SEEN\r\n", []ask{{"SEARCH SEEN", "", "OK x"}}, "* THREAD\r\ny OK Thread completed.\r\n"},
		{"w UID SORT RETURN (ALL) (SUBJECT) UTF-8 SEEN\r\n", []ask{{"UID SEARCH SEEN", "* SEARCH\r\n", "OK x"}}, "* ESEARCH (TAG \"w\") UID\r\nw OK Sort completed.\r\n"},
		// What cannot be fetched comes first.
		{"v UID SORT (SUBJECT) UTF-8 SEEN\r\n", []ask{{"UID SEARCH SEEN", "* SEARCH 12 13\r\n", "OK x"},
			{"UID FETCH 12:13" + headerItems, fetchedMail(2, 12, 2, mailB), "NO some are broken"}}, "* SORT 13 12\r\nv OK Sort completed.\r\n"},
		{"u UID SORT (SUBJECT) UTF-8 SEEN\r\n", []ask{{"UID SEARCH SEEN", "* SEARCH 12 13\r\n", "OK x"},
			{"UID FETCH 12:13" + headerItems, "", "BAD no"}}, "u NO [CANNOT] The mail server cannot tell what is needed for this.\r\n"},
	}
	for _, bad := range []string{
		"SORT", "SORT ()", "SORT (SUBJECT)", "SORT (SUBJECT) UTF-8", "SORT (SUBJECT) UTF-8 ", "SORT (REVERSE) UTF-8 ALL", "SORT (SUBJECT REVERSE) UTF-8 ALL",
		"SORT (NOTHING) UTF-8 ALL", "SORT SUBJECT UTF-8 ALL", "SORT RETURN (WHAT) (SUBJECT) UTF-8 ALL", "UID SORT (SUBJECT UTF-8 ALL",
	} {
		steps = append(steps, step{"a " + bad + "\r\n", nil, "a BAD Invalid SORT.\r\n"})
	}
	for _, bad := range []string{"THREAD", "THREAD REFERENCES", "THREAD REFERENCES UTF-8", "UID THREAD OTHER UTF-8 ALL"} {
		steps = append(steps, step{"a " + bad + "\r\n", nil, "a BAD Invalid THREAD.\r\n"})
	}
	cachedDialog(t, "IMAP4rev1 LITERAL+", allOrder, nil, steps...)
}

// TestSortNative has the backend do what it can do.
func TestSortNative(t *testing.T) {
	pass := func(command string) step {
		return step{"a " + command + "\r\n", []ask{{command, "", "OK done"}}, "a OK done\r\n"}
	}
	cachedDialog(t, "IMAP4rev1 LITERAL+ SORT THREAD=REFERENCES", allOrder, nil,
		pass("SORT (SUBJECT) UTF-8 ALL"), pass("UID SORT nonsense"), pass("THREAD REFERENCES UTF-8 ALL"), pass("THREAD REFERENCES nonsense"),
		step{"b SORT (DISPLAYTO) UTF-8 ALL\r\n", []ask{{"SEARCH ALL", "* SEARCH\r\n", "OK x"}}, "* SORT\r\nb OK Sort completed.\r\n"},
		step{"b SORT RETURN () (TO) UTF-8 ALL\r\n", []ask{{"SEARCH ALL", "* SEARCH\r\n", "OK x"}}, "* ESEARCH (TAG \"b\")\r\nb OK Sort completed.\r\n"},
		step{"b THREAD REFS UTF-8 ALL\r\n", []ask{{"SEARCH ALL", "* SEARCH\r\n", "OK x"}}, "* THREAD\r\nb OK Thread completed.\r\n"},
	)
}

// TestSortSaved has a result saved in its order, and used.
func TestSortSaved(t *testing.T) {
	cachedDialog(t, "IMAP4rev1 LITERAL+", allOrder+" ESEARCH SEARCHRES", nil, selectStep,
		step{"a SORT RETURN (SAVE MIN) (SUBJECT) UTF-8 ALL\r\n", []ask{
			{"SEARCH ALL", "* SEARCH 1 2 3\r\n", "OK x"},
			{"FETCH 1:3 (UID)", "* 1 FETCH (UID 11)\r\n* 2 FETCH (UID 12)\r\n* 3 FETCH (UID 13)\r\n", "OK x"},
			{"FETCH 1:3" + headerItems, three, "OK done"},
		}, "* ESEARCH (TAG \"a\") MIN 2\r\na OK Sort completed.\r\n"},
		step{"b UID SORT (SUBJECT) UTF-8 $\r\n", []ask{
			{"UID SEARCH UID 12", "* SEARCH 12\r\n", "OK x"}, {"UID FETCH 12" + headerItems, fetchedMail(2, 12, 1, mailB), "OK x"},
		}, "* SORT 12\r\nb OK Sort completed.\r\n"},
	)
}

// TestSortExpunged has a backend that breaks the rule of RFC 3501 section 7.4.1.
func TestSortExpunged(t *testing.T) {
	cachedDialog(t, "IMAP4rev1 LITERAL+", allOrder, nil, selectStep,
		step{"a SORT (SUBJECT) UTF-8 ALL\r\n", []ask{
			{"SEARCH ALL", "* SEARCH 1 2 3\r\n", "OK x"},
			{"FETCH 1:3" + headerItems, three + "* 1 EXPUNGE\r\n* 2 EXISTS\r\n", "OK done"},
		}, "* SORT 2 1 3\r\na OK Sort completed.\r\n"},
		step{"b NOOP\r\n", []ask{{"NOOP", "", "OK done"}}, "* 1 EXPUNGE\r\n* 2 EXISTS\r\nb OK done\r\n"},
	)
}

// TestManyMessages has questions in several commands, none too long.
func TestManyMessages(t *testing.T) {
	var found strings.Builder
	for uid := 1; uid < 3000; uid += 2 {
		fmt.Fprintf(&found, " %d", uid)
	}
	cfg := &Config{Names: []string{Auto}}
	backend := imaptest.NewScript(t, func(c *imaptest.Conn) {
		tag, _, _ := strings.Cut(whole(c), " ")
		c.Send("* SEARCH" + found.String() + "\r\n" + tag + " OK x\r\n")
		for range 2 {
			line := whole(c)
			if len(line) > maxSetLine+200 {
				t.Errorf("a command has %d bytes", len(line))
			}
			tag, _, _ := strings.Cut(line, " ")
			c.Send(tag + " OK x\r\n")
		}
		c.Rest()
	})
	client := relayTo(t, backend.Addr(), NewSession(cfg.Offer([]string{"IMAP4rev1"})))
	client.send("a UID SORT (SUBJECT) UTF-8 ALL\r\n")
	client.expect("* SORT" + found.String() + "\r\na OK Sort completed.\r\n")
	client.end()
}
