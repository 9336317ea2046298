//go:build integration

package integration

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapext"
	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// TestOrderAsDovecot has Dovecot sort and thread odd messages, and us in front of the
// same Dovecot, which then is asked for none of it. ORDER_SEED repeats a run, and
// ORDER_COMMANDS has more commands.
func TestOrderAsDovecot(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("ORDER_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	commands := 400
	if text := os.Getenv("ORDER_COMMANDS"); text != "" {
		commands, _ = strconv.Atoi(text)
	}
	t.Logf("ORDER_SEED=%d", seed)
	odd := &oddMail{rand.New(rand.NewPCG(seed, 0))}
	d := startDovecot(t, dovecotSettings{}, map[string]string{"odd": "secret"})
	direct := loginLines(t, d, "odd")
	for i := range 300 {
		text := odd.message(i)
		day := time.Unix(1700000000+int64(odd.IntN(40))*3600, 0).UTC().Format("02-Jan-2006 15:04:05 -0700")
		direct.send(fmt.Sprintf("p APPEND INBOX (%s) \"%s\" {%d+}\r\n%s\r\n", odd.pick("", `\Seen`), day, len(text), text))
		if _, status := direct.answer("p"); status != "OK" {
			t.Fatalf("message %d was not taken: %s", i, status)
		}
	}
	cfg := &imapext.Config{Names: []string{imapext.Auto}, Cache: imapext.NewCache(16 << 20)}
	session := imapext.NewSession(cfg.Offer([]string{"IMAP4rev1", "LITERAL+"}))
	session.Owner = "odd"
	ours := relayLines(t, loginLines(t, d, "odd"), session)
	for _, c := range []*lineClient{direct, ours} {
		c.send("s SELECT INBOX\r\n")
		c.answer("s")
	}
	differences := 0
	for i := range commands {
		command := odd.command(i)
		var got [2]string
		for j, c := range []*lineClient{direct, ours} {
			c.send("t " + command + "\r\n")
			lines, status := c.answer("t")
			got[j] = lines + status
		}
		if got[0] != got[1] {
			t.Errorf("%s\nDovecot: %s\nours:    %s\n%s", command, got[0], got[1], direct.differing(got[0], got[1]))
			if differences++; differences == 5 {
				t.FailNow()
			}
		}
	}
}

// lineClient says commands and reads answers line by line.
type lineClient struct {
	net.Conn
	t  *testing.T
	br *bufio.Reader
}

func newLineClient(t *testing.T, conn net.Conn) *lineClient {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Minute))
	t.Cleanup(func() { _ = conn.Close() })
	return &lineClient{conn, t, bufio.NewReader(conn)}
}

// loginLines logs in at Dovecot itself.
func loginLines(t *testing.T, d *dovecot, user string) *lineClient {
	t.Helper()
	conn, err := tls.Dial("tcp", d.IMAPS(), insecureTLS())
	if err != nil {
		t.Fatal(err)
	}
	c := newLineClient(t, conn)
	if _, err := c.br.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	c.send("l LOGIN " + user + " " + d.passwords[user] + "\r\n")
	if _, status := c.answer("l"); status != "OK" {
		t.Fatalf("the login was answered by %s", status)
	}
	return c
}

func (c *lineClient) send(text string) {
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer returns the lines that answer a command of order, and its status.
func (c *lineClient) answer(tag string) (lines, status string) {
	for {
		line, err := c.br.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ := strings.Cut(rest, " ")
		switch {
		case word == tag:
			return lines, name
		case name == "SORT" || name == "THREAD" || name == "ESEARCH":
			lines += strings.TrimSpace(line) + "\n"
		}
	}
}

// differing returns the headers of the first messages that are in different places.
func (c *lineClient) differing(a, b string) string {
	set := moved(strings.FieldsFunc(a, notDigit), strings.FieldsFunc(b, notDigit))
	if len(set) == 0 {
		return ""
	}
	c.send("f UID FETCH " + strings.Join(set[:min(len(set), 4)], ",") + " (INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER])\r\n")
	var out strings.Builder
	for line := ""; !strings.HasPrefix(line, "f "); {
		line, _ = c.br.ReadString('\n')
		out.WriteString(line)
	}
	return out.String()
}

func notDigit(r rune) bool { return r < '0' || r > '9' }

// relayLines has a client whose commands an extension carries out at a backend.
func relayLines(t *testing.T, backend *lineClient, e relay.Extension) *lineClient {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	front, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	session := relay.New(relay.Leg{Conn: front}, relay.Leg{Conn: &plainConn{backend.Conn, t}}, relay.Options{Extension: e, LiteralPlus: true, Idle: time.Minute})
	done := make(chan struct{})
	go func() {
		defer close(done)
		session.Run()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return newLineClient(t, conn)
}

// extended matches commands that a plain server does not know.
var extended = regexp.MustCompile(`(?mi)^\S+ (UID )?(SORT|THREAD|SEARCH RETURN|SEARCH CHARSET|ENABLE)\b.*`)

// plainConn leads to a server that has to be taken for a plain one.
type plainConn struct {
	net.Conn
	t *testing.T
}

func (c *plainConn) Write(p []byte) (int, error) {
	if line := extended.Find(p); line != nil {
		c.t.Errorf("the backend was asked %q", line)
	}
	return c.Conn.Write(p)
}

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
	// A Dovecot makes two spaces of a space and a fold, also where an empty word is between
	// them.
	return strings.NewReplacer(" \r\n", "\r\n", "??=\r\n", "??=").Replace(strings.TrimRight(b.String(), "\r\n"))
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

// command returns a command of order.
func (o *oddMail) command(i int) string {
	uid := o.pick("UID ", "UID ", "")
	criteria := o.pick("ALL", "ALL", "ALL", "UNSEEN", "SEEN", "1:100", "UID 50:200", "NOT 5:250", "OR SEEN 7", "SUBJECT re", "LARGER 300", "1,3,5,7:40 UNSEEN", "UID 5000:6000 DELETED")
	if o.IntN(3) == 0 {
		return uid + "THREAD " + o.pick("REFERENCES", "REFERENCES", "REFS", "ORDEREDSUBJECT") + " " + o.pick("UTF-8", "US-ASCII") + " " + criteria
	}
	names := []string{"ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO"}
	keys := names[i%len(names)]
	for range o.IntN(3) {
		keys += " " + o.pick(names...)
	}
	if o.IntN(3) == 0 {
		keys = "REVERSE " + keys
	}
	options := ""
	if o.IntN(4) == 0 {
		options = o.pick("RETURN () ", "RETURN (MIN) ", "RETURN (MAX COUNT) ", "RETURN (MIN MAX ALL COUNT) ", "RETURN (PARTIAL 3:20) ", "RETURN (COUNT PARTIAL 20:3) ", "RETURN (PARTIAL 1000:1001) ")
	}
	return uid + "SORT " + options + "(" + keys + ") UTF-8 " + criteria
}
