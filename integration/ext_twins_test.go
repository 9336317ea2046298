//go:build integration

package integration

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapext"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// twinSettings say before what kind of server we are.
type twinSettings struct {
	// capabilities are the server's after login; odd has it answer as Exchange does.
	capabilities, delim, layout string
	odd                         bool
}

// twinsDovecot starts a Dovecot with accounts of these names. Its mailboxes have the names
// that Exchange gives them, so that we find out what they are for.
func twinsDovecot(t *testing.T, set twinSettings, users ...string) *dovecot {
	passwords := make(map[string]string)
	for _, user := range users {
		passwords[user] = secret("Twin-Horse-" + user)
	}
	var uses strings.Builder
	for _, use := range [][2]string{{"Sent Items", "Sent"}, {"Drafts", "Drafts"}, {"Deleted Items", "Trash"}, {"Junk Email", "Junk"}, {"Archive", "Archive"}} {
		fmt.Fprintf(&uses, "  mailbox \"%s\" {\n    special_use = \\%s\n  }\n", use[0], use[1])
	}
	return startDovecot(t, dovecotSettings{Extra: fmt.Sprintf(`
mail_fsync = never
mail_location = maildir:~/mail%s
namespace inbox {
  inbox = yes
  separator = %s
%s}
`, set.layout, set.delim, uses.String())}, passwords)
}

// copyHome gives an account the mailboxes of another one. Neither may be open.
func copyHome(t *testing.T, d *dovecot, from, to string) {
	t.Helper()
	home := filepath.Join(d.dir, "home")
	if out, err := exec.Command("cp", "-a", filepath.Join(home, from), filepath.Join(home, to)).CombinedOutput(); err != nil {
		t.Fatalf("copying mailboxes: %v %s", err, out)
	}
}

// twin is a client that keeps count of the messages of its mailbox.
type twin struct {
	*wire
	// uids are those of the messages in the mailbox, 0 if not known.
	uids []uint32
	// odd are faults in how the numbers were told.
	odd []string
}

// do sends a command, with literals in it that need no invitation, and returns all that
// is said up to its completion: responses without their last line ends, and the
// completion without its tag.
func (w *twin) do(command string) (lines []string) {
	w.t.Helper()
	w.n++
	tag := fmt.Sprintf("w%d", w.n)
	if _, err := io.WriteString(w.Conn, tag+" "+command+"\r\n"); err != nil {
		w.t.Fatal(err)
	}
	for {
		line, err := w.response()
		if err != nil {
			w.t.Fatalf("%.500q: got %.500q, %v", command, lines, err)
		}
		if rest, done := strings.CutPrefix(line, tag+" "); done {
			return append(lines, rest)
		}
		lines = append(lines, line)
		w.note(command, line)
	}
}

// response reads a whole response.
func (w *twin) response() (string, error) {
	var text strings.Builder
	for {
		line, err := w.br.ReadString('\n')
		if err != nil {
			return "", err
		}
		bare := strings.TrimRight(line, "\r\n")
		lit, goesOn := imapwire.TrailingLiteral([]byte(bare))
		if !goesOn {
			text.WriteString(bare)
			return text.String(), nil
		}
		text.WriteString(line)
		if _, err := io.CopyN(&text, w.br, lit.Size); err != nil {
			return "", err
		}
	}
}

var (
	numbered   = regexp.MustCompile(`^\* (\d+) ([A-Z]+)`)
	uidItem    = regexp.MustCompile(`[( ]UID (\d+)`)
	byNumber   = regexp.MustCompile(`(?i)^(FETCH|STORE|SEARCH|SORT|THREAD|COPY)\b`)
	selectsNew = regexp.MustCompile(`(?i)^(SELECT|EXAMINE|CLOSE|UNSELECT)\b`)
)

// note keeps count.
func (w *twin) note(command, line string) {
	m := numbered.FindStringSubmatch(line)
	if m == nil {
		return
	}
	n, _ := strconv.Atoi(m[1])
	fault := func(format string, a ...any) {
		w.odd = append(w.odd, fmt.Sprintf(format, a...)+fmt.Sprintf(" (%.100q in %.100q)", line, command))
	}
	switch m[2] {
	case "EXISTS":
		if selectsNew.MatchString(command) {
			w.uids = nil
		}
		if n < len(w.uids) {
			fault("EXISTS without EXPUNGE, from %d", len(w.uids))
			w.uids = w.uids[:n]
		}
		w.uids = append(w.uids, make([]uint32, n-len(w.uids))...)
	case "EXPUNGE":
		// RFC 3501 section 7.4.1, and RFC 5256 section 3.
		if byNumber.MatchString(command) {
			fault("EXPUNGE in a command by numbers")
		}
		if n < 1 || n > len(w.uids) {
			fault("EXPUNGE of %d messages", len(w.uids))
			return
		}
		w.uids = slices.Delete(w.uids, n-1, n)
	case "FETCH":
		if n < 1 || n > len(w.uids) {
			fault("FETCH of %d messages", len(w.uids))
			return
		}
		head, _, _ := strings.Cut(line, "\r\n")
		if m := uidItem.FindStringSubmatch(head); m != nil {
			uid, _ := strconv.ParseUint(m[1], 10, 32)
			if old := w.uids[n-1]; old != 0 && old != uint32(uid) {
				fault("number %d is UID %d, was %d", n, uid, old)
			}
			w.uids[n-1] = uint32(uid)
		}
	}
}

// count has the server say what is in the mailbox, and complains if that is not what it
// has said before. It returns the flags by UID.
func (w *twin) count() []string {
	w.t.Helper()
	var out []string
	for _, line := range w.do("UID FETCH 1:* (FLAGS)") {
		if m := numbered.FindStringSubmatch(line); m != nil && m[2] == "FETCH" {
			out = append(out, fetched(line, true))
		}
	}
	known := w.uids
	for len(known) > 0 && known[len(known)-1] == 0 {
		known = known[:len(known)-1] // they came meanwhile
	}
	if slices.Contains(known, 0) || !slices.IsSorted(known) {
		w.odd = append(w.odd, fmt.Sprintf("UIDs are missing or not in order: %v", w.uids))
	}
	return out
}

// twinDial connects to a Dovecot from its own address, and logs in.
func twinDial(d *dovecot, user string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(d.set.IP)}, Timeout: patience}
	conn, err := dialer.Dial("tcp", d.IMAP())
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err = fmt.Fprintf(conn, "l LOGIN %s %s\r\n", user, d.passwords[user]); err == nil {
		// Byte by byte, so that nothing behind it is lost.
		for line, one := "", make([]byte, 1); err == nil; line += string(one) {
			if strings.HasSuffix(line, "\r\n") {
				if strings.HasPrefix(line, "l OK") {
					break
				}
				if strings.HasPrefix(line, "l ") {
					err = errors.New(line)
				}
				line = ""
			}
			if err == nil {
				_, err = io.ReadFull(conn, one)
			}
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("logging in as %s: %w", user, err)
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}

// twinOn is a client on a connection that is logged in.
func twinOn(t *testing.T, conn net.Conn) *twin {
	w := newWire(t, conn)
	_ = conn.SetDeadline(time.Now().Add(time.Hour)) // there are long forms
	return &twin{wire: w}
}

// newTwin is a client of Dovecot itself.
func newTwin(t *testing.T, d *dovecot, user string) *twin {
	t.Helper()
	conn, err := twinDial(d, user)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return twinOn(t, conn)
}

// newTwinBehind is a client that has us between itself and a poor server before the same
// Dovecot. What it is offered is returned with it.
func newTwinBehind(t *testing.T, d *dovecot, set twinSettings, cfg *imapext.Config, user string) (*twin, []string, *imaptest.Poor) {
	t.Helper()
	poor := &imaptest.Poor{TB: t, Capabilities: set.capabilities, Odd: set.odd}
	dovecotConn, err := twinDial(d, user)
	if err != nil {
		t.Fatal(err)
	}
	client, front := pipe(t)
	back, server := pipe(t)
	served, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(served)
		poor.Serve(server, dovecotConn)
	}()
	caps := strings.Fields(set.capabilities)
	offer := cfg.Offer(caps)
	extension := imapext.NewSession(offer)
	extension.Owner = user
	session := relay.New(relay.Leg{Conn: front}, relay.Leg{Conn: back}, relay.Options{
		Idle: time.Hour, Extension: extension, LiteralPlus: slices.Contains(caps, "LITERAL+"),
	})
	go func() {
		defer close(done)
		session.Run()
	}()
	t.Cleanup(func() {
		_ = client.Close()
		<-done
		_, _ = front.Close(), back.Close()
		<-served
	})
	return twinOn(t, client), append(slices.Clone(offer.Capabilities), caps...), poor
}

// envNumber returns a number that the environment may give.
func envNumber(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
