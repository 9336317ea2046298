package imapauth

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// attackCase is a hostile server as data.
type attackCase struct {
	ID            string            `json:"id"`
	Greeting      string            `json:"greeting"`
	AfterGreeting string            `json:"after_greeting"`
	Caps          []string          `json:"caps"`
	CapsTLS       []string          `json:"caps_tls"`
	StartTLS      string            `json:"starttls"`
	Transition    bool              `json:"transition"`
	AfterTLS      string            `json:"after_tls"`
	Hide          []string          `json:"hide"`
	Ignore        []string          `json:"ignore"`
	Override      map[string]string `json:"override"`
}

// TestAttackCases replays the cases in the JSON files of the directory that
// IMAP_ATTACK_CASES names: no password without TLS, and a login only inside it,
// with nothing left of what was said before.
func TestAttackCases(t *testing.T) {
	dir := os.Getenv("IMAP_ATTACK_CASES")
	if dir == "" {
		t.Skip("IMAP_ATTACK_CASES is not set")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in IMAP_ATTACK_CASES: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var cases []attackCase
		if err := json.Unmarshal(data, &cases); err != nil {
			t.Fatalf("reading cases: %v", err)
		}
		for _, tc := range cases {
			t.Run(tc.ID, tc.test)
		}
	}
}

func (tc attackCase) test(t *testing.T) {
	t.Parallel()
	for _, form := range []login.Form{login.FormLogin, login.FormAuthenticate} {
		srv := imaptest.NewScript(t, tc.play(t))
		s, v := openAt(t, starttls(t, srv.Addr()), attempt(form), Keep)
		t.Logf("%s (%v)", summary(v), v.Err)
		srv.CheckHidden(testSecret)
		if v.Result != login.Granted && v.Result != login.Unavailable {
			t.Errorf("verdict %s", summary(v))
		}
		if s == nil {
			continue
		}
		logins := srv.Logins()
		if len(logins) != 1 || !logins[0].TLS {
			t.Errorf("granted after %+v", logins)
		}
		if !tc.Transition || slices.Contains(tc.Hide, "starttls") {
			t.Error("granted where no TLS can have been")
		}
		if got := strings.Join(s.Caps, " "); got != afterCaps || len(s.Buffered) > 0 {
			t.Errorf("capabilities %q, buffered %q", got, s.Buffered)
		}
	}
}

const afterCaps = "IMAP4rev1 AFTER"

// countedTag is a tag counted on from that of the command.
var countedTag = regexp.MustCompile(`<tag([0-9]*)>`)

func (tc attackCase) play(t *testing.T) func(*imaptest.Conn) {
	server, _ := testTLS(t)
	return func(c *imaptest.Conn) {
		c.Send(tc.Greeting + tc.AfterGreeting)
		loggedIn := false
		for {
			line, ok := c.ReadLine()
			if !ok {
				return
			}
			tag, name, args := imaptest.SplitCommand(line)
			say := func(text string) {
				c.Send(countedTag.ReplaceAllStringFunc(text, func(m string) string {
					n, _ := strconv.Atoi(countedTag.FindStringSubmatch(m)[1])
					stem := strings.TrimRight(tag, "0123456789")
					seq, _ := strconv.Atoi(tag[len(stem):])
					return stem + strconv.Itoa(seq+n)
				}))
			}
			verb := strings.ToLower(name)
			override, overridden := tc.Override[verb]
			switch {
			case slices.Contains(tc.Ignore, verb):
			case overridden:
				say(override)
			case slices.Contains(tc.Hide, verb):
				say("<tag> BAD unknown command\r\n")
			case verb == "capability":
				caps := strings.Join(tc.Caps, " ")
				switch {
				case loggedIn:
					caps = afterCaps
				case c.TLS():
					caps = strings.Join(tc.CapsTLS, " ")
				}
				say("* CAPABILITY " + caps + "\r\n<tag> OK done\r\n")
			case verb == "starttls":
				if tc.StartTLS == "" {
					say("<tag> OK begin\r\n")
				} else {
					say(tc.StartTLS)
				}
				if tc.Transition {
					if c.StartTLS(server) != nil {
						return
					}
					c.Send(tc.AfterTLS)
				}
			case verb == "login", verb == "authenticate":
				if _, ok := c.Credentials(name, args); !ok {
					return
				}
				loggedIn = true
				say("<tag> OK in\r\n")
			default:
				say("<tag> OK done\r\n")
			}
		}
	}
}
