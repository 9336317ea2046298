package caddyimap

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// writeLogin returns the log that comes of one attempt, as JSON.
func writeLogin(ctx context.Context, a *login.Attempt, v login.Verdict) []byte {
	var buf bytes.Buffer
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		MessageKey: "msg", LevelKey: "level",
		EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeDuration: zapcore.SecondsDurationEncoder,
	})
	core := zapcore.NewCore(encoder, zapcore.AddSync(&buf), zapcore.DebugLevel)
	bareApp(zap.New(core), logKnown).log(ctx, a, "exchange", v, adviceBackend)
	return buf.Bytes()
}

// bareApp is an app that was not provisioned, and only logs.
func bareApp(logger *zap.Logger, logUser string) *App {
	return &App{Guard: &Guard{Off: true}, LogUser: logUser, logger: logger, events: &eventQueue{app: new(caddyevents.App)}}
}

// loginLine is the one line of INFO about an attempt.
func loginLine(t *testing.T, log []byte) line {
	t.Helper()
	lines := parseLines(t, log, "info", "")
	if len(lines) != 1 || lines[0].text("msg") != "login" {
		t.Fatalf("logged at level info: %v; want one line about the login", lines)
	}
	return lines[0]
}

// TestLoginFields pins what a line tells about an attempt.
func TestLoginFields(t *testing.T) {
	a := attempt()
	a.Start = time.Now().Add(-time.Minute)
	a.Remote, a.TLS = netip.MustParseAddr("192.0.2.7"), tls.VersionTLS13
	log := writeLogin(t.Context(), a, login.Verdict{Result: login.Granted, Upstream: "192.0.2.1:143"})
	if lines := bytes.Count(log, []byte("\n")); lines != 1 {
		t.Errorf("%d lines, want 1:\n%s", lines, log)
	}
	got := loginLine(t, log)
	for field, want := range map[string]string{
		"result": "granted", "code": "", "service": "smtp", "user": testUser, "remote_ip": "192.0.2.7",
		"tls_version": "tls1.3", "mechanism": "PLAIN", "backend": "exchange", "upstream": "192.0.2.1:143", "session": "SESSION",
	} {
		if text, is := got[field].(string); !is || text != want {
			t.Errorf("%s is %v, want %q", field, got[field], want)
		}
	}
	if d, _ := got["duration"].(float64); d < 60 || d > 100 {
		t.Errorf("duration is %v, want a minute, in seconds", got["duration"])
	}
	for _, field := range []string{"error", "user_hash"} {
		if v, is := got[field]; is {
			t.Errorf("%s is %v, want none", field, v)
		}
	}
}

// TestLoginResults pins that there is one line of INFO for each result, and an
// error besides only if the operator can do something.
func TestLoginResults(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	trouble := errors.New("dial tcp 192.0.2.1:143: connection refused")
	for _, tc := range []struct {
		name    string
		ctx     context.Context
		verdict login.Verdict
		errors  int
	}{
		{"granted", t.Context(), login.Verdict{Result: login.Granted}, 0},
		{"denied", t.Context(), login.DeniedWith(""), 0},
		{"throttled", t.Context(), login.ThrottledFor("LIMIT", time.Minute, trouble), 0},
		{"unavailable", t.Context(), login.UnavailableFor(trouble), 1},
		{"unavailable, too late", late, login.UnavailableFor(trouble), 1},
		{"unavailable, client gone", gone, login.UnavailableFor(context.Canceled), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.verdict.Upstream = "192.0.2.1:143"
			log := writeLogin(tc.ctx, attempt(), tc.verdict)
			got := loginLine(t, log)
			if got.text("result") != tc.verdict.Result.String() || got.text("code") != string(tc.verdict.Code) {
				t.Errorf("result %v, code %v", got["result"], got["code"])
			}
			if tc.verdict.Err != nil && got.text("error") != tc.verdict.Err.Error() {
				t.Errorf("error %v", got["error"])
			}
			lines := parseLines(t, log, "error", "")
			if len(lines) != tc.errors {
				t.Fatalf("%d errors, want %d:\n%s", len(lines), tc.errors, log)
			}
			for _, l := range lines {
				for field, want := range map[string]string{
					"backend": "exchange", "upstream": "192.0.2.1:143", "error": trouble.Error(), "session": "SESSION",
				} {
					if l.text(field) != want {
						t.Errorf("%s of the error is %v, want %q", field, l[field], want)
					}
				}
			}
		})
	}
}

// TestLoginNames pins which names are shown. People type passwords into the field
// for the name, and those must not be in the log.
func TestLoginNames(t *testing.T) {
	shown := []string{
		"alice@example.org", "Alice.O'Hara+x@mail.corp.example.org", "alice@xn--bcher-kva.example",
		`CORP\alice`, `CORP\alice\shared`, "müller@example.org", "bob@x.xn--p1ai",
	}
	hidden := []string{
		"P@ssw0rd", "hunter2", "a@b", `pa\ss"`, "correct-horse-battery", "", "@example.org", "alice@", "p@ss.w0rd", "p@ss.w", "p@ss..word",
		"alice@example.org/p", `corp.example.org\alice`, `\alice`, `CORP\`, `pa$s\word`, "my p@ss.word", "p@ss.word\n", "p@ss.word\t", "p@ss.word\x00", "p@ss\x7f.word", `"p@ss.word`,
		"p@ss.wörd", "p\u202e@ss.word", "p\u009b@ss.word", "p\u00a0@ss.word", strings.Repeat("x", 256) + "@example.org",
	}
	for _, name := range slices.Concat(shown, hidden) {
		a := attempt()
		a.User = name
		for _, v := range []login.Verdict{login.DeniedWith(""), login.UnavailableFor(errors.New("down")), login.ThrottledFor("LIMIT", 0, nil)} {
			got := loginLine(t, writeLogin(t.Context(), a, v))
			want, hash := name, ""
			if slices.Contains(hidden, name) {
				want, hash = "?", hashName(name)
			}
			if got.text("user") != want || got.text("user_hash") != hash {
				t.Errorf("%s: user %q is shown as %v with hash %v", v.Result, name, got["user"], got["user_hash"])
			}
		}
		got := loginLine(t, writeLogin(t.Context(), a, login.Verdict{Result: login.Granted}))
		if got.text("user") != printable(name) {
			t.Errorf("granted: user %q is shown as %v", name, got["user"])
		}
	}
}

// TestHashName pins that the hash tells names apart, and that nobody can make it
// who has only the log.
func TestHashName(t *testing.T) {
	hunter := hashName("hunter2")
	if len(hunter) != 2*hashLength || hunter != hashName("hunter2") || hunter == hashName("hunter3") {
		t.Errorf("hashes %s, %s, %s", hunter, hashName("hunter2"), hashName("hunter3"))
	}
	key := nameKey
	defer func() { nameKey = key }()
	nameKey = []byte("another")
	if hashName("hunter2") == hunter {
		t.Error("the hash does not depend on the key")
	}
	if len(key) < 16 {
		t.Errorf("the key has %d bytes", len(key))
	}
}

// TestLoginInjection pins that what somebody typed stays where it belongs: inside
// one line, and inside one field.
func TestLoginInjection(t *testing.T) {
	for _, name := range []string{
		"bob@example.org\n{\"level\":\"info\",\"msg\":\"login\",\"result\":\"granted\",\"user\":\"root\"}",
		"bob@example.org\r\nfake", "bob\",\"result\":\"granted", "bob\\\",\"result\":\"granted\u2028fake",
		"bob\x1b[2J", "bob\xff\xfe", "bob\u009b2J", "bob\x7f", "bob\u202egro.elpmaxe@", "bob\u2066\u2069", "\ufeffbob", "bob\u200b", `CORP\bob","result":"granted`,
	} {
		a := attempt()
		a.User, a.Service, a.Mechanism = name, name, name
		for _, v := range []login.Verdict{{Result: login.Granted}, login.DeniedWith("")} {
			log := writeLogin(t.Context(), a, v)
			if bytes.Count(log, []byte("\n")) != 1 || bytes.ContainsAny(log[:len(log)-1], "\r\n\x1b") {
				t.Errorf("%q breaks the line: %q", name, log)
			}
			got := loginLine(t, log)
			if got.text("result") != v.Result.String() {
				t.Errorf("%q makes the result %v", name, got["result"])
			}
			want := strings.Map(func(r rune) rune {
				if unicode.IsPrint(r) {
					return r
				}
				return '\ufffd'
			}, name)
			for _, field := range []string{"service", "mechanism"} {
				if got.text(field) != want {
					t.Errorf("%q is logged as %q, want %q", name, got.text(field), want)
				}
			}
			if v.Result != login.Granted {
				continue
			}
			// Two names that look the same are still told apart.
			if hash := got.text("user_hash"); got.text("user") != want || (hash == "") != (want == name) {
				t.Errorf("%q is shown as %q with the hash %q, want %q", name, got.text("user"), hash, want)
			}
		}
	}
}

// TestLoginSecret pins that no form of the password gets into the log, wherever it
// was put.
func TestLoginSecret(t *testing.T) {
	a := attempt()
	a.User = testSecret
	a.AuthzID = testSecret
	for _, v := range []login.Verdict{login.DeniedWith(""), login.UnavailableFor(errors.New("down"))} {
		if found := imaptest.Revealed(writeLogin(t.Context(), a, v), testSecret); found != nil {
			t.Errorf("%s: the log shows %s", v.Result, found)
		}
	}
}

// TestLogUser pins whose names the log shows, by the word of log_user: in the line
// about a login, in that about the end of a session, in those of the guard, in
// events and in the admin API.
func TestLogUser(t *testing.T) {
	const (
		known  = "alice"                  // was let in before
		looks  = "bob@example.org"        // was not
		secret = "hunter2-is-my-password" // is no name
		rest   = "alice@hunter2"          // counts as alice, and is none
		other  = "alice/hunter2"          // likewise
	)
	all := []string{known, looks, secret, rest, other}
	for word, shown := range map[string][]string{
		"": {known, looks}, "known": {known, looks}, "all": all, "none": nil,
	} {
		t.Run("log_user "+word, func(t *testing.T) {
			w := newWorld(t)
			fake := w.anyAlice()
			h := new(heard)
			w.listen(h, "login", "login_failed", "account_held")
			g := strict()
			g.AccountFailures = 1
			app := w.guarded(g, fake.Addr())
			app.LogUser = word
			c := w.load(app)
			c.startAll()
			defer c.stop()
			cl := serve(t, c.handler(&Handler{InsecureAuth: true}))
			cl.expect("* OK")
			cl.ask("in LOGIN alice "+testSecret, "* CAPABILITY", loggedIn)
			_ = cl.conn.Close()
			cl.wait()
			for _, user := range all {
				c.ref("").Check(t.Context(), from("192.0.2.1", user, "wrong"))
			}
			_, api := call(t, adminServer(t), "GET", "/imap/guard")

			granted := "?"
			if word != "none" {
				granted = "alice"
			}
			if got := c.log.one("info", "session ended").text("user"); got != granted {
				t.Errorf("the session of %s ended", got)
			}
			lines := c.log.lines("info", "login")
			if got := lines[0].text("user"); got != granted {
				t.Errorf("%s was let in", got)
			}
			for i, user := range all {
				want, hash := user, ""
				if !slices.Contains(shown, user) {
					want, hash = "?", hashName(user)
				}
				if got := lines[i+1]; got.text("user") != want || got.text("user_hash") != hash {
					t.Errorf("%s is shown as %s with hash %s", user, got.text("user"), got.text("user_hash"))
				}
			}
			for len(h.events) < 1+len(all) { // and account_held
				time.Sleep(time.Millisecond)
			}
			var told []byte
			for len(h.events) > 0 {
				told = fmt.Appendf(told, "%v\n", h.next(t).Data)
			}
			everything := slices.Concat(c.log.bytes(), told, []byte(api))
			for _, user := range all {
				if found := imaptest.Revealed(everything, user); (found != nil) != slices.Contains(shown, user) && !strings.Contains(user, "alice") {
					t.Errorf("%s: found %s", user, found)
				}
			}
			if found := imaptest.Revealed(everything, "hunter2"); (found != nil) != (word == "all") {
				t.Errorf("found %s", found)
			}
		})
	}
}

// TestBothHandlers pins that the lines of both handlers have the same fields.
func TestBothHandlers(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	c := w.load(w.guarded(strict(), fake.Addr()))
	c.start()
	defer c.stop()
	h := webmail(c)
	for _, secrets := range [][2]string{{testSecret, testSecret}, {"wrong", "wronger"}, {"wrong", "wronger"}} {
		c.ref("").Check(t.Context(), from("192.0.2.1", "alice", secrets[0]))
		logInFrom(t, h, "192.0.2.2", "alice", secrets[1])
	}
	lines := c.log.lines("info", "login")
	if len(lines) != 6 {
		t.Fatalf("%d lines, want one for each of 6 attempts", len(lines))
	}
	for i := 0; i < 6; i += 2 {
		smtp, imap := slices.Sorted(maps.Keys(lines[i])), slices.Sorted(maps.Keys(lines[i+1]))
		if !slices.Equal(smtp, imap) || lines[i].text("result") != lines[i+1].text("result") {
			t.Errorf("the lines differ: %v and %v", lines[i], lines[i+1])
		}
		if lines[i].text("service") != "smtp" || lines[i+1].text("service") != "imap" {
			t.Errorf("services %v and %v", lines[i]["service"], lines[i+1]["service"])
		}
	}
}

// TestAdviceForPenalty pins that nobody is told to look at certificates when it is
// Dovecot that lets us wait.
func TestAdviceForPenalty(t *testing.T) {
	for err, want := range map[error]string{imapauth.ErrTimeout: "tls_trust_pool", imapauth.ErrPenalty: "auth_timeout"} {
		log := writeLogin(t.Context(), attempt(), login.UnavailableFor(fmt.Errorf("logging in: %w", err)))
		lines := parseLines(t, log, "error", "")
		if len(lines) != 1 || !strings.Contains(lines[0].text("msg"), want) {
			t.Errorf("%v: %v", err, lines)
		}
	}
}
