package caddyimap

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// shownBackends asks the admin API.
func shownBackends(t *testing.T) []backendStatus {
	t.Helper()
	resp, body := call(t, adminServer(t), "GET", "/imap/backends")
	var answer struct {
		Backends []backendStatus `json:"backends"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %v in %s", resp.Status, err, body)
	}
	return answer.Backends
}

// TestBackendsAPI pins what the admin API shows.
func TestBackendsAPI(t *testing.T) {
	w := newWorld(t)
	resp, body := call(t, adminServer(t), "GET", "/imap/backends")
	if resp.Header.Get("Content-Type") != "application/json" || body != `{"backends":[]}`+"\n" {
		t.Errorf("without an app: %s %q", resp.Status, body)
	}
	if resp, _ := call(t, adminServer(t), "DELETE", "/imap/backends"); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET" {
		t.Errorf("DELETE: %s", resp.Status)
	}

	begin := time.Now().Truncate(time.Second)
	good, dead, drained := w.fake(), deadAddr(t), w.fake()
	app, b := w.pooled(good.Addr(), dead, drained.Addr())
	app.Backends["archive"] = w.backend(good.Addr())
	b.LoadBalancing = &LoadBalancing{Selection: &Selection{Policy: "round_robin"}}
	b.Upstreams[2].Drain = true
	c := w.running(app)
	// In turn one of the two is first; both have been asked after two logins.
	c.ref("exchange").Check(t.Context(), attempt())
	session, v := c.ref("exchange").open(t.Context(), attempt())
	if session == nil {
		t.Fatalf("%v: %v", v.Result, v.Err)
	}
	list := shownBackends(t)
	if len(list) != 2 || list[0].Name != "archive" || list[0].Policy != "first" || list[1].Name != "exchange" || list[1].Policy != "round_robin" || len(list[1].Upstreams) != 3 {
		t.Fatalf("backends %+v", list)
	}
	for i, u := range list[1].Upstreams {
		if u.Address != []string{good.Addr(), dead, drained.Addr()}[i] || u.Index == nil || *u.Index != i {
			t.Errorf("upstream %d is %s with the index %v", i, u.Address, u.Index)
		}
		if len(u.Endpoints) != 1 || u.Endpoints[0].Address != u.Address {
			t.Fatalf("endpoints %+v", u)
		}
		e := u.Endpoints[0]
		want := upstreamStatus{Address: u.Address, Configured: true}
		wantEnd := endpointStatus{Address: u.Address, Configured: true, Up: true}
		switch u.Address {
		case good.Addr():
			want.Sessions, wantEnd.Sessions = 1, 1
		case dead:
			wantEnd.Up, wantEnd.Fails, wantEnd.Error = false, 1, e.Error
			if !strings.HasPrefix(e.Error, "connecting: ") {
				t.Errorf("error %q", e.Error)
			}
		default:
			want.Drain = true
			if u.DrainSince == nil || u.DrainSince.Before(begin) {
				t.Errorf("drains since %v", u.DrainSince)
			}
		}
		if e.Since.Before(begin) || time.Until(e.Since) > 0 {
			t.Errorf("%s is so since %v", u.Address, e.Since)
		}
		e.Since = time.Time{}
		if e != wantEnd || u.Configured != want.Configured || u.Drain != want.Drain || u.Sessions != want.Sessions {
			t.Errorf("upstream %+v with %+v", u, e)
		}
	}

	// What has gone from the configuration is shown while it has sessions, after the rest.
	b.Upstreams = b.Upstreams[2:]
	next := w.running(app)
	c.stop()
	list = shownBackends(t)
	if us := list[1].Upstreams; len(us) != 2 || us[0].Address != drained.Addr() || us[0].Index == nil || *us[0].Index != 0 ||
		us[1].Address != good.Addr() || us[1].Index != nil || us[1].Configured {
		t.Errorf("after the first two are gone: %+v", us)
	}
	next.stop()
	list = shownBackends(t)
	if len(list) != 1 || list[0].Policy != "" || len(list[0].Upstreams) != 1 || list[0].Upstreams[0].Configured || list[0].Upstreams[0].Sessions != 1 {
		t.Errorf("without a configuration: %+v", list)
	}
	session.Close()
	if list := shownBackends(t); len(list) > 0 {
		t.Errorf("in the end: %+v", list)
	}
}

// TestDrain pins that no login goes to an upstream that drains, and that its
// sessions stay, for as long as they may.
func TestDrain(t *testing.T) {
	w := newWorld(t)
	one, two := w.fake(), w.fake()
	app, b := w.pooled(one.Addr(), two.Addr())
	c := w.running(app)
	f := front{handler: Handler{InsecureAuth: true}}
	stays := f.greeted(w, c)
	stays.logIn()
	reload := func() {
		next := w.running(app)
		c.stopOnce()
		c = next
	}
	b.Upstreams[0].Drain = true
	reload()
	asks(t, c.ref(""), two)
	elsewhere := f.greeted(w, c)
	elsewhere.logIn()
	stays.ask("a NOOP", "a OK")
	if got := health(one.Addr(), two.Addr()); got != "a+1 b+1" {
		t.Errorf("sessions %s", got)
	}

	b.Upstreams[1].Drain = true
	reload()
	v := c.ref("").Check(t.Context(), attempt())
	if v.Result != login.Unavailable || v.Err == nil || v.Err.Error() != "every upstream is draining" {
		t.Errorf("%v: %v", v.Result, v.Err)
	}
	c.log.one("warn", "nobody can log in at this backend, because every upstream of it drains; add another one, or take drain away")
	c.log.one("error", "the credentials could not be checked, because the backend gave no answer that decides: "+
		"every upstream of it drains; add another one, or take drain away")

	b.Upstreams[1].Drain = false
	b.Upstreams[0].DrainTimeout = caddy.Duration(time.Nanosecond)
	reload()
	stays.expect("* BYE This server is being taken out of service.")
	stays.closed()
	if got := c.log.soon("info", "drain_timeout is over, and the sessions at this upstream are ended"); got.text("upstream") != one.Addr() || got["sessions"] != 1.0 {
		t.Errorf("logged %v", got)
	}
	elsewhere.ask("a NOOP", "a OK")
	elsewhere.ask("z LOGOUT", "* BYE", "z OK")
	elsewhere.closed()
}
