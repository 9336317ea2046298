package oauthlogin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testUser   = "alice@example.org"
	testSecret = "correct horse battery staple"
	testClient = "imap-proxy"
	clientPass = "the client's own secret"
)

// endpoint is a token endpoint that a test answers for.
type endpoint struct {
	*httptest.Server
	mu    sync.Mutex
	asked []url.Values
}

// newEndpoint starts an endpoint with http on the loopback.
func newEndpoint(t *testing.T, answer func(w http.ResponseWriter, form url.Values, n int)) *endpoint {
	t.Helper()
	e := new(endpoint)
	e.Server = httptest.NewServer(e.handler(t, answer))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) handler(t *testing.T, answer func(w http.ResponseWriter, form url.Values, n int)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil || r.Method != http.MethodPost || r.URL.RawQuery != "" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		form := r.PostForm
		form.Set("path", r.URL.Path)
		if id, secret, ok := r.BasicAuth(); ok {
			form.Set("basic", id+":"+secret)
		}
		e.mu.Lock()
		e.asked = append(e.asked, form)
		n := len(e.asked)
		e.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		answer(w, form, n)
	})
}

// questions are the forms that came.
func (e *endpoint) questions() []url.Values {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.asked)
}

// says answers with a status and a body.
func says(status int, body string) func(http.ResponseWriter, url.Values, int) {
	return func(w http.ResponseWriter, _ url.Values, _ int) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// passwords is an endpoint that lets testUser in with the password that is right at the
// time, by a new token each time.
func passwords(right func() string) func(http.ResponseWriter, url.Values, int) {
	return func(w http.ResponseWriter, form url.Values, n int) {
		if form.Get("username") != testUser || form.Get("password") != right() {
			says(http.StatusBadRequest, `{"error":"invalid_grant"}`)(w, form, n)
			return
		}
		says(http.StatusOK, `{"access_token":"token-`+string(rune('0'+n))+`","token_type":"Bearer","expires_in":3600,"refresh_token":"never"}`)(w, form, n)
	}
}

func config(url string) Config {
	return Config{URL: url, Grant: Password, ClientID: testClient, ClientSecret: clientPass, Scopes: []string{"imap"}}
}

func newSource(t *testing.T, cfg Config) *Source {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// patience bounds a test that is not about time; it passes only in failure.
const patience = 15 * time.Second

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// clock is a time that a test sets.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

// want fails the test unless the verdict is the result.
func want(t *testing.T, v login.Verdict, result login.Result) {
	t.Helper()
	if v.Result != result {
		t.Fatalf("verdict %s (%v), want %s", v.Result, v.Err, result)
	}
}
