package imapext

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// store is a backend of bare IMAP4rev1 that has mailboxes and no messages of
// interest.
type store struct {
	caps string
	// folders have the attributes by name, in UTF-7, subscribed the names.
	folders    map[string]string
	subscribed []string
	delim      string
	// bare leaves names without quotes, as Exchange does.
	bare bool
	// sizes are those of the messages, by mailbox.
	sizes map[string][]int
	// refuse answers commands that begin so with NO or BAD.
	refuse map[string]string
}

// play answers commands until the client is gone.
func (st *store) play(c *imaptest.Conn) {
	selected := ""
	for {
		line, ok := c.ReadLine()
		if !ok {
			return
		}
		tag, name, rest := imaptest.SplitCommand(line)
		if i := slices.IndexFunc(sortedKeys(st.refuse), func(begin string) bool { return strings.HasPrefix(name+" "+rest, begin) }); i >= 0 {
			c.Sendf("%s %s", tag, st.refuse[sortedKeys(st.refuse)[i]])
			continue
		}
		args := words(rest)
		switch name {
		case "CAPABILITY":
			c.Sendf("* CAPABILITY %s", st.caps)
		case "LIST", "LSUB":
			if len(args) != 2 || strings.HasPrefix(rest, "(") {
				c.Sendf("%s BAD Command Argument Error. 12", tag)
				continue
			}
			st.list(c, name, args[0], args[1])
		case "STATUS":
			if !slices.Contains(sortedKeys(st.folders), args[0]) {
				c.Sendf("%s NO %s doesn't exist.", tag, args[0])
				continue
			}
			items := strings.Fields(strings.Trim(rest[strings.LastIndexByte(rest, '('):], "()"))
			for i, item := range items {
				items[i] = fmt.Sprintf("%s %d", item, len(st.sizes[args[0]]))
			}
			c.Sendf("* STATUS %s (%s)", st.name(args[0]), strings.Join(items, " "))
		case "SELECT", "EXAMINE":
			selected = args[0]
			c.Sendf("* %d EXISTS", len(st.sizes[selected]))
		case "CLOSE":
			selected = ""
		case "FETCH":
			for i, size := range st.sizes[selected] {
				c.Sendf("* %d FETCH (RFC822.SIZE %d)", i+1, size)
			}
		case "NOOP":
		default:
			c.Sendf("%s BAD Command Error. 10", tag)
			continue
		}
		c.Sendf("%s OK %s completed.", tag, name)
	}
}

// list answers LIST or LSUB.
func (st *store) list(c *imaptest.Conn, command, ref, pattern string) {
	if command == "LIST" && pattern == "" {
		c.Sendf("* LIST (\\Noselect) %q \"\"", st.delim)
		return
	}
	expr := regexp.QuoteMeta(ref + pattern)
	expr = strings.ReplaceAll(strings.ReplaceAll(expr, `\*`, ".*"), "%", "[^"+regexp.QuoteMeta(st.delim)+"]*")
	match := regexp.MustCompile("^" + expr + "$")
	if strings.EqualFold(pattern, "INBOX") {
		match = regexp.MustCompile("^INBOX$")
	}
	names := sortedKeys(st.folders)
	if command == "LSUB" {
		names = st.subscribed
	}
	for _, name := range names {
		if match.MatchString(name) {
			c.Sendf("* %s (%s) %q %s", command, st.folders[name], st.delim, st.name(name))
		}
	}
}

// name is how a name is written.
func (st *store) name(name string) string {
	if st.bare {
		return name
	}
	return fmt.Sprintf("%q", name)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// words are quoted strings, and what stands between spaces.
func words(text string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`"((?:[^"\\]|\\.)*)"|\S+`).FindAllStringSubmatch(text, -1) {
		word := m[0]
		if word[0] == '"' {
			word = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(m[1])
		}
		out = append(out, word)
	}
	return out
}

// mailClient is the client of a session.
type mailClient struct {
	t testing.TB
	net.Conn
	br *bufio.Reader
	n  int
}

// session relays a client's session to a backend that a script plays.
func session(t *testing.T, cfg *Config, caps string, play func(*imaptest.Conn)) *mailClient {
	t.Helper()
	return sessionWith(t, cfg, caps, play, nil)
}

// sessionWith is session with somebody who is told of missing messages.
func sessionWith(t *testing.T, cfg *Config, caps string, play func(*imaptest.Conn), missing func(string, uint64)) *mailClient {
	t.Helper()
	script := imaptest.NewScript(t, play)
	back, err := net.Dial("tcp", script.Addr())
	if err != nil {
		t.Fatal(err)
	}
	conn, front := tcpPair(t)
	done := make(chan relay.Stats, 1)
	extension := NewSession(cfg.Offer(strings.Fields(caps)))
	extension.Missing = missing
	s := relay.New(relay.Leg{Conn: front}, relay.Leg{Conn: back}, relay.Options{
		Idle: time.Minute, Extension: extension, LiteralPlus: true,
	})
	go func() { done <- s.Run() }()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
		_, _ = front.Close(), back.Close()
	})
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return &mailClient{t: t, Conn: conn, br: bufio.NewReader(conn)}
}

// ask sends a command and returns what comes up to its completion, which is last, without
// tags and line ends.
func (c *mailClient) ask(command string) []string {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("c%d", c.n)
	if _, err := io.WriteString(c.Conn, tag+" "+command+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	var lines []string
	for {
		line, err := c.br.ReadString('\n')
		if err != nil {
			c.t.Fatalf("%s: got %q, %v", command, lines, err)
		}
		line = strings.TrimSuffix(line, "\r\n")
		if rest, done := strings.CutPrefix(line, tag+" "); done {
			return append(lines, rest)
		}
		lines = append(lines, line)
	}
}

// want asks, and wants exactly these lines.
func (c *mailClient) want(command string, want ...string) {
	c.t.Helper()
	if got := c.ask(command); !slices.Equal(got, want) {
		c.t.Errorf("%s\n got %s\nwant %s", command, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}
