package imapext

import (
	"fmt"
	"strings"
	"testing"
)

// selects has INBOX selected.
var selects = step{"s SELECT INBOX\r\n", []ask{{"SELECT INBOX", "* 900 EXISTS\r\n", "OK [READ-WRITE] done"}}, "* 900 EXISTS\r\ns OK [READ-WRITE] done\r\n"}

// saving has UIDs saved, of messages with the numbers.
func saving(tag, criteria, numbers, fetched string) step {
	asks := []ask{{"SEARCH " + criteria, "* SEARCH " + numbers + "\r\n", "OK SEARCH completed"}}
	if fetched != "" {
		set, answer, _ := strings.Cut(fetched, " ")
		var says string
		for i, number := range strings.Fields(numbers) {
			says += fmt.Sprintf("* %s FETCH (UID %s)\r\n", number, strings.Fields(answer)[i])
		}
		asks = append(asks, ask{"FETCH " + set + " (UID)", says, "OK done"})
	}
	return step{tag + " SEARCH RETURN (SAVE) " + criteria + "\r\n", asks, tag + " OK SEARCH completed\r\n"}
}

// TestSearchRes has the examples of RFC 5182.
func TestSearchRes(t *testing.T) {
	const names = "ESEARCH SEARCHRES I18NLEVEL=1"
	const smith = `FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"`
	fetch := step{
		"A283 FETCH $ (UID INTERNALDATE FLAGS RFC822.HEADER)\r\n",
		[]ask{
			{"SEARCH UID 14,100:101", "* SEARCH 2 84\r\n", "OK found"},
			{"FETCH 2,84 (UID INTERNALDATE FLAGS RFC822.HEADER)", "* 2 FETCH (UID 14)\r\n* 84 FETCH (UID 100)\r\n", "OK FETCH completed"},
		},
		"* 2 FETCH (UID 14)\r\n* 84 FETCH (UID 100)\r\nA283 OK FETCH completed\r\n",
	}
	t.Run("example 1", func(t *testing.T) {
		// One message has gone between the two commands.
		dialog(t, names, selects, saving("A282", smith, "2 84 85", "2,84:85 14 100 101"), fetch)
	})
	t.Run("example 2", func(t *testing.T) {
		second := step{
			"A301 UID SEARCH UID $ SMALLER 4096\r\n",
			[]ask{{"UID SEARCH UID 17,900:902 SMALLER 4096", "* SEARCH 17 900 901\r\n", "OK completed"}},
			"* SEARCH 17 900 901\r\nA301 OK completed\r\n",
		}
		first := saving("A300", `SINCE 1-Jan-2004 NOT FROM "Smith"`, "5 6 7 8", "5:8 17 900 901 902")
		dialog(t, names, selects, first, second)
		// Both at once: the second waits.
		first.says, second.says = first.says+second.says, ""
		dialog(t, names, selects, first, second)
	})
	t.Run("example 3", func(t *testing.T) {
		for options, want := range map[string]string{
			"MIN": "14", "MAX": "101", "MIN MAX": "14,101", "ALL MIN": "14,100:101", "COUNT MIN": "14,100:101", "COUNT": "14,100:101", "ALL": "14,100:101",
		} {
			s := saving("a", "SEEN", "2 84 85", "2,84:85 14 100 101")
			s.says = "a SEARCH RETURN (SAVE " + options + ") SEEN\r\n"
			gets := map[string]string{"MIN": " MIN 2", "MAX": " MAX 85", "ALL": " ALL 2,84:85", "COUNT": " COUNT 3"}
			line := `* ESEARCH (TAG "a")`
			for _, o := range []string{"MIN", "MAX", "ALL", "COUNT"} {
				if strings.Contains(options, o) {
					line += gets[o]
				}
			}
			s.gets = line + "\r\n" + s.gets
			dialog(t, names, selects, s, step{"b UID COPY $ x\r\n", []ask{{"UID COPY " + want + " x", "", "OK"}}, "b OK\r\n"})
		}
	})
	t.Run("example 4", func(t *testing.T) {
		// SELECT empties it.
		dialog(
			t, names, selects, saving("a", "SEEN", "2", "2 14"), selects,
			step{says: "b FETCH $ FLAGS\r\n", gets: "b OK No messages.\r\n"},
			step{says: "c UID SEARCH $ SEEN\r\n", gets: "* SEARCH\r\nc OK Search completed.\r\n"},
			step{"c SEARCH NOT $ SEEN\r\n", []ask{{"SEARCH SEEN", "* SEARCH 5\r\n", "OK"}}, "* SEARCH 5\r\nc OK \r\n"},
			step{"c SEARCH OR $ SEEN\r\n", []ask{{"SEARCH SEEN", "* SEARCH 5\r\n", "OK"}}, "* SEARCH 5\r\nc OK \r\n"},
			step{"c SEARCH NOT (OR $ SEEN)\r\n", []ask{{"SEARCH NOT SEEN", "* SEARCH 5\r\n", "OK"}}, "* SEARCH 5\r\nc OK \r\n"},
		)
	})
	t.Run("example 5", func(t *testing.T) {
		dialog(
			t, names, selects, saving("D282", smith, "2 84 85", "2,84:85 14 100 101"),
			step{
				"E282 UID SEARCH RETURN (SAVE) CHARSET UTF-8 (OR $ 1,3000:3021) TEXT {4+}\r\nмы\r\n",
				[]ask{{"UID SEARCH CHARSET UTF-8 OR UID 14,100:101 1,3000:3021 TEXT {4+}\r\nмы", "* SEARCH 100 4000\r\n", "OK done"}},
				"E282 OK done\r\n",
			},
			step{"E283 UID COPY $ \"Other Messages\"\r\n", []ask{{`UID COPY 100,4000 "Other Messages"`, "", "OK [COPYUID 1 2 3] done"}}, "E283 OK [COPYUID 1 2 3] done\r\n"},
		)
	})
	t.Run("example 6", func(t *testing.T) {
		// What fails with NO empties it.
		dialog(
			t, names, selects, saving("E", "SEEN", "2", "2 14"),
			step{"E BAD1 SEEN\r\n", []ask{{"BAD1 SEEN", "", "BAD"}}, "E BAD\r\n"},
			step{"E1 SEARCH RETURN (SAVE) SMELLY\r\n", []ask{{"SEARCH SMELLY", "", "BAD What?"}}, "E1 BAD What?\r\n"},
			step{"E2 SEARCH SUBJECT x\r\n", []ask{{"SEARCH SUBJECT x", "", "NO Not now"}}, "E2 NO Not now\r\n"},
			step{"E3 UID STORE $ +FLAGS (\\Deleted)\r\n", []ask{{"UID STORE 14 +FLAGS (\\Deleted)", "", "OK"}}, "E3 OK\r\n"},
			step{
				"E4 SEARCH RETURN (SAVE) CHARSET KOI8-R SUBJECT {2+}\r\n\xcd\xd9\r\n",
				[]ask{{"SEARCH CHARSET KOI8-R SUBJECT {2+}\r\n\xcd\xd9", "", "NO [BADCHARSET (UTF-8)] What?"}},
				"E4 NO [BADCHARSET (US-ASCII UTF-8)] This charset is not known.\r\n",
			},
			step{says: "E5 COPY $ \"Other Messages\"\r\n", gets: "E5 OK No messages.\r\n"},
		)
	})
	t.Run("all commands", func(t *testing.T) {
		asks := func(command, number string) step {
			s := step{command + "\r\n", nil, "x OK done\r\n"}
			if number != "" {
				s.asks = append(s.asks, ask{"SEARCH UID 14", "* SEARCH 2\r\n", "OK found"})
			}
			_, rest, _ := strings.Cut(command, " ")
			rest = strings.Replace(rest, "$", "14", 1)
			if number != "" {
				rest = strings.Replace(rest, "14", "2", 1)
			} else if !strings.HasPrefix(rest, "UID ") {
				rest = "UID " + rest
			}
			s.asks = append(s.asks, ask{rest, "", "OK done"})
			return s
		}
		dialog(
			t, names, selects, saving("E", "SEEN", "2", "2 14"),
			asks("x FETCH $ BODY[]", "2"), asks("x STORE $ FLAGS (a)", "2"), asks("x UID FETCH $ FLAGS", ""), asks("x UID MOVE $ a", ""),
			asks("x MOVE $ a", ""), asks("x COPY $ {3+}\r\na b", ""), asks("x UID EXPUNGE $", ""),
			// None of them has it left to be guessed what is meant.
			step{"y FETCH $x FLAGS\r\n", []ask{{"FETCH $x FLAGS", "", "BAD"}}, "y BAD\r\n"},
			step{"y FETCH $\r\n", []ask{{"FETCH $", "", "BAD"}}, "y BAD\r\n"},
			step{"y FETCH $ FLAGS\r\n", []ask{{"SEARCH UID 14", "* SEARCH\r\n", "OK found"}}, "y OK found\r\n"},
			step{"y FETCH $ FLAGS\r\n", []ask{{"SEARCH UID 14", "", "NO Not now"}}, "y NO Not now\r\n"},
			step{
				"y STORE $ FLAGS ()\r\n", []ask{{"SEARCH UID 14", "* 1 EXPUNGE\r\n* SEARCH 1\r\n", "OK found"}},
				"y NO [EXPUNGEISSUED] Messages have gone meanwhile.\r\n",
			},
			step{"y NOOP\r\n", []ask{{"NOOP", "", "OK"}}, "* 1 EXPUNGE\r\ny OK\r\n"},
		)
	})
	t.Run("not selected", func(t *testing.T) {
		dialog(
			t, names,
			step{"a SEARCH RETURN (SAVE) ALL\r\n", []ask{{"SEARCH ALL", "", "BAD Not now"}}, "a BAD Not now\r\n"},
			step{"b FETCH $ FLAGS\r\n", []ask{{"FETCH $ FLAGS", "", "BAD Not now"}}, "b BAD Not now\r\n"},
			step{"b SEARCH $\r\n", []ask{{"SEARCH NOT ALL", "", "BAD Not now"}}, "b BAD Not now\r\n"},
		)
	})
}

// TestMoveSaved has MOVE answered here, too.
func TestMoveSaved(t *testing.T) {
	dialogBefore(
		t, "IMAP4rev1 LITERAL+ UIDPLUS", "ESEARCH SEARCHRES MOVE", selects, saving("a", "SEEN", "2", "2 14"),
		step{
			"b MOVE $ x\r\n",
			[]ask{
				{`UID COPY 14 "x"`, "", "OK [COPYUID 5 14 20] done"}, {`UID STORE 14 +FLAGS.SILENT (\Deleted)`, "", "OK"},
				{"UID EXPUNGE 14", "* 2 EXPUNGE\r\n", "OK"},
			},
			"* OK [COPYUID 5 14 20] Done.\r\n* 2 EXPUNGE\r\nb OK Move completed.\r\n",
		},
		step{"c UID SEARCH $\r\n", []ask{{"UID SEARCH UID 14", "* SEARCH\r\n", "OK done"}}, "* SEARCH\r\nc OK done\r\n"},
	)
}

// TestSavedThere has a backend that knows $ save what was found here.
func TestSavedThere(t *testing.T) {
	save := func(key string) ask { return ask{"SEARCH RETURN (SAVE) " + key, "", "OK saved"} }
	find := ask{"UID SEARCH SEEN $", "* SEARCH 5 6\r\n", "OK found"}
	const caps = "IMAP4rev1 LITERAL+ ESEARCH SEARCHRES"
	dialogBefore(
		t, caps, "SEARCH=FUZZY",
		step{"a UID SEARCH RETURN (SAVE COUNT) FUZZY SEEN $\r\n", []ask{find, save("UID 5:6")}, "* ESEARCH (TAG \"a\") UID COUNT 2\r\na OK found\r\n"},
		step{"b UID SEARCH RETURN (SAVE MIN) FUZZY SEEN $\r\n", []ask{find, save("UID 5")}, "* ESEARCH (TAG \"b\") UID MIN 5\r\nb OK found\r\n"},
		step{"c UID SEARCH RETURN (SAVE) FUZZY SEEN $\r\n", []ask{{find.gets, "", "NO Not now"}, save("NOT ALL")}, "c NO Not now\r\n"},
	)
}

// TestManySaved has more messages saved than fit into one command.
func TestManySaved(t *testing.T) {
	var numbers []uint32
	var line strings.Builder
	for n := uint32(100_000); len(numbers) < 1500; n += 2 {
		numbers = append(numbers, n)
		fmt.Fprintf(&line, " %d", n)
	}
	all := string(appendNumbers(nil, numbers))
	pieces := cutSet(all)
	first, second, third := pieces[0], pieces[1], pieces[2]
	save := step{"a UID SEARCH RETURN (SAVE) SEEN\r\n", []ask{{"UID SEARCH SEEN", "* SEARCH" + line.String() + "\r\n", "OK found"}}, "a OK found\r\n"}
	dialog(
		t, "ESEARCH SEARCHRES", selects, save,
		step{
			"b UID FETCH $ (FLAGS)\r\n",
			[]ask{{"UID FETCH " + first + " (FLAGS)", "* 5 FETCH (UID 5 FLAGS ())\r\n", "OK"}, {"UID FETCH " + second + " (FLAGS)", "", "OK"}, {"UID FETCH " + third + " (FLAGS)", "", "OK done"}},
			"* 5 FETCH (UID 5 FLAGS ())\r\nb OK done\r\n",
		},
		step{"c UID STORE $ FLAGS ()\r\n", []ask{{"UID STORE " + first + " FLAGS ()", "", "NO Not now"}}, "c NO Not now\r\n"},
		step{
			"d FETCH $ FLAGS\r\n",
			[]ask{{"SEARCH UID " + first, "* SEARCH 1\r\n", "OK"}, {"SEARCH UID " + second, "* SEARCH 2\r\n", "OK"}, {"SEARCH UID " + third, "* SEARCH\r\n", "OK"}, {"FETCH 1:2 FLAGS", "", "OK done"}},
			"d OK done\r\n",
		},
		step{says: "e COPY $ x\r\n", gets: "e NO [LIMIT] Too many messages at once.\r\n"},
		step{
			// Too many for a search, too: they are looked at here.
			"f SEARCH $ SEEN\r\n",
			[]ask{{"SEARCH SEEN", "* SEARCH 1 2 3\r\n", "OK found"}, {"FETCH 1:3 (UID INTERNALDATE)", "* 1 FETCH (UID 99999 INTERNALDATE \"17-Jul-1996 02:44:25 -0700\")\r\n* 3 FETCH (INTERNALDATE \" 7-Jul-1996 02:44:25 -0700\" UID 100002)\r\n", "OK"}},
			"* SEARCH 3\r\nf OK found\r\n",
		},
	)
	line.Reset()
	for n := range 2*maxSaved + 10 {
		if n%2 == 1 {
			fmt.Fprintf(&line, " %d", n)
		}
	}
	save.asks[0].says, save.gets = "* SEARCH"+line.String()+"\r\n", "a NO [NOTSAVED] The result is too large to be saved.\r\n"
	dialog(t, "ESEARCH SEARCHRES", selects, save, step{says: "b FETCH $ FLAGS\r\n", gets: "b OK No messages.\r\n"})
}

// TestSavedStreams has more mail fetched by $ than is held, in several commands.
func TestSavedStreams(t *testing.T) {
	var uids, numbers strings.Builder
	var set []uint32
	for n := range uint32(1500) {
		fmt.Fprintf(&uids, " %d", 100_000+2*n)
		fmt.Fprintf(&numbers, " %d", 10_001+2*n)
		set = append(set, 10_001+2*n)
	}
	pieces := cutSet(strings.ReplaceAll(strings.TrimSpace(uids.String()), " ", ","))
	save := step{"a UID SEARCH RETURN (SAVE) SEEN\r\n", []ask{{"UID SEARCH SEEN", "* SEARCH" + uids.String() + "\r\n", "OK found"}}, "a OK found\r\n"}
	const size = 17 << 20
	mail := fmt.Sprintf("* 10001 FETCH (BODY[] {%d}\r\n%s FLAGS ())\r\n", size, strings.Repeat("x", size))
	var all, asks []ask
	for i, piece := range pieces {
		says := ""
		if i == 0 {
			says = mail
		}
		all = append(all, ask{"UID FETCH " + piece + " BODY[]", says, "OK done"})
		found := ""
		if i == 0 {
			found = "* SEARCH" + numbers.String() + "\r\n"
		}
		asks = append(asks, ask{"SEARCH UID " + piece, found, "OK found"})
	}
	// What goes meanwhile would change what the rest of the numbers mean.
	first := cutSet(string(appendNumbers(nil, set)))[0]
	asks = append(asks, ask{"FETCH " + first + " BODY[]", "* 10001 FETCH (BODY[] {1}\r\nx)\r\n* 1 EXPUNGE\r\n* 10002 FETCH (BODY[] {1}\r\ny)\r\n", "OK done"})
	dialog(
		t, "ESEARCH SEARCHRES", selects, save,
		step{"b UID FETCH $ BODY[]\r\n", all, mail + "b OK done\r\n"},
		step{"c FETCH $ BODY[]\r\n", asks, "* 10001 FETCH (BODY[] {1}\r\nx)\r\nc NO [EXPUNGEISSUED] Messages have gone meanwhile.\r\n"},
		step{"d NOOP\r\n", []ask{{"NOOP", "", "OK"}}, "* 1 EXPUNGE\r\n* 10002 FETCH (BODY[] {1}\r\ny)\r\nd OK\r\n"},
	)
}
