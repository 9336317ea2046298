package caddyimap

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

const exchangeDelegate = `CORP\{imap.user.local}\{imap.authzid.local}`

// TestDelegate pins what a backend is told of who asks for another's mailbox, and who
// is not asked about.
func TestDelegate(t *testing.T) {
	for _, tc := range []struct {
		delegate, username, user, authzID string
		// want is the name, or empty if the backend hears of nobody; authz is the
		// authorization identity that goes with it.
		want, authz string
		result      login.Result
	}{
		{"", "", testUser, "shared", testUser, "shared", login.Granted},
		{exchangeDelegate, "", testUser, "", testUser, "", login.Granted},
		{exchangeDelegate, "", testUser, "shared", `CORP\alice\shared`, "", login.Granted},
		{exchangeDelegate, "", testUser, "shared@example.org", `CORP\alice\shared`, "", login.Granted},
		{exchangeDelegate, "", `CORP\alice`, `CORP\shared`, `CORP\alice\shared`, "", login.Granted},
		{exchangeDelegate, `CORP\{imap.user.local}`, testUser, "shared", `CORP\alice\shared`, "", login.Granted},
		{exchangeDelegate, `CORP\{imap.user.local}`, testUser, "Alice@Example.org", `CORP\alice`, "", login.Granted},
		{`{imap.user}/{imap.authzid}`, "", testUser, "shared@example.org", testUser + "/shared@example.org", "", login.Granted},
		{`{imap.user}\{imap.authzid.local}`, "", testUser, "shared", testUser + `\shared`, "", login.Granted},

		// Separators of one's own.
		{exchangeDelegate, "", `CORP\alice\bob`, "shared", "", "", login.Denied},
		{exchangeDelegate, "", "alice/bob@example.org", "shared", "", "", login.Denied},
		{exchangeDelegate, "", testUser, `x\y\z`, "", "", login.Denied},
		{exchangeDelegate, "", testUser, "x/y", "", "", login.Denied},
		{exchangeDelegate, "", testUser, "x*alice", "", "", login.Denied},
		{exchangeDelegate, "", testUser, "@example.org", "", "", login.Denied},
		{exchangeDelegate, "", testUser, "a\rb", "", "", login.Denied},
		// Another account than that of who has the password: bob's could be guessed
		// as often as there are domains.
		{`{imap.user}\{imap.authzid.local}`, "", "alice", "bob", "", "", login.Unavailable},
		{`{imap.authzid.local}\{imap.user.local}\x`, "", "alice", "bob", `bob\alice\x`, "", login.Granted},
		{`CORP\{imap.authzid.local}\{imap.user.local}`, "", "alice", "bob", "", "", login.Unavailable},
		{exchangeDelegate, "", "alice@mapped.example", "shared", "", "", login.Unavailable},
	} {
		w := newWorld(t)
		p := w.profile()
		p.Login = func(imaptest.Login) string { return "OK Logged in." }
		fake := w.start(p)
		b := w.backend(fake.Addr())
		b.Delegate, b.Username = tc.delegate, tc.username
		app := w.app(b)
		app.Guard.Domains = []GuardDomain{{Name: "CORP", Domain: "corp.example"}, {Name: "MAPPED", Domain: "mapped.example"}}
		app.Guard.Domains = append(app.Guard.Domains, GuardDomain{Name: "example.org", Domain: "corp.example"})
		c := w.load(app)
		a := attempt()
		a.User, a.AuthzID = tc.user, tc.authzID
		v := c.ref("exchange").Check(t.Context(), a)
		fake.WaitIdle()
		logins := fake.Logins()
		if v.Result != tc.result || (len(logins) == 1) != (tc.want != "") {
			t.Errorf("%s, %s: %v, %v, asked %d times; want %v", tc.user, tc.authzID, v.Result, v.Err, len(logins), tc.result)
			continue
		}
		for _, l := range logins {
			if l.User != tc.want || l.AuthzID != tc.authz || l.Secret != testSecret {
				t.Errorf("%s, %s: the backend was told %q and %q; want %q and %q", tc.user, tc.authzID, l.User, l.AuthzID, tc.want, tc.authz)
			}
		}
	}
}

// TestDelegateCounts pins that a wrong password counts for the account of who has
// typed it, whatever mailbox it was for, and that the right mailbox is opened.
func TestDelegateCounts(t *testing.T) {
	w := newWorld(t)
	p := w.profile()
	p.Login = func(l imaptest.Login) string {
		if l.User == `CORP\alice\shared` && l.Secret == testSecret {
			return "OK Logged in."
		}
		return "NO [AUTHENTICATIONFAILED] Authentication failed."
	}
	fake := w.start(p)
	b := w.backend(fake.Addr())
	b.Delegate, b.MaxSessionsPerUser = exchangeDelegate, 1
	app := w.app(b)
	c := w.load(app)
	h := c.handler(&Handler{InsecureAuth: true, MaxAuthFailures: 100})
	plain := func(authzID, secret string) string {
		return "in AUTHENTICATE PLAIN " + base64.StdEncoding.EncodeToString([]byte(authzID+"\x00"+testUser+"\x00"+secret))
	}
	cl := serve(t, h)
	cl.expect("* OK")
	cl.ask(plain("shared", testSecret), "* CAPABILITY ", loggedIn)
	if line := c.log.one("info", "login"); line.text("user") != testUser {
		t.Errorf("logged: %v", line)
	}
	// The session is alice's own.
	more := serve(t, h)
	more.expect("* OK")
	more.ask(plain("shared", testSecret), "in NO [LIMIT]")
	cl.ask("z LOGOUT", "* BYE", "z OK")
	cl.closed()
	for n, mailbox := range []string{"m1", "m2", "m3"} {
		more.ask(plain(mailbox, strings.Repeat("x", n+1)), "in NO [AUTHENTICATIONFAILED]")
	}
	asked := len(fake.Logins())
	other := serve(t, webmail(c))
	other.expect("* OK")
	other.ask(`i ID ("x-originating-ip" "203.0.113.9")`, "* ID NIL", "i OK")
	other.ask("in LOGIN "+testUser+" another", "in NO [UNAVAILABLE]")
	other.ask(plain("m4", "another"), "in NO [UNAVAILABLE]")
	if n := len(fake.Logins()); n != asked {
		t.Errorf("the backend was asked %d times beyond the budget", n-asked)
	}
	for _, cl := range []*client{more, other} {
		_ = cl.conn.Close()
		cl.wait()
	}
}

// TestDelegateElsewhere pins where a name cannot be made, or must not be.
func TestDelegateElsewhere(t *testing.T) {
	w := newWorld(t)
	b := w.backend("127.0.0.1:1")
	b.Delegate = exchangeDelegate
	app := w.app(b)
	c := w.load(app)
	typed := attempt()
	typed.AuthzID = "shared"
	typed.NoDelegates = true
	if renamed, v := c.app.Backends["exchange"].rename(typed); renamed != nil || v.Result != login.Denied || v.Code != "AUTHORIZATIONFAILED" {
		t.Errorf("without delegates: %+v, %+v", renamed, v)
	}
	typed.NoDelegates, typed.Relay = false, new(login.Relay)
	if renamed, v := c.app.Backends["exchange"].rename(typed); renamed != nil || v.Err != errDelegateRelay || v.Result != login.Denied {
		t.Errorf("relayed: %+v, %+v", renamed, v)
	}
	for delegate, want := range map[string]string{
		"CORP":                        "delegate: template \"CORP\" has no placeholder",
		"{imap.user}":                 "delegate: template has to name both",
		"{imap.user}/{imap.nobody}":   "delegate: template \"{imap.user}/{imap.nobody}\": unknown placeholder {imap.nobody}",
		"{env.NOT_SET}\\{imap.user}x": "delegate: template \"{env.NOT_SET}\\\\{imap.user}x\": placeholder {env.NOT_SET} is empty",
	} {
		b := w.backend("127.0.0.1:1")
		b.Delegate = delegate
		if _, err := w.tryLoad(w.app(b)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", delegate, err, want)
		}
	}
	// Nobody has verified a domain that the backend is not told.
	r := c.ref("exchange")
	if got := r.DropsDomain(false) + "," + r.DropsDomain(true); got != ",delegate" {
		t.Errorf("the domain is dropped by %q", got)
	}
}
