package imapauth

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestRelayTimeout pins that no step outlasts its context, and that the backend's silence
// after the proof is told from that before.
func TestRelayTimeout(t *testing.T) {
	for _, s := range []imaptest.SASL{exchangeOf(login.ScramSHA256), exchangeOf(login.XOAuth2)} {
		steps := s.Steps(true)
		for n := range (len(steps) + 1) / 2 {
			cfg, _ := saslBackend(t, "SASL-IR AUTH="+s.Mechanism, steps[:2*n+1]...)
			a, _ := clientOf(t, s, true)
			ctx := testContext(t)
			c, err := Dial(ctx, cfg, login.Ends{})
			if err != nil {
				t.Fatal(err)
			}
			var v login.Verdict
			message, proof, err := a.Relay.Start(ctx)
			for step := 0; v.Err == nil; step++ {
				if err != nil {
					t.Fatal(err)
				}
				short, cancel := ctx, context.CancelFunc(func() {})
				if step == n {
					short, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
				}
				var challenge []byte
				if proof {
					_, v = c.Open(short, a, Keep)
				} else if challenge, v = c.Advance(short, a, message); challenge != nil {
					message, proof, err = a.Relay.Answer(ctx, challenge)
				}
				cancel()
			}
			if summary(v) != unavailable || !errors.Is(v.Err, ErrTimeout) || v.Unanswered != proof {
				t.Errorf("%s, step %d: %+v", s.Mechanism, n, v)
			}
		}
	}
}

// TestRelayUsed pins that a connection on which an exchange goes on is for nothing else,
// and that a proof has to be there.
func TestRelayUsed(t *testing.T) {
	s := exchangeOf(login.ScramSHA256)
	ctx := testContext(t)
	for name, use := range map[string]func(*Client, *login.Attempt) login.Verdict{
		"a password": func(c *Client, _ *login.Attempt) login.Verdict {
			_, v := c.Open(ctx, attempt(login.FormLogin), Keep)
			return v
		},
		"no proof": func(c *Client, a *login.Attempt) login.Verdict {
			a.Relay.Proof = nil
			return c.Check(ctx, a, Keep)
		},
	} {
		cfg, _ := saslBackend(t, "SASL-IR AUTH="+s.Mechanism, s.Steps(true)[:2]...)
		a, _ := clientOf(t, s, true)
		c, v := approach(t, cfg, a)
		if c == nil {
			t.Fatalf("verdict %+v", v)
		}
		if v := use(c, a); v.Result != login.Unavailable || !errors.Is(v.Err, errUsed) {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// TestTokenOnly pins that a backend which takes no passwords can be used if it has what
// clients are relayed for, that it is told what there is, and that nothing is sent that
// the backend does not offer.
func TestTokenOnly(t *testing.T) {
	const caps = "LOGINDISABLED SASL-IR AUTH=XOAUTH2 AUTH=NTLM"
	cfg, rest := saslBackend(t, caps)
	if err := Ping(testContext(t), cfg); !errors.Is(err, ErrNoMechanism) {
		t.Errorf("for passwords: %v", err)
	}
	<-rest
	var told [][]string
	cfg.Relayed = []string{login.ScramSHA256, login.XOAuth2}
	cfg.Offered = func(mechanisms []string) { told = append(told, mechanisms) }
	scram, _ := clientOf(t, exchangeOf(login.ScramSHA256), true)
	plain := attempt(login.FormAuthenticate)
	plain.AuthzID = "bob"
	for want, attempts := range map[error][]*login.Attempt{
		ErrNoMechanism: {attempt(login.FormAuthenticate), attempt(login.FormLogin), plain},
		ErrNotOffered:  {scram},
	} {
		for _, a := range attempts {
			var v login.Verdict
			if a.Relay != nil {
				_, v = relayAt(t, cfg, a)
			} else {
				_, v = openAt(t, cfg, a, Keep)
			}
			if summary(v) != unavailable || !errors.Is(v.Err, want) || v.Unanswered {
				t.Errorf("verdict %+v, want %v", v, want)
			}
			if got := <-rest; got != "" {
				t.Errorf("the backend was told %q", got)
			}
		}
	}
	if len(told) != 4 || slices.ContainsFunc(told, func(m []string) bool { return !slices.Equal(m, []string{login.XOAuth2}) }) {
		t.Errorf("told %q", told)
	}
}

// TestRelayTrace pins that the login of an exchange is told of once, whenever it ends, and
// nothing of what was said.
func TestRelayTrace(t *testing.T) {
	s := exchangeOf(login.ScramSHA256)
	for n, answer := range map[int]string{1: "S: TAG NO no", 3: "S: TAG OK in"} {
		cfg, _ := saslBackend(t, "SASL-IR AUTH="+s.Mechanism, append(s.Steps(true)[:n], answer)...)
		var logins []Event
		cfg.Trace = func(e Event) {
			if e.Step == StepLogin {
				logins = append(logins, e)
			}
		}
		a, _ := clientOf(t, s, true)
		_, v := relayAt(t, cfg, a)
		if len(logins) != 1 || logins[0].Method != "AUTHENTICATE SCRAM-SHA-256" || logins[0].Verdict.Result != v.Result {
			t.Errorf("told of %+v, want %+v", logins, v)
		}
	}
}

// TestRelayIntroduced pins that the backend is told where the client is, once, before an
// exchange begins.
func TestRelayIntroduced(t *testing.T) {
	for _, s := range []imaptest.SASL{exchangeOf(login.XOAuth2), exchangeOf(login.ScramSHA256), exchangeOf(login.CramMD5)} {
		steps := append([]string{`C: TAG ID ("x-session-id" "SESSION")`, "S: TAG OK done"}, s.Steps(true)...)
		cfg, _ := saslBackend(t, "ID SASL-IR AUTH="+s.Mechanism, append(steps, "S: TAG OK in")...)
		cfg.Forward = ForwardID
		a, _ := clientOf(t, s, true)
		a.ID = "SESSION"
		if _, v := relayAt(t, cfg, a); v.Result != login.Granted {
			t.Errorf("%s: %s (%v)", s.Mechanism, summary(v), v.Err)
		}
	}
}
