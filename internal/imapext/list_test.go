package imapext

import (
	"strings"
	"testing"
)

// bare are the capabilities of a backend without extensions.
const bare = "IMAP4rev1"

// plainStore has mailboxes on several levels, and subscriptions to what is not there.
func plainStore() *store {
	return &store{
		caps: bare, delim: "/",
		folders: map[string]string{
			"INBOX": "", "foo": "", "foo/bar": `\Marked`, "foo2": `\Noselect`, "foo2/bar": `\Noselect`, "foo2/bar/baz": "",
			"Sent": "", "x y": "", "Gel&APY-scht": `\Noinferiors`,
		},
		subscribed: []string{"INBOX", "foo", "foo/bar", "foo2/bar/baz", "gone", "gone/child", "Sent"},
	}
}

const listDone = "OK LIST completed."

func TestListExtended(t *testing.T) {
	c := session(t, &Config{Names: []string{"LIST-EXTENDED", "CHILDREN"}}, bare, plainStore().play)
	for _, test := range []struct{ command, want string }{
		{`LIST "" %`, `(\Noinferiors) Gel&APY-scht|(\HasNoChildren) INBOX|(\HasNoChildren) Sent|(\HasChildren) foo|(\Noselect \HasChildren) foo2|(\HasNoChildren) "x y"`},
		{`LIST "" inbox`, `(\HasNoChildren) INBOX`},
		{`LIST () "" %`, `(\Noinferiors) Gel&APY-scht|() INBOX|() Sent|() foo|(\Noselect) foo2|() "x y"`},
		{`LIST "" % RETURN ()`, `(\Noinferiors) Gel&APY-scht|() INBOX|() Sent|() foo|(\Noselect) foo2|() "x y"`},
		{`list "" (inbox  foo foo) return (children)`, `(\HasNoChildren) INBOX|(\HasChildren) foo`},
		{`LIST "" ("f*" % foo/%) RETURN (CHILDREN)`, `(\HasChildren) foo|(\Marked \HasNoChildren) foo/bar|(\Noselect \HasChildren) foo2|(\Noselect \HasChildren) foo2/bar|(\HasNoChildren) foo2/bar/baz|` +
			`(\Noinferiors) Gel&APY-scht|(\HasNoChildren) INBOX|(\HasNoChildren) Sent|(\HasNoChildren) "x y"`},
		{`LIST "foo/" % RETURN (SUBSCRIBED)`, `(\Marked \Subscribed) foo/bar`},
		{`LIST "" f% RETURN (SUBSCRIBED)`, `(\Subscribed) foo|(\Noselect) foo2`},
		{`LIST (SUBSCRIBED) "" *`, `(\Subscribed) INBOX|(\Subscribed) foo|(\Marked \Subscribed) foo/bar|(\Subscribed) foo2/bar/baz|(\NonExistent \Subscribed) gone|(\NonExistent \Subscribed) gone/child|(\Subscribed) Sent`},
		{`LIST (SUBSCRIBED) "" %`, `(\Subscribed) INBOX|(\Subscribed) foo|(\NonExistent \Subscribed) gone|(\Subscribed) Sent`},
		{`LIST (SUBSCRIBED REMOTE) "" gone RETURN (CHILDREN)`, `(\NonExistent \HasNoChildren \Subscribed) gone`},
		{`LIST (SUBSCRIBED RECURSIVEMATCH) "" %`, `(\Subscribed) INBOX|(\Subscribed) foo +|(\Noselect) foo2 +|(\NonExistent \Subscribed) gone +|(\Subscribed) Sent`},
		{`LIST (SUBSCRIBED RECURSIVEMATCH) "" *`, `(\Subscribed) INBOX|(\Subscribed) foo|(\Marked \Subscribed) foo/bar|(\Subscribed) foo2/bar/baz|(\NonExistent \Subscribed) gone|(\NonExistent \Subscribed) gone/child|(\Subscribed) Sent`},
		{`LIST (RECURSIVEMATCH SUBSCRIBED) "" (foo2 foo2/bar)`, `(\Noselect) foo2/bar +|(\Noselect) foo2 +`},
		{`LIST (RECURSIVEMATCH SUBSCRIBED) "" foo/%`, `(\Marked \Subscribed) foo/bar`},
		{`LIST "" ()`, ``},
		{`LIST () "" ""`, ``},
		{`LIST "" (inb* "") RETURN (CHILDREN)`, ``}, // this backend knows INBOX by its whole name only
	} {
		if strings.Contains(test.command, "RECURSIVEMATCH) \"\" *") {
			// A parent that is listed itself is told of its children as well.
			test.want = strings.NewReplacer(`) foo|`, `) foo +|`, `) gone|`, `) gone +|`).Replace(test.want)
		}
		var want []string
		for line := range strings.SplitSeq(test.want, "|") {
			if line == "" {
				continue
			}
			attrs, name, _ := strings.Cut(line, ") ")
			name = strings.Replace(name, " +", ` ("CHILDINFO" ("SUBSCRIBED"))`, 1)
			want = append(want, "* LIST "+attrs+`) "/" `+name)
		}
		c.want(test.command, append(want, listDone)...)
	}
	for command, want := range map[string]string{
		`LIST (RECURSIVEMATCH) "" *`:                    "BAD " + errRecursive.Error(),
		`LIST (REMOTE RECURSIVEMATCH) "" *`:             "BAD " + errRecursive.Error(),
		`LIST (FOO) "" *`:                               "BAD " + errSelectOption.Error(),
		`LIST (SPECIAL-USE) "" *`:                       "BAD " + errSelectOption.Error(),
		`LIST "" * RETURN (SPECIAL-USE)`:                "BAD " + errReturnOption.Error(),
		`LIST "" * RETURN (STATUS (MESSAGES))`:          "BAD " + errReturnOption.Error(),
		`LIST "" * RETURN`:                              "BAD " + errListSyntax.Error(),
		`LIST "" * RETURN CHILDREN`:                     "BAD " + errListSyntax.Error(),
		`LIST "" * RETURN (CHILDREN`:                    "BAD " + errListSyntax.Error(),
		`LIST "" * RETURN () x`:                         "BAD " + errListSyntax.Error(),
		`LIST "" * FOO`:                                 "BAD " + errListSyntax.Error(),
		`LIST (`:                                        "BAD " + errListSyntax.Error(),
		`LIST ()"" *`:                                   "BAD " + errListSyntax.Error(),
		`LIST ""`:                                       "BAD " + errListSyntax.Error(),
		`LIST "" (a`:                                    "BAD " + errListSyntax.Error(),
		`LIST "" ` + strings.Repeat("x", 1001):          "BAD " + errListTooLong.Error(),
		`LIST "" (` + manyNames(1, maxPatterns+1) + `)`: "BAD " + errListTooMany.Error(),
		// Not ours: the backend says what it says.
		`LIST "" ""`: `OK LIST completed.`,
	} {
		got := c.ask(command)
		if got[len(got)-1] != want {
			t.Errorf("%s: got %q, want %q", command, got, want)
		}
	}
	c.want("CAPABILITY", "* CAPABILITY IMAP4rev1 CHILDREN LIST-EXTENDED", "OK CAPABILITY completed.")
}

// manyNames are names with spaces between them.
func manyNames(from, to int) string {
	var out []byte
	for n := from; n <= to; n++ {
		out = append(out, "n"+strings.Repeat("i", n)+" "...)
	}
	return string(out)
}

// TestListPasses has commands passed on that need nothing of us.
func TestListPasses(t *testing.T) {
	st := plainStore()
	st.caps += " CHILDREN NAMESPACE LIST-STATUS"
	c := session(t, &Config{Names: []string{Auto}, HideFolders: SwitchOff}, st.caps+" SPECIAL-USE", st.play)
	c.want(`LIST "" foo`, `* LIST () "/" "foo"`, listDone)
	// What the backend has not said of children is found out if it is asked for.
	c.want(`LIST () "" f% RETURN (CHILDREN)`, `* LIST (\HasChildren) "/" foo`, `* LIST (\Noselect \HasChildren) "/" foo2`, listDone)
	st.caps += " LIST-EXTENDED"
	c = session(t, &Config{Names: []string{Auto}, HideFolders: SwitchOff}, st.caps+" SPECIAL-USE", st.play)
	c.want(`LIST () "" foo`, `BAD Command Argument Error. 12`)
	c = session(t, &Config{Names: []string{"SPECIAL-USE"}, SpecialUse: map[string][]string{`\Sent`: {"foo/bar"}}}, st.caps, st.play)
	c.want(`LIST () "" foo`, `BAD Command Argument Error. 12`)
	c.want(`LIST (SPECIAL-USE) "" *`, `* LIST (\Marked \Sent) "/" foo/bar`, listDone)
}

func TestListFails(t *testing.T) {
	for _, test := range []struct{ refused, with, command, want string }{
		{"LIST", "NO [UNAVAILABLE] LIST is ill", `LIST () "" *`, "NO [UNAVAILABLE] The mail server cannot do that now."},
		{"LSUB", "BAD Command Argument Error. 12", `LIST (SUBSCRIBED) "" *`, "NO The mail server cannot do that now."},
		{`LIST "" "f%/%"`, "NO no", `LIST "" f% RETURN (CHILDREN)`, "NO The mail server cannot do that now."},
		{"LIST", "NO [x", "NAMESPACE", "NO The mail server cannot do that now."},
	} {
		st := plainStore()
		st.refuse = map[string]string{test.refused: test.with}
		c := session(t, &Config{Names: []string{Auto}}, bare, st.play)
		c.want(test.command, test.want)
		c.want("NOOP", "OK NOOP completed.")
	}
}

func TestNamespace(t *testing.T) {
	st := plainStore()
	c := session(t, &Config{Names: []string{Auto}}, bare, st.play)
	c.want("NAMESPACE", `* NAMESPACE (("" "/")) NIL NIL`, "OK NAMESPACE completed.")
	c.want("NAMESPACE x", "BAD Command Error. 10")
}

func TestListStatus(t *testing.T) {
	st := plainStore()
	st.bare = true
	st.sizes = map[string][]int{"x y": {10, 20}, "INBOX": {5}}
	st.refuse = map[string]string{`STATUS "foo"`: "NO broken"}
	c := session(t, &Config{Names: []string{Auto}}, bare, st.play)
	c.want(`LIST "" (INBOX foo foo2 "x y") RETURN (STATUS (messages unseen))`,
		`* LIST () "/" INBOX`, `* STATUS INBOX (MESSAGES 1 UNSEEN 1)`, `* LIST () "/" foo`, `* LIST (\Noselect) "/" foo2`,
		`* LIST () "/" "x y"`, `* STATUS "x y" (MESSAGES 2 UNSEEN 2)`, listDone)
	c.want(`LIST (SUBSCRIBED) "" g% RETURN (STATUS (MESSAGES))`, `* LIST (\NonExistent \Subscribed) "/" gone`, listDone)
	for options, err := range map[string]error{"STATUS": errListSyntax, "STATUS ()": errStatusNothing, "STATUS (X)": errStatusItem, "STATUS (SIZE)": errStatusItem, "STATUS (MESSAGES": errListSyntax} {
		c.want(`LIST "" * RETURN (`+options+`)`, "BAD "+err.Error())
	}
}

func TestStatusSize(t *testing.T) {
	st := plainStore()
	st.sizes = map[string][]int{"x y": {10, 20}, "INBOX": {5}}
	if o := (&Config{Names: []string{Auto}}).Offer([]string{bare}); o.answers("STATUS=SIZE") {
		t.Error("auto promises STATUS=SIZE")
	}
	c := session(t, &Config{Names: []string{"LIST-EXTENDED", "LIST-STATUS", "STATUS=SIZE"}}, bare, st.play)
	c.want(`STATUS "x y" (SIZE MESSAGES)`, `* STATUS "x y" (MESSAGES 2 SIZE 30)`, "OK STATUS completed.")
	c.want(`STATUS foo (MESSAGES)`, `* STATUS "foo" (MESSAGES 0)`, "OK STATUS completed.")
	c.want(`STATUS foo (SIZE)`, `* STATUS foo (SIZE 0)`, "OK STATUS completed.")
	c.want(`SELECT "x y"`, "* 2 EXISTS", "OK SELECT completed.")
	c.want(`STATUS "x y" (SIZE)`, `* STATUS "x y" (SIZE 30)`, "OK STATUS completed.")
	c.want(`STATUS INBOX (SIZE)`, "NO [CANNOT] The mail server cannot do that now.")
	c.want(`LIST "" (INBOX "x y") RETURN (STATUS (SIZE))`, `* LIST () "/" INBOX`, `* LIST () "/" "x y"`, `* STATUS "x y" (SIZE 30)`, listDone)
	c.want("CLOSE", "OK CLOSE completed.")
	c.want(`STATUS INBOX (SIZE)`, `* STATUS INBOX (SIZE 5)`, "OK STATUS completed.")
}
