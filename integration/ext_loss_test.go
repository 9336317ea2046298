//go:build integration

package integration

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapext"
	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// TestAppendCutOff has a client go in the middle of the third mail of an APPEND. The server
// behind us is a Dovecot, which has none of them then.
func TestAppendCutOff(t *testing.T) {
	t.Parallel()
	for i, set := range diffRounds[:2] {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			d := twinsDovecot(t, set, "ours")
			for _, selected := range []string{"", "SELECT INBOX", "SELECT Other", "EXAMINE INBOX"} {
				direct := newTwin(t, d, "ours")
				direct.do("CREATE Other")
				direct.do("APPEND INBOX {1+}\r\nx")
				direct.do("SELECT INBOX")
				before := direct.count()
				ours, _, _ := newTwinBehind(t, d, set, diffConfig(), "ours")
				if selected != "" {
					ours.do(selected)
				}
				if _, err := io.WriteString(ours.Conn, "x APPEND INBOX {3+}\r\nabc {3+}\r\ndef {100+}\r\nabc"); err != nil {
					t.Fatal(err)
				}
				// Both are there before the client goes.
				deadline := time.Now().Add(patience)
				for len(direct.count()) < len(before)+2 {
					if time.Now().After(deadline) {
						t.Fatal("two mails are not stored")
					}
					direct.do("NOOP")
				}
				_ = ours.Conn.Close()
				for {
					direct.do("NOOP")
					after := direct.count()
					if slices.Equal(after, before) {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("%q: there are %q, were %q", selected, after, before)
					}
				}
				direct.do("LOGOUT")
			}
		})
	}
}

// TestNativeUntouched has every command of which a Dovecot knows all that is asked for pass
// as it is, although what the Dovecot lacks is answered.
func TestNativeUntouched(t *testing.T) {
	t.Parallel()
	d := twinsDovecot(t, diffRounds[0], "ours")
	back, err := twinDial(d, "ours")
	if err != nil {
		t.Fatal(err)
	}
	asking := newTwin(t, d, "ours")
	var caps []string
	for _, line := range asking.do("CAPABILITY") {
		if list, found := strings.CutPrefix(line, "* CAPABILITY "); found {
			caps = strings.Fields(list)
		}
	}
	offer := (&imapext.Config{Names: []string{imapext.Auto}, IdleInterval: time.Minute}).Offer(caps)
	if offer.IsEmpty() {
		t.Fatal("a Dovecot lacks nothing")
	}
	near, far := pipe(t)
	said, heard := &recordedConn{Conn: far}, &recordedConn{Conn: back}
	session := relay.New(relay.Leg{Conn: said}, relay.Leg{Conn: heard}, relay.Options{
		Idle: time.Minute, Extension: imapext.NewSession(offer), LiteralPlus: true,
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		session.Run()
	}()
	const mail = "{13+}\r\nSubject: x\r\n\r\n"
	var commands strings.Builder
	for i, command := range []string{
		"NOOP", "STATUS INBOX (MESSAGES SIZE)", "APPEND INBOX (\\Seen) " + mail, "APPEND INBOX (\\Seen) " + mail + " (\\Draft) " + mail,
		"LIST (SUBSCRIBED) \"\" * RETURN (CHILDREN SPECIAL-USE STATUS (MESSAGES SIZE))", "LIST \"\" *", "LSUB \"\" *", "NAMESPACE", "ID NIL",
		"ENABLE CONDSTORE", "CREATE Elsewhere", "DELETE Elsewhere", "IDLE\r\nDONE", "UID FETCH 1:* BODY[]", "NONSENSE {3+}\r\nabc",
	} {
		fmt.Fprintf(&commands, "x%d %s\r\n", i, command)
	}
	if _, err := io.WriteString(near, commands.String()+"y LOGOUT\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = near.SetDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(near)
	if err != nil || len(got) == 0 {
		t.Fatal(err)
	}
	<-done
	if up := heard.out.String(); up != commands.String()+"y LOGOUT\r\n" {
		t.Errorf("the backend got\n%s", up)
	}
	if down := heard.in.String(); down != string(got) {
		t.Errorf("the client got\n%s\nof\n%s", got, down)
	}
}

// recordedConn keeps what is read and written.
type recordedConn struct {
	net.Conn
	in, out strings.Builder
}

func (c *recordedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.Write(p[:n])
	return n, err
}

func (c *recordedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out.Write(p[:n])
	return n, err
}
