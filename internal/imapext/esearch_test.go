package imapext

import (
	"fmt"
	"strings"
	"testing"
)

// TestESearch has the examples of RFC 4731 section 3, and of RFC 5267 section 4.4.
func TestESearch(t *testing.T) {
	const names = "ESEARCH CONTEXT=SEARCH"
	found := func(command, numbers string) []ask {
		return []ask{{command, "* SEARCH " + numbers + "\r\n", "OK SEARCH completed"}}
	}
	for _, test := range []struct{ says, asks, finds, gets string }{
		{
			`A282 SEARCH RETURN (MIN COUNT) FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"`,
			`SEARCH FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"`, "84 2 882",
			`* ESEARCH (TAG "A282") MIN 2 COUNT 3`,
		},
		{
			`A283 SEARCH RETURN () FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"`,
			`SEARCH FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"`, "2 10 11 882",
			`* ESEARCH (TAG "A283") ALL 2,10:11,882`,
		},
		{
			`A284 SEARCH RETURN (MIN) FLAGGED`, `SEARCH FLAGGED`, "4 5", `* ESEARCH (TAG "A284") MIN 4`,
		},
		{
			`A285 UID SEARCH RETURN (MIN MAX) 1:5000`, `UID SEARCH 1:5000`, "7 3800",
			`* ESEARCH (TAG "A285") UID MIN 7 MAX 3800`,
		},
		{
			`A286 UID search return (count) 1:5000`, `UID SEARCH 1:5000`, "7 3800",
			`* ESEARCH (TAG "A286") UID COUNT 2`,
		},
		{`A287 SEARCH RETURN (MIN MAX ALL COUNT) SEEN`, `SEARCH SEEN`, "", `* ESEARCH (TAG "A287") COUNT 0`},
		{`a UID SEARCH RETURN () SEEN`, `UID SEARCH SEEN`, "", `* ESEARCH (TAG "a") UID`},
		{`a SEARCH SEEN`, `SEARCH SEEN`, "3 2", `* SEARCH 3 2`},
		{
			`A01 UID SEARCH RETURN (PARTIAL 2:3) UNDELETED`, `UID SEARCH UNDELETED`, "5 6 7 9",
			`* ESEARCH (TAG "A01") UID PARTIAL (2:3 6:7)`,
		},
		{
			`A02 SEARCH RETURN (PARTIAL 500:5 COUNT) UNDELETED`, `SEARCH UNDELETED`, "5 6 7 9",
			`* ESEARCH (TAG "A02") PARTIAL (5:500 NIL) COUNT 4`,
		},
		{
			`A03 SEARCH RETURN (PARTIAL -1:-2) UNDELETED`, `SEARCH UNDELETED`, "5 6 7 9",
			`* ESEARCH (TAG "A03") PARTIAL (-1:-2 7,9)`,
		},
		{
			`A04 SEARCH RETURN (ALL) MODSEQ 620162338`, `SEARCH MODSEQ 620162338`, "2 5 (MODSEQ 917162500)",
			`* ESEARCH (TAG "A04") ALL 2,5 MODSEQ 917162500`,
		},
		{
			`A05 SEARCH RETURN () X-OF-OURS {3+}` + "\r\na b (5 6)", `SEARCH X-OF-OURS {3+}` + "\r\na b (5 6)", "2 3",
			`* ESEARCH (TAG "A05") ALL 2:3`,
		},
		{
			`A06 SEARCH RETURN (CONTEXT UPDATE COUNT) SEEN`, `SEARCH SEEN`, "2 3",
			"* NO [NOUPDATE \"A06\"] Changes of the result are not told.\r\n" + `* ESEARCH (TAG "A06") COUNT 2`,
		},
	} {
		tag, _, _ := strings.Cut(test.says, " ")
		dialog(t, names, step{test.says + "\r\n", found(test.asks, test.finds), test.gets + "\r\n" + tag + " OK SEARCH completed\r\n"})
	}
	dialog(
		t, names,
		step{says: "a SEARCH RETURN (MEAN) SEEN\r\n", gets: "a BAD Unknown or broken result options.\r\n"},
		step{says: "a SEARCH RETURN (ALL PARTIAL 1:2) SEEN\r\n", gets: "a BAD Unknown or broken result options.\r\n"},
		step{says: "a SEARCH RETURN (ALL)\r\n", gets: "a BAD Unknown or broken result options.\r\n"},
		step{"b SEARCH RETURN (ALL) SMELLY\r\n", []ask{{"SEARCH SMELLY", "", "BAD What?"}}, "b BAD What?\r\n"},
		step{"c SEARCH RETURN (ALL) SEEN\r\n", []ask{{"SEARCH SEEN", "* 3 EXISTS\r\n", "NO Not now"}}, "* 3 EXISTS\r\nc NO Not now\r\n"},
		step{says: "d CANCELUPDATE \"a\"\r\n", gets: "d NO There are no updates to be cancelled.\r\n"},
	)
}

// TestModseq has the examples of RFC 4731 section 3.2.
func TestModseq(t *testing.T) {
	dialog(
		t, "ESEARCH WITHIN",
		step{
			"a UID SEARCH RETURN (MIN MAX) MODSEQ 5\r\n",
			[]ask{
				{"SEARCH MODSEQ 5", "* SEARCH 2 3 4 (MODSEQ 30)\r\n", "OK found"},
				{"FETCH 2:4 (UID)", "* 2 FETCH (UID 12)\r\n* 3 FETCH (UID 13)\r\n* 4 FETCH (UID 14)\r\n", "OK"},
				{"FETCH 2,4 (MODSEQ)", "* 2 FETCH (MODSEQ (10))\r\n* 4 FETCH (MODSEQ (9))\r\n", "OK"},
			},
			"* ESEARCH (TAG \"a\") UID MIN 12 MAX 14 MODSEQ 10\r\na OK found\r\n",
		},
		step{
			"b SEARCH MODSEQ 5 YOUNGER 60\r\n",
			[]ask{
				{"SEARCH MODSEQ 5 SINCE 23-Nov-2026", "* SEARCH 2 3 (MODSEQ 30)\r\n", "OK found"},
				{"FETCH 2:3 (UID INTERNALDATE)", "* 2 FETCH (UID 12 INTERNALDATE \"24-Nov-2026 00:29:30 +0000\")\r\n* 3 FETCH (UID 13 INTERNALDATE \"24-Nov-2026 00:28:59 +0000\")\r\n", "OK"},
				{"FETCH 2 (MODSEQ)", "* 2 FETCH (MODSEQ (7))\r\n", "OK"},
			},
			"* SEARCH 2 (MODSEQ 7)\r\nb OK found\r\n",
		},
		step{"c SEARCH RETURN (MIN) MODSEQ 5\r\n", []ask{{"SEARCH MODSEQ 5", "* SEARCH\r\n", "OK found"}}, "* ESEARCH (TAG \"c\")\r\nc OK found\r\n"},
	)
}

// TestNativeSearch has what the backend knows passed on as it is.
func TestNativeSearch(t *testing.T) {
	for _, command := range []string{
		`a SEARCH RETURN (MIN) from "x"  seen`, `a UID SEARCH MODSEQ 5`, `a SEARCH`, `a SEARCH CHARSET UTF-8 SUBJECT {2+}` + "\r\nü",
		`a FETCH 1:* FLAGS`, `a SEARCH (((`, `a SEARCH RETURN (`,
	} {
		_, text, _ := strings.Cut(command, " ")
		dialogBefore(t, "IMAP4rev1 LITERAL+ ESEARCH CONTEXT=SEARCH", "SEARCHRES ESEARCH CONTEXT=SEARCH", step{command + "\r\n", []ask{{text, "", "OK"}}, "a OK\r\n"})
	}
}

// TestHeldExpunge has a backend say EXPUNGE while a search by number is carried out.
func TestHeldExpunge(t *testing.T) {
	search := step{
		"a SEARCH RETURN (ALL) SEEN\r\n",
		[]ask{{"SEARCH SEEN", "* 5 EXPUNGE\r\n* 7 EXISTS\r\n* SEARCH 6 7\r\n", "OK found"}},
		"* ESEARCH (TAG \"a\") ALL 6:7\r\na OK found\r\n",
	}
	const told = "* 5 EXPUNGE\r\n* 7 EXISTS\r\n"
	for _, test := range []step{
		{says: "b FETCH 6 FLAGS\r\n", gets: told + "b NO [EXPUNGEISSUED] Messages have gone meanwhile.\r\n"},
		{says: "b SEARCH RETURN () SEEN\r\n", gets: told + "b NO [EXPUNGEISSUED] Messages have gone meanwhile.\r\n"},
		{"b NOOP\r\n", []ask{{"NOOP", "", "OK done"}}, told + "b OK done\r\n"},
		{"b LOGOUT\r\n", []ask{{"LOGOUT", "* BYE\r\n", "OK done"}}, told + "* BYE\r\nb OK done\r\n"},
		{"b UID SEARCH RETURN () SEEN\r\n", []ask{{"UID SEARCH SEEN", "* SEARCH 5\r\n", "OK done"}}, told + "* ESEARCH (TAG \"b\") UID ALL 5\r\nb OK done\r\n"},
		{says: "b COPY 6 {1+}\r\nx\r\n", gets: told + "b NO [EXPUNGEISSUED] Messages have gone meanwhile.\r\n"},
		{"b APPEND x {3+}\r\nabc\r\n", []ask{{"APPEND x {3+}\r\nabc", "", "OK done"}}, told + "b OK done\r\n"},
	} {
		dialog(t, "ESEARCH", search, test, step{"c NOOP\r\n", []ask{{"NOOP", "", "OK done"}}, "c OK done\r\n"})
	}
}

func TestPart(t *testing.T) {
	ids := []uint32{10, 20, 30, 40, 50}
	for text, want := range map[string]string{
		"1:1": "[10]", "4:9": "[40 50]", "9:4": "[40 50]", "6:7": "[]", "-1:-1": "[50]", "-2:-9": "[10 20 30 40]", "-6:-7": "[]",
		"1:4294967295": "[10 20 30 40 50]",
	} {
		r := &returnOptions{}
		if err := r.parsePartial(text); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := fmt.Sprint(r.part(ids)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "1", "0:5", "1:-5", "a:b", "1:2:3", "+1:2", "99999999999:1"} {
		if err := (&returnOptions{}).parsePartial(text); err == nil {
			t.Errorf("%q is no part", text)
		}
	}
}
