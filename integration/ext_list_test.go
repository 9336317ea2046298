//go:build integration

package integration

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapext"
	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// listNames are mailboxes of the test, the delimiter of which is "/".
var listNames = []string{
	"Sent Items", "Drafts", "Deleted Items", "Junk Email", "Archive", "a", "a/b", "a/b/c", "a/Drafts", "ab", "ab/c d", "Gel&APY-scht", "Gel&APY-scht/x",
	"b/c/d/e", "b/c", "inbox2", "x%y", "q\\r", "INBOX/below",
}

// listRig is a Dovecot, and a session with it through the extensions, in front of a server
// that hands over to the same Dovecot what bare IMAP4rev1 has, and refuses the rest.
type listRig struct {
	t            *testing.T
	delim        string
	rnd          *rand.Rand
	direct, ours *wire
}

// wire is a client that reads lines.
type wire struct {
	t testing.TB
	net.Conn
	br *bufio.Reader
	n  int
}

func newWire(t testing.TB, conn net.Conn) *wire {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
	return &wire{t: t, Conn: conn, br: bufio.NewReader(conn)}
}

// ask sends a command and returns what is said up to its completion, without tags and
// line ends.
func (w *wire) ask(command string) []string {
	w.t.Helper()
	w.n++
	tag := fmt.Sprintf("w%d", w.n)
	if _, err := io.WriteString(w.Conn, tag+" "+command+"\r\n"); err != nil {
		w.t.Fatal(err)
	}
	return w.until(tag)
}

func (w *wire) until(tag string) (lines []string) {
	w.t.Helper()
	for {
		line, err := w.br.ReadString('\n')
		if err != nil {
			w.t.Fatalf("got %q, %v", lines, err)
		}
		line = strings.TrimRight(line, "\r\n")
		if rest, done := strings.CutPrefix(line, tag+" "); done {
			return append(lines, rest)
		}
		lines = append(lines, line)
	}
}

func (w *wire) must(command string) {
	w.t.Helper()
	if got := w.ask(command); !strings.HasPrefix(got[len(got)-1], "OK") {
		w.t.Fatalf("%s: %q", command, got)
	}
}

// dialBare logs in without TLS, from Dovecot's own address.
func dialBare(t *testing.T, d *dovecot, user, password string) *wire {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(d.set.IP)}}
	conn, err := dialer.Dial("tcp", d.IMAP())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	w := newWire(t, conn)
	if _, err := w.br.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	w.must(fmt.Sprintf("LOGIN %s %s", user, password))
	return w
}

// poor is the server between: it ends with the session.
func poor(conn net.Conn, back *wire) {
	defer conn.Close()
	extended := regexp.MustCompile(`(?i)^\S+ (LIST (\(|\S+ \(|.* RETURN)|STATUS .*\bSIZE\b|NAMESPACE|SORT|THREAD|MOVE)`)
	attrs := regexp.MustCompile(` ?\\(HasChildren|HasNoChildren|Sent|Drafts|Trash|Junk|Archive)\b`)
	begin := regexp.MustCompile(`^\* (LIST|LSUB) \([^)]*\)`)
	br := bufio.NewReader(conn)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		tag, _, _ := strings.Cut(line, " ")
		if extended.MatchString(line) {
			_, _ = fmt.Fprintf(conn, "%s BAD Command Argument Error. 12\r\n", tag)
			continue
		}
		if _, err := io.WriteString(back.Conn, line); err != nil {
			return
		}
		for {
			answer, err := back.br.ReadString('\n')
			if err != nil {
				return
			}
			answer = begin.ReplaceAllStringFunc(answer, func(s string) string {
				return strings.Replace(attrs.ReplaceAllString(s, ""), "( ", "(", 1)
			})
			if _, err := io.WriteString(conn, answer); err != nil {
				return
			}
			if strings.HasPrefix(answer, tag+" ") {
				break
			}
		}
	}
}

func pipe(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func newListRig(t *testing.T, delim, layout string, rnd *rand.Rand) *listRig {
	password := secret("Listed-Horse-9")
	d := startDovecot(t, dovecotSettings{Extra: `
mail_location = maildir:~/mail` + layout + `
namespace inbox {
  inbox = yes
  separator = ` + delim + `
  mailbox "Sent Items" {
    special_use = \Sent
  }
  mailbox Drafts {
    special_use = \Drafts
  }
  mailbox "Deleted Items" {
    special_use = \Trash
  }
  mailbox "Junk Email" {
    special_use = \Junk
  }
  mailbox Archive {
    special_use = \Archive
  }
}
`}, map[string]string{"alice": password})
	r := &listRig{t: t, delim: delim, rnd: rnd, direct: dialBare(t, d, "alice", password)}
	client, front := pipe(t)
	back, server := pipe(t)
	over := make(chan struct{})
	go func() { poor(server, dialBare(t, d, "alice", password)); close(over) }()
	cfg := &imapext.Config{Names: imapext.Known()}
	s := relay.New(relay.Leg{Conn: front}, relay.Leg{Conn: back}, relay.Options{
		Idle: time.Minute, Extension: imapext.NewSession(cfg.Offer([]string{"IMAP4rev1"})), LiteralPlus: true,
	})
	done := make(chan struct{})
	go func() { s.Run(); close(done) }()
	t.Cleanup(func() {
		_ = client.Close()
		<-done
		_, _ = front.Close(), back.Close()
		<-over
	})
	r.ours = newWire(t, client)
	r.fill()
	return r
}

// quoteName quotes a name of the list, with the delimiter that there is.
func (r *listRig) quoteName(name string) string {
	name = strings.ReplaceAll(name, "/", r.delim)
	return `"` + strings.ReplaceAll(name, `\`, `\\`) + `"`
}

// fill makes mailboxes and messages, and subscribes to some, and to some that are not
// there.
func (r *listRig) fill() {
	for _, name := range listNames {
		made := r.rnd.IntN(4) > 0
		if made {
			r.direct.ask("CREATE " + r.quoteName(name)) // some exist by others
		}
		if r.rnd.IntN(3) == 0 {
			r.direct.ask("SUBSCRIBE " + r.quoteName(name)) // not if there is none
		}
		if made && r.rnd.IntN(3) == 0 {
			mail := "Subject: " + name + "\r\n\r\nx\r\n"
			_, _ = fmt.Fprintf(r.direct.Conn, "mail APPEND %s {%d+}\r\n%s\r\n", r.quoteName(name), len(mail), mail)
			r.direct.until("mail")
		}
	}
	for _, name := range []string{"gone", "gone/child", "a/gone", "ab/c d/gone"} {
		if r.rnd.IntN(2) == 0 {
			r.direct.ask("CREATE " + r.quoteName(name))
			r.direct.ask("SUBSCRIBE " + r.quoteName(name))
			r.direct.ask("DELETE " + r.quoteName(name))
		}
	}
	r.direct.ask("DELETE " + r.quoteName("gone"))
	if r.rnd.IntN(2) == 0 {
		r.direct.ask("SUBSCRIBE INBOX")
	}
}

// some returns some of the words, in any order.
func (r *listRig) some(words ...string) string {
	r.rnd.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	return strings.Join(words[:r.rnd.IntN(len(words)+1)], " ")
}

func (r *listRig) pattern() string {
	patterns := []string{"*", "%", "%/%", "a*", "a/%", "*c*", "%b%", "%/%/%", "inb*", "iNBOX", "Gel&APY-scht/%", "*x", "", "no", "gone*", "b/*", "%*", "a%/c%"}
	if n := r.rnd.IntN(len(patterns) + 6); n < len(patterns) {
		return r.quoteName(patterns[n])
	}
	return r.quoteName(listNames[r.rnd.IntN(len(listNames))])
}

// command is any LIST.
func (r *listRig) command() string {
	var c strings.Builder
	c.WriteString("LIST")
	if r.rnd.IntN(3) > 0 {
		fmt.Fprintf(&c, " (%s)", r.some("SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"))
	}
	fmt.Fprintf(&c, " %s", []string{`""`, `""`, `""`, r.quoteName("a/"), r.quoteName("a")}[r.rnd.IntN(5)])
	if r.rnd.IntN(3) > 0 {
		fmt.Fprintf(&c, " %s", r.pattern())
	} else {
		var patterns []string
		for range r.rnd.IntN(4) {
			patterns = append(patterns, r.pattern())
		}
		fmt.Fprintf(&c, " (%s)", strings.Join(patterns, " "))
	}
	if r.rnd.IntN(3) > 0 {
		status := "STATUS (" + r.some("MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "RECENT", "SIZE") + ")"
		fmt.Fprintf(&c, " RETURN (%s)", r.some("SUBSCRIBED", "CHILDREN", "SPECIAL-USE", status))
	}
	return c.String()
}

var listLine = regexp.MustCompile(`^\* LIST \(([^)]*)\) (\S+) (.*?)( \("?CHILDINFO"? \("SUBSCRIBED"\)\))?$`)

// listed is an answer in one form: attributes by name, statuses by name, and OK, NO or BAD.
func listed(lines []string) map[string]string {
	out := make(map[string]string)
	for _, line := range lines[:len(lines)-1] {
		if m := listLine.FindStringSubmatch(line); m != nil {
			attrs := strings.Fields(strings.ToLower(m[1]))
			// Whether something has come since somebody looked is a hint, and Dovecot gives it or
			// not, by how it goes through its mailboxes.
			attrs = slices.DeleteFunc(attrs, func(attr string) bool { return strings.HasSuffix(attr, "marked") })
			if m[4] != "" {
				attrs = append(attrs, "below")
			}
			out["LIST "+strings.Trim(m[3], `"`)] += sortWords(strings.Join(attrs, " "))
			continue
		}
		open := strings.LastIndexByte(line, '(')
		if open < 0 {
			out[line] = ""
			continue
		}
		items := strings.Fields(strings.Trim(line[open:], "()"))
		var pairs []string
		for i := 0; i+1 < len(items); i += 2 {
			pairs = append(pairs, items[i]+" "+items[i+1])
		}
		slices.Sort(pairs)
		out[strings.ReplaceAll(line[2:open], `"`, "")] += strings.Join(pairs, " ")
	}
	out["status"], _, _ = strings.Cut(lines[len(lines)-1], " ")
	return out
}

func sortWords(text string) string {
	words := strings.Fields(text)
	slices.Sort(words)
	return strings.Join(words, " ")
}

// emptyPattern is a reference that has an empty pattern behind it.
var emptyPattern = regexp.MustCompile(`^LIST(?: \([^)]*\))? "([^"]+)" (?:""|\((?:[^)]* )?""[ )])`)

// severalPatterns are more than one.
var severalPatterns = regexp.MustCompile(`\("[^"]*" "`)

// listReasons are the differences that stay. Each takes away from both answers what
// differs by a rule.
var listReasons = []*diffReason{
	{why: "Plain LIST does not tell what does not exist from what cannot be selected (RFC 5258 section 3: \\NonExistent \"implies \\NoSelect\").",
		told: "\\Noselect stands where Dovecot knows that it could say",
		apply: func(_ string, dovecot, ours map[string]string) {
			for name, attrs := range dovecot {
				if strings.Contains(ours[name], `\noselect`) {
					dovecot[name] = sortWords(strings.ReplaceAll(attrs, `\nonexistent`, `\noselect`))
				}
			}
		}},
	{why: "What cannot be selected keeps \\Noselect where subscriptions are listed (RFC 3501 section 7.2.2: \"It is not possible to use this name as a selectable mailbox.\"); Dovecot leaves it away, and fails to get a status.",
		told: "What cannot be selected keeps \\Noselect",
		apply: func(_ string, dovecot, ours map[string]string) {
			for name, attrs := range ours {
				if strings.Contains(attrs, "below") || strings.Contains(attrs, `\subscribed`) {
					ours[name] = sortWords(strings.ReplaceAll(attrs, `\noselect`, ""))
					dovecot[name] = sortWords(strings.ReplaceAll(dovecot[name], `\noselect`, ""))
				}
			}
			for line := range dovecot {
				if strings.HasPrefix(line, "* NO Mailbox doesn't exist") {
					delete(dovecot, line)
				}
			}
		}},
	{why: "Only mailboxes that exist are children (RFC 3348 section 3); Dovecot counts subscriptions to those that do not in one of its layouts, and not in the other.",
		told: "Only mailboxes that exist count as children",
		apply: func(_ string, dovecot, ours map[string]string) {
			for name, attrs := range ours {
				if (strings.Contains(attrs, `\nonexistent`) || strings.Contains(attrs, "below")) && strings.Contains(attrs, `\hasnochildren`) {
					dovecot[name] = sortWords(strings.ReplaceAll(dovecot[name], `\haschildren`, `\hasnochildren`))
				}
			}
		}},
	{why: "Children are there (RFC 5258 section 3.2: CHILDREN \"MUST be accurately computed\"); Dovecot overlooks them where it lists subscriptions to a mailbox with letters beyond ASCII in its name.",
		told: "A mailbox with letters beyond ASCII in its name has its children told",
		apply: func(_ string, dovecot, ours map[string]string) {
			for name, attrs := range ours {
				if strings.Contains(name, "&") && strings.Contains(attrs, `\haschildren`) && strings.Contains(dovecot[name], `\hasnochildren`) {
					dovecot[name] = sortWords(strings.ReplaceAll(dovecot[name], `\hasnochildren`, `\haschildren`))
				}
			}
		}},
	{why: "An empty pattern is ignored (RFC 5258 section 3: \"In the extended syntax, any mailbox name arguments that are empty strings are ignored.\"); Dovecot takes it for the reference alone.",
		told: "In extended lists an empty pattern is ignored",
		apply: func(command string, dovecot, ours map[string]string) {
			if m := emptyPattern.FindStringSubmatch(command); m != nil {
				for _, answer := range []map[string]string{dovecot, ours} {
					delete(answer, "LIST "+m[1])
					delete(answer, "STATUS "+m[1]+" ")
				}
			}
		}},
	{why: "With several patterns all parents that match are listed (RFC 5258 section 3.1: RECURSIVEMATCH is about \"parent mailboxes that don't match other selection options, but have some submailboxes that do\"); Dovecot lists the nearest one, and does not tell of what another pattern lists.",
		told: "With RECURSIVEMATCH and several patterns",
		apply: func(command string, dovecot, ours map[string]string) {
			if !strings.Contains(command, "RECURSIVEMATCH") {
				return
			}
			for name, attrs := range ours {
				if !strings.Contains(attrs, "below") && !strings.Contains(attrs, `\haschildren`) {
					continue
				}
				there, is := dovecot[name]
				switch {
				case !is && strings.Contains(attrs, "below") && !strings.Contains(attrs, `\subscribed`):
					delete(ours, name)
				case is && !strings.Contains(there, "below") && severalPatterns.MatchString(command):
					ours[name] = sortWords(strings.NewReplacer("below", "", `\haschildren`, "").Replace(attrs))
					dovecot[name] = sortWords(strings.ReplaceAll(there, `\haschildren`, ""))
				}
			}
		}},
}

// TestListAsDovecot has a Dovecot answer lists itself, and us in front of it.
func TestListAsDovecot(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for _, layout := range []struct{ delim, layout string }{{"/", ":LAYOUT=fs"}, {".", ""}} {
		for n := range 3 {
			t.Run(fmt.Sprintf("%s %d", layout.delim, n), func(t *testing.T) {
				r := newListRig(t, layout.delim, layout.layout, rand.New(rand.NewPCG(seed, uint64(n))))
				bad := 0
				for range 600 {
					command := r.command()
					dovecot, ours := r.direct.ask(command), r.ours.ask(command)
					d, o := listed(dovecot), listed(ours)
					for _, reason := range listReasons {
						reason.apply(command, d, o)
					}
					if fmt.Sprint(d) == fmt.Sprint(o) {
						continue
					}
					t.Errorf("%s\nDovecot:\n %s\nours:\n %s", command, strings.Join(dovecot, "\n "), strings.Join(ours, "\n "))
					if bad++; bad == 5 {
						t.Fatal("too many")
					}
				}
			})
		}
	}
}
