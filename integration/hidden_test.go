//go:build integration

package integration

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// People type their password where their name belongs. It appears neither in the
// log, at debug level, nor in the list of holds: not as it is, and not as the
// protocols carry it.
func TestPasswordAsName(t *testing.T) {
	good, wrong := secret("Right-Otter-21"), secret("Wrong-Otter-22")
	ca := imaptest.NewCA(t)
	profile := imaptest.Exchange(ca.ServerTLS("127.0.0.1"))
	profile.Login = func(l imaptest.Login) string {
		if l.User == "alice" && l.Secret == good {
			return "OK LOGIN completed."
		}
		return imaptest.ExchangeFailed(l)
	}
	backend := imaptest.NewFake(t, profile)
	addr, auth := freeAddr(t), freeAddr(t)
	c := startCaddy(t, site{
		Guard:   "failure_delay 1ms\nsource_failures 1000",
		Backend: upstream(backend.Addr(), ca), IMAP: addr, Auth: auth, AuthOptions: "allow_delegates",
	}.String())
	awaitCertificate(t, addr)
	dialSecure(t, addr).Want("OK", "LOGIN alice %s", quote(good)) // so that alice is a name

	exchange := func(c *imapConn, command string, lines ...string) {
		c.Want("+", "%s", command)
		for i, line := range lines {
			c.Send(line + "\r\n")
			got, _ := c.Answer()
			if want := map[bool]string{true: "NO", false: "+"}[i == len(lines)-1]; !strings.HasPrefix(got, want) {
				c.t.Errorf("%s: told %q after line %d", command, got, i+1)
			}
		}
	}
	ways := map[string]func(typed string){
		"LOGIN":         func(typed string) { dialSecure(t, addr).Want("NO", "LOGIN %s %s", quote(typed), quote(wrong)) },
		"PLAIN":         func(typed string) { exchange(dialSecure(t, addr), "AUTHENTICATE PLAIN", plain("", typed, wrong)) },
		"PLAIN at once": func(typed string) { dialSecure(t, addr).Want("NO", "AUTHENTICATE PLAIN %s", plain("", typed, wrong)) },
		"PLAIN for another": func(typed string) {
			dialSecure(t, addr).Want("NO", "AUTHENTICATE PLAIN %s", plain(typed, "alice", wrong))
		},
		"LOGIN mechanism":     func(typed string) { exchange(dialSecure(t, addr), "AUTHENTICATE LOGIN", b64(typed), b64(wrong)) },
		"no base64":           func(typed string) { dialSecure(t, addr).Want("BAD", "AUTHENTICATE PLAIN %s", quote(typed)) },
		"as a command":        func(typed string) { dialSecure(t, addr).Want("BAD", "%s", quote(typed)) },
		"as a mechanism":      func(typed string) { dialSecure(t, addr).Want("NO [CANNOT]", "AUTHENTICATE %s", b64(typed)) },
		"mail server":         func(typed string) { askServer(t, auth, "PLAIN", plain("", typed, wrong)) },
		"mail server, LOGIN":  func(typed string) { askServer(t, auth, "LOGIN", b64(typed), b64(wrong)) },
		"mail server, unsafe": func(typed string) { askServer(t, auth, "PLAIN", plain("", typed+"\n", wrong)) },
	}
	names := []string{"Hidden-Name-41", "alice@Hidden42", "alice/Hidden-43", `Hidden\44!`, "Hidden Name 45", `Hidden"46`}
	for _, name := range names {
		secret(name)
	}
	for _, name := range names {
		for _, way := range ways {
			way(name)
		}
		// Until the account is held.
		for range accountFailures {
			dialSecure(t, addr).Want("NO", "LOGIN %s %s", quote(name), quote(nextGuess()))
		}
	}
	list := c.request(http.MethodGet, "/imap/guard", "application/json", "")
	if !strings.Contains(list, `"user":"?"`) {
		t.Errorf("held are %s", list)
	}
	for _, found := range imaptest.Revealed([]byte(list), secrets()...) {
		t.Errorf("the list of holds has %s", found)
	}
	lines := len(c.LogLines(`"logger":"imap","msg":"login"`, `"user":"?"`))
	if most := len(names) * (len(ways) + accountFailures); lines < most/2 {
		t.Errorf("%d lines about logins without a name, of %d", lines, most)
	}
	if len(c.LogLines("no more wrong passwords for this account", `"user":"?"`)) == 0 {
		t.Error("nothing was told of a held account without a name")
	}
	figure(t, "%d names that were passwords in %d lines of a debug log", len(names), len(c.LogLines()))
	c.Stop() // which searches the log
}

// askServer has a mail server ask with the responses of a mechanism, and waits for a
// refusal.
func askServer(t *testing.T, auth, mechanism string, responses ...string) {
	t.Helper()
	conn, err := dialFrom("127.0.0.1", auth)
	if err != nil {
		t.Fatalf("connecting to the auth listener: %v", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = fmt.Fprintf(conn, "VERSION\t1\t1\nCPID\t1\nAUTH\t1\t%s\tservice=smtp\trip=127.0.0.1\tresp=%s\n", mechanism, responses[0])
	for br := bufio.NewReader(conn); ; {
		line, err := br.ReadString('\n')
		switch {
		case err == io.EOF || strings.HasPrefix(line, "OK\t1"):
			t.Errorf("asking by %s: %q, %v", mechanism, line, err)
			return
		case err != nil || strings.HasPrefix(line, "FAIL\t1"): // a reset, when it is held
			return
		case strings.HasPrefix(line, "CONT\t1") && len(responses) > 1:
			responses = responses[1:]
			_, _ = fmt.Fprintf(conn, "CONT\t1\t%s\n", responses[0])
		}
	}
}
