package imapfront

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// FuzzCommand pins that what is read as a command is what was sent: put together
// again, its parts are the bytes that were consumed.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{
		"a1 LOGIN {3+}\r\nbob {2}\r\npw\r\n", `a1 LOGIN "CORP\alice" "p\"w"` + "\r\n", "a1 AUTHENTICATE PLAIN =\n",
		"a1 ID ({4+}\r\nname NIL)\r\n", "a\x00 b\r\n", "a1 NOOP \r \r\n", "{1+}\r\nx\r\n", "a1 LOGIN {99999}\r\n", "a1 LOGIN {9999999999+}\r\n",
	} {
		f.Add([]byte(s), true, false)
		f.Add([]byte(s), false, true)
	}
	f.Fuzz(func(t *testing.T, input []byte, invite, slow bool) {
		var source io.Reader = bytes.NewReader(input)
		if slow {
			source = iotest.OneByteReader(source)
		}
		r := imapwire.NewReader(source)
		invited := 0
		cmd, err := readCommand(r, func(name string) (bool, error) {
			invited++
			if name == "" {
				t.Error("a literal of an unknown command was asked for")
			}
			return invite, nil
		})
		consumed := len(input) - len(r.Release())
		if err != nil {
			return
		}
		if len(cmd.lines) != len(cmd.literals)+1 {
			t.Fatalf("%d lines with %d literals", len(cmd.lines), len(cmd.literals))
		}
		if len(cmd.literals) > maxLiterals || invited > maxLiterals {
			t.Errorf("%d literals, %d invitations", len(cmd.literals), invited)
		}
		if (cmd.tag == "" || cmd.name == "") && cmd.fault == "" {
			t.Errorf("tag %q and name %q are fine?", cmd.tag, cmd.name)
		}
		size := 0
		at := 0
		for i, line := range cmd.lines {
			size += len(line)
			if bytes.IndexByte(line, '\n') >= 0 {
				t.Errorf("line %d has a LF in it: %q", i, line)
			}
			k := bytes.Index(input[at:], line)
			if k < 0 {
				t.Fatalf("line %d was never sent: %q", i, line)
			}
			at += k + len(line)
			if i < len(cmd.literals) {
				lit := cmd.literals[i]
				size += len(lit)
				if k = bytes.Index(input[at:], lit); k < 0 {
					t.Fatalf("literal %d was never sent: %q", i, lit)
				}
				at += k + len(lit)
			}
		}
		if size > maxMessageLine+maxLine {
			t.Errorf("a command of %d bytes", size)
		}
		if at > consumed {
			t.Errorf("a command of %d bytes out of the %d consumed", at, consumed)
		}
		// No walk over the arguments ever leaves them.
		a := args{cmd: cmd}
		for range len(input) + 2 {
			if _, err := a.astring(); err != nil {
				return
			}
		}
		t.Error("there are more arguments than bytes")
	})
}

// recorded is a client that sends what was recorded, a segment at a time.
type recorded struct {
	segments [][]byte
	out      bytes.Buffer
	// held is what MatchingBytes says.
	held []byte
}

// separator splits the fuzzer's input into segments.
const separator = "\xf0\x9f"

func (r *recorded) Read(p []byte) (int, error) {
	if len(r.segments) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.segments[0])
	if r.segments[0] = r.segments[0][n:]; len(r.segments[0]) == 0 {
		r.segments = r.segments[1:]
	}
	return n, nil
}

func (r *recorded) Write(p []byte) (int, error)      { return r.out.Write(p) }
func (r *recorded) Close() error                     { return nil }
func (r *recorded) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (r *recorded) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (r *recorded) SetDeadline(time.Time) error      { return nil }
func (r *recorded) SetReadDeadline(time.Time) error  { return nil }
func (r *recorded) SetWriteDeadline(time.Time) error { return nil }
func (r *recorded) MatchingBytes() []byte            { return r.held }

// answer is what every line of ours looks like; ticks are base64.
var answer = regexp.MustCompile(`^(?:\+ (?:OK|[A-Za-z0-9+/=]*)|` +
	`\* (?:OK \[CAPABILITY [ -~]+\] fuzz ready\.|CAPABILITY [ -~]+|ID NIL|BYE [A-Za-z ]+\.?|BAD [A-Za-z ]+\.)|` +
	`[!#-$&'\x2c-Z\[\]^-z|}~]{1,256} (?:OK [A-Za-z,\- ]+\.?|BAD [A-Za-z ]+\.|NO \[[A-Z]+\] [A-Za-z, ]+\.?))$`)

// canary is a secret that the fuzzer finds in its corpus and may put anywhere.
const canary = "hunter2/hunter2"

const beginTLS = " OK Begin TLS negotiation now.\r\n"

// FuzzConversation has a client say anything, in any segments.
//
// The backend is asked only where a password may be sent, and only with sound
// credentials. Every line of ours is well-formed, and none holds a secret.
// Nothing is asked for, or executed, behind a STARTTLS. What is pending at the
// end of a login is what was sent last.
func FuzzConversation(f *testing.F) {
	plain := base64.StdEncoding.EncodeToString([]byte("\x00bob\x00" + canary))
	for _, s := range []string{
		"a1 CAPABILITY\r\na2 ID NIL\r\na3 NOOP\r\na4 LOGOUT\r\n",
		"a1 LOGIN bob " + canary + "\r\na2 SELECT INBOX\r\n",
		"a1 LOGIN {3}\r\n" + separator + "bob {15+}\r\n" + canary + separator + "\r\n",
		`a1 LOGIN "b\ob" "hunter2\/hunter2"` + "\r\n" + `a1 LOGIN "b\\\"" x` + "\r\n",
		"a1 AUTHENTICATE PLAIN " + plain + "\r\nrest",
		"a1 AUTHENTICATE PLAIN\r\n" + plain + "\r\n",
		"a1 AUTHENTICATE LOGIN\r\nYm9i\r\naHVudGVyMi9odW50ZXIy\r\n",
		"a1 AUTHENTICATE LOGIN =\r\n*\r\na2 AUTHENTICATE X\r\n",
		"a1 STARTTLS\r\na2 LOGIN bob " + canary + "\r\n",
		"a1 STARTTLS\r\n" + separator + "a2 LOGIN bob " + canary + "\r\n",
		"a1 LOGIN bob {4+}\r\na\x00\r\n\r\na2 LOGIN \"\" \"\"\r\n",
		"GET / HTTP/1.1\r\n\r\n", "a1 FOO\r\na2 BAR {3}\r\n\r\n",
	} {
		for how := range uint8(8) {
			f.Add([]byte(s), how)
		}
	}
	f.Fuzz(converse)
}

// states are what a client has said, and how it is served, before a fuzzer goes on:
// one for each place of a conversation that it can be in.
var states = []struct {
	how  uint8
	said string
}{
	{0, ""},
	{2, ""},
	{2, "a1 AUTHENTICATE PLAIN\r\n"},
	{2, "a1 AUTHENTICATE LOGIN\r\n"},
	{2, "a1 AUTHENTICATE LOGIN\r\nYm9i\r\n"},
	{2, "a1 LOGIN {15}\r\n"},
	{2, "a1 LOGIN bob {15+}\r\nhunter2"},
	{2, "a1 LOGIN {3+}\r\nbob"},
	{0, "a1 ID (\"name\" {5}\r\n"},
	{0, "a1 LOGIN bob {15+}\r\n"},
	{0, "a1 STARTTLS\r\n" + separator},
	{1, "a1 STARTTLS"},
	{4 | 2, "a1 LOGIN bob x\r\na2 LOGIN bob y\r\n"},
	{0, "a1 FOO\r\na2 FOO\r\n"},
	{2, "a1 AUTHENTICATE XOAUTH2\r\n"},
	{2, "a1 AUTHENTICATE OAUTHBEARER\r\n"},
	{2, "a1 AUTHENTICATE SCRAM-SHA-256\r\n"},
	{2, "a1 AUTHENTICATE SCRAM-SHA-256 " + b64(scramFirst) + "\r\n"},
	{2, "a1 AUTHENTICATE SCRAM-SHA-256 " + b64(scramFirst) + "\r\n" + b64(scramProof) + "\r\n"},
	{4 | 2, "a1 AUTHENTICATE XOAUTH2 " + b64(xoauth2) + "\r\n"},
	{2, "a1 AUTHENTICATE CRAM-MD5\r\n"},
	{2, "a1 AUTHENTICATE NTLM\r\n"},
	{2, "a1 AUTHENTICATE GSSAPI =\r\n"},
}

// FuzzStates is FuzzConversation from each of the states on.
func FuzzStates(f *testing.F) {
	for state := range states {
		for _, s := range []string{"\r\n", "*\r\n", canary + "\r\na2 NOOP\r\n", b64(xoauth2) + "\r\nAQ==\r\n", b64(cramProof) + "\r\n", b64(scramProof) + "\r\n\r\n",
			"BQQE/wAAAAAAAAAAAAAAAAEAAABib2I=\r\n", "AGJvYgBodW50ZXIyL2h1bnRlcjI=\r\n", "{1}\r\nx\r\n"} {
			f.Add(byte(state), []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, state byte, input []byte) {
		s := states[int(state)%len(states)]
		converse(t, append([]byte(s.said), input...), s.how)
	})
}

// converse serves a client that says the input. The bits of how: 1 for passwords
// without TLS, 2 for TLS that stands, 4 for a backend that refuses all.
func converse(t *testing.T, input []byte, how uint8) {
	conn := &recorded{segments: bytes.Split(input, []byte(separator))}
	conn.segments = append(conn.segments, nil)
	sent := bytes.Join(conn.segments, nil)
	cfg := &Config{
		Banner: "fuzz", LoginTimeout: time.Minute, MaxAuthFailures: 3,
		TLS: serverTLS(t), InsecureAuth: how&1 != 0,
	}
	client := Client{Conn: conn}
	if how&2 != 0 {
		client.TLS = standing()
	}
	cfg.Mechanisms = offers(slices.Concat(login.Mechanisms, login.RelayedForIMAP)...)
	var secrets []string
	relayed := false
	cfg.Open = func(_ context.Context, a *login.Attempt) (*login.Session, login.Verdict) {
		if !cfg.InsecureAuth && client.TLS == nil {
			t.Error("the backend was asked without TLS")
		}
		if strings.Contains(conn.out.String(), beginTLS) {
			t.Error("a command behind STARTTLS was executed")
		}
		verdict := login.Verdict{Result: login.Granted}
		if a.Relay != nil {
			relayed = true
			_, proof, err := a.Relay.Start(t.Context())
			for range 3 {
				if err != nil || proof {
					break
				}
				_, proof, err = a.Relay.Answer(t.Context(), []byte("challenge"))
			}
			switch {
			case err != nil:
				return nil, login.UnavailableFor(err)
			case !proof:
				return nil, login.DeniedWith("")
			case a.Check() != nil:
				t.Errorf("name %q, for %q, and secret %q in a proof", a.User, a.AuthzID, string(a.Secret))
			}
			verdict.Final = []byte("final")
		}
		if a.Check() != nil {
			return nil, login.DeniedWith("")
		}
		secrets = append(secrets, string(a.Secret))
		if how&4 != 0 {
			verdict.Result, verdict.Code = login.Denied, imap.ResponseCodeExpired
			return nil, verdict
		}
		return &login.Session{Conn: new(recorded), Caps: []string{string(a.Secret)}}, verdict
	}
	s, err := Serve(t.Context(), cfg, client)
	letIn := len(secrets) > 0 && how&4 == 0
	if (s != nil) != (err == nil) || (s != nil) != letIn && (s != nil || !relayed) {
		t.Errorf("session %v and error %v after %d logins", s, err, len(secrets))
	}
	if s != nil {
		unread := bytes.Join(conn.segments, nil)
		if !bytes.HasSuffix(sent, append(bytes.Clone(s.Pending), unread...)) {
			t.Errorf("pending %q and unread %q are not the end of what was sent", s.Pending, unread)
		}
	}
	checkAnswers(t, conn.out.String(), s)
	if err != nil && strings.Contains(err.Error(), canary) {
		t.Errorf("the error holds a secret: %v", err)
	}
}

func checkAnswers(t *testing.T, said string, s *Session) {
	t.Helper()
	said, alert, began := strings.Cut(said, beginTLS)
	if began {
		if i := strings.LastIndexByte(said, '\n'); i >= 0 {
			said = said[:i+1]
		}
		// A record of type alert is all that TLS can have to say.
		if alert != "" && alert[0] != 0x15 {
			t.Errorf("said %q instead of TLS", alert)
		}
	}
	for line := range strings.Lines(said) {
		bare, ok := strings.CutSuffix(line, "\r\n")
		if !ok || !answer.MatchString(bare) {
			t.Errorf("malformed answer %q", line)
		}
		// The capabilities of the last line are the backend's own, which here
		// are the password: all that is let through must be an atom.
		if s == nil || !strings.HasPrefix(line, "* CAPABILITY ") {
			_, text, _ := strings.Cut(line, " ") // a tag is the client's business
			if found := imaptest.Revealed([]byte(text), canary); len(found) > 0 {
				t.Errorf("said %s", found)
			}
		}
	}
}
