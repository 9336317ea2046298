package imapext

import "testing"

// TestWithin has OLDER and YOUNGER (RFC 5032), also in parts of a program.
func TestWithin(t *testing.T) {
	const (
		atBound = `* 5 FETCH (UID 15 INTERNALDATE "23-Nov-2026 23:30:00 +0000")` + "\r\n"
		after   = `* 6 FETCH (INTERNALDATE "24-Nov-2026 08:30:01 +0900" UID 16)` + "\r\n"
		before  = `* 7 FETCH (UID 17  INTERNALDATE "23-Nov-2026 16:29:59 -0700")` + "\r\n"
		dates   = atBound + after + before
		items   = " (UID INTERNALDATE)"
	)
	for _, test := range []struct {
		says string
		asks []ask
		gets string
	}{
		{
			"SEARCH UNSEEN YOUNGER 3600",
			[]ask{{"SEARCH UNSEEN SINCE 22-Nov-2026", "* SEARCH 5 6 7\r\n", "OK found"}, {"FETCH 5:7" + items, dates, "OK"}},
			"* SEARCH 5 6\r\na OK found\r\n",
		},
		{
			"UID SEARCH YOUNGER 3600 UNSEEN",
			[]ask{
				{"SEARCH UNSEEN SINCE 22-Nov-2026", "* SEARCH 5 6 7\r\n", "OK found"},
				{"FETCH 5:7" + items, dates, "OK"},
				{"FETCH 5:6 (UID)", "* 6 FETCH (UID 16)\r\n* 3 FETCH (FLAGS (\\Seen))\r\n* 5 FETCH (UID 15 FLAGS (\\Seen))\r\n", "OK"},
			},
			"* 3 FETCH (FLAGS (\\Seen))\r\n* 5 FETCH (FLAGS (\\Seen))\r\n* SEARCH 15 16\r\na OK found\r\n",
		},
		{
			"SEARCH OLDER 3600",
			[]ask{
				{"SEARCH BEFORE 25-Nov-2026", "* SEARCH 1 2 5 6 7\r\n", "OK found"},
				{"SEARCH BEFORE 22-Nov-2026", "* SEARCH 2 1\r\n", "OK found"},
				{"FETCH 5:7" + items, dates, "OK"},
			},
			"* SEARCH 1 2 7\r\na OK found\r\n",
		},
		{
			// A message that has gone does not match.
			"SEARCH NOT (OR YOUNGER 3600 SEEN)",
			[]ask{
				{"SEARCH BEFORE 25-Nov-2026 NOT SEEN", "* SEARCH 5 7 8\r\n", "OK found"},
				{"SEARCH SEEN", "* SEARCH\r\n", "OK found"},
				{"FETCH 5,7:8" + items, atBound + before, "NO [EXPUNGEISSUED] Some have gone"},
			},
			"* SEARCH 7\r\na OK found\r\n",
		},
		{"SEARCH YOUNGER 3600 SMELLY", []ask{{"SEARCH YOUNGER 3600 SMELLY", "", "BAD What?"}}, "a BAD What?\r\n"},
		{"SEARCH YOUNGER 3600 OLDER 7200", []ask{
			{"SEARCH SINCE 22-Nov-2026 BEFORE 25-Nov-2026", "", "OK found"},
		}, "* SEARCH\r\na OK found\r\n"},
		{"SEARCH YOUNGER 3600", []ask{{"SEARCH SINCE 22-Nov-2026", "", "NO Not now"}}, "a NO Not now\r\n"},
		{"SEARCH YOUNGER 99999999999", []ask{
			{"SEARCH ALL", "* SEARCH 5\r\n", "OK found"},
			{"FETCH 5" + items, atBound, "OK"},
		}, "* SEARCH 5\r\na OK found\r\n"},
		{"SEARCH YOUNGER 3600", []ask{
			{"SEARCH SINCE 22-Nov-2026", "* SEARCH 5\r\n", "OK found"},
			{"FETCH 5" + items, "* 5 FETCH (INTERNALDATE (broken)\r\n", "BAD What?"},
		}, "* 5 FETCH (INTERNALDATE (broken)\r\na BAD What?\r\n"},
	} {
		dialog(t, "WITHIN", step{"a " + test.says + "\r\n", test.asks, test.gets})
	}
}

// TestFuzzy has the example of RFC 6203 section 3.
func TestFuzzy(t *testing.T) {
	dialog(
		t, "SEARCH=FUZZY",
		step{"A1 SEARCH FUZZY (SUBJECT \"IMAP break\")\r\n", []ask{{`SEARCH SUBJECT "IMAP break"`, "* SEARCH 1 5 10\r\n", "OK done"}}, "* SEARCH 1 5 10\r\nA1 OK done\r\n"},
		step{"A2 SEARCH OR FUZZY FROM x NOT FUZZY SEEN\r\n", []ask{{`SEARCH OR FROM "x" NOT SEEN`, "", "OK done"}}, "* SEARCH\r\nA2 OK done\r\n"},
	)
	dialogBefore(
		t, "IMAP4rev1 LITERAL+ SEARCH=FUZZY", "ESEARCH",
		step{"A1 SEARCH RETURN () FUZZY SUBJECT x\r\n", []ask{{`SEARCH FUZZY SUBJECT "x"`, "* SEARCH 1 5\r\n", "OK done"}}, "* ESEARCH (TAG \"A1\") ALL 1,5\r\nA1 OK done\r\n"},
	)
}
