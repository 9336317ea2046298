package imapfront

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

const invalid = "a1 BAD Invalid arguments."

// TestLogin pins what of LOGIN reaches the backend, byte for byte.
func TestLogin(t *testing.T) {
	long := strings.Repeat("x", 6000)
	for _, tc := range []struct {
		name string
		// send is the lines; after each but the last we wait for an invitation.
		send         []string
		user, secret string
		// bad is what is answered instead, if it is no LOGIN.
		bad string
	}{
		{"atoms", []string{"a1 LOGIN bob pw"}, "bob", "pw", ""},
		{"any case", []string{"a1 lOgIn Bob Pw"}, "Bob", "Pw", ""},
		{"trailing spaces", []string{"a1 LOGIN bob pw  "}, "bob", "pw", ""},
		{"odd atoms", []string{`a1 LOGIN CORP\alice pa%ss*w]or}d+`}, `CORP\alice`, `pa%ss*w]or}d+`, ""},
		{"8-bit atoms", []string{"a1 LOGIN m\u00fcller \xfc\xff"}, "m\u00fcller", "\xfc\xff", ""},
		{"quoted", []string{`a1 LOGIN "b o b" "p w"`}, "b o b", "p w", ""},
		{"quoted and escaped", []string{`a1 LOGIN "b\"o\\b" "\\\""`}, `b"o\b`, `\"`, ""},
		{"an unescaped backslash", []string{`a1 LOGIN "CORP\alice" "p\w"`}, `CORP\alice`, `p\w`, ""},
		{"an escaped backslash", []string{`a1 LOGIN "CORP\\alice" "p\\w"`}, `CORP\alice`, `p\w`, ""},
		{"a delegate", []string{`a1 LOGIN "u\d\shared" pw`}, `u\d\shared`, "pw", ""},
		{"a placeholder", []string{`a1 LOGIN "{env.HOME}" "{imap.user}"`}, "{env.HOME}", "{imap.user}", ""},
		{"what looks like a literal", []string{`a1 LOGIN "bob{3}" "{3+}"`}, "bob{3}", "{3+}", ""},
		{"8-bit quoted", []string{"a1 LOGIN \"q\\\"\\\\\u00fc\" \"\xe9\""}, "q\"\\\u00fc", "\xe9", ""},
		{"literals", []string{"a1 LOGIN {3}", "bob {2}", "pw"}, "bob", "pw", ""},
		{"a literal last", []string{"a1 LOGIN bob {2}", "pw"}, "bob", "pw", ""},
		{"a literal first", []string{"a1 LOGIN {3}", "bob pw"}, "bob", "pw", ""},
		{"a literal and a quoted string", []string{"a1 LOGIN {3}", `bob "pw"`}, "bob", "pw", ""},
		{"literals not waited for", []string{"a1 LOGIN {3+}\r\nbob {2+}\r\npw"}, "bob", "pw", ""},
		{"both kinds of literals", []string{"a1 LOGIN {3+}\r\nbob {2}", "pw"}, "bob", "pw", ""},
		{"a literal as it is", []string{"a1 LOGIN {5}", "b\"o\\b {4}", "\xff\"{}"}, `b"o\b`, "\xff\"{}", ""},
		{"a long literal", []string{"a1 LOGIN bob {6000}", long}, "bob", long, ""},

		{"nothing", []string{"a1 LOGIN"}, "", "", invalid},
		{"one argument", []string{"a1 LOGIN bob"}, "", "", invalid},
		{"one argument and a space", []string{"a1 LOGIN bob "}, "", "", invalid},
		{"one literal", []string{"a1 LOGIN {3}", "bob"}, "", "", invalid},
		{"three arguments", []string{"a1 LOGIN bob p w"}, "", "", invalid},
		{"three literals", []string{"a1 LOGIN {1}", "a {1}", "b {1}", "c"}, "", "", invalid},
		{"two spaces", []string{"a1 LOGIN bob  pw"}, "", "", invalid},
		{"a list", []string{"a1 LOGIN (bob pw)"}, "", "", invalid},
		{"half a quoted string", []string{`a1 LOGIN bob "pw`}, "", "", invalid},
		{"an escaped quote at the end", []string{`a1 LOGIN bob "pw\"`}, "", "", invalid},
		{"something behind a quoted string", []string{`a1 LOGIN "bob"x pw`}, "", "", invalid},
		{"something behind a literal", []string{"a1 LOGIN {3}", "bobx pw"}, "", "", invalid},
		{"an atom before a literal", []string{"a1 LOGIN bob pw{3}", "foo"}, "", "", invalid},
		{"a brace", []string{"a1 LOGIN {env.HOME} pw"}, "", "", invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := setup{tls: standing()}.greeted(t)
			for i, line := range tc.send {
				p.send(line + "\r\n")
				if i < len(tc.send)-1 {
					p.expect("+ OK")
				}
			}
			if tc.bad != "" {
				p.expect(tc.bad)
				p.backend.untouched()
				p.logIn()
				return
			}
			p.expect("a1" + failed)
			a := p.backend.attempts()
			if len(a) != 1 || a[0].User != tc.user || string(a[0].Secret) != tc.secret {
				t.Fatalf("%d attempts: %q", len(a), a[0].User)
			}
			if a[0].Form != login.FormLogin || a[0].Mechanism != "LOGIN" || a[0].AuthzID != "" {
				t.Errorf("form %d, mechanism %q", a[0].Form, a[0].Mechanism)
			}
			p.logIn()
		})
	}
}

// TestAuthenticate is the same for AUTHENTICATE.
func TestAuthenticate(t *testing.T) {
	plain := b64("\x00bob\x00pw")
	long := strings.Repeat("x", 6000)
	for _, tc := range []struct {
		name string
		// talk is what is said by turns, the client first; the last is the
		// answer, or empty for a refused password.
		talk []string
		want login.Attempt
	}{
		{"PLAIN", []string{"a1 AUTHENTICATE PLAIN", "+ ", plain, ""}, login.Attempt{User: "bob", Secret: "pw"}},
		{"PLAIN with initial response", []string{"a1 authenticate plain " + plain, ""}, login.Attempt{User: "bob", Secret: "pw"}},
		{"PLAIN and a trailing space", []string{"a1 AUTHENTICATE PLAIN ", "+ ", plain, ""}, login.Attempt{User: "bob", Secret: "pw"}},
		{"PLAIN for somebody else", []string{"a1 AUTHENTICATE PLAIN " + b64("shared\x00bob\x00pw"), ""}, login.Attempt{User: "bob", AuthzID: "shared", Secret: "pw"}},
		{"PLAIN for oneself", []string{"a1 AUTHENTICATE PLAIN " + b64("bob\x00bob\x00pw"), ""}, login.Attempt{User: "bob", Secret: "pw"}},
		{"PLAIN, 8-bit", []string{"a1 AUTHENTICATE PLAIN " + b64("\x00CORP\\b\u00fc\x00\xff"), ""}, login.Attempt{User: "CORP\\b\u00fc", Secret: "\xff"}},
		{"PLAIN, long", []string{"a1 AUTHENTICATE PLAIN " + b64("\x00bob\x00"+long), ""}, login.Attempt{User: "bob", Secret: login.Secret(long)}},
		{"PLAIN, long and asked for", []string{"a1 AUTHENTICATE PLAIN", "+ ", b64("\x00bob\x00" + long), ""}, login.Attempt{User: "bob", Secret: login.Secret(long)}},
		{"LOGIN", []string{"a1 AUTHENTICATE LOGIN", "+ VXNlcm5hbWU6", b64("bob"), "+ UGFzc3dvcmQ6", b64("pw"), ""}, login.Attempt{User: "bob", Secret: "pw"}},
		{"LOGIN with initial response", []string{"a1 AUTHENTICATE login " + b64("bob"), "+ UGFzc3dvcmQ6", b64("pw"), ""}, login.Attempt{User: "bob", Secret: "pw"}},

		{"PLAIN cancelled", []string{"a1 AUTHENTICATE PLAIN", "+ ", "*", "a1 BAD Authentication cancelled."}, login.Attempt{}},
		{"PLAIN, empty initial response", []string{"a1 AUTHENTICATE PLAIN =", invalid}, login.Attempt{}},
		{"PLAIN, two parts", []string{"a1 AUTHENTICATE PLAIN " + b64("bob\x00pw"), invalid}, login.Attempt{}},
		{"PLAIN, four parts", []string{"a1 AUTHENTICATE PLAIN " + b64("\x00bob\x00p\x00w"), invalid}, login.Attempt{}},
		{"PLAIN, no base64", []string{"a1 AUTHENTICATE PLAIN ?", invalid}, login.Attempt{}},
		{"PLAIN, cancelled too early", []string{"a1 AUTHENTICATE PLAIN *", invalid}, login.Attempt{}},
		{"PLAIN, no padding", []string{"a1 AUTHENTICATE PLAIN AGJvYgBwdwA", invalid}, login.Attempt{}},
		{"PLAIN, no base64 when asked", []string{"a1 AUTHENTICATE PLAIN", "+ ", "=", invalid}, login.Attempt{}},
		{"LOGIN, no base64 for the password", []string{"a1 AUTHENTICATE LOGIN " + b64("bob"), "+ UGFzc3dvcmQ6", "pw", invalid}, login.Attempt{}},
		{"no mechanism", []string{"a1 AUTHENTICATE", invalid}, login.Attempt{}},
		{"no mechanism but a space", []string{"a1 AUTHENTICATE ", invalid}, login.Attempt{}},
		{"two spaces", []string{"a1 AUTHENTICATE  PLAIN", invalid}, login.Attempt{}},
		{"too many words", []string{"a1 AUTHENTICATE PLAIN = =", invalid}, login.Attempt{}},
		{"a mechanism that is not offered", []string{"a1 AUTHENTICATE CRAM-MD5", "a1 NO [CANNOT] Unsupported authentication mechanism."}, login.Attempt{}},
		{"a literal", []string{"a1 AUTHENTICATE {5+}\r\nPLAIN", invalid}, login.Attempt{}},
		{"a literal to be asked for", []string{"a1 AUTHENTICATE {5}", invalid}, login.Attempt{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := setup{tls: standing()}.greeted(t)
			last := len(tc.talk) - 1
			for i := 0; i < last; i += 2 {
				p.send(tc.talk[i] + "\r\n")
				if i+1 < last {
					p.expect(tc.talk[i+1])
				}
			}
			if tc.talk[last] != "" {
				p.expect(tc.talk[last])
				p.backend.untouched()
				p.logIn()
				return
			}
			p.expect("a1" + failed)
			a := p.backend.attempts()
			if len(a) != 1 || a[0].User != tc.want.User || a[0].Secret != tc.want.Secret || a[0].AuthzID != tc.want.AuthzID {
				t.Fatalf("%d attempts: %q for %q", len(a), a[0].User, a[0].AuthzID)
			}
			if a[0].Form != login.FormAuthenticate || !strings.HasPrefix(tc.name, a[0].Mechanism) {
				t.Errorf("form %d, mechanism %q", a[0].Form, a[0].Mechanism)
			}
			p.logIn()
		})
	}
}

// TestUnsafeCredentials pins what becomes of credentials that no backend must be
// asked about: they are passed on, to be refused and told of like others.
func TestUnsafeCredentials(t *testing.T) {
	for name, send := range map[string]string{
		"an empty password":                   `a1 LOGIN bob ""`,
		"an empty user":                       `a1 LOGIN "" pw`,
		"an empty literal":                    "a1 LOGIN bob {0+}\r\n",
		"a NUL in a literal":                  "a1 LOGIN bob {3+}\r\np\x00w",
		"a CR in a literal":                   "a1 LOGIN bob {3+}\r\np\rw",
		"a LF in a literal":                   "a1 LOGIN bob {3+}\r\np\nw",
		"a command in a user":                 "a1 LOGIN {13+}\r\nbob\r\na2 NOOP\r pw",
		"a NUL in a user":                     "a1 LOGIN {4+}\r\nbob\x00 pw",
		"a control character in a user":       "a1 LOGIN {4+}\r\nbob\x01 pw",
		"DEL in a user":                       "a1 LOGIN \"bob\x7f\" pw",
		"a C1 control character in a user":    "a1 AUTHENTICATE PLAIN " + b64("\x00b\u0085ob\x00pw"),
		"a control character in somebody":     "a1 AUTHENTICATE PLAIN " + b64("x\x1b\x00bob\x00pw"),
		"PLAIN with an empty password":        "a1 AUTHENTICATE PLAIN " + b64("\x00bob\x00"),
		"PLAIN with an empty user":            "a1 AUTHENTICATE PLAIN " + b64("\x00\x00pw"),
		"PLAIN with a line in the password":   "a1 AUTHENTICATE PLAIN " + b64("\x00bob\x00p\r\nw"),
		"PLAIN with a line in somebody else":  "a1 AUTHENTICATE PLAIN " + b64("x\ny\x00bob\x00pw"),
		"PLAIN with a LF in the user":         "a1 AUTHENTICATE PLAIN " + b64("\x00bob\n\x00pw"),
		"AUTHENTICATE LOGIN without a user":   "a1 AUTHENTICATE LOGIN =\r\n" + b64("pw"),
		"AUTHENTICATE LOGIN without password": "a1 AUTHENTICATE LOGIN " + b64("bob") + "\r\n",
		"AUTHENTICATE LOGIN with a NUL":       "a1 AUTHENTICATE LOGIN " + b64("bob") + "\r\n" + b64("p\x00w"),
	} {
		t.Run(name, func(t *testing.T) {
			p := setup{tls: standing()}.greeted(t)
			p.send(send + "\r\n")
			if strings.Contains(send, "AUTHENTICATE LOGIN") {
				p.expect("+ UGFzc3dvcmQ6")
			}
			// The user is told the same as of any wrong password.
			p.expect("a1" + failed)
			p.backend.untouched()
			if p.backend.refused != 1 {
				t.Errorf("%d refusals, want 1", p.backend.refused)
			}
			// And it counts.
			p.ask("a2 LOGIN bob wrong", "a2"+failed)
			p.send("a3 LOGIN bob wrong\r\n")
			p.closedFor(ErrTooManyFailures, "a3"+failed, "* BYE Too many failed logins.")
		})
	}
}

// TestVerdicts pins what a client is told of each.
func TestVerdicts(t *testing.T) {
	secretive := errors.New("dialling 10.1.2.3:143: refused")
	for _, tc := range []struct {
		name    string
		verdict login.Verdict
		want    string
	}{
		{"denied", login.DeniedWith(""), "NO [AUTHENTICATIONFAILED] Authentication failed"},
		{"denied, expired", login.DeniedWith(imap.ResponseCodeExpired), "NO [EXPIRED] Password expired"},
		{"denied, disabled", login.DeniedWith(imap.ResponseCodeContactAdmin), "NO [CONTACTADMIN] Account disabled, contact your administrator"},
		{"denied, no right", login.DeniedWith(imap.ResponseCodeNoPerm), "NO [NOPERM] Account disabled, contact your administrator"},
		{"denied, somebody else's", login.DeniedWith(imap.ResponseCodeAuthorizationFailed), "NO [AUTHORIZATIONFAILED] Authorization failed"},
		{"throttled", login.ThrottledFor(imap.ResponseCodeUnavailable, time.Minute, secretive), "NO [UNAVAILABLE] Too many logins, try again later."},
		{"throttled, limit", login.ThrottledFor(imap.ResponseCodeLimit, 0, secretive), "NO [LIMIT] Too many logins, try again later."},
		{"unavailable", login.UnavailableFor(secretive), "NO [UNAVAILABLE] The mail server is not available, try again later."},
		{"a verdict that nobody filled in", login.Verdict{}, "NO [UNAVAILABLE] The mail server is not available, try again later."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &backend{verdict: func(*login.Attempt) login.Verdict { return tc.verdict }}
			p := setup{backend: b, tls: standing()}.greeted(t)
			for range 2 {
				p.ask("a1 LOGIN bob pw", "a1 "+tc.want)
			}
			p.send("a1 AUTHENTICATE PLAIN " + b64("\x00bob\x00pw") + "\r\n")
			p.closedFor(ErrTooManyFailures, "a1 "+tc.want, "* BYE Too many failed logins.")
		})
	}
}

// TestAttempt pins what the backend leg is told beside the credentials.
func TestAttempt(t *testing.T) {
	b := &backend{clear: true}
	p := setup{backend: b, amend: func(c *Config) { c.InsecureAuth = true }}.dial(t)
	p.expect("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID STARTTLS AUTH=PLAIN AUTH=LOGIN] mail.example.org ready.")
	before := time.Now()
	p.ask("a1 LOGIN {3}", "+ OK")
	p.ask("bob pw", "a1"+failed)
	p.ask("a2 AUTHENTICATE PLAIN", "+ ")
	p.ask(b64("\x00bob\x00pw"), "a2"+failed)
	p.startTLS()
	s := p.logIn()
	for i, a := range b.attempts() {
		if a.ID != "c1" || a.Service != "imap" || a.Remote.String() != "192.0.2.7" || a.Start.Before(before) {
			t.Errorf("attempt %d of %s at %s by %s for %s", i, a.ID, a.Start, a.Remote, a.Service)
		}
		if inside := i == 2; a.Secured != inside || (a.TLS == s.TLS.Version) != inside {
			t.Errorf("attempt %d: secured %v, TLS %x", i, a.Secured, a.TLS)
		}
	}
}

func TestMechanisms(t *testing.T) {
	p := setup{tls: standing(), amend: func(c *Config) { c.Mechanisms = offers("LOGIN") }}.dial(t)
	p.expect("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID AUTH=LOGIN] mail.example.org ready.")
	p.ask("a1 AUTHENTICATE PLAIN "+b64("\x00bob\x00pw"), "a1 NO [CANNOT] Unsupported authentication mechanism.")
	p.backend.untouched()
	p.logIn()
}
