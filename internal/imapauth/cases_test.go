package imapauth

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// attackCase is a backend of testdata/hostile.txt: what it says, by the words that the
// file has for it.
type attackCase map[string][]string

// attackKeys are those words. A command in capitals is one, too.
var attackKeys = regexp.MustCompile(`^(backend|greeting|before|inside|unknown|silent|handshake|secret|verdict|[A-Z]+)$`)

// TestAttackCases logs in at each of the backends of testdata/hostile.txt: no password
// without TLS, and a login only inside it, with nothing left of what was said before.
func TestAttackCases(t *testing.T) {
	cases := readAttackCases(t)
	if len(cases) < 69 {
		t.Errorf("there are %d cases", len(cases))
	}
	for _, tc := range cases {
		t.Run(tc.word("backend", ""), tc.test)
	}
}

func readAttackCases(t *testing.T) []attackCase {
	t.Helper()
	data, err := os.ReadFile("testdata/hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	var cases []attackCase
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, text, _ := strings.Cut(line, " ")
		if !attackKeys.MatchString(key) {
			t.Fatalf("line %q has no word that is known", line)
		}
		if key == "backend" {
			cases = append(cases, attackCase{})
		}
		tc := cases[len(cases)-1]
		tc[key] = append(tc[key], strings.TrimLeft(text, " "))
	}
	return cases
}

// word is the text that the case has for a word, unless it has none.
func (tc attackCase) word(key, unless string) string {
	if lines, ok := tc[key]; ok {
		return lines[0]
	}
	return unless
}

// lines are all texts that the case has for a word, as lines of IMAP.
func (tc attackCase) lines(key, unless string) string {
	if lines, ok := tc[key]; ok {
		return strings.Join(lines, "\r\n") + "\r\n"
	}
	return unless
}

func (tc attackCase) test(t *testing.T) {
	t.Parallel()
	for _, form := range []login.Form{login.FormLogin, login.FormAuthenticate} {
		srv := imaptest.NewScript(t, tc.play(t))
		s, v := openAt(t, starttls(t, srv.Addr()), attempt(form), Keep)
		srv.CheckHidden(testSecret, testUser)
		logins := srv.Logins()
		if want := tc.word("verdict", ""); want != "granted" {
			if v.Result != login.Unavailable || v.Err == nil || !strings.Contains(v.Err.Error(), want) {
				t.Errorf("verdict %s (%v), want %q", summary(v), v.Err, want)
			}
			if s != nil || len(logins) > 0 {
				t.Errorf("credentials were sent: %+v", logins)
			}
			continue
		}
		if v.Result != login.Granted || s == nil {
			t.Fatalf("verdict %s (%v)", summary(v), v.Err)
		}
		if len(logins) != 1 || !logins[0].TLS {
			t.Errorf("granted after %+v", logins)
		}
		if got := strings.Join(s.Caps, " "); got != afterCaps || len(s.Buffered) > 0 {
			t.Errorf("capabilities %q, buffered %q", got, s.Buffered)
		}
	}
}

const afterCaps = "IMAP4rev1 AFTER"

// countedTag is the tag of the command, or one counted on from it.
var countedTag = regexp.MustCompile(`TAG(?:\+([0-9]))?`)

// play answers commands in whatever order they come.
func (tc attackCase) play(t *testing.T) func(*imaptest.Conn) {
	server, _ := testTLS(t)
	const before, inside = "IMAP4rev1 STARTTLS LOGINDISABLED", "IMAP4rev1 AUTH=PLAIN AUTH=LOGIN"
	unknown, silent := strings.Fields(tc.word("unknown", "")), strings.Fields(tc.word("silent", ""))
	return func(c *imaptest.Conn) {
		c.Send(tc.lines("greeting", "* OK [CAPABILITY "+before+"] hello\r\n"))
		loggedIn := false
		for {
			line, ok := c.ReadLine()
			if !ok {
				return
			}
			tag, name, args := imaptest.SplitCommand(line)
			name = strings.ToUpper(name)
			answer := "TAG OK done\r\n"
			switch name {
			case "CAPABILITY":
				caps := tc.word("before", before)
				switch {
				case loggedIn:
					caps = afterCaps
				case c.TLS():
					caps = tc.word("inside", inside)
				}
				answer = "* CAPABILITY " + caps + "\r\n" + answer
			case "LOGIN", "AUTHENTICATE":
				if _, ok := c.Credentials(name, args); !ok {
					return
				}
				loggedIn = true
			}
			switch {
			case slices.Contains(silent, name):
				continue
			case slices.Contains(unknown, name):
				answer = "TAG BAD unknown command\r\n"
			case !c.TLS():
				answer = tc.lines(name, answer)
			}
			c.Send(countedTag.ReplaceAllStringFunc(answer, func(m string) string {
				n, _ := strconv.Atoi(countedTag.FindStringSubmatch(m)[1])
				stem := strings.TrimRight(tag, "0123456789")
				seq, _ := strconv.Atoi(tag[len(stem):])
				return stem + strconv.Itoa(seq+n)
			}))
			if name == "STARTTLS" && tc.word("handshake", "") != "no" {
				if c.StartTLS(server) != nil {
					return
				}
				c.Send(tc.lines("secret", ""))
			}
		}
	}
}
