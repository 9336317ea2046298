package imapauth

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// clientOf returns an attempt whose client says what an exchange has, and notes what it
// is asked. If initial is set, the first message comes along with the command.
func clientOf(t testing.TB, s imaptest.SASL, initial bool) (a *login.Attempt, asked *[]string) {
	t.Helper()
	messages, first := s.Client, []byte(nil)
	if initial && !s.First {
		first, messages = []byte(messages[0]), messages[1:]
	}
	asked = new([]string)
	a = &login.Attempt{Service: "imap"}
	if err := login.NewRelay(s.Mechanism, a, first, func(_ context.Context, challenge []byte) ([]byte, error) {
		*asked = append(*asked, string(challenge))
		if len(messages) == 0 {
			return nil, login.ErrCancelled
		}
		message := messages[0]
		messages = messages[1:]
		return []byte(message), nil
	}); err != nil {
		t.Fatal(err)
	}
	return a, asked
}

// approach carries an exchange on up to its proof. The client is nil if it does not come
// to that.
func approach(t *testing.T, cfg *Config, a *login.Attempt) (*Client, login.Verdict) {
	t.Helper()
	ctx := testContext(t)
	c, err := Dial(ctx, cfg, login.Ends{})
	if err != nil {
		return nil, Failure(err)
	}
	message, proof, err := a.Relay.Start(ctx)
	for !proof && err == nil {
		challenge, v := c.Advance(ctx, a, message)
		if challenge == nil {
			if c.r != nil {
				t.Error("the connection is not closed")
			}
			return nil, v
		}
		message, proof, err = a.Relay.Answer(ctx, challenge)
	}
	if err != nil {
		c.Abort(ctx)
		return nil, login.UnavailableFor(err)
	}
	return c, login.Verdict{}
}

// relayAt logs in by an exchange.
func relayAt(t *testing.T, cfg *Config, a *login.Attempt) (*login.Session, login.Verdict) {
	t.Helper()
	c, v := approach(t, cfg, a)
	if c == nil {
		return nil, v
	}
	s, v := c.Open(testContext(t), a, Keep)
	if (s != nil) != (v.Result == login.Granted) {
		t.Errorf("session %v with verdict %s", s, summary(v))
	}
	if s != nil {
		t.Cleanup(func() { _ = s.Conn.Close() })
	}
	return s, v
}

// saslBackend plays the dialogue, and then answers any command with OK. What a client
// has sent by its end beyond the dialogue goes to rest.
func saslBackend(t *testing.T, caps string, steps ...string) (cfg *Config, rest <-chan string) {
	server, client := testTLS(t)
	got := make(chan string, 8)
	srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
		if c.StartTLS(server) != nil {
			return
		}
		c.Sendf("* OK [CAPABILITY IMAP4rev1 %s] ready", caps)
		c.Play("", steps...)
		if len(steps) == 0 || !strings.HasPrefix(steps[len(steps)-1], "S: TAG OK") {
			got <- string(c.Rest())
			return
		}
		for {
			line, ok := c.ReadLine()
			if !ok {
				got <- ""
				return
			}
			tag, name, _ := imaptest.SplitCommand(line)
			if name == "CAPABILITY" {
				c.Send("* CAPABILITY IMAP4rev1 AFTER\r\n")
			}
			c.Sendf("%s OK done", tag)
		}
	})
	return &Config{Address: srv.Addr(), Mode: ImplicitTLS, TLS: client}, got
}

// TestRelay pins for each mechanism what the backend and the client get to hear: with an
// initial response and without, on either leg; when the proof is right, and when it is
// wrong.
func TestRelay(t *testing.T) {
	for _, s := range imaptest.Exchanges(testUser) {
		for _, ir := range []bool{false, true} {
			for _, initial := range []bool{false, true} {
				for _, right := range []bool{false, true} {
					name := s.Mechanism
					caps := "AUTH=" + s.Mechanism
					if ir {
						name, caps = name+" SASL-IR", caps+" SASL-IR"
					}
					if initial {
						name += " initial"
					}
					final, end, want := s.Trouble, "S: TAG NO [AUTHENTICATIONFAILED] no", denied
					if right {
						name += " right"
						final, end, want = s.Final, "S: TAG OK in", "granted"
					}
					t.Run(name, func(t *testing.T) {
						steps := s.Steps(ir)
						if final != "" {
							dismissal := "C: "
							if s.Mechanism == login.OAuthBearer {
								dismissal += "AQ=="
							}
							steps = append(steps, "S: + "+imaptest.Base64(final), dismissal)
						}
						cfg, _ := saslBackend(t, caps, append(steps, end)...)
						a, asked := clientOf(t, s, initial)
						session, v := relayAt(t, cfg, a)
						if got := summary(v); got != want {
							t.Fatalf("verdict %s, want %s (%v)", got, want, v.Err)
						}
						if string(v.Final) != final || (v.Final == nil) != (final == "") || v.Unanswered {
							t.Errorf("verdict %+v, want final %q", v, final)
						}
						if right && !slices.Equal(session.Caps, []string{"IMAP4rev1", "AFTER"}) {
							t.Errorf("capabilities %q", session.Caps)
						}
						challenges := s.Backend
						if !initial && !s.First {
							challenges = append([]string{""}, challenges...)
						}
						if !slices.Equal(*asked, challenges) {
							t.Errorf("the client was asked %q, want %q", *asked, challenges)
						}
						if s.User != "" && a.User != s.User || a.User == "" {
							t.Errorf("user %q", a.User)
						}
					})
				}
			}
		}
	}
}

// exchangeOf returns the exchange of a mechanism.
func exchangeOf(mechanism string) imaptest.SASL {
	all := imaptest.Exchanges(testUser)
	return all[slices.IndexFunc(all, func(s imaptest.SASL) bool { return s.Mechanism == mechanism })]
}

// TestRelayAnswers pins what answers mean that a backend gives where none is due, or
// none of that kind.
func TestRelayAnswers(t *testing.T) {
	scram, cram, xoauth2 := exchangeOf(login.ScramSHA256), exchangeOf(login.CramMD5), exchangeOf(login.XOAuth2)
	first := func(s imaptest.SASL) []string { return s.Steps(true)[:1] }
	bare := func(s imaptest.SASL) []string { return s.Steps(false)[:1] }
	all := func(s imaptest.SASL) []string { return s.Steps(true) }
	for _, tc := range []struct {
		name  string
		s     imaptest.SASL
		ir    bool
		steps []string
		want  string
		err   error
		// unanswered and everybody are as in the verdict.
		unanswered, everybody bool
	}{
		{name: "no user", s: scram, ir: true, steps: append(first(scram), "S: TAG NO [AUTHENTICATIONFAILED] no"), want: denied},
		{name: "no such user, and no code", s: scram, ir: true, steps: append(first(scram), "S: TAG NO no"), want: denied},
		{name: "user disabled", s: scram, ir: true, steps: append(first(scram), "S: TAG NO [CONTACTADMIN] no"), want: "denied [CONTACTADMIN]"},
		{name: "user limited", s: scram, ir: true, steps: append(first(scram), "S: TAG NO [LIMIT] no"), want: limited},
		{name: "user in trouble", s: scram, ir: true, steps: append(first(scram), "S: TAG NO [UNAVAILABLE] no"), want: unavailable, err: ErrRefused},
		{name: "OK before the proof", s: scram, ir: true, steps: append(first(scram), "S: TAG OK in"), want: unavailable, err: ErrProtocol},
		{name: "OK before the name", s: scram, steps: append(bare(scram), "S: TAG OK in"), want: unavailable, err: ErrProtocol},
		{name: "OK before the digest", s: cram, steps: append(bare(cram), "S: TAG OK in"), want: unavailable, err: ErrProtocol},
		{name: "OK before the token", s: xoauth2, steps: append(bare(xoauth2), "S: TAG OK in"), want: unavailable, err: ErrProtocol},
		{name: "NO before the name", s: scram, steps: append(bare(scram), "S: TAG NO no"), want: unavailable, err: ErrRefused},
		{name: "NO before the digest", s: cram, steps: append(bare(cram), "S: TAG NO no"), want: unavailable, err: ErrRefused},
		{name: "throttled before the digest", s: cram, steps: append(bare(cram), "S: TAG NO [LIMIT] no"), want: limited, everybody: true},
		{name: "throttled before the name", s: scram, steps: append(bare(scram), "S: TAG NO [LIMIT] no"), want: limited, everybody: true},
		{name: "throttled before the token", s: xoauth2, steps: append(bare(xoauth2), "S: TAG NO [LIMIT] no"), want: limited, everybody: true},
		{name: "BAD before the proof", s: scram, ir: true, steps: append(first(scram), "S: TAG BAD no"), want: unavailable, err: ErrRefused},
		{name: "BYE before the proof", s: scram, ir: true, steps: append(first(scram), "S: * BYE no"), want: unavailable, err: ErrBye},
		{name: "not base64", s: scram, ir: true, steps: append(first(scram), "S: + ***"), want: unavailable, err: ErrProtocol},
		{name: "too long", s: scram, ir: true, steps: append(first(scram), "S: + "+strings.Repeat("AAAA", 20_000)), want: unavailable, err: ErrTooMuch},
		{name: "another tag", s: scram, ir: true, steps: append(first(scram), "S: x NO no"), want: unavailable, err: ErrProtocol},

		{name: "OK without a signature", s: scram, ir: true, steps: append(all(scram), "S: TAG OK in"), want: "granted"},
		{name: "a second challenge", s: scram, ir: true, steps: append(all(scram), "S: + djE=", "C: ", "S: + djI="), want: unavailable, err: ErrProtocol, unanswered: true},
		{name: "last not base64", s: scram, ir: true, steps: append(all(scram), "S: + *"), want: unavailable, err: ErrProtocol, unanswered: true},
		{name: "BYE after the proof", s: scram, ir: true, steps: append(all(scram), "S: * BYE no"), want: unavailable, err: ErrBye, unanswered: true},
		{name: "BAD after the proof", s: scram, ir: true, steps: append(all(scram), "S: TAG BAD no"), want: unavailable, err: ErrRefused, unanswered: true},
		{name: "throttled after the proof", s: scram, ir: true, steps: append(all(scram), "S: TAG NO [LIMIT] no"), want: limited, unanswered: true},
		{name: "NO after the signature", s: scram, ir: true, steps: append(all(scram), "S: + djE=", "C: ", "S: TAG NO [NOPERM] no"), want: "denied [NOPERM]"},
		{name: "an alert", s: scram, ir: true, steps: append(all(scram), "S: * OK [ALERT] full", "S: TAG OK [CAPABILITY X] in"), want: "granted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			caps := "AUTH=" + tc.s.Mechanism
			if tc.ir {
				caps += " SASL-IR"
			}
			cfg, rest := saslBackend(t, caps, tc.steps...)
			a, _ := clientOf(t, tc.s, true)
			session, v := relayAt(t, cfg, a)
			if got := summary(v); got != tc.want || tc.err != nil && !errors.Is(v.Err, tc.err) {
				t.Errorf("verdict %s, want %s (%v, want %v)", got, tc.want, v.Err, tc.err)
			}
			if v.Unanswered != tc.unanswered || v.Everybody != tc.everybody || v.Upstream != cfg.Address {
				t.Errorf("verdict %+v", v)
			}
			if session != nil {
				_ = session.Conn.Close()
			}
			if more := <-rest; more != "" {
				t.Errorf("the backend was told %q", more)
			}
		})
	}
}

// TestRelayAbort pins that what is called off ends with an asterisk, and that a proof
// which nobody has let through is not sent.
func TestRelayAbort(t *testing.T) {
	for _, s := range imaptest.Exchanges(testUser) {
		if len(s.Backend) == 0 {
			continue // the proof comes first, and nobody is connected
		}
		t.Run(s.Mechanism, func(t *testing.T) {
			steps := s.Steps(true)
			cfg, rest := saslBackend(t, "SASL-IR AUTH="+s.Mechanism, steps[:len(steps)-1]...)
			a, _ := clientOf(t, s, true)
			c, v := approach(t, cfg, a)
			if c == nil {
				t.Fatalf("verdict %+v", v)
			}
			c.Abort(t.Context())
			if got := <-rest; got != "*\r\n" {
				t.Errorf("the backend was told %q", got)
			}
			if _, v := c.Open(t.Context(), a, Keep); !errors.Is(v.Err, errUsed) {
				t.Errorf("used again: %+v", v)
			}
		})
	}
}

// TestRelayCancelled pins that the backend is told of a client that wants no more, or
// says what no client would.
func TestRelayCancelled(t *testing.T) {
	for name, last := range map[string]func([]byte) ([]byte, error){
		"cancelled": func([]byte) ([]byte, error) { return nil, login.ErrCancelled },
		"malformed": func([]byte) ([]byte, error) { return []byte("c=biws"), nil },
		"too long":  func([]byte) ([]byte, error) { return bytes.Repeat([]byte("x"), login.MaxMessage+1), nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := exchangeOf(login.ScramSHA1)
			cfg, rest := saslBackend(t, "SASL-IR AUTH="+s.Mechanism, s.Steps(true)[:2]...)
			a, _ := clientOf(t, s, true)
			a.Relay.Ask = func(_ context.Context, challenge []byte) ([]byte, error) { return last(challenge) }
			_, v := relayAt(t, cfg, a)
			if v.Result != login.Unavailable || !errors.Is(v.Err, login.ErrCancelled) && !errors.Is(v.Err, login.ErrMessage) {
				t.Errorf("verdict %+v", v)
			}
			if got := <-rest; got != "*\r\n" {
				t.Errorf("the backend was told %q", got)
			}
		})
	}
}

// TestRelayLong pins that long messages wait until the backend asks for them, and empty
// ones are said as such.
func TestRelayLong(t *testing.T) {
	s := exchangeOf(login.XOAuth2)
	for size, ir := range map[int]bool{6000: true, 6200: false, login.MaxMessage: false} {
		padding := size - len(s.Client[0])
		long := s
		long.Client = []string{strings.Replace(s.Client[0], "ya29.", "ya29."+strings.Repeat("x", padding), 1)}
		cfg, _ := saslBackend(t, "SASL-IR AUTH=XOAUTH2", append(long.Steps(ir), "S: TAG OK in")...)
		a, _ := clientOf(t, long, true)
		if _, v := relayAt(t, cfg, a); v.Result != login.Granted {
			t.Errorf("%d bytes: %s (%v)", size, summary(v), v.Err)
		}
	}
	ntlm := exchangeOf(login.NTLM)
	ntlm.Client, ntlm.Backend = append([]string{""}, ntlm.Client...), append([]string{""}, ntlm.Backend...)
	steps := append(ntlm.Steps(true), "S: TAG OK in")
	steps[0] = "C: TAG AUTHENTICATE NTLM ="
	cfg, _ := saslBackend(t, "SASL-IR AUTH=NTLM", steps...)
	a, _ := clientOf(t, ntlm, true)
	if _, v := relayAt(t, cfg, a); v.Result != login.Granted {
		t.Errorf("an empty message: %s (%v)", summary(v), v.Err)
	}
}
