package dovecotauth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// The examples of RFC 7677 section 3 and RFC 2195 section 2, and two tokens.
const (
	scramFirst  = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
	scramServer = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	scramProof  = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	scramFinal  = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
	cramAsk     = "<1896.697170952@postoffice.reston.mci.net>"
	cramProof   = "tim b913a602c7eda7a495b4e6e7334d3890"
	xoauth2     = "user=Alice@example.test\x01auth=Bearer t0k3n\x01\x01"
	bearer      = "n,a=alice@example.test,\x01host=mx.example.test\x01port=25\x01auth=Bearer t0k3n\x01\x01"
	tokenError  = `{"status":"invalid_token"}`
)

// backend is the other side of relayed exchanges.
type backend struct {
	// challenges are put to the client one after the other, until it has sent its
	// proof; verdict is what becomes of that, after the delay.
	challenges []string
	verdict    login.Verdict
	delay      time.Duration
	// patience, if it is not 0, is for how long it waits for a client.
	patience time.Duration

	mu sync.Mutex
	// heard are the messages, and ends why exchanges were over before the proof.
	heard []string
	ends  []error
	// now counts the exchanges that are under way, and most those of all times.
	now, most int
}

// check is a login.Checker.
func (b *backend) check(ctx context.Context, a *login.Attempt) login.Verdict {
	if a.Relay == nil {
		return moody(ctx, a)
	}
	b.note(func() { b.now++; b.most = max(b.most, b.now) })
	defer b.note(func() { b.now-- })
	asking := ctx
	if b.patience > 0 {
		var cancel context.CancelFunc
		asking, cancel = context.WithTimeout(ctx, b.patience)
		defer cancel()
	}
	message, proof, err := a.Relay.Start(asking)
	for i := 0; err == nil; i++ {
		b.note(func() { b.heard = append(b.heard, string(message)) })
		if proof || i == len(b.challenges) {
			break
		}
		message, proof, err = a.Relay.Answer(asking, []byte(b.challenges[i]))
	}
	if err != nil {
		b.note(func() { b.ends = append(b.ends, err) })
		return login.UnavailableFor(err)
	}
	if proof && a.Check() != nil {
		panic("a proof without a name")
	}
	select {
	case <-time.After(b.delay):
		return b.verdict
	case <-ctx.Done():
		return login.UnavailableFor(ctx.Err())
	}
}

// running counts the exchanges that are under way.
func (b *backend) running() (n int) {
	b.note(func() { n = b.now })
	return n
}

func (b *backend) note(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// scram is a backend that takes SCRAM.
func scram(v login.Verdict) *backend {
	v.Final = []byte(scramFinal)
	return &backend{challenges: []string{scramServer}, verdict: v}
}

// relaying is a server that relays to the backend.
func (b *backend) relaying() *Server {
	return &Server{Check: b.check, Mechanisms: offers(slices.Concat(login.Mechanisms, login.RelayedForAll)...), OnUnavailable: Fail}
}

// start connects, and does the handshake.
func (b *backend) start(t *testing.T) *peer {
	t.Helper()
	p, _ := begin(t, b.relaying())
	return p
}

// begin is open for servers with any mechanisms.
func begin(t *testing.T, s *Server) (*peer, *Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	c := s.NewConn(theirs)
	p := &peer{t: t, nc: ours, served: make(chan error, 1)}
	go func() { p.served <- c.Serve(t.Context()) }()
	go p.collect()
	p.take()
	p.send(hello)
	p.expect("")
	return p, c
}

// ended fails unless the exchanges ended so, all of them.
func (b *backend) ended(t *testing.T, want ...error) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ends) != len(want) || b.now != 0 {
		t.Fatalf("ends %v, want %v; %d go on", b.ends, want, b.now)
	}
	for i, err := range want {
		if !errors.Is(b.ends[i], err) {
			t.Errorf("end %v, want %v", b.ends[i], err)
		}
	}
}

// authScram begins with SCRAM, and waits for the backend's challenge.
func (p *peer) authScram(id int, params string) {
	p.t.Helper()
	p.send(fmt.Sprintf("AUTH\t%d\tSCRAM-SHA-256\tservice=smtp%s\tresp=%s\n", id, params, b64(scramFirst)))
	p.expect(fmt.Sprintf("CONT\t%d\t%s\n", id, b64(scramServer)))
}

var yes, no = login.Verdict{Result: login.Granted}, login.DeniedWith("")

// TestRelayGreeting pins what clients are told of the mechanisms, and that the one who
// reads no more than 1024 bytes is told all.
func TestRelayGreeting(t *testing.T) {
	s := new(backend).relaying()
	got := string(greet(s.mechanisms()))
	want := "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tXOAUTH2\tplaintext\nMECH\tOAUTHBEARER\tplaintext\n" +
		"MECH\tSCRAM-SHA-256\tmutual-auth\nMECH\tSCRAM-SHA-1\tmutual-auth\nMECH\tCRAM-MD5\tdictionary\tactive\nSPID\t"
	if !strings.HasPrefix(got, want) {
		t.Errorf("greeting %q", got)
	}
	if len(got) > 1024-len("4294967295")*2 {
		t.Errorf("a greeting of %d bytes", len(got))
	}
}

// TestRelayTranscripts pins what passes between client and backend. The shapes are
// those that Postfix and Dovecot were recorded with.
func TestRelayTranscripts(t *testing.T) {
	final := func(v login.Verdict, text string) login.Verdict {
		v.Final = []byte(text)
		return v
	}
	for _, tc := range []struct {
		name    string
		backend *backend
		steps   []step
		heard   []string
	}{
		{"SCRAM", scram(yes), []step{
			{"AUTH\t1\tSCRAM-SHA-256\tservice=smtp\tresp=" + b64(scramFirst) + "\n", "CONT\t1\t" + b64(scramServer) + "\n"},
			{"CONT\t1\t" + b64(scramProof) + "\n", "CONT\t1\t" + b64(scramFinal) + "\n"},
			{"CONT\t1\t\n", "OK\t1\tuser=user\n"},
		}, []string{scramFirst, scramProof}},
		{"SCRAM, and the signature is taken with OK", scram(yes), []step{
			{"AUTH\t1\tscram-sha-1\tservice=smtp\tfinal-resp-ok\tresp=" + b64(scramFirst) + "\n", "CONT\t1\t" + b64(scramServer) + "\n"},
			{"CONT\t1\t" + b64(scramProof) + "\n", "OK\t1\tuser=user\tresp=" + b64(scramFinal) + "\n"},
		}, []string{scramFirst, scramProof}},
		{"SCRAM without initial response", scram(yes), []step{
			{"AUTH\t1\tSCRAM-SHA-256\tservice=smtp\n", "CONT\t1\t\n"},
			{"CONT\t1\t" + b64(scramFirst) + "\n", "CONT\t1\t" + b64(scramServer) + "\n"},
			{"CONT\t1\t" + b64(scramProof) + "\n", "CONT\t1\t" + b64(scramFinal) + "\n"},
			{"CONT\t1\t" + b64("whatever") + "\n", "OK\t1\tuser=user\n"},
		}, []string{scramFirst, scramProof}},
		{"SCRAM, wrong", &backend{challenges: []string{scramServer}, verdict: no}, []step{
			{"AUTH\t1\tSCRAM-SHA-256\tservice=smtp\tfinal-resp-ok\tresp=" + b64(scramFirst) + "\n", "CONT\t1\t" + b64(scramServer) + "\n"},
			{"CONT\t1\t" + b64(scramProof) + "\n", "FAIL\t1\tuser=user\n"},
		}, []string{scramFirst, scramProof}},
		{"SCRAM, unknown user", &backend{verdict: no}, []step{
			{"AUTH\t1\tSCRAM-SHA-256\tservice=smtp\tresp=" + b64(scramFirst) + "\n", "FAIL\t1\tuser=user\n"},
		}, []string{scramFirst}},
		{"CRAM-MD5", &backend{challenges: []string{cramAsk}, verdict: yes}, []step{
			{"AUTH\t5\tCRAM-MD5\t" + fromLocal + "\n", "CONT\t5\t" + b64(cramAsk) + "\n"},
			{"CONT\t5\t" + b64(cramProof) + "\n", "OK\t5\tuser=tim\n"},
		}, []string{"", cramProof}},
		{"CRAM-MD5 with an initial response", &backend{verdict: yes}, []step{
			{"AUTH\t5\tCRAM-MD5\t" + fromLocal + "\tresp=" + b64(cramProof) + "\n", "FAIL\t5\n"},
		}, nil},
		{"XOAUTH2", &backend{verdict: yes}, []step{
			{"AUTH\t6\tXOAUTH2\t" + fromLocal + "\tresp=" + b64(xoauth2) + "\n", "OK\t6\tuser=alice@example.test\n"},
			{"AUTH\t7\tXOAUTH2\t" + fromLocal + "\n", "CONT\t7\t\n"},
			{"CONT\t7\t" + b64(xoauth2) + "\n", "OK\t7\tuser=alice@example.test\n"},
		}, []string{xoauth2, xoauth2}},
		{"OAUTHBEARER, wrong", &backend{verdict: final(no, tokenError)}, []step{
			{"AUTH\t18\tOAUTHBEARER\t" + fromLocal + "\tfinal-resp-ok\tresp=" + b64(bearer) + "\n", "CONT\t18\t" + b64(tokenError) + "\n"},
			{"CONT\t18\tAQ==\n", "FAIL\t18\tuser=alice@example.test\n"},
		}, []string{bearer}},
		{"an exchange that is given up, and the next", scram(yes), []step{
			{"AUTH\t1\tSCRAM-SHA-256\tservice=smtp\tresp=" + b64(scramFirst) + "\n", "CONT\t1\t" + b64(scramServer) + "\n"},
			{"AUTH\t2\tSCRAM-SHA-256\tservice=smtp\tresp=" + b64(scramFirst) + "\n", "CONT\t2\t" + b64(scramServer) + "\n"},
			{"CONT\t2\t" + b64(scramProof) + "\n", "CONT\t2\t" + b64(scramFinal) + "\n"},
			{"CONT\t2\t\n", "OK\t2\tuser=user\n"},
		}, []string{scramFirst, scramFirst, scramProof}},
		{"a mechanism for IMAP only", &backend{verdict: yes}, []step{{"AUTH\t1\tGSSAPI\tservice=smtp\n", "FAIL\t1" + notOffered}}, nil},
		{"base64 that is none", &backend{verdict: yes}, []step{
			{"AUTH\t1\tXOAUTH2\tservice=smtp\tresp=?\n", "FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in initial response\n"},
			{"AUTH\t1\tXOAUTH2\tservice=smtp\n", "CONT\t1\t\n"},
			{"CONT\t1\t?\n", "FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in continued response\n"},
			{"CONT\t1\t\n", "FAIL\t1\treason=Authentication request timed out\n"},
		}, nil},
		{"messages that nobody sends", &backend{challenges: []string{scramServer}, verdict: yes}, []step{
			{"AUTH\t1\tXOAUTH2\tservice=smtp\tresp=\n", "FAIL\t1\n"},
			{"AUTH\t2\tXOAUTH2\tservice=smtp\tresp=" + b64("user=a\x01\x01") + "\n", "FAIL\t2\n"},
			{"AUTH\t3\tSCRAM-SHA-1\tservice=smtp\tresp=" + b64("p=tls-unique,,n=user,r=x") + "\n", "FAIL\t3\n"},
			{"AUTH\t4\tSCRAM-SHA-1\tservice=smtp\tresp=" + b64(scramFirst) + "\n", "CONT\t4\t" + b64(scramServer) + "\n"},
			{"CONT\t4\t" + b64("c=biws") + "\n", "FAIL\t4\n"},
		}, []string{scramFirst}},
		{"a challenge longer than a line", &backend{challenges: []string{strings.Repeat("x", maxChallenge)}}, []step{
			{"AUTH\t1\tSCRAM-SHA-1\tservice=smtp\tresp=" + b64(scramFirst) + "\n", "FAIL\t1\tuser=user\ttemp\tcode=temp_fail\n"},
		}, []string{scramFirst}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := tc.backend.start(t)
				for _, s := range tc.steps {
					p.send(s.client)
					p.expect(s.server)
				}
				_ = p.hangUp()
				if !slices.Equal(tc.backend.heard, tc.heard) {
					t.Errorf("the backend heard %q, want %q", tc.backend.heard, tc.heard)
				}
			})
		})
	}
}

// TestRelayRefused pins that names are looked at before the proof goes out, that
// somebody hears of the refusal, and that it takes as long as others.
func TestRelayRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		mechanism, first, fields string
		delegates                bool
	}{
		"a space":                  {"SCRAM-SHA-1", "n,,n=al ice,r=x", "", true},
		"a space, with a token":    {"XOAUTH2", "user=al ice\x01auth=Bearer x\x01\x01", "", true},
		"a delegate":               {"XOAUTH2", "user=alice/bob\x01auth=Bearer x\x01\x01", "\tuser=alice/bob", false},
		"another mailbox":          {"SCRAM-SHA-1", "n,a=bob,n=alice,r=x", "\tuser=alice", false},
		"a space of another kind":  {"OAUTHBEARER", "n,a=al\u00a0ice,\x01auth=Bearer x\x01\x01", "", true},
		"a delegate, with a token": {"OAUTHBEARER", "n,a=D\\a\\b,\x01auth=Bearer x\x01\x01", "\tuser=d\\a\\b", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &backend{verdict: yes}
				s := b.relaying()
				s.AllowDelegates = tc.delegates
				refused := 0
				s.Refused = func(_ context.Context, a *login.Attempt, v login.Verdict) {
					if refused++; v.Result != login.Denied || v.Err == nil || a.Mechanism != tc.mechanism {
						t.Errorf("refused %v for %v", a.Mechanism, v)
					}
				}
				s.Hold = func(ctx context.Context, a *login.Attempt, v login.Verdict) {
					if v.Result != login.Denied {
						t.Errorf("held %v", v)
					}
					time.Sleep(2 * time.Second)
				}
				p, _ := begin(t, s)
				p.send("AUTH\t1\t" + tc.mechanism + "\tservice=smtp\tresp=" + b64(tc.first) + "\n")
				p.expect("")
				time.Sleep(2 * time.Second)
				p.expect("FAIL\t1" + tc.fields + "\n")
				_ = p.hangUp()
				b.ended(t, login.ErrMessage)
				if refused != 1 || b.heard != nil {
					t.Errorf("%d refusals, and the backend heard %q", refused, b.heard)
				}
			})
		})
	}
}

// TestRelayHeld pins that the backend's last words are held back like the verdict.
func TestRelayHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := scram(no)
		s := b.relaying()
		s.Hold = func(ctx context.Context, a *login.Attempt, v login.Verdict) {
			time.Sleep(time.Until(a.Start.Add(2 * time.Second)))
		}
		p, _ := begin(t, s)
		p.authScram(1, "")
		time.Sleep(20 * time.Second) // which is the client's time
		p.send("CONT\t1\t" + b64(scramProof) + "\n")
		time.Sleep(2*time.Second - 1)
		p.expect("")
		time.Sleep(time.Nanosecond)
		p.expect("CONT\t1\t" + b64(scramFinal) + "\n")
		p.send("CONT\t1\t\n")
		p.expect("FAIL\t1\tuser=user\n")
		_ = p.hangUp()
	})
}
