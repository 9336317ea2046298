package dovecotauth

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

const authAlice = "AUTH\t1\tPLAIN\tservice=smtp\trip=192.0.2.5\tresp=" + good + "\n"

// TestVerdicts reads like the table of what becomes of a login.
func TestVerdicts(t *testing.T) {
	const (
		reset    = "(reset)"
		fail     = "FAIL\t1\tuser=alice@example.test\n"
		tempFail = "FAIL\t1\tuser=alice@example.test\ttemp\tcode=temp_fail\n"
	)
	down := errors.New("connection refused")
	for _, tc := range []struct {
		backend string
		verdict login.Verdict
		// disconnect and fail are the answers for either value of
		// OnUnavailable.
		disconnect, fail string
	}{
		{"lets the user in", login.Verdict{Result: login.Granted}, "OK\t1\tuser=alice@example.test\n", "OK\t1\tuser=alice@example.test\n"},
		{"NO without a code", login.DeniedWith(""), fail, fail},
		{"AUTHENTICATIONFAILED", login.DeniedWith(imap.ResponseCodeAuthenticationFailed), fail, fail},
		{
			"AUTHORIZATIONFAILED", login.DeniedWith(imap.ResponseCodeAuthorizationFailed),
			"FAIL\t1\tuser=alice@example.test\tcode=authz_fail\n", "FAIL\t1\tuser=alice@example.test\tcode=authz_fail\n",
		},
		{
			"EXPIRED", login.DeniedWith(imap.ResponseCodeExpired),
			"FAIL\t1\tuser=alice@example.test\tcode=pass_expired\treason=Password expired\n",
			"FAIL\t1\tuser=alice@example.test\tcode=pass_expired\treason=Password expired\n",
		},
		{
			"CONTACTADMIN", login.DeniedWith(imap.ResponseCodeContactAdmin),
			"FAIL\t1\tuser=alice@example.test\tcode=user_disabled\n", "FAIL\t1\tuser=alice@example.test\tcode=user_disabled\n",
		},
		{
			"NOPERM", login.DeniedWith(imap.ResponseCodeNoPerm),
			"FAIL\t1\tuser=alice@example.test\tcode=user_disabled\n", "FAIL\t1\tuser=alice@example.test\tcode=user_disabled\n",
		},
		{"throttles", login.ThrottledFor(imap.ResponseCodeLimit, time.Minute, nil), reset, tempFail},
		{"lets in and takes it back", login.ThrottledFor(imap.ResponseCodeUnavailable, 0, nil), reset, tempFail},
		{"is away", login.UnavailableFor(down), reset, tempFail},
		{"gave no verdict", login.Verdict{}, reset, tempFail},
	} {
		for _, on := range []OnUnavailable{Disconnect, Fail} {
			want := tc.disconnect
			if on == Fail {
				want = tc.fail
			}
			t.Run(tc.backend, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := start(t, &Server{
						OnUnavailable: on,
						Check:         func(context.Context, *login.Attempt) login.Verdict { return tc.verdict },
					})
					p.send(authAlice)
					if want == reset {
						p.expectClosed("")
						return
					}
					p.expect(want)
					// The connection is as good as before.
					p.send("AUTH\t2\tPLAIN\tservice=smtp\n")
					p.expect("CONT\t2\t\n")
					if err := p.hangUp(); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestDeadline pins that a check that hangs is answered in time, whether or not
// it heeds its context.
func TestDeadline(t *testing.T) {
	heeds := func(ctx context.Context, _ *login.Attempt) login.Verdict {
		<-ctx.Done()
		return login.UnavailableFor(ctx.Err())
	}
	stubborn := func(context.Context, *login.Attempt) login.Verdict {
		time.Sleep(20 * time.Second)
		return login.Verdict{Result: login.Granted}
	}
	for name, check := range map[string]login.Checker{"heeds its context": heeds, "stubborn": stubborn} {
		for _, deadline := range []time.Duration{0, 4 * time.Second} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := start(t, &Server{Check: check, Deadline: deadline, OnUnavailable: Fail})
					p.send(authAlice)
					at := DefaultDeadline
					if deadline != 0 {
						at = deadline
					}
					time.Sleep(at - time.Millisecond)
					p.expect("")
					time.Sleep(time.Millisecond)
					p.expect("FAIL\t1\tuser=alice@example.test\ttemp\tcode=temp_fail\n")
					time.Sleep(time.Minute)
					p.expect("")
					_ = p.hangUp()
				})
			})
		}
	}
}

// TestAttempt pins what the checker is told.
func TestAttempt(t *testing.T) {
	for _, tc := range []struct {
		name, auth, cont string
		want             login.Attempt
	}{
		{
			"PLAIN", "AUTH\t1\tPLAIN\tservice=smtp\trip=192.0.2.5\tresp=" + plain("", "Alice@Example.test", "pass word") + "\n", "",
			login.Attempt{
				Service: "smtp", User: "Alice@Example.test", Secret: "pass word", Mechanism: "PLAIN",
				Remote: netip.MustParseAddr("192.0.2.5"),
			},
		},
		{
			"authzid the same as the user", "AUTH\t1\tplain\tservice=submission\tsecured\trip=2001:db8::1\tresp=" + plain("alice", "alice", "x") + "\n", "",
			login.Attempt{
				Service: "submission", User: "alice", Secret: "x", Mechanism: "PLAIN", Secured: true,
				Remote: netip.MustParseAddr("2001:db8::1"),
			},
		},
		{
			"ports, and what was connected to", "AUTH\t1\tPLAIN\tservice=smtp\tlport=587\tlip=::ffff:192.0.2.1\trip=192.0.2.5\trport=40000\tresp=" + plain("", "alice", "x") + "\n", "",
			login.Attempt{
				Service: "smtp", User: "alice", Secret: "x", Mechanism: "PLAIN",
				Remote: netip.MustParseAddr("192.0.2.5"), RemotePort: 40000, Local: netip.MustParseAddrPort("192.0.2.1:587"),
			},
		},
		{
			"ports that are none", "AUTH\t1\tPLAIN\tservice=smtp\tlip=192.0.2.1\tlport=smtp\trip=192.0.2.5\trport=70000\tresp=" + plain("", "alice", "x") + "\n", "",
			login.Attempt{
				Service: "smtp", User: "alice", Secret: "x", Mechanism: "PLAIN",
				Remote: netip.MustParseAddr("192.0.2.5"), Local: netip.MustParseAddrPort("192.0.2.1:0"),
			},
		},
		{
			"LOGIN, mapped address", "AUTH\t1\tLOGIN\tprotocol=smtp\tsecured=tls\trip=::ffff:192.0.2.5\tresp=" + b64(`CORP\Bob`) + "\n",
			"CONT\t1\t" + b64("{env.HOME}") + "\n",
			login.Attempt{
				Service: "smtp", User: `CORP\Bob`, Secret: "{env.HOME}", Mechanism: "LOGIN", Secured: true,
				Remote: netip.MustParseAddr("192.0.2.5"),
			},
		},
		{
			"interfaces", "AUTH\t1\tPLAIN\tservice=smtp\tlip=fe80::1%eth0\trip=fe80::2%x\x01nresult granted\tresp=" + plain("", "alice", "x") + "\n", "",
			login.Attempt{
				Service: "smtp", User: "alice", Secret: "x", Mechanism: "PLAIN",
				Remote: netip.MustParseAddr("fe80::2"), Local: netip.MustParseAddrPort("[fe80::1]:0"),
			},
		},
		{
			"service that is none, no address", "AUTH\t1\tPLAIN\tservice=a\x01tb\x011\x010\x01n\x01r\x01x\x01\trip=NULL\tlip=NULL\tresp=" + plain("", "a\xfc\"\xe9", "x") + "\n", "",
			login.Attempt{Service: "?", User: "a\xfc\"\xe9", Secret: "x", Mechanism: "PLAIN"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got login.Attempt
				p := start(t, &Server{Check: func(_ context.Context, a *login.Attempt) login.Verdict {
					got = *a
					return login.Verdict{Result: login.Granted}
				}})
				now := time.Now()
				p.send(tc.auth)
				if tc.cont != "" {
					p.expect("CONT\t1\t" + askPass + "\n")
					time.Sleep(time.Second)
					now = time.Now()
					p.send(tc.cont)
				}
				if said, _ := p.take(); !strings.HasPrefix(said, "OK\t1\t") {
					t.Fatalf("server said %q", said)
				}
				if len(got.ID) != 16 {
					t.Errorf("connection id %q, want 16 characters", got.ID)
				}
				if !got.Start.Equal(now) {
					t.Errorf("start %v, want the time of the last line, %v", got.Start, now)
				}
				got.ID, got.Start = "", time.Time{}
				tc.want.Form, tc.want.NoDelegates = login.FormAuthenticate, true
				if !reflect.DeepEqual(got, tc.want) {
					t.Errorf("attempt %+v, want %+v", got, tc.want)
				}
				if got.Secret != tc.want.Secret {
					t.Errorf("the secret differs")
				}
				_ = p.hangUp()
			})
		})
	}
}

// TestPanic pins that a check that panics is an unavailable backend, and that the
// log tells where and nothing secret.
func TestPanic(t *testing.T) {
	for name, what := range map[string]func(a *login.Attempt){
		"with words":      func(a *login.Attempt) { panic("bad password " + string(a.Secret)) },
		"of the runtime":  func(a *login.Attempt) { _ = []byte(a.Secret)[len(a.Secret)] },
		"with an attempt": func(a *login.Attempt) { panic(a) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zapcore.DebugLevel)
				p := start(t, &Server{
					OnUnavailable: Fail,
					Logger:        zap.New(core),
					Check: func(_ context.Context, a *login.Attempt) login.Verdict {
						what(a)
						return login.Verdict{Result: login.Granted}
					},
				})
				p.send(authAlice)
				p.expect("FAIL\t1\tuser=alice@example.test\ttemp\tcode=temp_fail\n")
				_ = p.hangUp()
				entries := logs.FilterLevelExact(zapcore.ErrorLevel).All()
				if len(entries) != 1 {
					t.Fatalf("%d errors logged, want 1", len(entries))
				}
				fields := entries[0].ContextMap()
				stack, _ := fields["stack"].(string)
				if !strings.Contains(stack, "TestPanic") {
					t.Errorf("no stack in the log: %v", fields)
				}
				for _, e := range logs.All() {
					for k, v := range e.ContextMap() {
						if s, ok := v.(string); ok && strings.Contains(s, "Secret-1") {
							t.Errorf("the password is in field %q of %q", k, e.Message)
						}
					}
				}
			})
		})
	}
}

// TestNothingSecretLogged goes through every kind of answer at debug level.
func TestNothingSecretLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		p := start(t, &Server{Check: accounts, Logger: zap.New(core)})
		message := plain("", "hunter2 as user", "hunter2")
		for _, line := range []string{
			"AUTH\t1\tPLAIN\tservice=smtp\tresp=" + message,
			"AUTH\t2\tPLAIN\tservice=smtp\tresp=" + message + "!",
			"AUTH\t3\tLOGIN\tservice=smtp\tresp=" + b64("hunter2/hunter2"),
			"AUTH\t4\tSCRAM-SHA-1\tservice=smtp\tresp=" + message,
			"AUTH\t5\tLOGIN\tservice=smtp\tresp=" + b64("hunter2"),
			"CONT\t5\t" + b64("hunter2\n"),
			"CONT\t6\t" + b64("hunter2"),
			"hunter2",
		} {
			p.send(line + "\n")
			p.take()
		}
		_ = p.hangUp()
		if logs.Len() == 0 {
			t.Fatal("nothing was logged")
		}
		for _, e := range logs.All() {
			text := e.Message
			for _, v := range e.ContextMap() {
				if s, ok := v.(string); ok {
					text += " " + s
				}
			}
			if strings.Contains(text, "hunter2") || strings.Contains(text, message) {
				t.Errorf("secret in the log: %s", text)
			}
		}
	})
}
