package caddyimap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

const (
	lineDown = "upstream is down, and is tried after all others until it is up: see that it runs, can be reached from here, " +
		"and is trusted as tls_trust_pool and tls_server_name say"
	lineUp = "upstream is up"
)

// pooled is an app with a backend of these upstreams, and no guard that would keep
// logins from them.
func (w *world) pooled(addrs ...string) (*App, *Backend) {
	app := w.guarded(&Guard{Off: true, FailureDelay: 1}, addrs...)
	return app, app.Backends["exchange"]
}

// running starts a configuration that is stopped with the test.
func (w *world) running(app *App) *config {
	w.tb.Helper()
	c := w.load(app)
	c.start()
	w.tb.Cleanup(c.stopOnce)
	return c
}

// stopOnce stops what a test may have stopped before.
func (c *config) stopOnce() {
	if !c.app.retired.Load() {
		c.stop()
	}
}

// health is what is known, one word an endpoint: + if it is up, and its sessions.
func health(addrs ...string) string {
	var words []string
	for _, s := range upstreams.Snapshot() {
		name := s.Address
		if i := slices.Index(addrs, s.Address); i >= 0 {
			name = string(rune('a' + i))
		}
		sign := map[bool]string{true: "+", false: "-"}[s.Up]
		words = append(words, fmt.Sprintf("%s%s%d", name, sign, s.Sessions))
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// becomes waits until something is so.
func becomes(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s; known is %s", patience, what, health())
		}
	}
}

// TestUpstreamDown pins that the first login finds out that an upstream is dead,
// and the next ones know, even after reloads.
func TestUpstreamDown(t *testing.T) {
	w := newWorld(t)
	dead := imaptest.NewScript(t, func(*imaptest.Conn) {})
	good := w.fake()
	app, b := w.pooled(dead.Addr(), good.Addr())
	b.HealthChecks = &HealthChecks{Passive: &PassiveHealthChecks{FailDuration: caddy.Duration(time.Hour)}}
	c := w.running(app)
	for range 3 {
		asks(t, c.ref(""), good)
	}
	if n := dead.Conns(); n != 1 {
		t.Errorf("the dead one was dialled %d times, want 1", n)
	}
	if got := health(dead.Addr(), good.Addr()); got != "a-0 b+0" {
		t.Errorf("health %s", got)
	}
	down := c.log.soon("warn", lineDown)
	if down.text("backend") != "exchange" || down.text("upstream") != dead.Addr() || !strings.Contains(down.text("error"), "the backend closed the connection") {
		t.Errorf("logged %v", down)
	}

	for range 2 {
		next := w.running(app)
		c.stopOnce()
		c = next
		asks(t, c.ref(""), good)
	}
	if n := dead.Conns(); n != 1 {
		t.Errorf("the dead one was dialled %d times after reloads, want 1", n)
	}
	if lines := c.log.lines("warn", lineDown); len(lines) > 0 {
		t.Errorf("told again: %v", lines)
	}
	// Without any configuration for a moment, nobody knows any longer.
	c.stopOnce()
	asks(t, w.running(app).ref(""), good)
	if n := dead.Conns(); n != 2 {
		t.Errorf("the dead one was dialled %d times after a stop, want 2", n)
	}
}

// TestUpstreamBack pins that an upstream which is back is used again, and that
// both changes are told once.
func TestUpstreamBack(t *testing.T) {
	w := newWorld(t)
	first, second := w.fake(), w.fake()
	addr := first.Addr()
	app, b := w.pooled(addr, second.Addr())
	b.HealthChecks = &HealthChecks{Passive: &PassiveHealthChecks{FailDuration: caddy.Duration(time.Second)}}
	c := w.running(app)
	asks(t, c.ref(""), first)
	first.Close()
	asks(t, c.ref(""), second)
	asks(t, c.ref(""), second)
	imaptest.NewFakeAt(t, addr, w.profile())
	becomes(t, "the first to be used again", func() bool { return c.ref("").Check(t.Context(), attempt()).Upstream == addr })
	c.log.soon("warn", lineDown)
	if up := c.log.soon("info", lineUp); up.text("upstream") != addr {
		t.Errorf("logged %v", up)
	}
}

// TestSilentUpstream pins that one that hangs costs the first login a second, and
// the next ones nothing.
func TestSilentUpstream(t *testing.T) {
	w := newWorld(t)
	silent := imaptest.NewScript(t, func(c *imaptest.Conn) { c.Rest() })
	good := w.fake()
	app, _ := w.pooled(silent.Addr(), good.Addr())
	c := w.running(app)
	start := time.Now()
	asks(t, c.ref(""), good)
	if d := time.Since(start); d < time.Second || d > 3*time.Second {
		t.Errorf("the first login took %v", d)
	}
	for range 5 {
		start := time.Now()
		asks(t, c.ref(""), good)
		if d := time.Since(start); d > time.Second {
			t.Errorf("another login took %v", d)
		}
	}
	if n := silent.Conns(); n != 1 {
		t.Errorf("the silent one was dialled %d times", n)
	}
}

// TestNotDown pins that nothing takes an upstream from everybody that has to do with
// who logs in: whoever knows how to bring it about for one user could do so.
func TestNotDown(t *testing.T) {
	w := newWorld(t)
	hang := make(chan struct{})
	answers := map[string]string{
		"denied":           "NO [AUTHENTICATIONFAILED] Authentication failed.",
		"his limit":        "NO [LIMIT] Maximum number of connections from user+IP exceeded",
		"throttled":        imaptest.ExchangeThrottled,
		"his server":       imaptest.ExchangeUnavailable,
		"his directory":    "NO [UNAVAILABLE] Temporary authentication failure.",
		"BAD":              imaptest.ExchangeInvalidState,
		"hung up":          "",
		"BYE":              imaptest.ExchangeClosed,
		"too many at once": "* BYE Too many connections",
		"tarpit":           "hang",
	}
	p := w.profile()
	p.Login = func(l imaptest.Login) string {
		if answers[l.User] == "hang" {
			<-hang
			return ""
		}
		return answers[l.User]
	}
	fake := w.start(p)
	defer close(hang)
	app, b := w.pooled(fake.Addr(), deadAddr(t))
	b.AuthTimeout = caddy.Duration(time.Second)
	c := w.running(app)
	for user := range answers {
		for range 2 {
			a := attempt()
			a.User = user
			if v := c.ref("").Check(t.Context(), a); v.Result == login.Granted || v.Upstream != fake.Addr() {
				t.Errorf("%s: %v by %s", user, v.Result, v.Upstream)
			}
			if s := upstreams.Snapshot(); len(s) != 2 || !s[0].Up || !s[1].Up || s[0].Fails+s[1].Fails > 0 {
				t.Errorf("%s: health %s", user, health(fake.Addr()))
			}
		}
	}
	// A client that hangs up in the middle of a login says nothing either.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.ref("").Check(ctx, attempt())
	if lines := c.log.lines("warn", lineDown); len(lines) > 0 {
		t.Errorf("logged %v", lines)
	}
}

// TestThrottledUpstream pins that an upstream which holds off everybody is down, and
// that the login goes on at the next one if it holds off at the greeting.
func TestThrottledUpstream(t *testing.T) {
	w := newWorld(t)
	p := w.profile()
	p.Greeting = "* BYE Too many connections"
	crowded, good := w.start(p), w.fake()
	app, _ := w.pooled(crowded.Addr(), good.Addr())
	c := w.running(app)
	asks(t, c.ref(""), good)
	if got := health(crowded.Addr(), good.Addr()); got != "a-0 b+0" {
		t.Errorf("health %s", got)
	}
	c.stop()

	throttled := imaptest.NewScript(t, func(c *imaptest.Conn) {
		if c.StartTLS(w.ca.ServerTLS()) != nil {
			return
		}
		c.Sendf("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready")
		tag, _ := c.Command("AUTHENTICATE")
		c.Sendf("%s %s", tag, imaptest.ExchangeThrottled)
	})
	p = w.profile()
	p.Implicit = true
	good = w.start(p)
	app, b := w.pooled(throttled.Addr(), good.Addr())
	b.TLSMode = "implicit"
	c = w.running(app)
	if v := c.ref("").Check(t.Context(), attempt()); v.Result != login.Throttled {
		t.Errorf("%v: %v", v.Result, v.Err)
	}
	if got := health(throttled.Addr(), good.Addr()); got != "a-0 b+0" {
		t.Errorf("health %s", got)
	}
	asks(t, c.ref(""), good)
}

// TestActiveChecks pins that an upstream goes down and comes up without a login,
// and that nobody checks any more when the configuration is over.
func TestActiveChecks(t *testing.T) {
	w := newWorld(t)
	first, second := w.fake(), w.fake()
	addr := first.Addr()
	app, b := w.pooled(addr, second.Addr())
	b.HealthChecks = &HealthChecks{Active: &ActiveHealthChecks{Interval: caddy.Duration(time.Second)}}
	c := w.running(app)
	first.WaitConns(1)
	second.WaitConns(1)
	if n := len(first.Logins()); n > 0 {
		t.Errorf("%d logins", n)
	}
	first.Close()
	becomes(t, "the first to be down", func() bool { return health(addr, second.Addr()) == "a-0 b+0" })
	if down := c.log.soon("warn", lineDown); down.text("upstream") != addr || down.text("error") == "" {
		t.Errorf("logged %v", down)
	}
	back := imaptest.NewFakeAt(t, addr, w.profile())
	becomes(t, "the first to be up", func() bool { return health(addr, second.Addr()) == "a+0 b+0" })
	c.log.soon("info", lineUp)
	asks(t, c.ref(""), back)
	c.stop()
	back.WaitIdle()
	if got := health(); got != "" {
		t.Errorf("known is %s", got)
	}
}

// TestFailedStart pins that a configuration which does not start as a whole checks
// nothing, and leaves nothing behind.
func TestFailedStart(t *testing.T) {
	w := newWorld(t)
	fake := w.fake()
	app, b := w.pooled(fake.Addr())
	b.HealthChecks = &HealthChecks{Active: new(ActiveHealthChecks)}
	never := w.load(app)
	never.cancel()
	failed := w.load(app)
	failed.startAlone()
	if got := health(); got != "" {
		t.Errorf("known is %s", got)
	}
	failed.stop()
	if n := fake.Conns(); n > 0 {
		t.Errorf("checked %d times", n)
	}
}

// TestPolicies pins what of a login each policy goes by.
func TestPolicies(t *testing.T) {
	w := newWorld(t)
	one, two := w.anyAlice(), w.anyAlice()
	addrs := []string{one.Addr(), two.Addr()}
	// used is which upstreams the logins go to, in letters.
	used := func(policy string, attempts ...*login.Attempt) (letters string) {
		app, b := w.pooled(addrs...)
		b.LoadBalancing = &LoadBalancing{Selection: &Selection{Policy: policy}}
		c := w.running(app)
		defer c.stop()
		for _, a := range attempts {
			v := check(t, c.ref(""), a, login.Granted)
			letters += string(rune('a' + slices.Index(addrs, v.Upstream)))
		}
		return letters
	}
	same := func(letters string) bool { return strings.Count(letters, letters[:1]) == len(letters) }
	var users, clients, spellings []*login.Attempt
	for i := range 32 {
		users = append(users, from("192.0.2.1", fmt.Sprintf("alice%d@example.org", i), testSecret))
		clients = append(clients, from(fmt.Sprintf("192.0.2.%d", i), "alice", testSecret))
	}
	for i, user := range []string{"alice", "ALICE", "Alice@Example.org", "alice/shared", "alice@example.org"} {
		spellings = append(spellings, from(fmt.Sprintf("192.0.2.%d", i), user, testSecret))
	}
	if got := used("first", users...); got != strings.Repeat("a", 32) {
		t.Errorf("first: %s", got)
	}
	if got := used("", users...); got != strings.Repeat("a", 32) {
		t.Errorf("default: %s", got)
	}
	if got := used("round_robin", spellings[:4]...); got != "abab" && got != "baba" {
		t.Errorf("round_robin: %s", got)
	}
	if got := used("random", users...); same(got) {
		t.Errorf("random: %s", got)
	}
	if got := used("user_hash", users...); same(got) || got != used("user_hash", users...) {
		t.Errorf("user_hash: %s", got)
	}
	if got := used("user_hash", spellings...); !same(got) {
		t.Errorf("user_hash of one user: %s", got)
	}
	if got := used("user_hash", clients...); !same(got) {
		t.Errorf("user_hash of one user from everywhere: %s", got)
	}
	if got := used("client_ip_hash", clients...); same(got) || got != used("client_ip_hash", clients...) {
		t.Errorf("client_ip_hash: %s", got)
	}
	if got := used("client_ip_hash", users...); !same(got) {
		t.Errorf("client_ip_hash of one client: %s", got)
	}
}

// TestLeastConn pins that sessions count until they end, and logins of mail servers
// do not.
func TestLeastConn(t *testing.T) {
	w := newWorld(t)
	one, two := w.fake(), w.fake()
	app, b := w.pooled(one.Addr(), two.Addr())
	b.LoadBalancing = &LoadBalancing{Selection: &Selection{Policy: "least_conn"}}
	c := w.running(app)
	var sessions []*login.Session
	open := func() *login.Session {
		t.Helper()
		s, v := c.ref("").open(t.Context(), attempt())
		if s == nil {
			t.Fatalf("%v: %v", v.Result, v.Err)
		}
		return s
	}
	for range 6 {
		sessions = append(sessions, open())
		c.ref("").Check(t.Context(), attempt())
	}
	if got := health(one.Addr(), two.Addr()); got != "a+3 b+3" {
		t.Errorf("sessions %s", got)
	}
	var freed string
	for _, s := range sessions {
		if s.Upstream == one.Addr() {
			s.Close()
			s.Close()
		}
	}
	for range 3 {
		s := open()
		freed += s.Upstream + " "
		defer s.Close()
	}
	if freed != strings.Repeat(one.Addr()+" ", 3) {
		t.Errorf("the next went to %s", freed)
	}
	for _, s := range sessions {
		s.Close()
	}
	if got := health(one.Addr(), two.Addr()); got != "a+3 b+0" {
		t.Errorf("sessions %s", got)
	}
}

// twins starts two backends on the same port of two addresses, with a certificate
// for the name only.
func (w *world) twins(name string) (one, two *imaptest.Fake, port string) {
	w.tb.Helper()
	p := w.profile()
	p.TLS = w.ca.ServerTLS(name)
	for range 20 {
		one = w.start(p)
		_, port, _ = net.SplitHostPort(one.Addr())
		ln, err := net.Listen("tcp", "127.0.0.2:"+port)
		if err != nil { // somebody has it, or this machine has one address
			continue
		}
		_ = ln.Close()
		return one, imaptest.NewFakeAt(w.tb, "127.0.0.2:"+port, p), port
	}
	w.tb.Skip("nobody can listen on 127.0.0.2")
	return nil, nil, ""
}

// TestNames pins that each address of a name is an upstream, that TLS verifies the
// name, and that what DNS says later counts.
func TestNames(t *testing.T) {
	w := newWorld(t)
	one, two, port := w.twins("mail.example.org")
	var broken atomic.Bool
	resolver := lookupIP
	defer func() { lookupIP = resolver }()
	lookupIP = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if host != "mail.example.org" || broken.Load() {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}, nil
	}
	name := "mail.example.org:" + port
	app, _ := w.pooled(name)
	c := w.running(app)
	both := func() bool { return health(one.Addr(), two.Addr()) == "a+0 b+0" }
	becomes(t, "the addresses", both)
	if got := c.log.soon("info", "upstream has other addresses"); got.text("upstream") != name {
		t.Errorf("logged %v", got)
	}
	granted := func() {
		t.Helper()
		if v := c.ref("").Check(t.Context(), attempt()); v.Result != login.Granted || v.Upstream != name {
			t.Errorf("%v by %s: %v", v.Result, v.Upstream, v.Err)
		}
	}
	granted()
	one.Close()
	granted()
	granted()
	if n, m := len(one.Logins()), len(two.Logins()); n != 1 || m != 2 {
		t.Errorf("%d and %d logins, want 1 and 2", n, m)
	}
	if down := c.log.soon("warn", lineDown); down.text("upstream") != name || down.text("endpoint") != one.Addr() {
		t.Errorf("logged %v", down)
	}

	// Neither a reload nor a resolver that fails loses the addresses.
	broken.Store(true)
	next := w.running(app)
	c.stop()
	c = next
	becomes(t, "the warning", func() bool {
		return len(c.log.lines("warn", "the name of this upstream cannot be looked up, and the addresses from before are used: see that DNS works")) == 1
	})
	if got := health(one.Addr(), two.Addr()); got != "a-0 b+0" {
		t.Errorf("health %s", got)
	}
	granted()
}

// TestNameNeverFound pins what is said of a name that no lookup has found yet.
func TestNameNeverFound(t *testing.T) {
	w := newWorld(t)
	resolver := lookupIP
	defer func() { lookupIP = resolver }()
	lookupIP = func(context.Context, string, string) ([]netip.Addr, error) { return nil, errors.New("no such host") }
	app, _ := w.pooled("ex9.corp.example.org")
	c := w.running(app)
	becomes(t, "the warning", func() bool {
		return len(c.log.lines("warn", "the name of this upstream cannot be looked up: see that it is right, and that DNS works")) == 1
	})
	c.stop()
}

// TestUpstreamForgotten pins that an upstream which no login has tried is not said to
// be well.
func TestUpstreamForgotten(t *testing.T) {
	w := newWorld(t)
	dead, good := deadAddr(t), w.fake()
	app, b := w.pooled(dead, good.Addr())
	b.HealthChecks = &HealthChecks{Passive: &PassiveHealthChecks{FailDuration: caddy.Duration(time.Millisecond)}}
	c := w.running(app)
	asks(t, c.ref(""), good)
	becomes(t, "the dead one to be forgotten", func() bool { return health(dead, good.Addr()) == "a+0 b+0" })
	if up := c.log.one("info", "upstream is taken to be up again, since its fail_duration is over and no login has tried it"); up.text("upstream") != dead {
		t.Errorf("logged %v", up)
	}
	if lines := c.log.lines("info", lineUp); len(lines) > 0 {
		t.Errorf("logged %v", lines)
	}
}

// TestIdentity pins what the guard takes for the same servers: health, order of
// choice and drain do not make others of them.
func TestIdentity(t *testing.T) {
	w := newWorld(t)
	identity := func(amend func(*Backend)) string {
		app, b := w.pooled("ex1.corp.example.org", "ex2.corp.example.org")
		amend(b)
		return w.load(app).app.Backends["exchange"].guard.Backend
	}
	plain := identity(func(*Backend) {})
	if want := "exchange\x00{imap.user}\x00ex1.corp.example.org:143\x00ex2.corp.example.org:143"; plain != want {
		t.Errorf("identity %q, want %q", plain, want)
	}
	if got := identity(func(b *Backend) {
		b.Upstreams[0].Drain = true
		b.LoadBalancing = &LoadBalancing{Selection: &Selection{Policy: "random"}}
		b.HealthChecks = &HealthChecks{Active: new(ActiveHealthChecks)}
	}); got != plain {
		t.Errorf("identity %q, want %q", got, plain)
	}
	if got := identity(func(b *Backend) { b.Upstreams = b.Upstreams[:1] }); got == plain {
		t.Errorf("identity %q of other servers", got)
	}
}
