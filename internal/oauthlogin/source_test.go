package oauthlogin

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// What the endpoint is asked, and that no refresh token is.
func TestQuestion(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		want   url.Values
	}{
		"in the body": {func(*Config) {}, url.Values{"grant_type": {"password"}, "username": {testUser}, "password": {testSecret},
			"client_id": {testClient}, "client_secret": {clientPass}, "scope": {"imap"}, "path": {"/token"}}},
		"in a header": {func(c *Config) { c.Basic = true }, url.Values{"grant_type": {"password"}, "username": {testUser},
			"password": {testSecret}, "basic": {"imap-proxy:" + url.QueryEscape(clientPass)}, "scope": {"imap"}, "path": {"/token"}}},
		"public client, several scopes": {func(c *Config) { c.ClientSecret = ""; c.Scopes = []string{"a", "b"} },
			url.Values{"grant_type": {"password"}, "username": {testUser}, "password": {testSecret}, "client_id": {testClient},
				"scope": {"a b"}, "path": {"/token"}}},
		"client credentials": {func(c *Config) { c.Grant = ClientCredentials }, url.Values{"grant_type": {"client_credentials"},
			"client_id": {testClient}, "client_secret": {clientPass}, "scope": {"imap"}, "path": {"/token"}}},
		"tenant": {func(c *Config) {
			c.URL = strings.Replace(c.URL, "/token", "/"+TenantPlaceholder+"/token", 1)
			c.Tenants = map[string]string{"example.org": "11-22", "example.net": "33"}
		}, url.Values{"grant_type": {"password"}, "username": {testUser}, "password": {testSecret}, "client_id": {testClient},
			"client_secret": {clientPass}, "scope": {"imap"}, "path": {"/11-22/token"}}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, says(200, `{"access_token":"a.b-c_d~e+f/g==","token_type":"bearer"}`))
			cfg := config(e.URL + "/token")
			tc.change(&cfg)
			token, v := newSource(t, cfg).Token(testContext(t), testUser, testSecret)
			want(t, v, login.Granted)
			if token.Secret != "a.b-c_d~e+f/g==" || token.Kept {
				t.Errorf("token %q, kept %v", string(token.Secret), token.Kept)
			}
			if got := e.questions()[0]; got.Encode() != tc.want.Encode() {
				t.Errorf("asked %v, want %v", got, tc.want)
			}
		})
	}
}

// A token is used again for who presents the same password, for 5 minutes, and for
// nobody else.
func TestKept(t *testing.T) {
	right := testSecret
	e := newEndpoint(t, passwords(func() string { return right }))
	s := newSource(t, config(e.URL))
	now := &clock{time.Now()}
	s.now = now.Now
	ask := func(password string, result login.Result, token string, questions int) {
		t.Helper()
		got, v := s.Token(testContext(t), testUser, login.Secret(password))
		want(t, v, result)
		if string(got.Secret) != token || len(e.questions()) != questions {
			t.Fatalf("token %q after %d questions, want %q after %d", string(got.Secret), len(e.questions()), token, questions)
		}
	}
	ask("wrong", login.Denied, "", 1) // with a cold cache
	ask(testSecret, login.Granted, "token-2", 2)
	ask(testSecret, login.Granted, "token-2", 2)
	ask("wrong", login.Denied, "", 3) // with a warm one
	ask("", login.Denied, "", 4)
	ask(testSecret, login.Granted, "token-2", 4) // the refusals have changed nothing

	// A changed password is right at once, and the old one wrong from then.
	right = "another"
	ask(right, login.Granted, "token-5", 5)
	ask(right, login.Granted, "token-5", 5)
	ask(testSecret, login.Denied, "", 6)

	// A user who is locked out is out after 5 minutes.
	user := right
	right = "nobody knows"
	now.pass(MaxAge - time.Nanosecond)
	ask(user, login.Granted, "token-5", 6)
	now.pass(time.Nanosecond)
	ask(user, login.Denied, "", 7)
}

// The age of a token is counted from when it was asked for, since that is the last time
// that the password is known to have been right.
func TestAgeFromQuestion(t *testing.T) {
	now := &clock{time.Now()}
	e := newEndpoint(t, func(w http.ResponseWriter, form url.Values, n int) {
		now.pass(time.Minute) // it is slow
		passwords(func() string { return testSecret })(w, form, n)
	})
	s := newSource(t, config(e.URL))
	s.now = now.Now
	_, v := s.Token(testContext(t), testUser, testSecret)
	want(t, v, login.Granted)
	now.pass(MaxAge - time.Minute)
	if token, _ := s.Token(testContext(t), testUser, testSecret); token.Kept {
		t.Error("a token is used that was asked for 5 minutes ago")
	}
}

// A token that ends before is not used longer.
func TestExpiresIn(t *testing.T) {
	for expires, kept := range map[string]bool{"0": true, "60": true, "29": false, "-5": false, "9999999999999": true} {
		e := newEndpoint(t, says(200, `{"access_token":"abc","token_type":"Bearer","expires_in":`+expires+`}`))
		s := newSource(t, config(e.URL))
		now := &clock{time.Now()}
		s.now = now.Now
		_, v := s.Token(testContext(t), testUser, testSecret)
		want(t, v, login.Granted)
		now.pass(30 * time.Second)
		if token, _ := s.Token(testContext(t), testUser, testSecret); token.Kept != kept {
			t.Errorf("expires_in %s: kept for half a minute: %v, want %v", expires, token.Kept, kept)
		}
	}
}

func TestDrop(t *testing.T) {
	e := newEndpoint(t, passwords(func() string { return testSecret }))
	s := newSource(t, config(e.URL))
	first, _ := s.Token(testContext(t), testUser, testSecret)
	s.Drop(first)
	second, v := s.Token(testContext(t), testUser, testSecret)
	want(t, v, login.Granted)
	if second.Kept || second.Secret == first.Secret {
		t.Errorf("got %q again", string(second.Secret))
	}
	s.Drop(first) // it is gone already
	if third, _ := s.Token(testContext(t), testUser, testSecret); !third.Kept {
		t.Error("another token was dropped")
	}
}

// Users share nothing, however their names and passwords are put together; spellings of
// a name are users of their own.
func TestHolders(t *testing.T) {
	e := newEndpoint(t, func(w http.ResponseWriter, _ url.Values, n int) {
		says(200, fmt.Sprintf(`{"access_token":"t%d","token_type":"Bearer"}`, n))(w, nil, n)
	})
	s := newSource(t, config(e.URL))
	seen := make(map[login.Secret]bool)
	for _, who := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"A", "bc"}, {"a", "bc "}} {
		token, v := s.Token(testContext(t), who[0], login.Secret(who[1]))
		want(t, v, login.Granted)
		if token.Kept || seen[token.Secret] {
			t.Errorf("%q gets the token of somebody else", who)
		}
		seen[token.Secret] = true
	}
}

func TestMostTokens(t *testing.T) {
	c := newCache(3)
	now := time.Now()
	for i := range 5 {
		c.put(c.holder("", fmt.Sprint(i), "p"), login.Secret(fmt.Sprint(i)), now, MaxAge)
	}
	for i := range 5 {
		if _, ok := c.get(c.holder("", fmt.Sprint(i), "p"), now); ok != (i >= 2) {
			t.Errorf("token %d of 5: kept %v", i, ok)
		}
	}
	// What is too old for anybody takes no memory.
	c.get(holder{}, now.Add(MaxAge))
	if c.order.Len() != 0 || len(c.entries) != 0 {
		t.Errorf("%d and %d tokens are left", c.order.Len(), len(c.entries))
	}
}

// The tokens of programs are for all users of a tenant.
func TestClientCredentials(t *testing.T) {
	e := newEndpoint(t, func(w http.ResponseWriter, _ url.Values, n int) {
		says(200, fmt.Sprintf(`{"access_token":"t%d","token_type":"Bearer"}`, n))(w, nil, n)
	})
	cfg := config(e.URL + "/" + TenantPlaceholder)
	cfg.Grant = ClientCredentials
	cfg.Tenants = map[string]string{"example.org": "one", "example.net": "two", "example.com": "one"}
	s := newSource(t, cfg)
	for user, token := range map[string]login.Secret{"a@example.org": "t1", "b@EXAMPLE.com": "t1"} {
		if got, v := s.Token(testContext(t), user, login.Secret(user)); v.Result != login.Granted || got.Secret != token {
			t.Errorf("%s: token %q, %v", user, string(got.Secret), v.Err)
		}
	}
	if got, _ := s.Token(testContext(t), "c@example.net", "x"); got.Secret != "t2" {
		t.Errorf("another tenant: token %q", string(got.Secret))
	}
}

// Nobody chooses the endpoint by his name.
func TestTenantUnknown(t *testing.T) {
	e := newEndpoint(t, says(200, `{"access_token":"t","token_type":"Bearer"}`))
	cfg := config(e.URL + "/" + TenantPlaceholder + "/token")
	cfg.Tenants = map[string]string{"example.org": "one"}
	s := newSource(t, cfg)
	for _, user := range []string{"alice", "alice@", "alice@example.net", "alice@../../evil", "alice@one", `example.net\alice@example.org`, "@", ""} {
		_, v := s.Token(testContext(t), user, testSecret)
		if v.Result != login.Denied || !errors.Is(v.Err, ErrTenant) {
			t.Errorf("%q: %s (%v)", user, v.Result, v.Err)
		}
	}
	if n := len(e.questions()); n != 0 {
		t.Errorf("%d questions", n)
	}
}

func TestTLS(t *testing.T) {
	e := new(endpoint)
	e.Server = httptest.NewUnstartedServer(e.handler(t, says(200, `{"access_token":"t","token_type":"Bearer"}`)))
	e.EnableHTTP2 = true
	e.StartTLS()
	t.Cleanup(e.Close)
	cfg := config(e.URL)
	_, v := newSource(t, cfg).Token(testContext(t), testUser, testSecret)
	if v.Result != login.Unavailable || v.Unanswered || !errors.Is(v.Err, ErrNoToken) {
		t.Errorf("an endpoint that is not trusted: %s (%v), unanswered %v", v.Result, v.Err, v.Unanswered)
	}
	if len(e.questions()) != 0 {
		t.Error("it was told the password")
	}
	cfg.TLS = e.Client().Transport.(*http.Transport).TLSClientConfig
	_, v = newSource(t, cfg).Token(testContext(t), testUser, testSecret)
	want(t, v, login.Granted)
}

func TestConfig(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"fine":               {func(c *Config) {}, ""},
		"loopback":           {func(c *Config) { c.URL = "http://[::1]:8080/token" }, ""},
		"no URL":             {func(c *Config) { c.URL = "" }, "token_url is missing"},
		"clear text":         {func(c *Config) { c.URL = "http://login.example.org/token" }, "in clear text"},
		"looks like local":   {func(c *Config) { c.URL = "http://localhost.example.org/token" }, "in clear text"},
		"no scheme":          {func(c *Config) { c.URL = "login.example.org/token" }, "not a URL"},
		"other scheme":       {func(c *Config) { c.URL = "ftp://login.example.org/token" }, "not a URL"},
		"no host":            {func(c *Config) { c.URL = "https:///token" }, "not a URL"},
		"fragment":           {func(c *Config) { c.URL += "#x" }, "not a URL"},
		"bad escape":         {func(c *Config) { c.URL += "/%zz" }, "not a URL"},
		"user":               {func(c *Config) { c.URL = "https://me:secret@login.example.org/token" }, "client_id and client_secret"},
		"grant":              {func(c *Config) { c.Grant = "refresh_token" }, "must be one of password, client_credentials"},
		"no client":          {func(c *Config) { c.ClientID = "" }, "client_id is missing"},
		"no secret":          {func(c *Config) { c.Grant, c.ClientSecret = ClientCredentials, "" }, "client_secret is missing"},
		"refresh token":      {func(c *Config) { c.Scopes = []string{"imap", "offline_access"} }, "never used"},
		"no tenant":          {func(c *Config) { c.URL += TenantPlaceholder }, "has a place for a tenant"},
		"no place":           {func(c *Config) { c.Tenants = map[string]string{"example.org": "x"} }, "no {imap.tenant}"},
		"tenant in the host": {func(c *Config) { c.URL = "https://{imap.tenant}.example.org/"; c.Tenants = map[string]string{"a": "b"} }, "path only"},
		"tenant with a path": {func(c *Config) { c.URL += TenantPlaceholder; c.Tenants = map[string]string{"a.b": "../x"} }, "must be the ID"},
		"domain in capitals": {func(c *Config) { c.URL += TenantPlaceholder; c.Tenants = map[string]string{"A.b": "x"} }, "no domain"},
	} {
		cfg := config("https://login.example.org/token")
		tc.change(&cfg)
		_, err := New(cfg)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		case err != nil && strings.Contains(err.Error(), "secret@"):
			t.Errorf("%s: the error has a secret in it: %v", name, err)
		}
	}
}
