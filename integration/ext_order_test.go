//go:build integration

package integration

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestOrderAsDovecot has random messages put in order by Dovecot, and by us, by every key
// and algorithm. There are fewer in order by the way in TestExtensionsAsDovecot. ORDER_SEED
// repeats a run, and ORDER_COMMANDS has more commands.
func TestOrderAsDovecot(t *testing.T) {
	t.Parallel()
	seed := envNumber(t, "ORDER_SEED", uint64(time.Now().UnixNano()))
	t.Logf("ORDER_SEED=%d", seed)
	r := newDiffRig(t, diffRounds[0], rand.New(rand.NewPCG(seed, 0)), 400)
	r.step(r.selecting())
	for range envNumber(t, "ORDER_COMMANDS", 200) {
		uid := r.pick("UID ", "")
		s := r.sort(uid)
		if r.IntN(3) == 0 {
			s = r.thread(uid)
		}
		if r.IntN(2) == 0 {
			s.key = &diffKey{text: "ALL"}
		}
		r.step(s)
	}
	figure(t, "%d commands, answered %v", r.commands, r.answers)
	for why, n := range r.reasons {
		figure(t, "%d answers differ: %s", n, why)
	}
}

func notDigit(r rune) bool { return r < '0' || r > '9' }

// oddMail makes messages and commands by chance. It leaves out what Dovecot and the RFCs
// differ in, which docs/extensions.md tells.
type oddMail struct{ *rand.Rand }

func (o *oddMail) pick(texts ...string) string { return texts[o.IntN(len(texts))] }

func (o *oddMail) message(i int) string {
	var b strings.Builder
	field := func(name, value string) {
		if o.IntN(10) > 0 {
			fmt.Fprintf(&b, "%s:%s%s\r\n", name, o.pick(" ", "", "  ", " \t", "\r\n "), value)
			if o.IntN(30) == 0 {
				fmt.Fprintf(&b, "%s: second\r\n", name)
			}
		}
	}
	fields := [][2]string{
		{"Date", o.date()}, {o.pick("Subject", "SUBJECT", "subject"), o.subject()}, {"From", o.addresses()}, {"To", o.addresses()}, {"Cc", o.addresses()},
		{"Message-ID", o.id()}, {"References", o.references()}, {"In-Reply-To", o.pick("", "", o.id(), o.id()+" "+o.id(), "Your message of today", "x "+o.id())},
	}
	o.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	for _, f := range fields {
		field(f[0], f[1])
	}
	fmt.Fprintf(&b, "X-Number: %d\r\n\r\n%s\r\n", i, strings.Repeat("x", o.IntN(50)))
	return b.String()
}

func (o *oddMail) date() string {
	at := time.Unix(1700000000+int64(o.IntN(30)), 0).UTC()
	switch o.IntN(14) {
	case 0:
		return o.pick("", "garbage", "31 Feb 2023 10:00:00 +0000", "Foo, 99 Jan 2023 10:00:00 +0000", "14 Nov 199 10:00:00 +0000", "Nov 14 2023 22:13:20", "14 Novx", "Tuesday, 14 Nov 2023 22:13:20 +0000", "Tue 14 Nov 2023 22:13:20 +0000")
	case 1:
		return at.Format("2 Jan 06 15:04:05 ") + o.pick("GMT", "UT", "EST", "EDT", "CST", "CDT", "MST", "MDT", "PST", "PDT", "CET", "Z", "")
	case 2:
		return at.Format("Mon, 2 Jan 2006 15:04 -0700")
	case 3:
		return at.Format("Mon,2 (comment) January 2006 15.04.05 +0000 (UTC)")
	case 4:
		return at.Format("Mon, _2 Jan 2006 3:04:05") + o.pick(" +12", " +01000", " -0130", " +abcd", " -9999")
	case 5:
		return at.Format("\"x\", 2 Jan 2006 15:04:05 -0700")
	case 6:
		return at.In(time.FixedZone("", 3600*(o.IntN(24)-12))).Format("Mon, 2 Jan 2006\r\n 15:04:05 -0700")
	case 7:
		return at.Format("Mon, 2 Jan 2006 15:04:") + "60 +0000"
	}
	return at.In(time.FixedZone("", 1800*(o.IntN(48)-24))).Format("Mon, 2 Jan 2006 15:04:05 -0700")
}

func (o *oddMail) word() string {
	return o.pick("alpha", "Beta", "GAMMA", "ä", "Äpfel", "ß", "straße", "ﬁn", "Привет", "привет", "한글", "日本語", "é", "e\u0301", "x", "x", "y", "y", "Z", "[", "]", "re", "Re", "fwd", "a-b", "0")
}

// encoded returns a word in an encoded word, or raw.
func (o *oddMail) encoded(text string) string {
	latin := func() string {
		var out []byte
		for _, r := range text {
			if r < 256 {
				out = append(out, byte(r))
			}
		}
		return string(out)
	}
	q := func(s string) string {
		var b strings.Builder
		for _, c := range []byte(s) {
			if c < 128 && (c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z') && o.IntN(4) > 0 {
				b.WriteByte(c)
			} else if c == ' ' {
				b.WriteByte('_')
			} else {
				fmt.Fprintf(&b, o.pick("=%02X", "=%02x"), c)
			}
		}
		return b.String()
	}
	b64 := func(s string) string {
		out := base64.StdEncoding.EncodeToString([]byte(s))
		if o.IntN(5) == 0 {
			out = strings.TrimRight(out, "=")
		}
		return out
	}
	switch o.IntN(12) {
	case 0:
		return "=?utf-8?q?" + q(text) + "?="
	case 1:
		return "=?UTF-8?B?" + b64(text) + "?="
	case 2:
		return "=?iso-8859-1?Q?" + q(latin()) + "?="
	case 3:
		return "=?ISO-8859-15?b?" + b64(latin()) + "?="
	case 4:
		return "=?windows-1252?q?" + q(latin()) + "?="
	case 5:
		return "=?us-ascii?q?" + q(text) + "?="
	case 6:
		return latin()
	case 7:
		return o.pick("=?utf-8?x?abc?=", "=?utf-8?q?abc", "=??=", "=?", "=?utf-8?q??=", "=?koi8-r?b?8NLJ18XU?=", "=?iso-8859-5?q?=B0=D0?=", "=?utf-8?q?a=zz?=", "=?utf-8?q?a=?=", "=?utf-8?b?YQ==?=", "=?utf-8?q?=ff=fe?=")
	}
	return text
}

var (
	spacesAndFold = regexp.MustCompile(` +\r\n`)
	emptyFolds    = regexp.MustCompile(`(?:\r\n[ \t]*)+(\r\n[ \t])`)
)

func (o *oddMail) subject() string {
	var b strings.Builder
	for range o.IntN(3) {
		b.WriteString(o.pick("Re: ", "re:", "RE : ", "Fwd: ", "fw:", "[list] ", "[a b]", "Re[2]: ", "Re [x] : ", "[Fwd: ", "Aw: ", " ", "\t", "=?utf-8?q?Re:_?= "))
	}
	for range o.IntN(3) {
		b.WriteString(o.encoded(o.word()))
		b.WriteString(o.pick(" ", " ", "  ", "\t", "", "\r\n ", "\r\n\t"))
	}
	for range o.IntN(2) {
		b.WriteString(o.pick(" (fwd)", "(FWD)", "]", " ", "(fwd)  ", "[x]"))
	}
	// A Dovecot makes two spaces of a space and a fold, also where the space is the end of an
	// encoded word, or an empty one is between them. An empty line would end the header.
	text := emptyFolds.ReplaceAllString(strings.TrimRight(b.String(), "\r\n"), "$1")
	text = spacesAndFold.ReplaceAllString(text, "\r\n")
	return strings.NewReplacer("??=\r\n", "??=", "_?=\r\n", "_?=").Replace(text)
}

func (o *oddMail) mailbox() string {
	local := o.pick("fred", "Fred", "a.b", "a..b", "\"a b\"", "\"a\\\"b\"", "x", "Zoë", "u+tag", "z.")
	domain := o.pick("example.org", "EXAMPLE.com", "[127.0.0.1]", "b", "x . y", "")
	name := o.encoded(o.word())
	if o.IntN(3) == 0 {
		name += " " + o.encoded(o.word())
	}
	switch o.IntN(12) {
	case 0:
		return local + "@" + domain
	case 1:
		return "<" + local + "@" + domain + ">"
	case 2:
		return "\"" + strings.NewReplacer("\"", "", "\\", "").Replace(name) + "\" <" + local + "@" + domain + ">"
	case 3:
		return local + "@" + domain + " (" + strings.NewReplacer("(", "", ")", "").Replace(name) + ")"
	case 4:
		return local
	case 5:
		return name
	case 6:
		return name + " <>"
	case 7:
		return "<@route,@other:" + local + "@" + domain + ">"
	case 8:
		return o.pick("friends: a@b, c@d;", "undisclosed-recipients:;", "Some People : x@y;", "g:", ": x@y;", "a\"b c\" d: x;")
	case 9:
		return o.pick("<broken", "broken>", "a b c <d", ", a@b", "(comment)", "\"unclosed", "a@b@c", "a@", "@b", "<@>", ";", "a@b (x) (y)", "(a)b@c(d)", ".a@b", "a\\b@c", "\\\\")
	}
	return name + " <" + local + "@" + domain + ">"
}

func (o *oddMail) addresses() string {
	out := o.pick("", "", " ", "(x) ") + o.mailbox()
	for range o.IntN(3) {
		out += o.pick(", ", ",", ",\r\n ", " ,") + o.mailbox()
	}
	return out
}

func (o *oddMail) id() string {
	n := o.IntN(150)
	switch o.IntN(25) {
	case 0:
		return fmt.Sprintf("<\"%d\"@x>", n)
	case 1:
		return fmt.Sprintf("<%d@\r\n x>", n)
	case 2:
		return fmt.Sprintf("< %d(comment) @ x >", n)
	case 3:
		return o.pick("<broken>", "broken@x", "<a@[x]>", "", "<@>", "<a b@c>", "<<1@x>")
	}
	return fmt.Sprintf("<%d@x>", n)
}

func (o *oddMail) references() string {
	var out strings.Builder
	for range o.IntN(5) {
		out.WriteString(o.id() + o.pick(" ", "", "\r\n ", " garbage "))
	}
	return strings.TrimRight(out.String(), "\r\n ")
}
