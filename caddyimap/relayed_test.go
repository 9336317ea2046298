package caddyimap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// saslBackend is a backend that offers these capabilities, and plays each connection
// within TLS, from the first command on.
func (w *world) saslBackend(caps string, play func(c *imaptest.Conn)) (*imaptest.Script, *App) {
	server := w.ca.ServerTLS()
	srv := imaptest.NewScript(w.tb, func(c *imaptest.Conn) {
		if c.StartTLS(server) != nil {
			return
		}
		c.Sendf("* OK [CAPABILITY IMAP4rev1 SASL-IR %s] ready", caps)
		play(c)
	})
	app := w.guarded(strict(), srv.Addr())
	app.Backends["exchange"].TLSMode = "implicit"
	return srv, app
}

// goOn answers what comes after a login.
func goOn(c *imaptest.Conn) {
	for {
		line, ok := c.ReadLine()
		if !ok {
			return
		}
		tag, name, _ := imaptest.SplitCommand(line)
		if name == "CAPABILITY" {
			c.Send("* CAPABILITY IMAP4rev1\r\n")
		}
		c.Sendf("%s OK done", tag)
	}
}

// exchangeOf returns the exchange of a mechanism, of testUser.
func exchangeOf(mechanism string) imaptest.SASL {
	all := imaptest.Exchanges(testUser)
	return all[slices.IndexFunc(all, func(s imaptest.SASL) bool { return s.Mechanism == mechanism })]
}

// exchanging is an attempt from an address whose client says what the exchange has, all of it
// when it is asked. If stop is not nil, it is asked before the proof.
func exchanging(t *testing.T, s imaptest.SASL, addr string, stop func(context.Context) error) *login.Attempt {
	t.Helper()
	a := &login.Attempt{ID: "SESSION", Service: "imap", Remote: netip.MustParseAddr(addr), Secured: true, Start: time.Now()}
	messages := s.Client
	if err := login.NewRelay(s.Mechanism, a, nil, func(ctx context.Context, _ []byte) ([]byte, error) {
		if len(messages) == 1 && stop != nil {
			if err := stop(ctx); err != nil {
				return nil, err
			}
		}
		message := messages[0]
		messages = messages[1:]
		return []byte(message), nil
	}); err != nil {
		t.Fatal(err)
	}
	return a
}

// beforeProof are the steps of an exchange up to where the proof is due.
func beforeProof(s imaptest.SASL) []string {
	steps := s.Steps(true)
	return steps[:len(steps)-1]
}

// TestRelayed pins that an exchange of each mechanism lets a user in by both handlers, is
// logged and counted as what it is, and that nothing that was said is in the log.
func TestRelayed(t *testing.T) {
	for _, s := range imaptest.Exchanges(testUser) {
		t.Run(s.Mechanism, func(t *testing.T) {
			w := newWorld(t)
			srv, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) {
				steps := s.Steps(true)
				if s.Final != "" {
					steps = append(steps, "S: + "+imaptest.Base64(s.Final), "C: ")
				}
				c.Play("", append(steps, "S: TAG OK in")...)
				goOn(c)
			})
			c := w.running(app)
			before := c.metrics()
			a := exchanging(t, s, "192.0.2.1", nil)
			v := check(t, c.ref(""), a, login.Granted)
			if string(v.Final) != s.Final {
				t.Errorf("final %q", v.Final)
			}
			a = exchanging(t, s, "192.0.2.1", nil)
			session, v := c.ref("").open(t.Context(), a)
			counted := 1
			if s.User == "" {
				counted = 0 // nobody knows whose it is
			}
			if v.Result != login.Granted || session.Backend != "exchange" || openSessions() != counted {
				t.Errorf("verdict %+v, with %d sessions", v, openSessions())
			}
			if known := health(srv.Addr()); known != "a+1" {
				t.Errorf("known is %s", known)
			}
			session.Close()
			if known := health(srv.Addr()); known != "a+0" || openSessions() != 0 {
				t.Errorf("known is %s, with %d sessions", known, openSessions())
			}
			user := s.User
			if user == "" {
				user = "GSSAPI:192.0.2.1"
			}
			for _, l := range c.log.lines("info", "login") {
				if l.text("result") != "granted" || l.text("user") != user || l.text("mechanism") != s.Mechanism || l.text("upstream") != srv.Addr() {
					t.Errorf("logged %v", l)
				}
			}
			wantSeries(t, "logins", c.metrics().since(before).only("caddy_imap_logins_total"), series{
				fmt.Sprintf(`{backend="exchange",handler="dovecot_auth",mechanism=%q,result="granted"}`, s.Mechanism): 1,
				fmt.Sprintf(`{backend="exchange",handler="imap",mechanism=%q,result="granted"}`, s.Mechanism):         1,
			})
			noSecrets(t, c, s)
		})
	}
}

// noSecrets fails if anything of an exchange but the name is in the log.
func noSecrets(t *testing.T, c *config, s imaptest.SASL) {
	t.Helper()
	log := string(c.log.bytes())
	for _, said := range append(append(slices.Clone(s.Client), s.Backend...), s.Final, s.Trouble) {
		if len(said) < 4 {
			continue
		}
		for _, text := range []string{said, imaptest.Base64(said), fmt.Sprintf("%q", said)} {
			if strings.Contains(log, text) {
				t.Errorf("the log has %q", text)
			}
		}
	}
	if strings.Contains(log, "Bearer") || strings.Contains(log, "p=") {
		t.Errorf("the log has a token or a proof:\n%s", log)
	}
}

// TestRelayedGuard pins that a held account's proof does not go out: the backend is told
// that the exchange is off. The failures before it were proofs, or names that the backend
// does not know.
func TestRelayedGuard(t *testing.T) {
	for _, mechanism := range []string{login.ScramSHA256, login.CramMD5, login.NTLM} {
		for _, early := range []bool{false, true} {
			if early && (mechanism == login.CramMD5 || mechanism == login.NTLM) {
				continue // it knows no name that it could refuse
			}
			t.Run(fmt.Sprint(mechanism, " ", early), func(t *testing.T) {
				w := newWorld(t)
				s := exchangeOf(mechanism)
				rest := make(chan string, 4)
				srv, app := w.saslBackend("AUTH="+mechanism, func(c *imaptest.Conn) {
					switch {
					case c.N > 3:
						c.Play("", beforeProof(s)...)
						rest <- string(c.Rest())
					case early:
						c.Play("", s.Steps(true)[0], "S: TAG NO [AUTHENTICATIONFAILED] no")
					default:
						c.Play("", append(s.Steps(true), "S: TAG NO no")...)
					}
				})
				c := w.running(app)
				for range 3 {
					check(t, c.ref(""), exchanging(t, s, "198.51.100.1", nil), login.Denied)
				}
				v := check(t, c.ref(""), exchanging(t, s, "198.51.100.1", nil), login.Throttled)
				if !errors.Is(v.Err, guard.ErrHeld) {
					t.Errorf("verdict %+v", v)
				}
				if mechanism == login.ScramSHA256 {
					// Who says his name first is not heard of.
					if n := srv.Conns(); n != 3 {
						t.Errorf("the backend was connected to %d times", n)
					}
				} else if got := <-rest; got != "*\r\n" {
					t.Errorf("the backend was told %q", got)
				}
				if n := len(c.log.lines("warn", "no more wrong passwords for this account reach the backend for a while")); n != 1 {
					t.Errorf("it was told %d times that the account is held", n)
				}
			})
		}
	}
}

// TestRelayedBanned pins that nobody is connected to a backend for a source that is banned.
func TestRelayedBanned(t *testing.T) {
	w := newWorld(t)
	s := exchangeOf(login.ScramSHA1)
	srv, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) { c.Play("", s.Steps(true)[0], "S: TAG NO no") })
	app.Guard.SourceFailures = 2
	c := w.running(app)
	for range 2 {
		check(t, c.ref(""), exchanging(t, s, "198.51.100.1", nil), login.Denied)
	}
	v := check(t, c.ref(""), exchanging(t, s, "198.51.100.1", nil), login.Throttled)
	if !errors.Is(v.Err, guard.ErrBanned) || srv.Conns() != 2 {
		t.Errorf("verdict %+v after %d connections", v, srv.Conns())
	}
	if lines := c.log.lines("info", "login"); len(lines) != 3 || lines[2].text("mechanism") != s.Mechanism {
		t.Errorf("logged %v", lines)
	}
}

// TestRelayedDawdles pins that a client which takes its time keeps nobody else from the
// account, and may take more of it than the backend.
func TestRelayedDawdles(t *testing.T) {
	w := newWorld(t)
	s := exchangeOf(login.ScramSHA256)
	_, app := w.saslBackend("AUTH=PLAIN AUTH="+s.Mechanism, func(c *imaptest.Conn) {
		tag, args := c.Command("AUTHENTICATE")
		if strings.HasPrefix(args, "PLAIN ") {
			c.Sendf("%s OK in", tag)
			goOn(c)
			return
		}
		steps := s.Steps(true)[1:]
		c.Play(tag, append(steps, "S: TAG OK in")...)
		goOn(c)
	})
	none := 0
	app.Guard.AccountFailures, app.Guard.KnownReserve = 1, &none
	const timeout = 3 * time.Second // enough for a slow machine; the test waits for it
	app.Backends["exchange"].AuthTimeout = caddy.Duration(timeout)
	c := w.running(app)
	start := time.Now()
	a := exchanging(t, s, "192.0.2.1", func(ctx context.Context) error {
		for range 3 {
			v := check(t, c.ref(""), from("192.0.2.2", testUser, testSecret), login.Granted)
			if v.Err != nil {
				t.Error(v.Err)
			}
		}
		if _, bounded := ctx.Deadline(); bounded {
			t.Error("the client's time is bounded by the backend's")
		}
		<-time.After(time.Until(start.Add(timeout * 3 / 2)))
		return nil
	})
	check(t, c.ref(""), a, login.Granted)
	if a.Start.Before(start.Add(timeout)) {
		t.Error("the client's time counts as that of the login")
	}
}

// TestRelayedSilence pins that each step of the backend has its time, and no more.
func TestRelayedSilence(t *testing.T) {
	s := exchangeOf(login.ScramSHA256)
	for n := range 2 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w := newWorld(t)
			srv, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) {
				c.Play("", s.Steps(true)[:2*n+1]...)
				c.Rest()
			})
			app.Backends["exchange"].AuthTimeout = caddy.Duration(300 * time.Millisecond)
			c := w.running(app)
			v := check(t, c.ref(""), exchanging(t, s, "192.0.2.1", nil), login.Unavailable)
			if v.Unanswered != (n == 1) || v.Upstream != srv.Addr() {
				t.Errorf("verdict %+v", v)
			}
			srv.WaitIdle()
			if known := health(srv.Addr()); known != "a+0" {
				t.Errorf("known is %s", known)
			}
		})
	}
}

// TestRelayedBrokenOff pins what becomes of an exchange that the client does not go on with:
// the backend is told, the log has a debug line, and it counts against the source.
func TestRelayedBrokenOff(t *testing.T) {
	for name, tc := range map[string]struct {
		mechanism string
		why       error
	}{
		"cancelled":             {login.ScramSHA256, login.ErrCancelled},
		"gone":                  {login.ScramSHA256, fmt.Errorf("%w: %w", login.ErrCancelled, io.ErrUnexpectedEOF)},
		"malformed":             {login.ScramSHA256, login.ErrMessage},
		"cancelled, with names": {login.CramMD5, login.ErrCancelled},
	} {
		t.Run(name, func(t *testing.T) {
			why := tc.why
			w := newWorld(t)
			s := exchangeOf(tc.mechanism)
			rest := make(chan string, 1)
			srv, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) {
				c.Play("", beforeProof(s)...)
				rest <- string(c.Rest())
			})
			app.Guard.SourceFailures = 2
			c := w.running(app)
			before := c.metrics()
			v := check(t, c.ref(""), exchanging(t, s, "192.0.2.1", func(context.Context) error { return why }), login.Unavailable)
			if !errors.Is(v.Err, why) {
				t.Errorf("verdict %+v", v)
			}
			if got := <-rest; got != "*\r\n" {
				t.Errorf("the backend was told %q", got)
			}
			wantSeries(t, "logins", c.metrics().since(before).only("caddy_imap_logins_total"), series{})
			if lines := c.log.lines("info", "login"); len(lines) != 0 {
				t.Errorf("logged %v", lines)
			}
			if l := c.log.one("debug", "the client has broken off a login"); l.text("mechanism") != s.Mechanism || l.text("error") == "" {
				t.Errorf("logged %v", l)
			}
			if known := health(srv.Addr()); known != "a+0" {
				t.Errorf("known is %s", known)
			}
			noSecrets(t, c, s)
			for range 2 { // nobody's fault
				check(t, c.ref(""), exchanging(t, s, "192.0.2.1", func(context.Context) error { return context.Canceled }), login.Unavailable)
				<-rest
			}
			check(t, c.ref(""), exchanging(t, s, "192.0.2.1", func(context.Context) error { return why }), login.Unavailable)
			<-rest
			if v := check(t, c.ref(""), exchanging(t, s, "192.0.2.1", nil), login.Throttled); !errors.Is(v.Err, guard.ErrBanned) || srv.Conns() != 4 {
				t.Errorf("verdict %+v after %d connections", v, srv.Conns())
			}
			if lines := c.log.lines("warn", "no more wrong passwords for this account reach the backend for a while"); len(lines) != 0 {
				t.Errorf("logged %v", lines)
			}
		})
	}
}

// TestRelayedUnheard pins that a client counts for nothing of which no backend has heard.
func TestRelayedUnheard(t *testing.T) {
	w := newWorld(t)
	s := exchangeOf(login.ScramSHA256)
	s.Client = s.Client[:1]
	srv, app := w.saslBackend("AUTH="+s.Mechanism, func(c *imaptest.Conn) { c.Rest() })
	app.Guard.SourceFailures = 1
	c := w.running(app)
	for range 3 {
		check(t, c.ref(""), exchanging(t, s, "192.0.2.1", func(context.Context) error { return login.ErrCancelled }), login.Unavailable)
	}
	if srv.Conns() != 0 || c.ref("").banned(netip.MustParseAddr("192.0.2.1")) {
		t.Errorf("%d connections, or a ban", srv.Conns())
	}
}
