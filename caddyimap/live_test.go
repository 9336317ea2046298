package caddyimap

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/sessions"
)

// listed is a session as GET /imap/sessions shows it.
type listed struct {
	ID, Kind, Service, User, Remote, Backend, Upstream, State string

	UserHash   string `json:"user_hash"`
	RemoteIP   string `json:"remote_ip"`
	Started    time.Time
	ClientTLS  *shownTLS `json:"client_tls"`
	BackendTLS *shownTLS `json:"backend_tls"`
	BytesIn    *int64    `json:"bytes_in"`
	BytesOut   *int64    `json:"bytes_out"`
	Commands   *int64
	Requests   *int64
	InFlight   *int64 `json:"in_flight"`
	PID        *uint32
}

// api is the admin API in a test.
type api struct {
	t *testing.T
	s *httptest.Server
}

// list asks for what is live.
func (a api) list(query string) []listed {
	a.t.Helper()
	resp, body := call(a.t, a.s, "GET", "/imap/sessions"+query)
	var got struct{ Sessions []listed }
	if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
		a.t.Fatalf("GET %s: %s %s, %v", query, resp.Status, body, err)
	}
	return got.Sessions
}

// users are those of a list.
func (a api) users(query string) (users []string) {
	a.t.Helper()
	for _, s := range a.list(query) {
		users = append(users, s.User)
	}
	return users
}

// fails asks for something that is refused.
func (a api) fails(method, path string, status int, why string) {
	a.t.Helper()
	resp, body := call(a.t, a.s, method, path)
	if resp.StatusCode != status || !strings.Contains(body, why) {
		a.t.Errorf("%s %s: %s %s, want %d and %q", method, path, resp.Status, body, status, why)
	}
}

func (a api) kick(path string, want int) {
	a.t.Helper()
	resp, body := call(a.t, a.s, "DELETE", "/imap/sessions"+path)
	if resp.StatusCode != 200 || body != fmt.Sprintf("{\"kicked\":%d}\n", want) {
		a.t.Errorf("DELETE %s: %s %s, want %d kicked", path, resp.Status, body, want)
	}
}

// as logs a user in, in clear, and waits until the session is listed.
func as(t *testing.T, h *Handler, user string) *client {
	t.Helper()
	cl := serve(t, h)
	cl.expect("* OK")
	cl.ask(`in LOGIN "`+strings.ReplaceAll(user, `\`, `\\`)+`" `+testSecret, "* CAPABILITY", loggedIn)
	here := cl.conn.LocalAddr().String()
	isIt := func(e *sessions.Entry) bool { return e.Remote.String() == here }
	for deadline := time.Now().Add(patience); len(live.List(isIt)) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the session is not listed")
		}
	}
	return cl
}

// kicked expects that the session is ended by request.
func (c *client) kicked(text string) {
	c.tb.Helper()
	c.expect("* BYE " + text)
	c.closed()
}

// TestSessionsAPI pins what is shown of sessions, and which of them are found and
// ended by what filter.
func TestSessionsAPI(t *testing.T) {
	w := newWorld(t)
	fake, other := w.anyAlice(), w.anyAlice()
	app := w.guarded(strict(), fake.Addr())
	app.Guard.Domains = []GuardDomain{{"CORP", "example.org"}}
	app.Backends["other"] = w.backend(other.Addr())
	c := w.load(app)
	c.start()
	defer c.stop()
	a := api{t, adminServer(t)}
	if got := a.list(""); got == nil || len(got) != 0 {
		t.Errorf("got %v of nothing", got)
	}

	before := time.Now()
	secure := front{handler: Handler{Backend: "exchange"}}.greeted(w, c)
	secure.ask("in LOGIN alice@example.org "+testSecret, "* CAPABILITY", loggedIn)
	secure.ask("a NOOP", "a OK") // and so it is the first one
	clear := c.handler(&Handler{Backend: "exchange", InsecureAuth: true})
	corp := as(t, clear, `CORP\alice`)
	third := as(t, c.handler(&Handler{Backend: "other", InsecureAuth: true}), "alice2")

	all := a.list("")
	if len(all) != 3 {
		t.Fatalf("%d sessions, want 3", len(all))
	}
	got := all[0]
	if got.Kind != "imap" || got.Service != "imap" || got.User != "alice@example.org" || got.UserHash != "" || got.Backend != "exchange" || got.Upstream != fake.Addr() ||
		got.Remote != secure.conn.LocalAddr().String() || got.RemoteIP != "127.0.0.1" || got.State != "idle" || got.Requests != nil {
		t.Errorf("shown: %+v", got)
	}
	if got.Started.Before(before.Add(-time.Second)) || got.Started.After(time.Now()) {
		t.Errorf("started %v", got.Started)
	}
	if *got.BytesIn != 8 || *got.BytesOut == 0 || *got.Commands != 1 {
		t.Errorf("%d bytes in, %d out, %d commands", *got.BytesIn, *got.BytesOut, *got.Commands)
	}
	for leg, shown := range map[string]*shownTLS{"client": got.ClientTLS, "backend": got.BackendTLS} {
		if shown == nil || shown.Version != "tls1.3" || !strings.HasPrefix(shown.Cipher, "TLS_") {
			t.Errorf("TLS of the %s: %+v", leg, shown)
		}
	}
	if all[1].ClientTLS != nil || all[1].BackendTLS == nil {
		t.Errorf("TLS of a session without TLS: %+v", all[1])
	}

	const first, second, last = "alice@example.org", `CORP\alice`, "alice2"
	for query, want := range map[string][]string{
		"":                                       {first, second, last},
		"/":                                      {first, second, last},
		"?user=ALICE":                            {first, second},
		"?user=" + url.QueryEscape(`corp\alice`): {first, second},
		"?user=alice2":                           {last},
		"?user=bob":                              nil,
		"?backend=other":                         {last},
		"?upstream=" + fake.Addr():               {first, second},
		"?upstream=" + other.Addr() + "&user=alice":  nil,
		"?upstream=" + other.Addr() + "&user=alice2": {last},
		"?ip=127.0.0.1":    {first, second, last},
		"?ip=127.0.0.0/8":  {first, second, last},
		"?ip=192.0.2.0/24": nil,
	} {
		if got := a.users(query); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	for query, why := range map[string]string{
		"?users=x":       "users: unknown filter, or value; known are backend, ip, upstream, user",
		"?all=true":      "all: unknown filter",
		"?user=":         "user: needs one value",
		"?user=a&user=b": "user: needs one value",
		"?ip=localhost":  `ip \"localhost\": neither a network in CIDR notation nor an address`,
		"?user=a;b":      "reading the query",
		"?ip=%7":         "reading the query",
		"?ip={env.HOME}": `ip \"{env.HOME}\": neither`,
	} {
		a.fails("GET", "/imap/sessions"+query, http.StatusBadRequest, why)
	}
	a.fails("DELETE", "/imap/sessions", http.StatusBadRequest, "or say all=true")
	a.fails("DELETE", "/imap/sessions?all=yes", http.StatusBadRequest, "all: unknown filter, or value")
	a.fails("DELETE", "/imap/sessions?all=true&user=x", http.StatusBadRequest, "goes with no filter")
	a.fails("DELETE", "/imap/sessions/nobody", http.StatusNotFound, "no such session")
	a.fails("POST", "/imap/sessions", http.StatusMethodNotAllowed, "")
	a.fails("GET", "/imap/sessions/"+got.ID, http.StatusMethodNotAllowed, "")

	a.kick("?user=nobody", 0)
	a.kick("?user=alice", 2)
	secure.kicked(kickedText)
	corp.kicked(kickedText)
	third.ask("z NOOP", "z OK")
	a.kick("/"+a.list("")[0].ID, 1)
	third.kicked(kickedText)
	again := as(t, clear, "alice")
	a.kick("?all=true", 1)
	again.kicked(kickedText)
	noSessions(t)
	if totals := live.Totals()[sessions.Group{Kind: sessions.IMAP, Backend: "exchange"}]; totals.Live != 0 || totals.Commands == 0 || totals.BytesIn == 0 || totals.BytesOut == 0 {
		t.Errorf("totals: %+v", totals)
	}
}

// TestSessionsAPIUsers pins that the list shows no name that the log would not.
func TestSessionsAPIUsers(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	app := w.guarded(strict(), fake.Addr())
	app.LogUser = logNone
	c := w.load(app)
	c.start()
	a := api{t, adminServer(t)}
	cl := as(t, c.handler(&Handler{InsecureAuth: true}), "alice")
	if got := a.list("?user=alice"); len(got) != 1 || got[0].User != "?" || got[0].UserHash != hashName("alice") {
		t.Errorf("shown: %+v", got)
	}
	// Without an app nobody knows what may be shown.
	c.stop()
	if got := a.list("?user=alice"); len(got) != 1 || got[0].User != "?" || got[0].UserHash != hashName("alice") {
		t.Errorf("shown: %+v", got)
	}
	a.kick("?ip=127.0.0.1", 1)
	cl.kicked(kickedText)
}

// TestSessionsAPIStates pins the states.
func TestSessionsAPIStates(t *testing.T) {
	w := newWorld(t)
	p := w.profile()
	p.Announce = true
	p.Session = func(c *imaptest.Conn, _ imaptest.Login) {
		tag, _ := c.Command("IDLE")
		c.Sendf("+ idling")
		c.Expect("DONE")
		c.Sendf("%s OK", tag)
		c.Command("NOOP") // and there is no answer
		c.Rest()
	}
	c := w.load(w.app(w.backend(w.start(p).Addr())))
	c.start()
	defer c.stop()
	a := api{t, adminServer(t)}
	cl := as(t, c.handler(&Handler{InsecureAuth: true}), testUser)
	state := func(want string) {
		t.Helper()
		if got := a.list("")[0].State; got != want {
			t.Errorf("state %s, want %s", got, want)
		}
	}
	state("idle")
	cl.ask("a IDLE", "+ idling")
	state("idle")
	cl.ask("DONE", "a OK")
	cl.send("b NOOP\r\n")
	for deadline := time.Now().Add(patience); *a.list("")[0].Commands != 2 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	state("busy")
	a.kick("?user="+url.QueryEscape(testUser), 1)
	cl.kicked(kickedText)
}

// TestSessionsAPIMany pins that a long list is whole, in order, and valid.
func TestSessionsAPIMany(t *testing.T) {
	newWorld(t)
	const n = 10_000
	var entries []*sessions.Entry
	for i := range n {
		entries = append(entries, live.Add(sessions.Info{
			ID: fmt.Sprint("s", i), Kind: sessions.Auth, Remote: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: i}, Backend: "x",
		}, fixed{PID: 7, Service: "smtp", Commands: 3, InFlight: 1}))
	}
	defer func() {
		for _, e := range entries {
			live.Remove(e)
		}
	}()
	a := api{t, adminServer(t)}
	start := time.Now()
	all := a.list("")
	t.Logf("listed %d in %v", n, time.Since(start))
	if len(all) != n {
		t.Fatalf("%d are listed, want %d", len(all), n)
	}
	for i, s := range all {
		if s.ID != fmt.Sprint("s", i) {
			t.Fatalf("%s is in place %d", s.ID, i)
		}
	}
	if s := all[0]; s.Kind != "dovecot_auth" || s.Service != "smtp" || *s.PID != 7 || *s.Requests != 3 || *s.InFlight != 1 || s.State != "busy" ||
		s.User != "" || s.Upstream != "" || s.BytesIn != nil || s.ClientTLS != nil {
		t.Errorf("shown: %+v", s)
	}
}

// fixed is always the same, and cannot be ended.
type fixed sessions.Activity

func (f fixed) Activity() sessions.Activity { return sessions.Activity(f) }
func (fixed) Kick(string, time.Duration)    {}

// TestOnRemoved pins what happens to the sessions of a backend that is gone.
func TestOnRemoved(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	load := func(backends map[string]time.Duration) *config {
		app := w.app(w.backend(fake.Addr()))
		for name, after := range backends {
			b := w.backend(fake.Addr())
			b.OnRemovedDrain = caddy.Duration(after)
			app.Backends[name] = b
		}
		c := w.load(app)
		c.start()
		return c
	}
	const long, short = time.Hour, 50 * time.Millisecond
	one := load(map[string]time.Duration{"kept": 0, "long": long, "short": short, "stays": short})
	open := make(map[string]*client)
	for _, name := range []string{"exchange", "kept", "long", "short", "stays"} {
		open[name] = as(t, one.handler(&Handler{Backend: name, InsecureAuth: true}), "alice")
	}
	two := load(map[string]time.Duration{"stays": 0})
	one.stop()
	open["short"].kicked(drainedText)
	if got := two.log.one("info", "the time of sessions that were left is over"); got.text("backend") != "short" || got["sessions"] != 1.0 {
		t.Errorf("logged %v", got)
	}
	// A login that was under way all the time.
	entry := live.Add(sessions.Info{Kind: sessions.IMAP, Backend: "short"}, new(kickable))
	drains.late(entry)
	if !entry.Live.(*kickable).kicked {
		t.Error("a session may begin that is over already")
	}
	live.Remove(entry)
	delete(open, "short")
	for _, cl := range open {
		cl.ask("a NOOP", "a OK")
	}
	// It is back, and gone again, and its sessions may stay now.
	three := load(map[string]time.Duration{"long": 0})
	two.stop()
	four := load(nil)
	three.stop()
	defer four.stop()
	drains.mu.Lock()
	left := len(drains.drains)
	_, back := drains.drains["long"]
	drains.mu.Unlock()
	if left != 1 || back { // of the short one the time is over, and stays so
		t.Errorf("%d drains are under way, want 1", left)
	}
	for _, cl := range open {
		cl.ask("b NOOP", "b OK")
		cl.ask("z LOGOUT", "* BYE", "z OK")
		cl.closed()
	}
}

// kickable notes that it is ended.
type kickable struct {
	fixed
	kicked bool
}

func (k *kickable) Kick(string, time.Duration) { k.kicked = true }
