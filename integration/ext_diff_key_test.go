//go:build integration

package integration

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// diffKey is a search program: a key, or others put together by op.
type diffKey struct {
	op   string
	text string
	subs []*diffKey
}

func (k *diffKey) String() string {
	switch k.op {
	case "NOT":
		return "NOT " + k.subs[0].String()
	case "OR":
		return "OR " + k.subs[0].String() + " " + k.subs[1].String()
	case "AND":
		return "(" + k.subs[0].String() + " " + k.subs[1].String() + ")"
	}
	return k.text
}

// key makes a program. again says that Dovecot can be asked again for what it finds, which
// it does otherwise than we in some.
func (m *diffMaker) key(depth int, again bool) *diffKey {
	if depth < 3 {
		sub := func() *diffKey { return m.key(depth+1, again) }
		switch m.IntN(8) {
		case 0:
			return &diffKey{op: "OR", subs: []*diffKey{sub(), sub()}}
		case 1:
			if k := sub(); again {
				if depth > 0 || k.op != "" {
					k.simple()
				}
				return &diffKey{op: "NOT", subs: []*diffKey{k}}
			}
		case 2:
			return &diffKey{op: "AND", subs: []*diffKey{sub(), sub()}}
		}
	}
	for {
		text := m.leaf()
		if text == "ALL" && depth > 0 {
			text = simpleKey // OR (ALL 1) (ALL ALL) finds nothing at all in Dovecot
		}
		if again || isASCII(text) || !addressKey.MatchString(text) {
			return &diffKey{text: text}
		}
	}
}

// simpleKey is one that Dovecot does not simplify.
const simpleKey = `HEADER X-Number ""`

var rangeKey = regexp.MustCompile(`^(BEFORE|ON|SINCE|SENT\w+|LARGER|SMALLER) `)

// simple leaves out of what is below NOT that of which Dovecot simplifies several wrongly: it
// may be asked for such a program by us, however it has understood the client's.
func (k *diffKey) simple() {
	if rangeKey.MatchString(k.text) {
		k.text = simpleKey
	}
	for _, sub := range k.subs {
		sub.simple()
	}
}

var diffWords = []string{"alpha", "re", "ä", "straße", "Привет", "example", "x", "grüße", "мир", "日本", "hello", "ÜBER", "a b", "list"}

// leaf is a key without others in it.
func (m *diffMaker) leaf() string {
	text := func() string {
		w := m.pick(diffWords...)
		if m.charset() == "" {
			w = m.pick("alpha", "re", "x", "example", "hello", "a b")
		}
		if m.IntN(3) == 0 {
			w = strings.ToUpper(w)
		}
		if runes := []rune(w); len(runes) > 3 && m.IntN(3) == 0 {
			w = string(runes[1:3])
		}
		if m.IntN(2) == 0 {
			return `"` + w + `"`
		}
		return fmt.Sprintf("{%d+}\r\n%s", len(w), w)
	}
	day := func() string { return m.start.AddDate(0, 0, -m.IntN(7)).Format("2-Jan-2006") }
	sent := func() string { return time.Unix(1700000000, 0).AddDate(0, 0, m.IntN(3)-1).Format("2-Jan-2006") }
	switch m.IntN(20) {
	case 0, 1, 2:
		return "ALL"
	case 3:
		return m.pick("SEEN", "UNSEEN", "ANSWERED", "UNANSWERED", "FLAGGED", "UNFLAGGED", "DRAFT", "UNDRAFT", "DELETED", "UNDELETED")
	case 4:
		return m.pick("KEYWORD ", "UNKEYWORD ") + m.pick("$Label1", "$Forwarded", "$None")
	case 5, 6:
		return m.pick("SUBJECT ", "FROM ", "TO ", "CC ", "BCC ", "HEADER Subject ", "HEADER Message-ID ", "HEADER X-Number ") + text()
	case 7:
		return m.pick("BODY ", "TEXT ") + text()
	case 8:
		return m.pick("BEFORE ", "ON ", "SINCE ") + day()
	case 9:
		return m.pick("SENTBEFORE ", "SENTON ", "SENTSINCE ") + sent()
	case 10, 11, 12:
		if m.has("WITHIN") {
			return m.pick("OLDER ", "YOUNGER ") + strconv.Itoa((1+m.IntN(105))*3600)
		}
	case 13:
		return m.pick("LARGER ", "SMALLER ") + strconv.Itoa(200+m.IntN(600))
	case 14:
		if m.has("SEARCHRES") {
			return m.pick("$", "$", "UID $")
		}
	case 15:
		return "UID " + m.span(true)
	case 16, 17:
		if len(m.uids) > 0 {
			return m.span(false)
		}
	}
	return "ALL"
}

var addressKey = regexp.MustCompile(`^(FROM|TO|CC|BCC) `)

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 })
}

// asked evaluates a program by asking for each of its keys, and returns one that finds the
// same and has no others in it.
func asked(k *diffKey, search func(key string) []string) string {
	found := evaluate(k, search)
	if len(found) == 0 {
		return "UNDELETED DELETED"
	}
	var set []string
	for _, n := range slices.Sorted(maps.Keys(found)) {
		set = append(set, strconv.Itoa(n))
	}
	return "UID " + strings.Join(set, ",")
}

func evaluate(k *diffKey, search func(key string) []string) map[int]bool {
	out := make(map[int]bool)
	switch k.op {
	case "NOT":
		out = evaluate(&diffKey{text: "ALL"}, search)
		for n := range evaluate(k.subs[0], search) {
			delete(out, n)
		}
		return out
	case "AND":
		b := evaluate(k.subs[1], search)
		for n := range evaluate(k.subs[0], search) {
			if b[n] {
				out[n] = true
			}
		}
		return out
	case "OR":
		for _, sub := range k.subs {
			maps.Copy(out, evaluate(sub, search))
		}
		return out
	}
	for _, line := range search(k.text) {
		if rest, ok := strings.CutPrefix(line, "* SEARCH"); ok {
			for _, word := range strings.Fields(rest) {
				n, _ := strconv.Atoi(word)
				out[n] = true
			}
		}
	}
	return out
}

// part is the body of a message, with the fields that tell what it is.
func (m *diffMaker) part(depth int) string {
	body := func() string {
		text := m.pick(diffWords...) + " " + m.pick(diffWords...)
		charset := "utf-8"
		if m.IntN(4) == 0 {
			charset = "x-none-such"
		}
		return "Content-Type: " + m.pick("text/plain", "text/html", "TEXT/X", "application/x") + "; charset=" + charset + "\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + text + "\r\n"
	}
	if depth == 2 {
		return body()
	}
	switch m.IntN(6) {
	case 0:
		boundary := fmt.Sprintf("b%d", m.IntN(1000))
		text := "Content-Type: multipart/mixed; boundary=" + boundary + "\r\n\r\npreamble\r\n"
		for range 1 + m.IntN(3) {
			text += "--" + boundary + "\r\n" + m.part(depth+1) + "\r\n"
		}
		return text + "--" + boundary + "--\r\n"
	case 1:
		return "Content-Type: message/rfc822\r\n\r\nSubject: " + m.encoded(m.word()) + "\r\n" + m.part(depth+1)
	}
	return body()
}
