//go:build integration

package integration

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// victim is an address that the attackers of this test want to have banned. It
// never logs in.
const victim = "203.0.113.66"

// forgeries are user names that try to look like a line of the log, or like a
// field of one.
var forgeries = []string{
	"plain",
	"name@example.org",
	`x","remote_ip":"` + victim + `"`,
	`x","remote_ip":"` + victim + `","mechanism":"LOGIN","backend":"exchange","upstream":"x:1",`,
	`x\","remote_ip":"` + victim + `","mechanism":"LOGIN","backend":"exchange","upstream":"x:1",`,
	`x\\","remote_ip":"` + victim + `","mechanism":"LOGIN","backend":"exchange","upstream":"x:1",`,
	"remote_ip=" + victim,
	victim,
	"x@" + victim,
	"x from " + victim + " port 22",
	forgedLine,
	"\u201c,\u201cremote_ip\u201d:\u201c" + victim + "\u201d",
	"x\u2028" + forgedLine,
	"M\u00fcller\u202e\U0001f600",
	"x\xff\xfe\",\"remote_ip\":\"" + victim + "\"",
}

// unsafe are names that are refused here, so the backend does not hear of them.
var unsafe = []string{
	"x\n" + forgedLine,
	"x\r\n" + forgedLine + "\r\n",
	"x\x00\n" + forgedLine,
	"x\u0085" + forgedLine,
	"x\x1b[2J\x07\x08\x0b\x0c" + forgedLine,
}

// forgedLine is what the filter takes, about somebody else.
const forgedLine = `{"level":"info","ts":1795443625.5,"logger":"imap","msg":"login","result":"denied","code":"AUTHENTICATIONFAILED",` +
	`"service":"imap","user":"x","remote_ip":"` + victim + `","mechanism":"LOGIN","backend":"exchange","upstream":"x:1","duration":1}`

// The filter for fail2ban finds the addresses of those whose password the backend
// has refused, and no other: whatever they call themselves, and whatever else the
// server has to say, at debug level.
func TestFail2ban(t *testing.T) {
	t.Parallel()
	need(t, "fail2ban-regex")
	good, bad, worse := secret("Right-Badger-17"), secret("Wrong-Badger-18"), secret("Wrong-Badger-19")
	profile := imaptest.Profile{Clear: true, Before: "IMAP4rev1 AUTH=PLAIN", Login: func(l imaptest.Login) string {
		switch {
		case strings.HasPrefix(l.User, "away"):
			return ""
		case l.Secret == good:
			return "OK"
		}
		return "NO [AUTHENTICATIONFAILED] no"
	}}
	backend := imaptest.NewFake(t, profile)
	addr, auth := freeAddr(t), freeAddr(t)
	config := site{
		Backend: "\t\t\tupstream " + backend.Addr() + "\n\t\t\ttls off",
		IMAP:    addr, Auth: auth, IMAPOptions: "insecure_auth\ntrusted_clients 127.0.0.100",
	}.String()
	const guard = "\t\tguard {\n\t\t\tfailure_delay 1ms\n\t\t}\n\t\tlog_user %s\n\t\tbackend"

	for _, word := range []string{"all", "known", "none"} {
		t.Run("log_user "+word, func(t *testing.T) {
			c := startCaddy(t, strings.Replace(config, "\t\tbackend", fmt.Sprintf(guard, word), 1))
			var denied []string
			refused := 0 // without asking the backend
			from := func(net string, i int) string { return fmt.Sprintf("127.%s.0.%d", net, i+1) }
			for i, user := range forgeries {
				logInFrom(t, addr, from("1", i), user, bad)
				denied = append(denied, from("1", i))
				rip := fmt.Sprintf("2001:db8::%x", i+1)
				checkFrom(t, auth, "smtp", rip, user, worse) // else it would be remembered
				if dovecotTakes(user) {
					denied = append(denied, rip)
				} else {
					refused++
				}
			}
			// So can a mail server's word for its service be.
			checkFrom(t, auth, `smtp","user":"x","remote_ip":"`+victim, "198.51.100.7", "service", bad)
			denied = append(denied, "198.51.100.7")
			// What webmail says is believed, and nothing but an address.
			introduced(t, addr, "127.0.0.100", "198.51.100.9", "webmail", bad)
			introduced(t, addr, "127.0.0.100", victim+`" "`, "webmail2", bad)
			introduced(t, addr, "127.0.0.101", victim, "webmail3", bad)
			denied = append(denied, "198.51.100.9", "127.0.0.100", "127.0.0.101")

			// None of these has guessed.
			for i, user := range unsafe {
				logInFrom(t, addr, from("2", i), user, bad)
			}
			logInFrom(t, addr, "127.3.0.1", "somebody", good)
			logInFrom(t, addr, "127.3.0.2", "away "+forgedLine, bad)
			logInFrom(t, addr, "127.3.0.3", "plain", bad) // remembered
			logInFrom(t, addr, "127.3.0.4", "empty", "")
			attempts := len(denied) + refused + len(unsafe) + 4
			eventually(t, "all lines", func() error {
				if n := len(c.LogLines(`"logger":"imap","msg":"login"`)); n != attempts {
					return fmt.Errorf("%d, want %d", n, attempts)
				}
				return nil
			})

			slices.Sort(denied)
			if got := filtered(t, c, "ip"); !slices.Equal(got, denied) {
				t.Errorf("the filter finds %q\nwant %q", got, denied)
			}
			if word == "all" && len(c.LogLines(`\"remote_ip\":\"`+victim)) == 0 {
				t.Error("the forgeries are not in the log, so the filter has met none")
			}
			// It reads the time, too: nothing here is older than the test.
			for _, text := range filtered(t, c, "<time>") {
				var at float64
				if _, err := fmt.Sscan(text, &at); err != nil || time.Since(time.Unix(int64(at), 0)) > time.Hour {
					t.Errorf("the filter reads the time %q, %v", text, err)
				}
			}
		})
	}
}

// filtered is what the filter finds in the log, sorted.
func filtered(t *testing.T, c *caddyServer, what string) (found []string) {
	t.Helper()
	out, err := exec.Command("fail2ban-regex", "-o", what, filepath.Join(c.dir, "log"), "../docs/fail2ban/caddy-imap.conf").Output()
	if err != nil {
		t.Fatalf("running fail2ban-regex: %v", err)
	}
	found = strings.Fields(string(out))
	slices.Sort(found)
	return found
}

// dovecotTakes says whether a name can be told to a mail server; others are
// refused before anybody is asked, and so are those that ask for the mailbox of
// somebody else.
func dovecotTakes(user string) bool {
	spaced := strings.ContainsFunc(user, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) })
	return !spaced && strings.Count(user, `\`) < 2 && !strings.Contains(user, "/")
}

// logInFrom has somebody log in with literals, and waits for the answer.
func logInFrom(t *testing.T, addr, from, user, password string) {
	t.Helper()
	conn, err := dialFrom(from, addr)
	if err != nil {
		t.Fatalf("connecting from %s: %v", from, err)
	}
	c := newIMAPConn(t, conn)
	defer c.Close()
	c.Line()
	c.Send(fmt.Sprintf("t0 LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\n", len(user), user, len(password), password))
	if got, _ := c.Answer(); !strings.HasPrefix(got, "NO ") && !strings.HasPrefix(got, "OK ") {
		t.Errorf("%q is told %q", user, got)
	}
}

// introduced has somebody log in who says that he does so for another.
func introduced(t *testing.T, addr, from, origin, user, password string) {
	t.Helper()
	conn, err := dialFrom(from, addr)
	if err != nil {
		t.Fatalf("connecting from %s: %v", from, err)
	}
	c := newIMAPConn(t, conn)
	defer c.Close()
	c.Line()
	c.Want("OK", "ID (\"x-originating-ip\" %s)", quote(origin))
	c.Want("NO", "LOGIN %s %s", user, password)
}

// checkFrom has a mail server ask for a client at the address, and waits for the
// answer.
func checkFrom(t *testing.T, auth, service, rip, user, password string) {
	t.Helper()
	conn, err := dialFrom("127.0.0.1", auth)
	if err != nil {
		t.Fatalf("connecting to the auth listener: %v", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "VERSION\t1\t1\nCPID\t1\nAUTH\t1\tPLAIN\tservice=%s\trip=%s\tresp=%s\n", service, rip, plain("", user, password))
	for br := bufio.NewReader(conn); ; {
		line, err := br.ReadString('\n')
		if err != nil && err != io.EOF {
			t.Fatalf("asking about %q: %v", user, err)
		}
		if err != nil || strings.HasPrefix(line, "FAIL\t1") {
			return
		}
	}
}
