package imapfront

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// relayed is the backend's side of exchanges that are relayed to it.
type relayed struct {
	// challenges are put to the client one after the other, until it has sent its
	// proof; verdict is what becomes of that.
	challenges []string
	verdict    login.Verdict
	// deadline, if it is not 0, is for how long the backend waits for the client.
	deadline time.Duration

	mu    sync.Mutex
	heard []string
	user  string
	ends  []net.Conn // of sessions
	err   error
}

// open is a login.Opener.
func (r *relayed) open(ctx context.Context, a *login.Attempt) (*login.Session, login.Verdict) {
	if a.Relay == nil {
		return nil, login.DeniedWith("")
	}
	if r.deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.deadline)
		defer cancel()
	}
	message, proof, err := a.Relay.Start(ctx)
	for i := 0; err == nil; i++ {
		r.note(func() { r.heard = append(r.heard, string(message)) })
		if proof || i == len(r.challenges) {
			break
		}
		message, proof, err = a.Relay.Answer(ctx, []byte(r.challenges[i]))
	}
	r.note(func() { r.user, r.err = a.User, err })
	switch {
	case err != nil:
		return nil, login.UnavailableFor(err)
	case r.verdict.Result != login.Granted:
		return nil, r.verdict
	}
	ours, theirs := net.Pipe()
	r.note(func() { r.ends = append(r.ends, theirs) })
	return &login.Session{Conn: ours, Caps: []string{"IMAP4rev1", "IDLE"}}, r.verdict
}

func (r *relayed) note(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// dial has a client served that may use all mechanisms, and has read its greeting.
func (r *relayed) dial(t *testing.T) *peer {
	t.Helper()
	p := r.setup(nil).dial(t)
	p.expect(relayGreeting)
	t.Cleanup(r.end)
	return p
}

func (r *relayed) setup(amend func(*Config)) setup {
	return setup{tls: standing(), amend: func(c *Config) {
		c.Mechanisms = offers(slices.Concat(login.Mechanisms, login.RelayedForIMAP)...)
		c.Open = r.open
		if amend != nil {
			amend(c)
		}
	}}
}

func (r *relayed) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, end := range r.ends {
		_ = end.Close()
	}
}

const relayGreeting = "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2 AUTH=OAUTHBEARER " +
	"AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-1 AUTH=CRAM-MD5 AUTH=NTLM AUTH=GSSAPI] mail.example.org ready."

// The examples of RFC 7677 section 3 and RFC 2195 section 2, and one of Google's.
const (
	scramFirst  = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
	scramServer = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	scramProof  = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	scramFinal  = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
	cramAsk     = "<1896.697170952@postoffice.reston.mci.net>"
	cramProof   = "tim b913a602c7eda7a495b4e6e7334d3890"
	xoauth2     = "user=someuser@example.com\x01auth=Bearer " + testSecret + "\x01\x01"
	bearer      = "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer " + testSecret + "\x01\x01"
	tokenError  = `{"status":"401","schemes":"bearer","scope":"mail"}`
)

const (
	granted   = "a1 OK Logged in"
	cancelled = "a1 BAD Authentication cancelled."
)

// TestRelay pins what passes between client and backend, and in which order.
func TestRelay(t *testing.T) {
	yes, no := login.Verdict{Result: login.Granted}, login.DeniedWith("")
	last := func(v login.Verdict, final string) login.Verdict {
		v.Final = []byte(final)
		return v
	}
	for _, tc := range []struct {
		name       string
		challenges []string
		verdict    login.Verdict
		// talk is what is said by turns, the client first.
		talk  []string
		heard []string
		user  string
	}{
		{"SCRAM", []string{scramServer}, last(yes, scramFinal),
			[]string{"a1 AUTHENTICATE SCRAM-SHA-256", "+ ", b64(scramFirst), "+ " + b64(scramServer), b64(scramProof), "+ " + b64(scramFinal), "", granted},
			[]string{scramFirst, scramProof}, "user"},
		{"SCRAM with initial response", []string{scramServer}, last(yes, scramFinal),
			[]string{"a1 authenticate scram-sha-256 " + b64(scramFirst), "+ " + b64(scramServer), b64(scramProof), "+ " + b64(scramFinal), "", granted},
			[]string{scramFirst, scramProof}, "user"},
		{"SCRAM, and the signature in the answer", []string{scramServer}, yes,
			[]string{"a1 AUTHENTICATE SCRAM-SHA-1 " + b64(scramFirst), "+ " + b64(scramServer), b64(scramProof), granted},
			[]string{scramFirst, scramProof}, "user"},
		{"SCRAM, and something in answer to the signature", []string{scramServer}, last(yes, scramFinal),
			[]string{"a1 AUTHENTICATE SCRAM-SHA-256 " + b64(scramFirst), "+ " + b64(scramServer), b64(scramProof), "+ " + b64(scramFinal), "?", granted},
			[]string{scramFirst, scramProof}, "user"},
		{"SCRAM, wrong", []string{scramServer}, no,
			[]string{"a1 AUTHENTICATE SCRAM-SHA-256 " + b64(scramFirst), "+ " + b64(scramServer), b64(scramProof), "a1" + failed},
			[]string{scramFirst, scramProof}, "user"},
		{"SCRAM, unknown user", nil, no,
			[]string{"a1 AUTHENTICATE SCRAM-SHA-256 " + b64(scramFirst), "a1" + failed},
			[]string{scramFirst}, "user"},
		{"CRAM-MD5", []string{cramAsk}, yes,
			[]string{"a1 AUTHENTICATE CRAM-MD5", "+ " + b64(cramAsk), b64(cramProof), granted},
			[]string{"", cramProof}, "tim"},
		{"XOAUTH2", nil, yes,
			[]string{"a1 AUTHENTICATE XOAUTH2 " + b64(xoauth2), granted},
			[]string{xoauth2}, "someuser@example.com"},
		{"XOAUTH2, asked for", nil, yes,
			[]string{"a1 AUTHENTICATE XOAUTH2", "+ ", b64(xoauth2), granted},
			[]string{xoauth2}, "someuser@example.com"},
		{"XOAUTH2, wrong", nil, last(no, tokenError),
			[]string{"a1 AUTHENTICATE XOAUTH2 " + b64(xoauth2), "+ " + b64(tokenError), "", "a1" + failed},
			[]string{xoauth2}, "someuser@example.com"},
		{"OAUTHBEARER", nil, yes,
			[]string{"a1 AUTHENTICATE OAUTHBEARER " + b64(bearer), granted},
			[]string{bearer}, "user@example.com"},
		{"OAUTHBEARER, wrong", nil, last(no, tokenError),
			[]string{"a1 AUTHENTICATE OAUTHBEARER", "+ ", b64(bearer), "+ " + b64(tokenError), "AQ==", "a1" + failed},
			[]string{bearer}, "user@example.com"},
		{"OAUTHBEARER, wrong, and cancelled then", nil, last(no, tokenError),
			[]string{"a1 AUTHENTICATE OAUTHBEARER " + b64(bearer), "+ " + b64(tokenError), "*", "a1" + failed},
			[]string{bearer}, "user@example.com"},
		{"GSSAPI, with empty messages", []string{"", "ticket", ""}, no,
			[]string{"a1 AUTHENTICATE GSSAPI", "+ ", b64("\x60ticket"), "+ ", b64("\x60more"), "+ " + b64("ticket"), "", "+ ", b64("\x60x"), "a1" + failed},
			[]string{"\x60ticket", "\x60more", "", "\x60x"}, ""},
		{"unavailable, after an error", nil, last(login.UnavailableFor(errors.New("x")), tokenError),
			[]string{"a1 AUTHENTICATE XOAUTH2 " + b64(xoauth2), "+ " + b64(tokenError), "", "a1 NO [UNAVAILABLE] The mail server is not available, try again later."},
			[]string{xoauth2}, "someuser@example.com"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &relayed{challenges: tc.challenges, verdict: tc.verdict}
			p := r.dial(t)
			for i := 0; i < len(tc.talk); i += 2 {
				p.send(tc.talk[i] + "\r\n")
				if tc.talk[i+1] == granted {
					p.expect(backendCaps)
				}
				p.expect(tc.talk[i+1])
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if !slices.Equal(r.heard, tc.heard) || r.user != tc.user {
				t.Errorf("the backend heard %q of %q, want %q of %q", r.heard, r.user, tc.heard, tc.user)
			}
			if tc.verdict.Result != login.Granted {
				return
			}
			if s, err := p.result(); err != nil || s.User != tc.user {
				t.Errorf("session %+v, error %v", s, err)
			}
		})
	}
}

// TestRelayEnded pins how a client can end an exchange, that nothing of it gets
// through then, and that no session is left.
func TestRelayEnded(t *testing.T) {
	for _, tc := range []struct {
		name string
		// talk is as in TestRelay; the last is the answer to what ends it.
		talk []string
		// heard is what the backend heard before; counts says whether it was a try.
		heard  []string
		counts bool
		err    error
	}{
		{"cancelled before anything was said", []string{"a1 AUTHENTICATE SCRAM-SHA-256", "+ ", "*", cancelled}, nil, false, login.ErrCancelled},
		{"cancelled instead of the proof", []string{"a1 AUTHENTICATE SCRAM-SHA-256 " + b64(scramFirst), "+ " + b64(scramServer), "*", cancelled},
			[]string{scramFirst}, true, login.ErrCancelled},
		{"cancelled at a challenge that comes first", []string{"a1 AUTHENTICATE CRAM-MD5", "+ " + b64(scramServer), "*", cancelled}, []string{""}, true, login.ErrCancelled},
		{"cancelled at the signature", []string{"a1 AUTHENTICATE SCRAM-SHA-256 " + b64(scramFirst), "+ " + b64(scramServer), b64(scramProof), "+ " + b64(scramFinal), "*", cancelled},
			[]string{scramFirst, scramProof}, true, nil},
		{"no base64", []string{"a1 AUTHENTICATE SCRAM-SHA-256 " + b64(scramFirst), "+ " + b64(scramServer), "???", invalid}, []string{scramFirst}, false, login.ErrMessage},
		{"a NUL", []string{"a1 AUTHENTICATE SCRAM-SHA-256 " + b64(scramFirst), "+ " + b64(scramServer), "\x00", invalid}, []string{scramFirst}, false, login.ErrMessage},
		{"no proof", []string{"a1 AUTHENTICATE SCRAM-SHA-256 " + b64(scramFirst), "+ " + b64(scramServer), "", invalid}, []string{scramFirst}, false, login.ErrMessage},
		{"no name", []string{"a1 AUTHENTICATE SCRAM-SHA-256 " + b64("n,,r=x"), invalid}, nil, false, login.ErrMessage},
		{"an empty initial response", []string{"a1 AUTHENTICATE XOAUTH2 =", invalid}, nil, false, login.ErrMessage},
		{"no base64 at first", []string{"a1 AUTHENTICATE XOAUTH2 ?", invalid}, nil, false, nil},
		{"CRAM-MD5 with an initial response", []string{"a1 AUTHENTICATE CRAM-MD5 " + b64(cramProof), invalid}, nil, false, nil},
		{"a line in a name", []string{"a1 AUTHENTICATE XOAUTH2 " + b64("user=a\r\nb\x01auth=Bearer x\x01\x01"), invalid}, nil, false, login.ErrMessage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &relayed{challenges: []string{scramServer}, verdict: login.Verdict{Result: login.Granted, Final: []byte(scramFinal)}}
			p := r.dial(t)
			for i := 0; i < len(tc.talk); i += 2 {
				p.ask(tc.talk[i], tc.talk[i+1])
			}
			p.ask("a2 LOGIN bob pw", "a2"+failed)
			p.send("a3 LOGIN bob pw\r\n")
			if tc.counts {
				p.closedFor(ErrTooManyFailures, "a3"+failed, "* BYE Too many failed logins.")
			} else {
				p.expect("a3" + failed)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if !slices.Equal(r.heard, tc.heard) || !errors.Is(r.err, tc.err) {
				t.Errorf("the backend heard %q and %v, want %q and %v", r.heard, r.err, tc.heard, tc.err)
			}
			for _, end := range r.ends {
				_ = end.SetReadDeadline(time.Now().Add(patience))
				if _, err := end.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("the session goes on: %v", err)
				}
			}
		})
	}
}

// TestRelayVanished pins that an exchange ends with its client, wherever that is.
func TestRelayVanished(t *testing.T) {
	for name, talk := range map[string][]string{
		"at the start":     {"a1 AUTHENTICATE SCRAM-SHA-256", "+ "},
		"before the proof": {"a1 AUTHENTICATE SCRAM-SHA-256 " + b64(scramFirst), "+ " + b64(scramServer)},
		"at the signature": {"a1 AUTHENTICATE SCRAM-SHA-256 " + b64(scramFirst), "+ " + b64(scramServer), b64(scramProof), "+ " + b64(scramFinal)},
	} {
		for how, leave := range map[string]struct {
			leave func(*peer, context.CancelFunc)
			err   error
			said  []string
		}{
			"gone":      {func(p *peer, _ context.CancelFunc) { _ = p.conn.Close() }, io.EOF, nil},
			"exiting":   {func(_ *peer, cancel context.CancelFunc) { cancel() }, context.Canceled, []string{"* BYE Server is shutting down."}},
			"long line": {func(p *peer, _ context.CancelFunc) { p.send(strings.Repeat("x", maxMessageLine+1) + "\r\n") }, nil, []string{"* BYE Command too long."}},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				r := &relayed{challenges: []string{scramServer}, verdict: login.Verdict{Result: login.Granted, Final: []byte(scramFinal)}}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s := r.setup(nil)
				s.ctx = ctx
				p := s.dial(t)
				defer r.end()
				p.expect(relayGreeting)
				for i := 0; i < len(talk); i += 2 {
					p.ask(talk[i], talk[i+1])
				}
				leave.leave(p, cancel)
				session, err := p.result()
				if session != nil || err == nil || leave.err != nil && !errors.Is(err, leave.err) {
					t.Errorf("session %v, error %v", session, err)
				}
				if leave.said != nil {
					line, _ := p.line()
					if strings.HasPrefix(line, "a1 NO [UNAVAILABLE]") { // the backend had the word
						line, _ = p.line()
					}
					if line != leave.said[0] {
						t.Errorf("said %q", line)
					}
				}
				r.mu.Lock()
				defer r.mu.Unlock()
				for _, end := range r.ends {
					if _, err := end.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
						t.Errorf("the session goes on: %v", err)
					}
				}
			})
		}
	}
}
