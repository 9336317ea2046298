package caddyimap

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// adminServer has the routes served as Caddy does it.
func adminServer(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	for _, route := range new(adminAPI).Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			err := route.Handler.ServeHTTP(w, r)
			if err == nil {
				return
			}
			var problem caddy.APIError
			if !errors.As(err, &problem) {
				t.Errorf("an error without a status: %v", err)
			}
			w.WriteHeader(problem.HTTPStatus)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": problem.Err.Error()})
		})
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// call makes a request and returns status and body.
func call(t *testing.T, s *httptest.Server, method, path string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// shown is what GET /imap/guard answers.
type shown struct {
	Accounts []struct {
		User         string `json:"user"`
		UserHash     string `json:"user_hash"`
		Since, Until time.Time
	} `json:"accounts"`
	Sources []struct {
		Source       string `json:"source"`
		Since, Until time.Time
	} `json:"sources"`
}

// TestAdminAPI pins what it shows, and that holds are lifted by any spelling.
func TestAdminAPI(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	g := strict()
	g.AccountFailures, g.SourceFailures = 2, 5
	g.Domains = []GuardDomain{{"CORP", "example.org"}}
	c := w.load(w.guarded(g, fake.Addr()))
	c.start()
	defer c.stop()
	ref, s := c.ref(""), adminServer(t)

	resp, body := call(t, s, "GET", "/imap/guard")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" || body != `{"accounts":[],"sources":[]}`+"\n" {
		t.Errorf("%s: %q", resp.Status, body)
	}

	users := []string{"bob@example.org", `CORP\carol`, "dave/shared", "hunter2-is-my-password", "erin %2F?#@example.org"}
	for _, user := range users {
		check(t, ref, from("192.0.2.1", user, testSecret+"x"), login.Denied)
	}
	var got shown
	_, body = call(t, s, "GET", "/imap/guard/")
	if err := json.Unmarshal([]byte(body), &got); err != nil || len(got.Accounts) != 5 || len(got.Sources) != 1 {
		t.Fatalf("%v in %s", err, body)
	}
	names := make(map[string]string)
	for _, a := range got.Accounts {
		names[a.User+a.UserHash] = a.UserHash
		if d := a.Until.Sub(a.Since); d != 30*time.Minute {
			t.Errorf("%s is held for %v", a.User, d)
		}
	}
	for _, want := range []string{
		"bob@example.org", `CORP\carol`, "?" + hashName("dave/shared"), "?" + hashName("hunter2-is-my-password"), "?" + hashName("erin %2F?#@example.org"),
	} {
		if _, ok := names[want]; !ok {
			t.Errorf("%s is not in %s", want, body)
		}
	}
	if found := imaptest.Revealed([]byte(body), "hunter2"); found != nil {
		t.Errorf("the API shows %s", found)
	}
	if src := got.Sources[0]; src.Source != "192.0.2.1" || src.Until.Sub(src.Since) != 15*time.Minute {
		t.Errorf("banned: %+v", src)
	}

	// The source is banned, which is lifted in another spelling of the address.
	check(t, ref, from("192.0.2.1", "alice", testSecret), login.Throttled)
	if resp, body := call(t, s, "DELETE", "/imap/guard/sources/::ffff:192.0.2.1"); resp.StatusCode != 200 || body != `{"lifted":true}`+"\n" {
		t.Errorf("%s: %q", resp.Status, body)
	}
	check(t, ref, from("192.0.2.1", "alice", testSecret), login.Granted)

	for i, path := range []string{
		"BOB", `example.org%5Ccarol`, "dave", hashName("hunter2-is-my-password"), url.PathEscape("erin %2F?#@example.org"),
	} {
		check(t, ref, from("198.51.100.1", users[i], "another"), login.Throttled)
		resp, body := call(t, s, "DELETE", "/imap/guard/accounts/"+path)
		if resp.StatusCode != 200 || body != `{"lifted":true}`+"\n" {
			t.Errorf("%s: %s, %q", path, resp.Status, body)
		}
		if _, body = call(t, s, "DELETE", "/imap/guard/accounts/"+path); body != `{"lifted":false}`+"\n" {
			t.Errorf("%s again: %q", path, body)
		}
		check(t, ref, from("198.51.100."+string(rune('2'+i)), users[i], "another"), login.Denied)
	}
	// A name with slashes is one name, escaped or not.
	for _, path := range []string{"dave/shared", "dave%2Fshared"} {
		call(t, s, "DELETE", "/imap/guard/accounts/"+path)
		check(t, ref, from("203.0.113.1", "dave", "by "+path), login.Denied)
	}
}

// TestLiftWithoutDomain pins that users are one if the backend is not told their
// domains, and that whichever of their names is lifted lifts them.
func TestLiftWithoutDomain(t *testing.T) {
	w := newWorld(t)
	cfg := w.guarded(strict(), w.anyAlice().Addr())
	cfg.Guard.Domains = []GuardDomain{{"A", "a.example"}, {"B", "b.example"}}
	for _, b := range cfg.Backends {
		b.Username = "{imap.user.local}"
	}
	c := w.load(cfg)
	c.start()
	defer c.stop()
	ref := c.ref("")
	for range 2 {
		for i, user := range []string{"bob", "bob@a.example", `B\bob`} {
			check(t, ref, from("198.51.100.1", user, fmt.Sprint("guess", i)), login.Denied)
		}
		check(t, ref, from("198.51.100.2", "bob@c.example", "guess"), login.Throttled)
		if lifted, err := c.app.liftAccount(t.Context(), "bob@b.example"); !lifted || err != nil {
			t.Errorf("lifted %t, %v", lifted, err)
		}
	}
}

// TestAdminErrors pins what is not taken.
func TestAdminErrors(t *testing.T) {
	s := adminServer(t)
	if resp, body := call(t, s, "GET", "/imap/guard"); resp.StatusCode != 404 || !strings.Contains(body, "there is no guard") {
		t.Errorf("without an app: %s, %s", resp.Status, body)
	}
	w := newWorld(t)
	c := w.load(w.guarded(strict(), "127.0.0.1:1"))
	c.start()
	for _, tc := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"POST", "/imap/guard", 405, "GET"},
		{"DELETE", "/imap/guard", 405, "GET"},
		{"DELETE", "/imap/guard/", 405, "GET"},
		{"HEAD", "/imap/guard", 405, "GET"},
		{"GET", "/imap/guard/accounts/alice", 405, "DELETE"},
		{"POST", "/imap/guard/sources/192.0.2.1", 405, "DELETE"},
		{"PUT", "/imap/guard/sources/nobody", 405, "DELETE"},
		{"DELETE", "/imap/guard/accounts", 404, ""},
		{"DELETE", "/imap/guard/accounts/", 404, ""},
		{"DELETE", "/imap/guard/sources/", 404, ""},
		{"DELETE", "/imap/guard/account/alice", 404, ""},
		{"GET", "/imap/guard/holds", 404, ""},
		{"DELETE", "/imap/guard/sources/localhost", 400, ""},
		{"DELETE", "/imap/guard/sources/192.0.2.0/24", 400, ""},
		{"DELETE", "/imap/guard/sources/192.0.2.1%2F32", 400, ""},
		{"DELETE", "/imap/guard/sources/2001:db8::1", 200, ""},
		{"DELETE", "/imap/guard/accounts/nobody", 200, ""},
	} {
		resp, body := call(t, s, tc.method, tc.path)
		if resp.StatusCode != tc.status || resp.Header.Get("Allow") != tc.allow {
			t.Errorf("%s %s: %s, Allow %q, %s", tc.method, tc.path, resp.Status, resp.Header.Get("Allow"), body)
		}
	}
	c.stop()

	g := strict()
	g.Off = true
	c = w.load(w.guarded(g, "127.0.0.1:1"))
	c.start()
	defer c.stop()
	if resp, _ := call(t, s, "DELETE", "/imap/guard/accounts/alice"); resp.StatusCode != 404 {
		t.Errorf("with the guard off: %s", resp.Status)
	}
}

// TestAdminStore pins that holds are lifted in the store as well.
func TestAdminStore(t *testing.T) {
	w := newWorld(t)
	state := newStoreState(t, "one")
	c := w.load(w.guarded(stored("one"), "127.0.0.1:1"))
	c.start()
	defer c.stop()
	state.used(t, c, 1)
	s := adminServer(t)
	call(t, s, "DELETE", "/imap/guard/accounts/alice")
	call(t, s, "DELETE", "/imap/guard/sources/192.0.2.1")
	state.mu.Lock()
	if got := strings.Join(state.lifted, " "); got != "account source" {
		t.Errorf("lifted %s", got)
	}
	state.liftError = errors.New("gone away")
	state.mu.Unlock()
	if resp, body := call(t, s, "DELETE", "/imap/guard/accounts/alice"); resp.StatusCode != 502 || !strings.Contains(body, "gone away") {
		t.Errorf("%s: %s", resp.Status, body)
	}
}
