package caddyimap

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestTable pins that the newest of the running apps is used, in whichever order
// they come and go.
func TestTable(t *testing.T) {
	const none = 0
	for _, tc := range []struct {
		name string
		// steps start apps, or stop them if negative.
		steps []int
		// newest is the newest app after each step.
		newest []uint64
	}{
		{"one", []int{1, -1}, []uint64{1, none}},
		{"a reload", []int{1, 2, -1, -2}, []uint64{1, 2, 2, none}},
		{"a failed reload", []int{1, 2, -2, -1}, []uint64{1, 2, 1, none}},
		{"a failed reload and a good one", []int{1, 2, -2, 3, -1, -3}, []uint64{1, 2, 1, 3, 3, none}},
		{"the older starts last", []int{2, 1, -2}, []uint64{2, 2, 1}},
		{"never started", []int{1, -2}, []uint64{1, 1}},
		{"stopped and cleaned up", []int{1, 2, -1, -1}, []uint64{1, 2, 2, 2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var table appTable
			told := 0
			table.observers = []func(){func() { told++ }}
			all := make(map[int]*App)
			for i, step := range tc.steps {
				id := max(step, -step)
				if all[id] == nil {
					all[id] = &App{generation: uint64(id)}
				}
				if step > 0 {
					table.start(all[id])
				} else {
					table.stop(all[id])
				}
				var got uint64
				if newest := table.newest.Load(); newest != nil {
					got = newest.generation
				}
				if got != tc.newest[i] {
					t.Errorf("after step %d: app %d, want %d", i, got, tc.newest[i])
				}
				// Also of one that never counted: its handlers may have begun with somebody.
				if told != i+1 {
					t.Errorf("after step %d: told %d times", i, told)
				}
			}
		})
	}
}

// asks pins which backend a reference asks now.
func asks(t *testing.T, r *BackendRef, want *imaptest.Fake) {
	t.Helper()
	if v := r.Check(context.Background(), attempt()); v.Result != login.Granted || v.Upstream != want.Addr() {
		t.Errorf("%v by %s, want granted by %s: %v", v.Result, v.Upstream, want.Addr(), v.Err)
	}
}

// cannotAsk pins that a reference finds no backend, and that the log of the
// configuration says why.
func cannotAsk(t *testing.T, r *BackendRef, log *logged, want string) {
	t.Helper()
	before := len(log.lines("error", ""))
	v := r.Check(context.Background(), attempt())
	if v.Result != login.Unavailable || v.Err == nil || !strings.Contains(v.Err.Error(), want) {
		t.Errorf("%v: %v, want unavailable: %s", v.Result, v.Err, want)
	}
	lines := log.lines("error", "")
	if len(lines) != before+1 {
		t.Fatalf("logged as errors: %v, want one more", lines)
	}
	if got := lines[before]; !strings.Contains(got.text("error"), want) || !strings.Contains(got.text("msg"), "what the handlers and the backends") {
		t.Errorf("logged %v, want %q", got, want)
	}
}

// TestReload lets a handler live through changes of the configuration, as the one
// with Postfix's connection does.
func TestReload(t *testing.T) {
	w := newWorld(t)
	one, two, three := w.fake(), w.fake(), w.fake()

	first := w.load(w.app(w.backend(one.Addr())))
	old := first.ref("exchange")
	asks(t, old, one) // before the app has started
	first.start()
	asks(t, old, one)

	second := w.load(w.app(w.backend(two.Addr())))
	current := second.ref("exchange")
	asks(t, old, one)
	asks(t, current, one) // its own app is newer, but may fail to start yet
	second.start()
	asks(t, current, two)
	asks(t, old, two)
	first.stop()
	asks(t, old, two)
	asks(t, current, two)

	// The third configuration fails to start as a whole, after its imap app.
	third := w.load(w.app(w.backend(three.Addr())))
	failed := third.ref("exchange")
	if err := third.app.Start(); err != nil {
		t.Fatal(err)
	}
	asks(t, old, two)
	asks(t, failed, two)
	third.stop()
	asks(t, old, two)
	asks(t, current, two)
	asks(t, failed, two)
	if !failed.Abandoned() || old.Abandoned() || current.Abandoned() {
		t.Error("what is abandoned is not the one that failed")
	}

	// The fourth fails before that.
	fourth := w.load(w.app(w.backend(three.Addr())))
	never := fourth.ref("exchange")
	fourth.cancel()
	asks(t, old, two)
	asks(t, never, two)

	second.stop()
	for c, r := range map[*config]*BackendRef{first: old, second: current, third: failed, fourth: never} {
		cannotAsk(t, r, c.log, errNoApp.Error())
	}
	if v := old.Check(context.Background(), attempt()); !errors.Is(v.Err, errNoApp) {
		t.Errorf("error %v", v.Err)
	}
}

// TestReloadWithoutBackend pins what becomes of a handler whose backend the newest
// configuration does not have any more: it does not go on with the old one.
func TestReloadWithoutBackend(t *testing.T) {
	w := newWorld(t)
	one, two := w.fake(), w.fake()
	first := w.load(w.app(w.backend(one.Addr())))
	named, unnamed := first.ref("exchange"), first.ref("")
	first.start()
	asks(t, named, one)
	asks(t, unnamed, one)

	app := w.app(nil)
	app.Backends = map[string]*Backend{"archive": w.backend(two.Addr())}
	second := w.load(app)
	second.start()
	defer second.stop()
	first.stop()
	cannotAsk(t, named, second.log, `backend "exchange" is not defined in the imap app; known are archive`)
	asks(t, unnamed, two)

	app = w.app(w.backend(one.Addr()))
	app.Backends["archive"] = w.backend(two.Addr())
	third := w.load(app)
	third.start()
	defer third.stop()
	asks(t, named, one)
	cannotAsk(t, unnamed, third.log, "no backend is named, and the imap app defines several; name one of archive, exchange")
}

// TestRefBackend pins that the name of a backend may be a placeholder. The errors
// without placeholders are tested with Caddyfiles.
func TestRefBackend(t *testing.T) {
	t.Setenv("IMAP_TEST_BACKEND", "exchange")
	t.Setenv("IMAP_TEST_EMPTY", "")
	w := newWorld(t)
	c := w.load(w.app(w.backend("127.0.0.1:1")))
	for name, want := range map[string]string{
		"":                         "",
		"exchange":                 "",
		"{env.IMAP_TEST_BACKEND}":  "",
		"x{env.IMAP_TEST_BACKEND}": `backend "xexchange" is not defined in the imap app; known are exchange`,
		"{env.IMAP_TEST_EMPTY}":    "evaluated placeholder {env.IMAP_TEST_EMPTY} is empty",
		"{evn.IMAP_TEST_BACKEND}":  "unrecognized placeholder {evn.IMAP_TEST_BACKEND}",
	} {
		_, err := RefBackend(c.ctx, name)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: error %v, want %q", name, err, want)
		}
	}
}
