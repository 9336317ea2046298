package imapext

import (
	"strings"
	"testing"
)

// poorCaps are those of a server that has nothing, and exchangeCaps those of Exchange 2019.
const (
	poorCaps     = "IMAP4 IMAP4rev1"
	exchangeCaps = "IMAP4 IMAP4rev1 AUTH=PLAIN UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+"
)

// ordering is what is offered of order, whatever else is.
const ordering = "SORT SORT=DISPLAY ESORT CONTEXT=SORT THREAD=ORDEREDSUBJECT THREAD=REFERENCES THREAD=REFS"

// TestOffer has exactly that listed which is answered.
func TestOffer(t *testing.T) {
	const search = "ESEARCH SEARCHRES WITHIN SEARCH=FUZZY I18NLEVEL=1 CONTEXT=SEARCH"
	for _, tc := range []struct{ names, caps, want string }{
		{
			"auto", poorCaps,
			"ID ENABLE UNSELECT IDLE LITERAL+ COMPRESS=DEFLATE NAMESPACE CHILDREN LIST-EXTENDED LIST-STATUS SPECIAL-USE " + search + " " + ordering,
		},
		{"auto", exchangeCaps, "ENABLE COMPRESS=DEFLATE MULTIAPPEND REPLACE LIST-EXTENDED LIST-STATUS SPECIAL-USE " + search + " " + ordering},
		{"auto", poorCaps + " sort esearch I18NLEVEL=2 LITERAL- COMPRESS=DEFLATE SEARCHRES", "ID ENABLE UNSELECT IDLE NAMESPACE CHILDREN LIST-EXTENDED LIST-STATUS SPECIAL-USE WITHIN SEARCH=FUZZY CONTEXT=SEARCH" + ordering[4:]},
		{"auto -compress=DEFLATE STATUS=SIZE -ESEARCH -SORT", exchangeCaps, "ENABLE MULTIAPPEND REPLACE LIST-EXTENDED LIST-STATUS SPECIAL-USE STATUS=SIZE SEARCHRES WITHIN SEARCH=FUZZY I18NLEVEL=1" + ordering[len("SORT SORT=DISPLAY ESORT CONTEXT=SORT"):]},
		{"auto -LITERAL+ literal-", poorCaps + " ID UNSELECT IDLE NAMESPACE COMPRESS=DEFLATE CHILDREN LIST-EXTENDED SPECIAL-USE SORT ESEARCH SEARCHRES WITHIN SEARCH=FUZZY I18NLEVEL=1 CONTEXT=SEARCH THREAD=ORDEREDSUBJECT THREAD=REFERENCES THREAD=REFS ENABLE LIST-STATUS SORT=DISPLAY ESORT CONTEXT=SORT", "LITERAL-"},
		// What means nothing by itself, and what cannot be done.
		{"ESORT SORT=DISPLAY CONTEXT=SORT CONTEXT=SEARCH LIST-STATUS MOVE", poorCaps, ""},
		{"ESORT SORT", poorCaps, "SORT ESORT"},
		{"CONTEXT=SEARCH ESEARCH", poorCaps, "ESEARCH CONTEXT=SEARCH"},
		{"LIST-STATUS", poorCaps + " LIST-EXTENDED", "LIST-STATUS"},
	} {
		got := strings.Join((&Config{Names: strings.Fields(tc.names)}).Offer(strings.Fields(tc.caps)).Capabilities, " ")
		if got != tc.want {
			t.Errorf("%s before %s:\ngot  %s\nwant %s", tc.names, tc.caps, got, tc.want)
		}
	}
}

// TestIncludes looks at names by which extensions are chosen.
func TestIncludes(t *testing.T) {
	for _, tc := range []struct {
		names string
		want  bool
	}{{"", false}, {"IDLE", false}, {"sort", true}, {"auto", true}, {"auto -sort", false}, {"auto -IDLE", true}} {
		if got := Includes(strings.Fields(tc.names), "SORT"); got != tc.want {
			t.Errorf("%q: %v", tc.names, got)
		}
	}
	if Includes([]string{Auto}, "STATUS=SIZE") || Includes([]string{Auto}, "nothing") || !Includes([]string{Auto, "STATUS=SIZE"}, "status=size") {
		t.Error("auto stands for others than Automatic has")
	}
}

// TestCheck has names refused by which nothing can be chosen.
func TestCheck(t *testing.T) {
	for names, want := range map[string]string{
		"ID": "", "id UNSELECT": "", "ID id": "id: named twice", "IDD": "; there is no IDD", "AUTO": "; there is no AUTO",
		"auto -SORT STATUS=SIZE LITERAL-": "", "SORT IDLE": "", "auto": "",
		"auto auto": "auto: named twice", "auto -SORT sort": "sort: named twice", "auto IDLE": "IDLE: auto has it already; leave out the name, or auto",
		"-auto": "; there is no auto", "-SORT": "-SORT: only of auto something can be left out; leave out the name",
		"auto -LITERAL-": "-LITERAL-: auto does not have it; leave out the name", "auto -": "; there is no ", "x": "; there is no x",
	} {
		if err := Check(strings.Fields(names)); want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%s: %v", names, err)
		}
	}
}

// samples are commands that cannot be understood without the extension.
var samples = map[string]string{
	"APPENDLIMIT": "STATUS x (APPENDLIMIT)", "CHILDREN": `LIST "" %`, "COMPRESS=DEFLATE": "COMPRESS DEFLATE",
	"CONTEXT=SEARCH": "SEARCH RETURN (PARTIAL 1:5) ALL", "CONTEXT=SORT": "SORT RETURN (PARTIAL 1:5) (DATE) UTF-8 ALL",
	"ENABLE": "ENABLE X", "ESEARCH": "SEARCH RETURN (COUNT) ALL", "ESORT": "SORT RETURN (COUNT) (DATE) UTF-8 ALL",
	"I18NLEVEL=1": "SEARCH CHARSET UTF-8 ALL", "ID": "ID NIL", "IDLE": "IDLE", "LIST-EXTENDED": `LIST (SUBSCRIBED) "" *`,
	"LIST-STATUS": `LIST "" * RETURN (STATUS (MESSAGES))`, "MOVE": "UID MOVE 5 x", "MULTIAPPEND": "APPEND x {5+}",
	"NAMESPACE": "NAMESPACE", "REPLACE": "UID REPLACE 5 x {5+}", "SEARCH=FUZZY": "SEARCH FUZZY ALL",
	"SEARCHRES": "SEARCH RETURN (SAVE) ALL", "SORT": "UID SORT (DATE) US-ASCII ALL", "SORT=DISPLAY": "SORT (DISPLAYTO) UTF-8 ALL",
	"SPECIAL-USE": `LIST "" *`, "STATUS=SIZE": "STATUS x (SIZE)", "THREAD=ORDEREDSUBJECT": "THREAD ORDEREDSUBJECT UTF-8 ALL",
	"THREAD=REFERENCES": "UID THREAD REFERENCES UTF-8 ALL", "THREAD=REFS": "THREAD REFS UTF-8 ALL", "UNSELECT": "UNSELECT",
	"WITHIN": "SEARCH YOUNGER 5",
}

// TestOfferedAlone has each extension answered with no other, and passed on without it.
func TestOfferedAlone(t *testing.T) {
	for _, f := range features {
		name := f.name
		if strings.HasPrefix(name, "LITERAL") {
			continue // there is no command for it
		}
		sample, known := samples[name]
		if !known {
			t.Errorf("there is no sample of %s", name)
			continue
		}
		caps := append(strings.Fields(poorCaps), f.needs...)
		with := (&Config{Names: []string{name}, AppendLimit: 5}).Offer(caps)
		if len(with.Capabilities) != 1 || !strings.HasPrefix(with.Capabilities[0], name) {
			t.Errorf("%s: %q is offered", name, with.Capabilities)
		}
		verb := strings.Fields(sample)[0]
		if verb == "UID" {
			verb += " " + strings.Fields(sample)[1]
		}
		s := NewSession(with)
		if s.mailbox = (&mailbox{name: "x"}); s.Wants([]byte(verb)) == 0 || s.Plan([]byte("a "+sample+"\r\n")) == nil {
			t.Errorf("%s is passed on", sample)
		}
		without := NewSession((&Config{Names: []string{"ENABLE"}}).Offer(caps))
		if name != "ENABLE" && without.Wants([]byte(verb)) != 0 {
			t.Errorf("%s is not passed on", sample)
		}
	}
}

// TestSearchExtended has a backend answer with ESEARCH what it was not asked for in this
// way, as with IMAP4rev2.
func TestSearchExtended(t *testing.T) {
	found := func(says string, ids string) {
		t.Helper()
		dialog(t, "WITHIN ESEARCH", step{"a UID SEARCH RETURN () SEEN\r\n", []ask{{"UID SEARCH SEEN", says, "OK done"}}, "* ESEARCH (TAG \"a\") UID" + ids + "\r\na OK done\r\n"})
	}
	found("* ESEARCH (TAG \"x\") UID ALL 3:5,9 COUNT 4 X-NEW (1 2)\r\n", " ALL 3:5,9")
	found("* ESEARCH (TAG \"x\") UID\r\n", "")
	found("* ESEARCH  MODSEQ 7 ALL 1\r\n", " ALL 1 MODSEQ 7")
	for _, said := range []string{"(TAG", "ALL 1:*", "ALL 1:4294967295", "MODSEQ x", "(TAG \"x\") ALL"} {
		_, _, s := untagged([]byte("* ESEARCH " + said + "\r\n"))
		if err := new(hits).readExtended(&s); err == nil {
			t.Errorf("%s was read", said)
		}
	}
}
