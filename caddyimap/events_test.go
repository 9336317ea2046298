package caddyimap

import (
	"context"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

func init() { caddy.RegisterModule(new(listener)) }

// listener is a handler of events, as a site may have one.
type listener struct {
	Name string `json:"name,omitempty"`
}

// heard is what a listener has heard, and how it behaves.
type heard struct {
	// handle is called with each event; it may block.
	handle func(ctx context.Context, e caddy.Event)
	events chan caddy.Event
	// fields are those of each event so far.
	fields map[string][]string
}

var listeners sync.Map

// CaddyModule returns the Caddy module information.
func (*listener) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.imap_test", New: func() caddy.Module { return new(listener) }}
}

// Handle implements caddyevents.Handler.
func (l *listener) Handle(ctx context.Context, e caddy.Event) error {
	v, _ := listeners.Load(l.Name)
	h := v.(*heard)
	if h.handle != nil {
		h.handle(ctx, e)
	}
	h.events <- e
	return nil
}

// listen has a listener hear of the events.
func (w *world) listen(h *heard, events ...string) {
	w.tb.Helper()
	h.events = make(chan caddy.Event, 2*maxEvents)
	name := w.tb.Name()
	listeners.Store(name, h)
	w.tb.Cleanup(func() { listeners.Delete(name) })
	w.apps = caddy.ModuleMap{"events": caddyconfig.JSON(map[string]any{"subscriptions": []any{map[string]any{
		"events": events, "modules": []string{"imap"}, "handlers": []any{map[string]any{"handler": "imap_test", "name": name}},
	}}}, nil)}
}

// startAll starts the events app, too, and says that all have started.
func (c *config) startAll() {
	c.tb.Helper()
	if err := c.app.events.app.Start(); err != nil {
		c.tb.Fatal(err)
	}
	c.start()
}

// next is the next event that was heard.
func (h *heard) next(t *testing.T) caddy.Event {
	t.Helper()
	select {
	case e := <-h.events:
		if h.fields == nil {
			h.fields = make(map[string][]string)
		}
		h.fields[e.Name()] = slices.Sorted(maps.Keys(e.Data))
		return e
	case <-time.After(patience):
		t.Fatal("no event")
	}
	return caddy.Event{}
}

func (h *heard) expect(t *testing.T, name string, want map[string]any) {
	t.Helper()
	e := h.next(t)
	if session, _ := e.Data["session"].(string); session != "" {
		want["session"] = session
	}
	if e.Name() != name || !reflect.DeepEqual(e.Data, want) {
		t.Errorf("got  %s %v\nwant %s %v", e.Name(), e.Data, name, want)
	}
}

// TestEvents pins which events there are, and what they tell.
func TestEvents(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	h := new(heard)
	w.listen(h, "login", "login_failed", "account_held", "source_banned")
	g := strict()
	g.AccountFailures, g.SourceFailures = 2, 3
	c := w.load(w.guarded(g, fake.Addr()))
	c.startAll()
	defer c.stop()
	ref := c.ref("")

	done := func(result, code, user, hash string) map[string]any {
		return map[string]any{
			"result": result, "code": code, "user": user, "user_hash": hash, "remote_ip": "192.0.2.1",
			"service": "smtp", "mechanism": "PLAIN", "backend": "exchange", "session": "SESSION",
		}
	}
	const hunter = "hunter2-is-my-password"
	check(t, ref, from("192.0.2.1", "alice", testSecret), login.Granted)
	h.expect(t, "login", done("granted", "", "alice", ""))
	check(t, ref, from("192.0.2.1", "ALICE", "wrong"), login.Denied)
	// The order of events is that in which things are noticed.
	h.expect(t, "account_held", map[string]any{"user": "ALICE", "user_hash": "", "failures": 1, "remote_ip": "192.0.2.1", "service": "smtp"})
	h.expect(t, "login_failed", done("denied", "AUTHENTICATIONFAILED", "ALICE", ""))
	check(t, ref, from("192.0.2.1", hunter, "wrong"), login.Denied)
	h.expect(t, "account_held", map[string]any{"user": "?", "user_hash": hashName(hunter), "failures": 1, "remote_ip": "192.0.2.1", "service": "smtp"})
	h.expect(t, "login_failed", done("denied", "AUTHENTICATIONFAILED", "?", hashName(hunter)))
	check(t, ref, from("192.0.2.1", hunter, "wronger"), login.Throttled)
	h.expect(t, "login_failed", done("throttled", "UNAVAILABLE", "?", hashName(hunter)))
	check(t, ref, from("192.0.2.1", "carol@example.org", "wrong"), login.Denied)
	h.next(t) // account_held
	banned := h.next(t)
	if banned.Name() != "source_banned" || banned.Data["remote_ip"] != "192.0.2.1" || banned.Data["service"] != "smtp" || len(banned.Data) != 3 {
		t.Errorf("got %s %v", banned.Name(), banned.Data)
	}
	if until, err := time.Parse(time.RFC3339, banned.Data["until"].(string)); err != nil || time.Until(until) < 14*time.Minute || time.Until(until) > 15*time.Minute {
		t.Errorf("banned until %v, %v", until, err)
	}
	h.expect(t, "login_failed", done("denied", "AUTHENTICATIONFAILED", "carol@example.org", ""))
	if origin := banned.Origin().CaddyModule().ID; origin != "imap" {
		t.Errorf("the events are of the module %s", origin)
	}

	// The page tells of these placeholders, and of no others.
	page, err := os.ReadFile("../docs/guard.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string][]string)
	var before []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| [^|]* \\| (.*) \\|$").FindAllStringSubmatch(string(page), -1) {
		if row[2] != "the same" {
			before = nil
			for _, m := range regexp.MustCompile("`{event\\.data\\.([a-z_]+)}`").FindAllStringSubmatch(row[2], -1) {
				before = append(before, m[1])
			}
			slices.Sort(before)
		}
		documented[row[1]] = before
	}
	if !reflect.DeepEqual(documented, h.fields) {
		t.Errorf("the page has %v, the events have %v", documented, h.fields)
	}
}

// TestEventsUnavailable pins that a backend that is away makes a failed login.
func TestEventsUnavailable(t *testing.T) {
	w := newWorld(t)
	h := new(heard)
	w.listen(h, "login_failed")
	c := w.load(w.app(w.backend("127.0.0.1:1")))
	c.startAll()
	defer c.stop()
	check(t, c.ref(""), from("192.0.2.1", "alice", testSecret), login.Unavailable)
	if e := h.next(t); e.Data["result"] != "unavailable" {
		t.Errorf("got %v", e.Data)
	}
}

// TestEventsSlow pins that no login waits for a handler, that the queue has an end,
// and that a reload waits for a moment and tells the handler to end.
func TestEventsSlow(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	begun, told := make(chan struct{}, 1), make(chan struct{})
	h := &heard{handle: func(ctx context.Context, _ caddy.Event) {
		begun <- struct{}{}
		<-ctx.Done()
		close(told)
	}}
	w.listen(h, "login")
	c := w.load(w.app(w.backend(fake.Addr())))
	c.startAll()
	ref := c.ref("")
	check(t, ref, from("192.0.2.1", "alice", testSecret), login.Granted)
	<-begun
	for range maxEvents + 2 {
		c.app.loginDone(attempt(), "exchange", login.Verdict{Result: login.Granted})
	}
	c.log.one("warn", "events are dropped, because what is done about them takes longer than logins do")
	check(t, ref, from("192.0.2.1", "alice", testSecret), login.Granted)
	start := time.Now()
	c.stop()
	<-told
	if d := time.Since(start); d < eventsGrace || d > eventsGrace+handlerGrace {
		t.Errorf("stopped after %v", d)
	}
	if got := c.log.one("warn", "events were dropped, because the configuration ended before they could be emitted"); got["events"] != float64(maxEvents) {
		t.Errorf("logged %v", got)
	}
}

// TestEventsStuck pins that a handler which does not care cannot stop a reload.
func TestEventsStuck(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	h := &heard{handle: func(context.Context, caddy.Event) { <-release }}
	w.listen(h, "login_failed")
	c := w.load(w.app(w.backend("127.0.0.1:1")))
	c.startAll()
	check(t, c.ref(""), from("192.0.2.1", "alice", testSecret), login.Unavailable)
	c.stop()
	c.log.one("warn", "a handler of an event goes on, although the configuration is over")
	close(release)
	h.next(t)
}

// TestEventsPanic pins that a handler's fault ends nothing.
func TestEventsPanic(t *testing.T) {
	w := newWorld(t)
	first := true
	h := &heard{handle: func(context.Context, caddy.Event) {
		if first {
			first = false
			panic("of " + testSecret)
		}
	}}
	w.listen(h, "login_failed")
	c := w.load(w.app(w.backend("127.0.0.1:1")))
	c.startAll()
	defer c.stop()
	for range 2 {
		check(t, c.ref(""), from("192.0.2.1", "alice", testSecret), login.Unavailable)
	}
	h.next(t)
	if got := c.log.one("error", "panic in a handler of an event"); got.text("event") != "login_failed" {
		t.Errorf("logged %v", got)
	}
}

// TestEventsOrder pins that nothing is emitted before all apps have started, that
// what was to tell until then is told, and that nothing is lost in a reload.
func TestEventsOrder(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	h := new(heard)
	w.listen(h, "login")
	one := w.load(w.app(w.backend(fake.Addr())))
	one.startAlone()
	ref := one.ref("")
	for i := range 3 {
		check(t, ref, from("192.0.2.1", fmt.Sprintf("alice%d", i), testSecret), login.Granted)
	}
	if len(h.events) != 0 {
		t.Error("an event was emitted before the start")
	}
	if err := one.app.events.app.Start(); err != nil {
		t.Fatal(err)
	}
	one.app.started()
	for i := range 3 {
		if e := h.next(t); e.Data["user"] != fmt.Sprintf("alice%d", i) {
			t.Errorf("event %d is %v", i, e.Data)
		}
	}
	two := w.load(w.app(w.backend(fake.Addr())))
	two.startAll()
	defer two.stop()
	one.stop()
	// A login that began before the reload is told of by the app that is there.
	one.app.successor().loginDone(attempt(), "exchange", login.Verdict{Result: login.Granted})
	check(t, ref, from("192.0.2.1", "alice", testSecret), login.Granted)
	for _, want := range []string{testUser, "alice"} {
		if e := h.next(t); e.Data["user"] != want {
			t.Errorf("event %v, want one of %s", e.Data, want)
		}
	}
}

// TestEventsFailedStart pins that what a configuration had to tell that never came
// to life does not hold up anything.
func TestEventsFailedStart(t *testing.T) {
	w := newWorld(t)
	h := new(heard)
	w.listen(h, "login_failed")
	c := w.load(w.app(w.backend("127.0.0.1:1")))
	c.start()
	check(t, c.ref(""), from("192.0.2.1", "alice", testSecret), login.Unavailable)
	start := time.Now()
	c.stop()
	if d := time.Since(start); d > eventsGrace || len(h.events) != 0 {
		t.Errorf("stopped after %v with %d events", d, len(h.events))
	}
}
