package caddyimap

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

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
	newLoginLog(zap.New(core)).write(ctx, a, "exchange", v)
	return buf.Bytes()
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
		if got.text("user") != name {
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
		"bob\x1b[2J", "bob\xff\xfe", `CORP\bob","result":"granted`,
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
			if want := strings.ToValidUTF8(name, "\ufffd\ufffd"); got.text("service") != want {
				t.Errorf("%q is logged as %q, want %q", name, got.text("service"), want)
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
