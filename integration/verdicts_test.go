//go:build integration

package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// What clients are told by IMAP.
const (
	imapGranted = "OK Logged in"
	imapWrong   = "NO [AUTHENTICATIONFAILED] Authentication failed"
	imapLater   = "NO [UNAVAILABLE] Too many logins, try again later."
	imapCrowded = "NO [LIMIT] Too many logins, try again later."
	imapAway    = "NO [UNAVAILABLE] The mail server is not available, try again later."
)

// What mail servers are told, about a user U. authTemp is for those that do not want
// to be cut off.
const (
	authGranted = "OK\tuser=U"
	authWrong   = "FAIL\tuser=U"
	authTemp    = "FAIL\tuser=U\ttemp\tcode=temp_fail"
)

// How an answer of the backend counts shows in what it is asked next. Somebody tries
// these passwords, one after the other, from an address that the account does not
// know.
var passwordsTried = []string{"One-Crane-01", "One-Crane-01", "Two-Cranes-02", "Three-Cranes-03", "Four-Cranes-04", "Five-Cranes-05"}

// counts is one of those ways, and the value is what of passwordsTried is asked.
type counts []int

var (
	// countsYes: the same again is answered from memory, and the budget is three.
	countsYes = counts{0, 2, 3}
	// countsUnremembered: the budget is three, and the same again is a part of it.
	countsUnremembered = counts{0, 1, 2}
	// countsNot: all are asked.
	countsNot = counts{0, 1, 2, 3, 4, 5}
	// holdsUser: the backend has said for how long it wants to be left alone.
	holdsUser = counts{0}
)

// ok is how Exchange lets somebody in.
func ok(l imaptest.Login) string { return "OK " + l.Command + " completed." }

// says is a backend that answers every login in the same way.
func says(text string) func(p *imaptest.Profile) {
	return func(p *imaptest.Profile) { p.Login = func(imaptest.Login) string { return text } }
}

// verdicts is what every answer of a backend comes to, as design.md has it.
var verdicts = []struct {
	says    string
	backend func(p *imaptest.Profile)
	verdict string
	imap    string // to an IMAP client
	auth    string // to a mail server; "" is a reset, or authTemp
	counts  counts
}{
	// The tagged OK, and what the probe is answered.
	{"OK, probe OK", func(p *imaptest.Profile) { p.Login = ok }, "granted", imapGranted, authGranted, countsNot},
	{"OK, probe BAD not connected", func(p *imaptest.Profile) {
		p.Login, p.Unconnected = ok, func(imaptest.Login) bool { return true }
	}, "throttled", imapLater, "", countsUnremembered},
	{"OK, probe NO", func(p *imaptest.Profile) { p.Login, p.Namespace = ok, "NO NAMESPACE failed." }, "throttled", imapLater, "", countsUnremembered},
	{"OK, probe BAD", func(p *imaptest.Profile) { p.Login, p.Namespace = ok, "BAD Command Error. 10" }, "unavailable", imapAway, "", countsNot},
	{"OK, probe throttled", func(p *imaptest.Profile) { p.Login, p.Namespace = ok, imaptest.ExchangeThrottled }, "throttled", imapLater, "", holdsUser},

	// A refusal.
	{"NO without a code", func(p *imaptest.Profile) { p.Login = imaptest.ExchangeFailed }, "denied", imapWrong, authWrong, countsYes},
	{"NO [AUTHENTICATIONFAILED]", says("NO [AUTHENTICATIONFAILED] no"), "denied", imapWrong, authWrong, countsYes},
	{"NO [AUTHORIZATIONFAILED]", says("NO [AUTHORIZATIONFAILED] no"), "denied", "NO [AUTHORIZATIONFAILED] Authorization failed", authWrong + "\tcode=authz_fail", countsYes},
	{"NO [EXPIRED]", says("NO [EXPIRED] no"), "denied", "NO [EXPIRED] Password expired", authWrong + "\tcode=pass_expired\treason=Password expired", countsYes},
	{"NO [CONTACTADMIN]", says("NO [CONTACTADMIN] no"), "denied", "NO [CONTACTADMIN] Account disabled, contact your administrator", authWrong + "\tcode=user_disabled", countsYes},
	{"NO [NOPERM]", says("NO [NOPERM] no"), "denied", "NO [NOPERM] Account disabled, contact your administrator", authWrong + "\tcode=user_disabled", countsYes},

	// A NO that says nothing about the password.
	{"NO Server Unavailable", says(imaptest.ExchangeUnavailable), "unavailable", imapAway, "", countsNot},
	{"NO Temporary authentication failure", says("NO Temporary authentication failure."), "unavailable", imapAway, "", countsNot},

	// Throttling.
	{"BAD throttled, and for how long", says(imaptest.ExchangeThrottled + "\r\n" + imaptest.ExchangeClosed), "throttled", imapLater, "", holdsUser},
	{"NO [LIMIT]", says("NO [LIMIT] enough"), "throttled", imapCrowded, "", countsNot},
	{"NO too many connections", says("NO Too many connections for this user"), "throttled", imapCrowded, "", countsNot},
	{"BYE too many connections", says("* BYE Too many connections"), "throttled", imapCrowded, "", countsNot},

	// Trouble.
	{"NO [UNAVAILABLE]", says("NO [UNAVAILABLE] away"), "unavailable", imapAway, "", countsNot},
	{"NO [INUSE]", says("NO [INUSE] busy"), "unavailable", imapAway, "", countsNot},
	{"NO [SERVERBUG]", says("NO [SERVERBUG] oh"), "unavailable", imapAway, "", countsNot},
	{"NO [PRIVACYREQUIRED]", says("NO [PRIVACYREQUIRED] TLS"), "unavailable", imapAway, "", countsNot},
	{"NO and another code", says("NO [X-WEATHER] it rains"), "unavailable", imapAway, "", countsNot},
	{"BAD", says("BAD Command Error. 10"), "unavailable", imapAway, "", countsNot},
	{"BAD invalid state", says(imaptest.ExchangeInvalidState), "unavailable", imapAway, "", countsNot},
	{"BYE", says(imaptest.ExchangeClosed), "unavailable", imapAway, "", countsNot},
	{"BYE expired", says(imaptest.ExchangeExpired), "unavailable", imapAway, "", countsNot},
	{"EOF", says(""), "unavailable", imapAway, "", countsNot},

	// The same of another version, that has no SASL-IR.
	{"2013: OK", func(p *imaptest.Profile) { *p = imaptest.Exchange2013(p.TLS) }, "granted", imapGranted, authGranted, countsNot},
	{"2013: NO", func(p *imaptest.Profile) {
		*p = imaptest.Exchange2013(p.TLS)
		p.Login = imaptest.ExchangeFailed
	}, "denied", imapWrong, authWrong, countsYes},
	{"2013: not connected", func(p *imaptest.Profile) {
		*p = imaptest.Exchange2013(p.TLS)
		p.Unconnected = func(imaptest.Login) bool { return true }
	}, "throttled", imapLater, "", countsUnremembered},

	// And of Exchange Online, whose greeting has a name in it.
	{"Online: OK", func(p *imaptest.Profile) { *p = imaptest.ExchangeOnline(p.TLS) }, "granted", imapGranted, authGranted, countsNot},
	{"Online: NO", func(p *imaptest.Profile) {
		*p = imaptest.ExchangeOnline(p.TLS)
		p.Login = imaptest.ExchangeFailed
	}, "denied", imapWrong, authWrong, countsYes},
	{"Online: not connected", func(p *imaptest.Profile) {
		*p = imaptest.ExchangeOnline(p.TLS)
		p.Unconnected = func(imaptest.Login) bool { return true }
	}, "throttled", imapLater, "", countsUnremembered},
}

func TestVerdicts(t *testing.T) {
	for _, password := range passwordsTried {
		secret(password)
	}
	ca := imaptest.NewCA(t)
	addr, imaps, auth, authFail := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)
	c := startCaddy(t, site{
		Guard: "failure_delay 1ms",
		// Any address will do: each row has its own.
		Backend: upstream(freeAddr(t), ca) + "\n\t\t\ttls starttls",
		IMAP:    addr, IMAPS: imaps, Auth: auth, AuthFail: authFail,
	}.String())
	awaitCertificate(t, addr)
	ways := append(doors(imaps, auth), doors("", authFail)[1])
	ways[2].name = "auth, on_unavailable fail"
	mode := "starttls"
	for row, tt := range verdicts {
		t.Run(tt.says, func(t *testing.T) {
			profile := imaptest.Exchange(ca.ServerTLS("127.0.0.1"))
			tt.backend(&profile)
			backend := imaptest.NewFake(t, profile)
			if want := map[bool]string{true: "implicit", false: "starttls"}[profile.Implicit]; want != mode {
				mode = want
				c.Patch("/config/apps/imap/backends/exchange/tls_mode", mode)
			}
			c.MoveTo(backend.Addr())
			for i, way := range ways {
				user := fmt.Sprintf("user-%d-%d", row, i)
				wanted := tt.imap
				switch {
				case i > 0 && tt.auth != "":
					wanted = tt.auth
				case i == 1:
					wanted = authReset
				case i == 2:
					wanted = authTemp
				}
				for j, password := range passwordsTried {
					answer, err := way.login(dot("127.0.20", 1+row), user, password)
					if answer = strings.ReplaceAll(answer, user, "U"); j == 0 && answer != wanted || err != nil {
						t.Errorf("%s: told %q, %v; want %q", way.name, answer, err, wanted)
					}
				}
				var asked counts
				for _, l := range backend.Logins() {
					if l.User != user {
						continue
					}
					at := slices.Index(passwordsTried, l.Secret)
					if slices.Contains(asked, at) {
						at++ // the same again
					}
					asked = append(asked, at)
				}
				if !slices.Equal(asked, tt.counts) {
					t.Errorf("%s: the backend was asked about %v, want %v", way.name, asked, tt.counts)
				}
				first := `"result":"` + tt.verdict + `"`
				if lines := c.LogLines(`"msg":"login"`, first, `"upstream":"`+backend.Addr()+`"`); len(lines) < (i+1)*len(tt.counts) {
					t.Errorf("%s: %d lines of the log say %s, want one for each time that the backend was asked", way.name, len(lines), first)
				}
			}
			backend.CheckHidden(passwordsTried...)
		})
	}
}

// Exchange refuses the seventeenth session of a user in the words that it has for a
// wrong password. With max_sessions_per_user it never comes to that.
func TestSessionsOfExchange(t *testing.T) {
	password := secret("Sixteen-At-Most-16")
	ca := imaptest.NewCA(t)
	backend := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS("127.0.0.1")))
	addr, imaps, auth := freeAddr(t), freeAddr(t), freeAddr(t)
	c := startCaddy(t, site{
		Guard:   "failure_delay 1ms",
		Backend: upstream(backend.Addr(), ca) + "\n\t\t\tmax_sessions_per_user 15",
		IMAP:    addr, IMAPS: imaps, Auth: auth,
	}.String())
	awaitCertificate(t, addr)
	ways := doors(imaps, auth)
	var open []*imapConn
	for i := range 15 {
		open = append(open, dialSecure(t, addr))
		open[i].Want("OK", "LOGIN %s %s", []string{"alice", "ALICE", "alice@d"}[i%3], password)
	}
	want(t, ways[0], "127.0.9.1", "alice", password, "that there are too many", func(answer string) bool { return answer == imapCrowded })
	wantIn(t, ways[1], "127.0.9.1", "alice", password) // whoever sends mail has no session
	wantIn(t, ways[0], "127.0.9.1", "bob", password)
	if n := len(backend.Logins()); n != 17 {
		t.Errorf("the backend was asked %d times, want 17", n)
	}
	open[0].Want("OK", "LOGOUT")
	open[0].Close()
	eventually(t, "the session to be over", func() error {
		if answer, err := ways[0].login("127.0.9.1", "alice", password); err != nil || answer != imapGranted {
			return fmt.Errorf("%q, %w", answer, err)
		}
		return nil
	})
	if held := c.Held(); len(held.Accounts) != 0 {
		t.Errorf("held are %+v", held)
	}
}
