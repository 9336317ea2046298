package caddyimap

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/oauthlogin"
)

// tokens is an OAuth 2.0 server and what a backend would ask it.
type tokens struct {
	*httptest.Server
	mu sync.Mutex
	// answer, if it is set, is the status and the body for all.
	status int
	answer string
	// asked are the passwords that it was asked about, and valid the tokens that it has
	// given and not revoked.
	asked []string
	given int
	valid map[string]string
}

const clientSecret = "secret-of-the-proxy"

func newTokens(t *testing.T) *tokens {
	t.Helper()
	s := &tokens{valid: make(map[string]string)}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *tokens) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	user, password, grant := r.PostFormValue("username"), r.PostFormValue("password"), r.PostFormValue("grant_type")
	s.asked = append(s.asked, password)
	switch {
	case s.status != 0:
		w.WriteHeader(s.status)
		fmt.Fprint(w, s.answer)
	case r.PostFormValue("client_id") != "proxy" || r.PostFormValue("client_secret") != clientSecret:
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client"}`)
	case grant == "password" && (password != testSecret || !strings.HasSuffix(user, "@example.org")):
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant"}`)
	default:
		s.given++
		token := fmt.Sprintf("token-number-%d", s.given)
		s.valid[token] = user
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, token)
	}
}

// say has it answer everybody the same.
func (s *tokens) say(status int, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.answer = status, answer
}

// revoke makes all tokens worthless.
func (s *tokens) revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.valid)
}

// takes says whether a token is the user's. Those of a program are anybody's.
func (s *tokens) takes(user, token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner, ok := s.valid[token]
	return ok && (owner == user || owner == "")
}

func (s *tokens) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// online is a backend that looks like Exchange Online.
func (w *world) online(s *tokens) *imaptest.Fake {
	p := w.profile()
	p.Inside = "IMAP4 IMAP4rev1 AUTH=XOAUTH2 AUTH=OAUTHBEARER LOGINDISABLED SASL-IR NAMESPACE"
	p.Login = func(l imaptest.Login) string {
		if s.takes(l.User, l.Secret) {
			return "OK AUTHENTICATE completed."
		}
		return "NO AUTHENTICATE failed."
	}
	return w.start(p)
}

// byTokens has a backend with the option.
func (w *world) byTokens(s *tokens, o *OAuth2, addr string) *Backend {
	b := w.backend(addr)
	o.TokenURL, o.ClientID, o.ClientSecret = s.URL+"/token", "proxy", clientSecret
	b.OAuth2 = o
	return b
}

// hidesTokens fails the test if the log has a token or a secret in it.
func (c *config) hidesTokens(t *testing.T) {
	t.Helper()
	for _, found := range imaptest.Revealed(c.log.bytes(), testSecret, clientSecret, "token-number", "wrong-guess") {
		t.Errorf("the log has in it %s", found)
	}
}

func (w *world) loaded(t *testing.T, g *Guard, backends map[string]*Backend) *config {
	t.Helper()
	c := w.load(&App{Backends: backends, Guard: g})
	c.start()
	t.Cleanup(c.stop)
	return c
}

// open opens a session and closes it.
func open(t *testing.T, r *BackendRef, a *login.Attempt) login.Verdict {
	t.Helper()
	session, v := r.open(t.Context(), a)
	if session != nil {
		session.Close()
	}
	return v
}

func TestByToken(t *testing.T) {
	for _, mechanism := range login.TokenMechanisms {
		t.Run(mechanism, func(t *testing.T) {
			w := newWorld(t)
			s := newTokens(t)
			fake := w.online(s)
			c := w.loaded(t, strict(), map[string]*Backend{"online": w.byTokens(s, &OAuth2{Mechanism: mechanism}, fake.Addr())})
			ref := c.ref("")
			// With a cold cache, and with a warm one.
			check(t, ref, from("192.0.2.1", testUser, "wrong-guess-1"), login.Denied)
			check(t, ref, attempt(), login.Granted)
			if v := open(t, ref, attempt()); v.Result != login.Granted || v.Final != nil {
				t.Errorf("session: %v (%v)", v.Result, v.Err)
			}
			check(t, ref, from("192.0.2.1", testUser, "wrong-guess-2"), login.Denied)
			check(t, ref, from("192.0.2.1", testUser, "wrong-guess-2"), login.Denied) // remembered
			if n := s.questions(); n != 3 {
				t.Errorf("%d questions, want 3", n)
			}
			for _, l := range fake.Logins() {
				if l.Mechanism != mechanism || l.User != testUser || l.Secret != "token-number-1" || !l.TLS {
					t.Errorf("the backend saw %+v", l)
				}
			}
			if n := len(fake.Logins()); n != 2 {
				t.Errorf("%d logins at the backend, want 2", n)
			}
			if n := c.metrics()[`caddy_imap_login_phase_duration_seconds_count{backend="online",phase="token"}`]; n < 3 {
				t.Errorf("measured %v questions, want 3 at least", n)
			}
			// The client's mechanism is logged, and not ours.
			if line := c.log.lines("info", "login")[1]; line["mechanism"] != "PLAIN" {
				t.Errorf("logged %v", line)
			}
			c.hidesTokens(t)
		})
	}
}

// An IMAP client notices nothing.
func TestByTokenForClients(t *testing.T) {
	w := newWorld(t)
	s := newTokens(t)
	fake := w.online(s)
	c := w.loaded(t, strict(), map[string]*Backend{"online": w.byTokens(s, &OAuth2{}, fake.Addr())})
	h := webmail(c)
	if got := logInFrom(t, h, "192.0.2.1", testUser, testSecret); got != "OK Logged in" {
		t.Errorf("right: %s", got)
	}
	if got := logInFrom(t, h, "192.0.2.1", testUser, "wrong-guess"); !strings.HasPrefix(got, "NO [AUTHENTICATIONFAILED]") {
		t.Errorf("wrong: %s", got)
	}
	s.say(400, `{"error":"invalid_grant","error_codes":[50055]}`)
	if got := logInFrom(t, h, "192.0.2.1", "bob@example.org", testSecret); !strings.HasPrefix(got, "NO [EXPIRED]") {
		t.Errorf("expired: %s", got)
	}
	c.hidesTokens(t)
}

// Guesses count as with passwords, whatever the cache has.
func TestByTokenGuessing(t *testing.T) {
	w := newWorld(t)
	s := newTokens(t)
	c := w.loaded(t, strict(), map[string]*Backend{"online": w.byTokens(s, &OAuth2{}, w.online(s).Addr())})
	ref := c.ref("")
	check(t, ref, from("192.0.2.1", testUser, testSecret), login.Granted)
	for i := range 10 {
		want := login.Denied
		if i >= 3 {
			want = login.Throttled
		}
		check(t, ref, from("198.51.100.1", testUser, fmt.Sprintf("wrong-guess-%d", i)), want)
	}
	if n := s.questions(); n != 4 {
		t.Errorf("%d questions, want 4", n)
	}
	check(t, ref, from("192.0.2.1", testUser, testSecret), login.Granted)
}

// A right password that is not enough is no guess: many of them, from one address,
// ban nobody and hold no account. Yet each is asked about once only.
func TestByTokenProven(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		code imap.ResponseCode
	}{
		"multi-factor": {`{"error":"invalid_grant","error_codes":[50076]}`, imap.ResponseCodeAuthorizationFailed},
		"expired":      {`{"error":"invalid_grant","error_codes":[50055]}`, imap.ResponseCodeExpired},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := newTokens(t)
			c := w.loaded(t, strict(), map[string]*Backend{"online": w.byTokens(s, &OAuth2{}, w.online(s).Addr())})
			ref := c.ref("")
			s.say(400, tc.body)
			for i := range 30 {
				for range 2 {
					if v := check(t, ref, from("192.0.2.1", fmt.Sprintf("user%d@example.org", i), testSecret), login.Denied); v.Code != tc.code {
						t.Fatalf("code %s, want %s", v.Code, tc.code)
					}
				}
			}
			if n := s.questions(); n != 30 {
				t.Errorf("%d questions, want 30", n)
			}
			for i := range 6 { // more than account_failures
				check(t, ref, from("192.0.2.1", testUser, fmt.Sprint("another-", i)), login.Denied)
			}
			s.say(0, "")
			check(t, ref, from("192.0.2.1", testUser, testSecret), login.Granted)
		})
	}
}

// The kept token has become worthless: the password is asked about again, and the
// backend once more.
func TestByTokenRevoked(t *testing.T) {
	w := newWorld(t)
	s := newTokens(t)
	fake := w.online(s)
	c := w.loaded(t, strict(), map[string]*Backend{"online": w.byTokens(s, &OAuth2{}, fake.Addr())})
	ref := c.ref("")
	check(t, ref, attempt(), login.Granted)
	s.revoke()
	check(t, ref, attempt(), login.Granted)
	if n, logins := s.questions(), len(fake.Logins()); n != 2 || logins != 3 {
		t.Errorf("%d questions and %d logins, want 2 and 3", n, logins)
	}
	// Now the user himself is locked out.
	s.revoke()
	s.say(400, `{"error":"invalid_grant"}`)
	check(t, ref, attempt(), login.Denied)
	if n, logins := s.questions(), len(fake.Logins()); n != 3 || logins != 4 {
		t.Errorf("%d questions and %d logins, want 3 and 4", n, logins)
	}
}

// A new token that the backend does not take is no wrong password.
func TestByTokenRefused(t *testing.T) {
	w := newWorld(t)
	s := newTokens(t)
	p := w.profile()
	p.Inside = "IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED SASL-IR"
	p.Login = func(imaptest.Login) string { return "NO AUTHENTICATE failed." }
	fake := w.start(p)
	c := w.loaded(t, strict(), map[string]*Backend{"online": w.byTokens(s, &OAuth2{}, fake.Addr())})
	for i := range 25 { // more than ban a source
		a := from("192.0.2.1", fmt.Sprintf("user%d@example.org", i), testSecret)
		if v := check(t, c.ref(""), a, login.Denied); v.Code != imap.ResponseCodeAuthorizationFailed || !errors.Is(v.Err, errTokenRefused) {
			t.Fatalf("%s (%v)", v.Code, v.Err)
		}
	}
	if n := len(fake.Logins()); n != 25 {
		t.Errorf("%d logins, want one for each", n)
	}
}

// Exchange says OK and then knows nothing of the user: with a token that is no sign of a
// wrong password.
func TestByTokenNotConnected(t *testing.T) {
	w := newWorld(t)
	s := newTokens(t)
	p := imaptest.Exchange(w.ca.ServerTLS())
	p.Inside = "IMAP4 IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED SASL-IR NAMESPACE"
	p.After = p.Inside + " BACKENDAUTHENTICATE"
	p.Unconnected = func(imaptest.Login) bool { return true }
	c := w.loaded(t, strict(), map[string]*Backend{"online": w.byTokens(s, &OAuth2{}, w.start(p).Addr())})
	for range 10 {
		if v := check(t, c.ref(""), attempt(), login.Throttled); v.Suspect {
			t.Fatal("it is suspected to be wrong")
		}
	}
	if n := s.questions(); n != 1 {
		t.Errorf("%d questions, want 1", n)
	}
}

func TestByTokenUnavailable(t *testing.T) {
	w := newWorld(t)
	s := newTokens(t)
	c := w.loaded(t, strict(), map[string]*Backend{"online": w.byTokens(s, &OAuth2{}, w.online(s).Addr())})
	s.say(401, `{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys are expired."}`)
	for range 30 {
		v := check(t, c.ref(""), attempt(), login.Unavailable)
		if !errors.Is(v.Err, oauthlogin.ErrSettings) || v.Upstream != strings.TrimPrefix(s.URL, "http://") {
			t.Fatalf("at %s: %v", v.Upstream, v.Err)
		}
	}
	found := false
	for _, line := range c.log.lines("error", "") {
		found = found || strings.Contains(fmt.Sprint(line), "token_url") && strings.Contains(fmt.Sprint(line), "AADSTS7000222")
	}
	if !found {
		t.Errorf("the operator is not told what to do:\n%s", c.log.bytes())
	}
	s.say(0, "")
	check(t, c.ref(""), attempt(), login.Granted)
	c.hidesTokens(t)
}

// Both together have auth_timeout.
func TestByTokenTimeout(t *testing.T) {
	w := newWorld(t)
	over := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	t.Cleanup(silent.Close)
	defer close(over)
	s := &tokens{Server: silent}
	b := w.byTokens(s, &OAuth2{}, w.fake().Addr())
	b.AuthTimeout = caddy.Duration(100 * time.Millisecond)
	c := w.loaded(t, strict(), map[string]*Backend{"online": b})
	start := time.Now()
	if v := check(t, c.ref(""), attempt(), login.Unavailable); !errors.Is(v.Err, oauthlogin.ErrTimeout) {
		t.Errorf("%v", v.Err)
	}
	if d := time.Since(start); d > patience/2 {
		t.Errorf("it took %s", d)
	}
}

// With client credentials the other backend decides, and the guard counts once.
func TestVerify(t *testing.T) {
	w := newWorld(t)
	s := newTokens(t)
	fake, directory := w.online(s), w.fake()
	c := w.loaded(t, strict(), map[string]*Backend{
		"online":    w.byTokens(s, &OAuth2{Grant: "client_credentials", Verify: "directory"}, fake.Addr()),
		"directory": w.backend(directory.Addr()),
	})
	ref := c.ref("online")
	for i := range 3 {
		check(t, ref, from("198.51.100.1", testUser, fmt.Sprint("wrong-guess-", i)), login.Denied)
	}
	check(t, ref, from("198.51.100.1", testUser, "wrong-guess-4"), login.Throttled)
	if n := s.questions(); n != 0 {
		t.Errorf("%d questions for wrong passwords", n)
	}
	if n := len(directory.Logins()); n != 3 {
		t.Errorf("%d wrong passwords at the directory, want 3", n)
	}
	s.mu.Lock()
	s.asked = nil
	s.mu.Unlock()
	for range 3 {
		check(t, ref, from("192.0.2.1", "alice@example.org", testSecret), login.Throttled) // the budget is used up
	}
	if _, err := c.app.liftAccount(t.Context(), testUser); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		check(t, ref, from("192.0.2.1", testUser, testSecret), login.Granted)
	}
	if v := open(t, ref, attempt()); v.Result != login.Granted {
		t.Errorf("session: %v (%v)", v.Result, v.Err)
	}
	if n := s.questions(); n != 1 {
		t.Errorf("%d questions, want one for all", n)
	}
	if n := len(directory.Logins()); n != 7 {
		t.Errorf("%d logins at the directory, want each checked", n)
	}
	// Nobody gets at the mailbox of somebody else, whose password he may even know.
	for _, change := range []func(*login.Attempt){
		func(a *login.Attempt) { a.AuthzID = "bob@example.org" },
		func(a *login.Attempt) { a.User = "alice@example.org/bob" },
		func(a *login.Attempt) { a.User = `example.org\alice\bob` },
	} {
		a := attempt()
		change(a)
		if v := check(t, ref, a, login.Denied); v.Code != imap.ResponseCodeAuthorizationFailed {
			t.Errorf("%s for %s: %s", a.User, a.AuthzID, v.Code)
		}
	}
	if n := len(directory.Logins()); n != 7 {
		t.Errorf("the directory was asked about them")
	}
	c.hidesTokens(t)
}

// Whom the directory knows is who gets the mailbox.
func TestVerifyNames(t *testing.T) {
	w := newWorld(t)
	s := newTokens(t)
	p := w.profile()
	p.Login = func(l imaptest.Login) string {
		if l.User == "alice" && l.Secret == testSecret {
			return "OK"
		}
		return "NO [AUTHENTICATIONFAILED]"
	}
	fake := w.online(s)
	online := w.byTokens(s, &OAuth2{Grant: "client_credentials", Verify: "directory"}, fake.Addr())
	online.Username = "{imap.user.local}@example.org"
	directory := w.backend(w.start(p).Addr())
	directory.Username = "{imap.user.local}"
	c := w.loaded(t, &Guard{Off: true, FailureDelay: 1}, map[string]*Backend{"online": online, "directory": directory})
	for user, want := range map[string]login.Result{
		"alice": login.Granted, "alice@example.org": login.Granted, "alice@elsewhere.example": login.Granted, `X\alice`: login.Granted,
		`x\alice@elsewhere.example`: login.Denied, `a@b@c`: login.Denied, "bob": login.Denied, `x\y\alice`: login.Denied, "x/alice": login.Denied,
	} {
		a := attempt()
		a.User = user
		check(t, c.ref("online"), a, want)
	}
	for _, l := range fake.Logins() {
		if l.User != "alice@example.org" {
			t.Errorf("the token was used for %s", l.User)
		}
	}
}

func TestOAuth2Setup(t *testing.T) {
	t.Setenv("OAUTH2_EMPTY", "")
	for name, tc := range map[string]struct {
		change func(*Backend)
		want   string
	}{
		"no URL":     {func(b *Backend) { b.OAuth2.TokenURL = "" }, "oauth2: token_url is missing"},
		"clear text": {func(b *Backend) { b.OAuth2.TokenURL = "http://login.example.org" }, "in clear text"},
		"TLS and clear text": {func(b *Backend) {
			b.OAuth2.TokenURL, b.OAuth2.TLS = "HTTP://localhost/", &reverseproxy.TLSConfig{ServerName: "x"}
		}, "tls_server_name, tls_trust_pool and tls_client_auth cannot be used"},
		"secret and placeholder":  {func(b *Backend) { b.OAuth2.ClientSecret = "{" + clientSecret + "}" }, "client_secret: a placeholder in it is unknown or empty"},
		"unreadable secret":       {func(b *Backend) { b.OAuth2.ClientSecret = "{file./nowhere/secret}" }, "client_secret: the file of a placeholder in it cannot be read"},
		"unreadable ID":           {func(b *Backend) { b.OAuth2.ClientID = "{file./nowhere/id}" }, "client_id: the file of a placeholder in it cannot be read"},
		"empty placeholder":       {func(b *Backend) { b.OAuth2.ClientSecret = "{env.OAUTH2_EMPTY}" }, "client_secret: "},
		"unknown placeholder":     {func(b *Backend) { b.OAuth2.TokenURL = "https://x/{imap.user.domain}/" }, "token_url: "},
		"grant":                   {func(b *Backend) { b.OAuth2.Grant = "implicit" }, `grant "implicit": must be one of password, client_credentials`},
		"client_auth":             {func(b *Backend) { b.OAuth2.ClientAuth = "tls" }, `client_auth "tls": must be one of post, basic`},
		"mechanism":               {func(b *Backend) { b.OAuth2.Mechanism = "PLAIN" }, `mechanism "PLAIN": must be one of XOAUTH2, OAUTHBEARER`},
		"auth_command":            {func(b *Backend) { b.AuthCommand = "login" }, "auth_command means nothing"},
		"master_user":             {func(b *Backend) { b.MasterUser, b.MasterPassword = "m", "n" }, "nor that of a master user"},
		"delegate":                {func(b *Backend) { b.Delegate = "{imap.user}/{imap.authzid}" }, "delegate means nothing"},
		"not verified":            {func(b *Backend) { b.OAuth2.Grant = "client_credentials" }, "anybody could log in as anybody"},
		"verify with password":    {func(b *Backend) { b.OAuth2.Verify = "other" }, "with grant password"},
		"verify unknown":          {func(b *Backend) { b.OAuth2.Grant, b.OAuth2.Verify = "client_credentials", "nobody" }, "oauth2: verify nobody: "},
		"verify itself":           {func(b *Backend) { b.OAuth2.Grant, b.OAuth2.Verify = "client_credentials", "exchange" }, "for itself"},
		"verify by a verifier":    {func(b *Backend) { b.OAuth2.Grant, b.OAuth2.Verify = "client_credentials", "chained" }, "name other"},
		"verify each other":       {func(b *Backend) { b.OAuth2.Grant, b.OAuth2.Verify = "client_credentials", "mutual" }, "name a backend that is asked with passwords"},
		"verify without a domain": {func(b *Backend) { b.OAuth2.Grant, b.OAuth2.Verify = "client_credentials", "local" }, "set it to {imap.user}"},
		"refresh token":           {func(b *Backend) { b.OAuth2.Scopes = []string{"offline_access"} }, "never used"},
		"tenant without place":    {func(b *Backend) { b.OAuth2.Tenants = map[string]string{"example.org": "x"} }, "{imap.tenant}"},
		"tenant twice": {func(b *Backend) {
			b.OAuth2.TokenURL += "{imap.tenant}"
			b.OAuth2.Tenants = map[string]string{"example.org": "x", "Example.org": "x"}
		}, "there twice"},
		"not verified TLS": {func(b *Backend) { b.OAuth2.TLS = &reverseproxy.TLSConfig{InsecureSkipVerify: true} }, "could let anybody in"},
		"handshake_timeout": {func(b *Backend) { b.OAuth2.TLS = &reverseproxy.TLSConfig{HandshakeTimeout: 1} },
			"handshake_timeout and except_ports cannot be used"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			block := func() *OAuth2 {
				return &OAuth2{TokenURL: "https://login.example.org/", ClientID: "x", ClientSecret: clientSecret}
			}
			b, other, local, chained := w.backend("127.0.0.1:1"), w.backend("127.0.0.1:2"), w.backend("127.0.0.1:3"), w.backend("127.0.0.1:4")
			b.OAuth2, chained.OAuth2 = block(), block()
			local.Username = "{imap.user.local}"
			chained.OAuth2.Grant, chained.OAuth2.Verify = "client_credentials", "other"
			mutual := w.backend("127.0.0.1:5")
			mutual.OAuth2 = block()
			mutual.OAuth2.Grant, mutual.OAuth2.Verify = "client_credentials", "exchange"
			backends := map[string]*Backend{"exchange": b, "other": other, "local": local, "chained": chained}
			tc.change(b)
			if b.OAuth2.Verify == "mutual" {
				backends["mutual"] = mutual
			}
			_, err := w.tryLoad(&App{Backends: backends})
			if err == nil || !strings.Contains(err.Error(), "backend exchange: oauth2: ") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), clientSecret) {
				t.Errorf("the error has the secret in it: %v", err)
			}
		})
	}
}

// Secrets come from files and the environment, and the tenant from the name.
func TestOAuth2Placeholders(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(clientSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OAUTH2_CLIENT", "proxy")
	t.Setenv("OAUTH2_TENANT", "11-22")
	var mu sync.Mutex
	var paths []string
	s := newTokens(t)
	u, _ := url.Parse(s.URL)
	t.Setenv("OAUTH2_HOST", u.Host)
	s.Config.Handler = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			paths = append(paths, r.URL.Path)
			mu.Unlock()
			next.ServeHTTP(w, r)
		})
	}(s.Config.Handler)
	b := w.byTokens(s, &OAuth2{}, w.online(s).Addr())
	b.OAuth2.TokenURL = "http://{env.OAUTH2_HOST}/{imap.tenant}/token"
	b.OAuth2.Tenants = map[string]string{"Example.ORG": "{env.OAUTH2_TENANT}"}
	b.OAuth2.ClientID, b.OAuth2.ClientSecret = "{env.OAUTH2_CLIENT}", "{file."+file+"}"
	c := w.loaded(t, strict(), map[string]*Backend{"online": b})
	check(t, c.ref(""), attempt(), login.Granted)
	stranger := attempt()
	stranger.User = "alice@elsewhere.example"
	if v := check(t, c.ref(""), stranger, login.Denied); !errors.Is(v.Err, oauthlogin.ErrTenant) {
		t.Errorf("%v", v.Err)
	}
	if mu.Lock(); len(paths) != 1 || paths[0] != "/11-22/token" {
		t.Errorf("asked at %q", paths)
	}
	mu.Unlock()
	if c.app.Backends["online"].OAuth2.ClientSecret != "{file."+file+"}" {
		t.Error("the configuration has the secret in it")
	}
}

// A client with a token of its own is passed through, and the endpoint is not asked.
func TestOwnTokenBesideOAuth2(t *testing.T) {
	w := newWorld(t)
	s := newTokens(t)
	fake := w.online(s)
	c := w.loaded(t, strict(), map[string]*Backend{"online": w.byTokens(s, &OAuth2{}, fake.Addr())})
	s.mu.Lock()
	s.valid["own-token"] = testUser
	s.mu.Unlock()
	for token, want := range map[string]login.Result{"own-token": login.Granted, "bad-token": login.Denied} {
		a := attempt()
		a.User, a.Secret = "", ""
		ask := func(context.Context, []byte) ([]byte, error) { return nil, login.ErrCancelled }
		if err := login.NewRelay(login.XOAuth2, a, []byte("user="+testUser+"\x01auth=Bearer "+token+"\x01\x01"), ask); err != nil {
			t.Fatal(err)
		}
		check(t, c.ref(""), a, want)
	}
	if n := s.questions(); n != 0 {
		t.Errorf("%d questions", n)
	}
}
