package imapext

import (
	"fmt"
	"strings"
	"testing"
)

// literal is a text as it is announced.
func literal(text string) string { return fmt.Sprintf("{%d+}\r\n%s", len(text), text) }

// piece is an answer with a piece of a message.
func piece(number int, offset int, text string) string {
	return fmt.Sprintf("* %d FETCH (BODY[]<%d> {%d}\r\n%s)\r\n", number, offset, len(text), text)
}

// TestSearchUTF8 has a backend that knows US-ASCII only.
func TestSearchUTF8(t *testing.T) {
	const refusal = "NO [BADCHARSET (US-ASCII)] The specified charset is not supported."
	const fields = " (BODY.PEEK[HEADER.FIELDS (SUBJECT)])"
	subject := func(number int, text string) string {
		text = "Subject: " + text + "\r\n\r\n"
		return fmt.Sprintf("* %d FETCH (BODY[HEADER.FIELDS (SUBJECT)] {%d}\r\n%s)\r\n", number, len(text), text)
	}
	refused := func(criteria string) ask { return ask{"SEARCH CHARSET UTF-8 " + criteria, "", refusal} }
	grüße := "SUBJECT " + literal("grüße")
	t.Run("header", func(t *testing.T) {
		dialog(
			t, "I18NLEVEL=1", selects,
			// What is in ASCII needs no charset.
			step{"a SEARCH CHARSET UTF-8 SUBJECT x\r\n", []ask{{`SEARCH SUBJECT "x"`, "* SEARCH 1\r\n", "OK"}}, "* SEARCH 1\r\na OK \r\n"},
			step{"b SEARCH CHARSET X-UNKNOWN SUBJECT x\r\n", []ask{{`SEARCH CHARSET X-UNKNOWN SUBJECT "x"`, "", refusal}}, "b NO [BADCHARSET (US-ASCII UTF-8)] This charset is not known.\r\n"},
			step{says: "b SEARCH CHARSET {13+}\r\nx ALL\r\nc NOOP SUBJECT ä\r\n", gets: "b NO [BADCHARSET (US-ASCII UTF-8)] This charset is not known.\r\n"},
			step{
				"c SEARCH CHARSET UTF-8 UNSEEN " + grüße + "\r\n",
				[]ask{
					refused("UNSEEN " + grüße),
					{"SEARCH UNSEEN", "* SEARCH 1 2 3 4 5\r\n", "OK found"},
					{
						"FETCH 1:5" + fields,
						subject(1, "Viele GRÜSSE") + subject(2, "=?iso-8859-1?Q?Viele_Gr=FC=DFe?=") + subject(3, "=?utf-8?B?R1LDnA==?=\r\n =?utf-8?B?w59F?= an alle") + subject(4, "Gru\u0308ße, roh") + subject(5, "Gru?e"), "OK",
					},
				},
				"* SEARCH 2 3 4\r\nc OK found\r\n",
			},
			// It is remembered.
			step{
				"d UID SEARCH CHARSET UTF-8 NOT " + grüße + "\r\n",
				[]ask{
					{"SEARCH ALL", "* SEARCH 1 2\r\n", "OK found"},
					{"FETCH 1:2" + fields, subject(1, "grüße") + subject(2, "x"), "OK"},
					{"FETCH 2 (UID)", "* 2 FETCH (UID 12)\r\n", "OK"},
				},
				"* SEARCH 12\r\nd OK found\r\n",
			},
			step{
				"e SEARCH CHARSET UTF-8 OR KEYWORD ü HEADER (x ü\r\n", nil,
				"e BAD\r\n",
			}.passed("SEARCH CHARSET UTF-8 OR KEYWORD ü HEADER (x ü"),
			step{says: "f SEARCH CHARSET UTF-8 KEYWORD ü\r\n", gets: "* SEARCH\r\nf OK Search completed.\r\n"},
			step{
				"g SEARCH CHARSET UTF-8 OR SEEN (FROM ü HEADER X-Y ä CC x) LARGER 5\r\n",
				[]ask{
					{"SEARCH LARGER 5 OR SEEN CC \"x\"", "* SEARCH 1 2 3 4\r\n", "OK found"},
					{"SEARCH SEEN", "* SEARCH 1\r\n", "OK found"},
					{"SEARCH CC \"x\"", "* SEARCH 2 3 4\r\n", "OK found"},
					{
						"FETCH 2:4 (BODY.PEEK[HEADER.FIELDS (FROM X-Y)])",
						"* 2 FETCH (BODY[HEADER.FIELDS (FROM X-Y)] {20}\r\nX-Y: \xc3\xa4\r\nFROM:\xc3\x9c\r\n\r\n)\r\n* 3 FETCH (BODY[HEADER.FIELDS (\"FROM\" \"X-Y\")] \"From: x\")\r\n* 4 FETCH (BODY[HEADER.FIELDS (FROM X-Y)] NIL)\r\n", "OK",
					},
				},
				"* SEARCH 1 2\r\ng OK found\r\n",
			},
		)
	})
	t.Run("native", func(t *testing.T) {
		dialog(t, "I18NLEVEL=1", step{"a SEARCH CHARSET utf-8 " + grüße + "\r\n", []ask{{"SEARCH CHARSET utf-8 " + grüße, "* SEARCH 5\r\n", "OK"}}, "* SEARCH 5\r\na OK \r\n"})
		dialog(t, "I18NLEVEL=1", step{"a SEARCH CHARSET UTF-8 " + grüße + "\r\n", []ask{{"SEARCH CHARSET UTF-8 " + grüße, "", "NO Server Unavailable. 15"}}, "a NO Server Unavailable. 15\r\n"})
	})
	t.Run("text", func(t *testing.T) {
		long := "Subject: x\r\n\r\n" + strings.Repeat("x", firstPiece)
		dialog(t, "I18NLEVEL=1", step{
			"a SEARCH CHARSET UTF-8 BODY ü\r\n",
			[]ask{
				refused("BODY " + literal("ü")),
				{"SEARCH ALL", "* SEARCH 1 2 3 4\r\n", "OK found"},
				{"FETCH 1 (BODY.PEEK[]<0.32768>)", piece(1, 0, "Subject: ü\r\n\r\nx"), "OK"},
				{"FETCH 2 (BODY.PEEK[]<0.32768>)", piece(2, 0, long[:firstPiece]), "OK"},
				{"FETCH 2 (BODY.PEEK[]<32768.262144>)", piece(2, firstPiece, long[firstPiece:]+"ü"), "OK"},
				{"FETCH 3 (BODY.PEEK[]<0.32768>)", "", "OK"},
				{"FETCH 4 (BODY.PEEK[]<0.32768>)", "* 4 FETCH (BODY[] {4}\r\n\r\n\xc3\x9c)\r\n", "OK"},
			},
			"* SEARCH 2 4\r\na OK found\r\n",
		})
	})
	t.Run("limits", func(t *testing.T) {
		var many strings.Builder
		for n := range maxTexts + 1 {
			fmt.Fprintf(&many, " %d", n+1)
		}
		const tooMany = "a NO [LIMIT] Too many messages would have to be read for this search.\r\n"
		dialog(t, "I18NLEVEL=1", step{
			"a SEARCH CHARSET UTF-8 BODY ü\r\n",
			[]ask{refused("BODY " + literal("ü")), {"SEARCH ALL", "* SEARCH" + many.String() + "\r\n", "OK found"}},
			tooMany,
		}, step{"b NOOP\r\n", []ask{{"NOOP", "", "OK"}}, "b OK\r\n"})
		key := strings.Repeat(" SUBJECT ü", maxOurs+1)
		dialog(t, "I18NLEVEL=1", step{
			"a SEARCH CHARSET UTF-8" + key + "\r\n",
			[]ask{refused(strings.TrimPrefix(strings.Repeat(" SUBJECT "+literal("ü"), maxOurs+1), " "))},
			"a NO [LIMIT] The search is too complex.\r\n",
		})
	})
}

// passed has the backend asked for what it is given, to which it says BAD.
func (s step) passed(text string) step {
	s.asks = []ask{{text, "", "BAD"}}
	return s
}

// mixedMessage is one with parts of all kinds.
const mixedMessage = "From: =?utf-8?Q?J=C3=B6rg?= <j@example.org>\r\nSubject: =?iso-8859-1?Q?=DC?=bung\r\n" +
	"Content-Type: multipart/mixed;\r\n boundary=\"a b\"\r\n\r\npre\u00e4mble\r\n--a b\r\n\r\nPl\u00e4in\r\n" +
	"--a b  \r\nContent-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>Qu=F6=\r\nt=\r\n=F6d =XY</p>\r\n" +
	"--a b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nQsOkc2U2NCDDvGJl\r\nciB6d2VpIFplaWxlbg==\r\n" +
	"--a b\r\nContent-Type: message/rfc822\r\n\r\nSubject: =?utf-8?Q?In=C3=B6en?=\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n" +
	"--in\r\n\r\nInn\u00e4r\r\n--in--\r\nepil\u00f6g\r\n--a b\r\nContent-Type: application/octet-stream\r\n\r\nBin\u00e4r\r\n--a b--\r\nAft\u00e4r\r\n"

// foundIn says whether a text is found in a message that comes in pieces.
func foundIn(message, needle string, headers bool, size int) bool {
	m := &matcher{needs: needsTexts, needle: []byte(casemap(needle)), headers: headers}
	text := newSearchedText(func() []byte {
		piece := message[:min(size, len(message))]
		message = message[len(piece):]
		return []byte(piece)
	}, &searchKey{name: "TEXT", exact: m})
	return text.found[m]
}

func TestSearchedText(t *testing.T) {
	for needle, where := range map[string]string{
		"jörg": "header", "übung": "header", "präamble": "", "PLÄIN": "body", "quötöd =xy": "body", "quÖt\u00f6d =XY</p>": "body",
		"bäse64 Über zwei Zeilen": "body", "inöen": "header", "innär": "body", "epilög": "", "binär": "", "aftär": "", "subject: ü": "header",
	} {
		for _, size := range []int{1, 7, 100, 1 << 20} {
			if got, want := foundIn(mixedMessage, needle, true, size), where != ""; got != want {
				t.Errorf("TEXT %s in pieces of %d: %v", needle, size, got)
			}
			if got, want := foundIn(mixedMessage, needle, false, size), where == "body"; got != want {
				t.Errorf("BODY %s in pieces of %d: %v", needle, size, got)
			}
		}
	}
}
