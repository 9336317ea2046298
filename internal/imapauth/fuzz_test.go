package imapauth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// recorded is a backend that says the same whatever it is asked, and then closes.
type recorded struct {
	in  *bytes.Reader
	out bytes.Buffer
	// eager says everything at once; otherwise a line at a time.
	eager bool
	// deadline is the one that is set.
	deadline time.Time
}

func (r *recorded) Read(p []byte) (int, error) {
	if r.eager || r.in.Len() == 0 {
		return r.in.Read(p)
	}
	for n := range p {
		b, err := r.in.ReadByte()
		if err != nil {
			return n, nil
		}
		p[n] = b
		if b == '\n' {
			return n + 1, nil
		}
	}
	return len(p), nil
}

func (r *recorded) Write(p []byte) (int, error)      { return r.out.Write(p) }
func (r *recorded) Close() error                     { return nil }
func (r *recorded) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (r *recorded) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (r *recorded) SetDeadline(d time.Time) error    { r.deadline = d; return nil }
func (r *recorded) SetReadDeadline(time.Time) error  { return nil }
func (r *recorded) SetWriteDeadline(time.Time) error { return nil }

// loginCommand finds the command that carried the credentials. fuzzPrefix begins
// all tags here, so that the fuzzer has a chance.
const fuzzPrefix = "T"

var loginCommand = regexp.MustCompile(`(?m)^(T[0-9]+) (?:LOGIN|AUTHENTICATE) `)

// FuzzConversation talks to a backend that may say anything. Nobody gets in
// unless it said a tagged OK to the login, nobody is accused unless it said a
// tagged NO, no password leaves where TLS is demanded, and nothing that it said
// shows up in an error.
func FuzzConversation(f *testing.F) {
	const caps = "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n"
	for _, s := range []string{
		caps + "T1 OK [CAPABILITY IMAP4rev1] in\r\n* 1 EXISTS\r\n",
		caps + "T1 OK in\r\n* CAPABILITY IMAP4 IMAP4rev1 NAMESPACE\r\nT2 OK done\r\n* NAMESPACE ((\"\" {1}\r\n/)) NIL NIL\r\nT3 OK done\r\n",
		caps + "+\r\nT1 NO AUTHENTICATE failed.\r\n",
		caps + "T1 BAD Request is throttled. Suggested Backoff Time: 90 milliseconds\r\n* BYE Connection closed. 14\r\n",
		"* OK ready\r\n* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\nT1 OK done\r\nT2 OK begin\r\n",
		"* OK ready\r\n* CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=LOGIN\r\nT1 OK done\r\n+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\nT2 OK in\r\n* CAPABILITY X\r\nT3 OK done\r\n",
		"* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ AUTH=PLAIN XPROXY3] ready\r\nT1 OK in\r\n* CAPABILITY X\r\nT2 OK done\r\nT3 BAD User is authenticated but not connected.\r\n",
		"* PREAUTH in\r\n",
		"* OK [CAPABILITY IMAP4rev1 ID AUTH=PLAIN] ready\r\n* ID (\"name\" {1}\r\nx)\r\nT1 BAD x\r\nT2 OK [CAPABILITY IMAP4rev1] in\r\n",
	} {
		for _, relayed := range []uint8{relayScram, relayCram, relayToken} {
			f.Add([]byte(strings.ReplaceAll(s, "AUTH=PLAIN", relayCaps)), relayed)
		}
		for how := range uint8(32) {
			f.Add([]byte(s), how)
		}
	}
	f.Fuzz(converse)
}

// states are what a backend has said, and how it is talked to, before a fuzzer goes
// on: one for each place of a conversation that it can be in.
var states = []struct {
	how  uint8
	said string
}{
	{8, ""},
	{8, "* OK ready\r\n"},
	{8, "* OK ready\r\n* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\nT1 OK done\r\n"},
	{8, "* OK ready\r\n* CAPABILITY IMAP4rev1 STARTTLS\r\nT1 OK done\r\nT2 OK begin\r\n"},
	{0, fuzzGreeting},
	{1, fuzzGreeting},
	{1, fuzzGreeting + "+\r\n"},
	{2, fuzzGreeting},
	{2, fuzzGreeting + "+\r\n"},
	{1, "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=LOGIN] ready\r\n+ VXNlcm5hbWU6\r\n"},
	{0, fuzzGreeting + "* OK [ALERT] x\r\nT1 OK in\r\n"},
	{0, "* OK The Microsoft Exchange IMAP4 service is ready.\r\n* CAPABILITY IMAP4rev1 NAMESPACE\r\nT1 OK\r\nT2 OK [CAPABILITY IMAP4rev1 NAMESPACE] in\r\n"},
	{32, fuzzGreeting},
	{32, fuzzGreeting + "T1 OK in\r\n"},
	{16, "* OK [CAPABILITY IMAP4rev1 ID AUTH=PLAIN] ready\r\n"},
	{0, fuzzGreeting + "T1 OK in\r\n* LIST {5}\r\nab"},
	{relayToken, relayGreeting},
	{relayToken, relayGreeting + "+\r\n"},
	{relayToken, relayGreeting + "+\r\n+ e30=\r\n"},
	{relayScram, relayGreeting},
	{relayScram, relayGreeting + "+\r\n"},
	{relayScram, relayGreeting + "+\r\n+ cj1m\r\n"},
	{relayScram, relayGreeting + "+\r\n+ cj1m\r\n+ dj0=\r\n"},
	{relayScram | 32, relayGreetingIR},
	{relayScram, relayGreetingIR + "+ cj1m\r\n"},
	{relayToken, relayGreetingIR},
	{relayCram, relayGreeting},
	{relayCram | 32, relayGreeting + "+ PDE+\r\n"},
}

// These bits of how are for relayed exchanges.
const (
	relayScram = 64
	relayCram  = 128
	relayToken = relayScram | relayCram

	relayCaps       = "AUTH=SCRAM-SHA-256 AUTH=CRAM-MD5 AUTH=XOAUTH2"
	relayGreeting   = "* OK [CAPABILITY IMAP4rev1 " + relayCaps + "] ready\r\n"
	relayGreetingIR = "* OK [CAPABILITY IMAP4rev1 SASL-IR " + relayCaps + "] ready\r\n"
)

var relayedMechanisms = map[uint8]string{relayScram: login.ScramSHA256, relayCram: login.CramMD5, relayToken: login.XOAuth2}

const fuzzGreeting = "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n"

// FuzzStates is FuzzConversation from each of the states on.
func FuzzStates(f *testing.F) {
	for state := range states {
		for _, s := range []string{"\r\n", "T1 OK in\r\n", "T2 NO x\r\nT3 OK x\r\n", "* BYE\r\n", "* CAPABILITY X\r\nT2 OK x\r\n* 1 EXISTS\r\n"} {
			f.Add(byte(state), false, []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, state byte, eager bool, says []byte) {
		s := states[int(state)%len(states)]
		if eager {
			s.how |= 4
		}
		converse(t, append([]byte(s.said), says...), s.how)
	})
}

// converse logs in at a backend that says this. The bits of how: 1 for AUTHENTICATE,
// 2 for a password that takes a literal, 4 for a backend that says all at once, 8
// for STARTTLS, 16 for ID, 32 for a check, 64 and 128 for an exchange of the client's.
func converse(t *testing.T, says []byte, how uint8) {
	a, proof := attempt(login.Form(how&1)), ""
	if relayed := how & relayToken; relayed != 0 {
		s := exchangeOf(relayedMechanisms[relayed])
		a, _ = clientOf(t, s, how&1 != 0)
		proof = s.Proof()
	} else if how&2 != 0 {
		a.Secret += "\xff"
	}
	mode := NoTLS
	if how&8 != 0 {
		mode = StartTLS
	}
	_, client := testTLS(t)
	conn := &recorded{in: bytes.NewReader(says), eager: how&4 != 0}
	cfg := &Config{Address: "fuzz", Mode: mode, TLS: client}
	if how&16 != 0 {
		cfg.Forward, a.ID = ForwardID, "FUZZ"
	}
	c := newClient(conn, cfg, fuzzPrefix)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	var s *login.Session
	var v login.Verdict
	switch err := c.within(ctx, c.prepare); {
	case err != nil:
		v = Failure(err)
	case a.Relay != nil && !advanceAll(ctx, c, a, &v):
		if v.Result == login.Granted || v.Unanswered || bytes.Contains(conn.out.Bytes(), []byte(proof)) {
			t.Errorf("verdict %s before the proof, after %q", summary(v), conn.out.Bytes())
		}
	case how&32 != 0:
		v = c.Check(ctx, a, Keep)
	default:
		if s, v = c.Open(ctx, a, Keep); (s != nil) != (v.Result == login.Granted) {
			t.Errorf("session %v with verdict %s", s, summary(v))
		}
	}
	if sent := bytes.Contains(conn.out.Bytes(), []byte(proof)); v.Result == login.Granted && !sent || v.Final != nil && (!sent || a.Relay == nil) {
		t.Errorf("verdict %s with %q, after %q", summary(v), v.Final, conn.out.Bytes())
	}
	checkConversation(t, says, mode, conn.out.Bytes(), s, v)
}

// advanceAll carries an exchange on up to its proof, or says that it does not come to that.
func advanceAll(ctx context.Context, c *Client, a *login.Attempt, v *login.Verdict) bool {
	message, proof, err := a.Relay.Start(ctx)
	for !proof && err == nil {
		var challenge []byte
		if challenge, *v = c.Advance(ctx, a, message); challenge == nil {
			return false
		}
		message, proof, err = a.Relay.Answer(ctx, challenge)
	}
	if err != nil {
		c.Abort(ctx)
		*v = login.UnavailableFor(err)
	}
	return err == nil
}

func checkConversation(t *testing.T, says []byte, mode TLSMode, sent []byte, s *login.Session, v login.Verdict) {
	if errors.Is(v.Err, ErrTimeout) {
		t.Error("the conversation hung")
	}
	if mode != NoTLS {
		if found := imaptest.Revealed(sent, testSecret); len(found) > 0 {
			t.Errorf("sent without TLS: %s", found)
		}
	}
	status := map[login.Result]string{login.Granted: "OK", login.Denied: "NO"}[v.Result]
	if status != "" {
		m := loginCommand.FindSubmatch(sent)
		if m == nil || !regexp.MustCompile(`(?i:(?:^|\n)`+string(m[1])+` `+status+`[ \r\n])`).Match(says) {
			t.Errorf("verdict %s without a tagged %s", summary(v), status)
		}
	}
	if v.Err != nil && strings.Contains(v.Err.Error(), testSecret) {
		t.Errorf("the error holds the secret: %v", v.Err)
	}
	if s != nil && !bytes.HasSuffix(says, bytes.TrimPrefix(s.Buffered, alertsOf(s.Buffered))) {
		rest, _ := io.ReadAll(s.Conn)
		t.Errorf("buffered %q and %q are not the end of what was said", s.Buffered, rest)
	}
}

// alertsOf returns the alerts of ours that a session begins with.
func alertsOf(buffered []byte) []byte {
	n := 0
	for bytes.HasPrefix(buffered[n:], []byte("* OK [ALERT] ")) {
		end := bytes.IndexByte(buffered[n:], '\n')
		if end < 0 {
			break
		}
		n += end + 1
	}
	return buffered[:n]
}
