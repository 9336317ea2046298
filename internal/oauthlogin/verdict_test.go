package oauthlogin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// entra is what Microsoft says, with the password and the name in it, which must never
// be seen again.
func entra(word string, number int) string {
	return fmt.Sprintf(`{"error":%q,"error_description":"AADSTS%d: Something about %s and %s.\r\nTrace ID: 1","error_codes":[%d],"timestamp":"x"}`,
		word, number, testUser, testSecret, number)
}

func TestVerdicts(t *testing.T) {
	const (
		failed  = imap.ResponseCodeAuthenticationFailed
		authz   = imap.ResponseCodeAuthorizationFailed
		expired = imap.ResponseCodeExpired
		admin   = imap.ResponseCodeContactAdmin
		away    = imap.ResponseCodeUnavailable
	)
	wrong := login.Verdict{Result: login.Denied, Code: failed}
	numbered := login.Verdict{Result: login.Denied, Code: failed, Err: ErrWrong}
	mfa := login.Verdict{Result: login.Denied, Code: authz, Proven: true, Err: ErrMore}
	old := login.Verdict{Result: login.Denied, Code: expired, Proven: true, Err: ErrExpired}
	ours := login.Verdict{Code: away, Err: ErrSettings}
	open := func(err error) login.Verdict { return login.Verdict{Code: away, Unanswered: true, Err: err} }
	held := func(d time.Duration, err error) login.Verdict {
		return login.Verdict{Result: login.Throttled, Code: away, Backoff: d, Unanswered: true, Err: err}
	}
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   login.Verdict
	}{
		{"RFC 6749", 400, `{"error":"invalid_grant"}`, wrong},
		{"Keycloak", 401, `{"error":"invalid_grant","error_description":"Invalid user credentials"}`, wrong},
		{"with status 200", 200, `{"error":"invalid_grant"}`, wrong},
		{"Auth0", 403, `{"error":"mfa_required","mfa_token":"x"}`, mfa},
		{"client", 401, `{"error":"invalid_client"}`, ours},
		{"unauthorized client", 400, `{"error":"unauthorized_client"}`, ours},
		{"grant", 400, `{"error":"unsupported_grant_type"}`, ours},
		{"scope", 400, `{"error":"invalid_scope"}`, ours},
		{"request", 400, `{"error":"invalid_request"}`, ours},
		{"temporarily", 400, `{"error":"temporarily_unavailable"}`, open(ErrTrouble)},
		{"unknown word", 400, `{"error":"tuesday"}`, open(ErrUnknown)},
		{"no word at all", 400, `{"error":"` + testSecret + `"}`, open(ErrUnknown)},

		{"wrong password", 400, entra("invalid_grant", 50126), numbered},
		{"no such user", 400, entra("invalid_grant", 50034), numbered},
		{"no password", 400, entra("invalid_grant", 50056), numbered},
		{"no tenant of that name", 400, entra("invalid_request", 50059), numbered},
		{"locked", 400, entra("invalid_grant", 50053), held(time.Minute, ErrLocked)},
		{"expired", 400, entra("invalid_grant", 50055), old},
		{"expired in AD", 400, entra("invalid_grant", 50144), old},
		{"disabled", 400, entra("invalid_grant", 50057), login.Verdict{Result: login.Denied, Code: admin, Err: ErrDisabled}},
		{"multi-factor", 400, entra("invalid_grant", 50076), mfa},
		{"enrollment", 400, entra("interaction_required", 50079), mfa},
		{"external challenge", 400, entra("interaction_required", 50158), mfa},
		{"conditional access", 400, entra("access_denied", 53003), mfa},
		{"not assigned", 400, entra("invalid_grant", 50105), mfa},
		{"security defaults", 400, entra("access_denied", 530035), login.Verdict{Result: login.Denied, Code: authz, Err: ErrMore}},
		{"consent", 400, entra("invalid_grant", 65001), ours},
		{"client secret", 401, entra("invalid_client", 7000215), ours},
		{"client secret expired", 401, entra("invalid_client", 7000222), ours},
		{"application", 400, entra("unauthorized_client", 700016), ours},
		{"public client", 401, entra("invalid_client", 7000218), ours},
		{"tenant", 400, entra("invalid_request", 90002), ours},
		{"Active Directory away", 400, entra("invalid_grant", 80002), open(ErrUnknown)},
		{"new number", 400, entra("invalid_grant", 99999), open(ErrUnknown)},
		{"too many questions", 400, entra("invalid_request", 50196), held(time.Minute, ErrBusy)},
		{"description alone", 400, `{"error":"invalid_grant","error_description":"AADSTS50076: more"}`, mfa},
		{"codes alone", 400, `{"error":"invalid_grant","error_codes":[1, 50055]}`, old},
		{"number behind", 400, `{"error":"invalid_grant","error_description":"not AADSTS50076"}`, wrong},
		{"codes of another type", 400, `{"error":"invalid_grant","error_codes":"x"}`, wrong},

		{"busy", 429, `{"error":"invalid_grant"}`, held(0, ErrBusy)},
		{"down", 500, `{"error":"invalid_grant"}`, open(ErrTrouble)},
		{"away", 503, `down for maintenance`, open(ErrTrouble)},
		{"redirect", 302, ``, open(ErrAnswer)},
		{"not found", 404, `<html>` + testSecret, open(ErrAnswer)},
		{"no JSON", 200, `<html>` + testSecret, open(ErrAnswer)},
		{"no token", 200, `{"token_type":"Bearer"}`, open(ErrAnswer)},
		{"other type of token", 200, `{"access_token":"x","token_type":"DPoP"}`, open(ErrAnswer)},
		{"line end in the token", 200, `{"access_token":"x\r\nA LOGOUT","token_type":"Bearer"}`, open(ErrAnswer)},
		{"end in the token", 200, `{"access_token":"x\u0001","token_type":"Bearer"}`, open(ErrAnswer)},
		{"long token", 200, `{"access_token":"` + strings.Repeat("x", maxToken+1) + `","token_type":"Bearer"}`, open(ErrAnswer)},
		{"long answer", 200, `{"access_token":"x","token_type":"Bearer","x":"` + strings.Repeat("x", maxAnswer) + `"}`, open(ErrAnswer)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEndpoint(t, func(w http.ResponseWriter, form url.Values, n int) {
				w.Header().Set("Location", "/elsewhere")
				says(tc.status, tc.body)(w, form, n)
			})
			s := newSource(t, config(e.URL))
			_, v := s.Token(testContext(t), testUser, testSecret)
			if !errors.Is(v.Err, tc.want.Err) || v.Err != nil && tc.want.Err == nil {
				t.Errorf("error %v, want %v", v.Err, tc.want.Err)
			}
			if (v.Result == login.Unavailable) != errors.Is(v.Err, ErrNoToken) {
				t.Errorf("%s with the error %v", v.Result, v.Err)
			}
			for _, hidden := range []string{testSecret, testUser, clientPass, "html"} {
				if v.Err != nil && strings.Contains(v.Err.Error(), hidden) {
					t.Errorf("the error quotes %q: %v", hidden, v.Err)
				}
			}
			if host, _ := url.Parse(e.URL); v.Upstream != host.Host {
				t.Errorf("upstream %q", v.Upstream)
			}
			if got := shown(v); got != shown(tc.want) {
				t.Errorf("verdict %s, want %s (%v)", got, shown(tc.want), v.Err)
			}
			if n := len(e.questions()); n != 1 {
				t.Errorf("%d questions", n)
			}
		})
	}
}

// shown is a verdict without its error and upstream.
func shown(v login.Verdict) string {
	return fmt.Sprintf("%s [%s] for %s, proven %v, unanswered %v", v.Result, v.Code, v.Backoff, v.Proven, v.Unanswered)
}

// A program that is refused is the operator's trouble, whatever it is told.
func TestVerdictsForPrograms(t *testing.T) {
	for body, err := range map[string]error{
		`{"error":"invalid_grant"}`:        ErrSettings,
		`{"error":"invalid_client"}`:       ErrSettings,
		entra("invalid_grant", 50126):      ErrSettings,
		entra("unauthorized_client", 7000): ErrSettings,
	} {
		cfg := config(newEndpoint(t, says(400, body)).URL)
		cfg.Grant = ClientCredentials
		_, v := newSource(t, cfg).Token(testContext(t), testUser, testSecret)
		if v.Result != login.Unavailable || v.Unanswered || !errors.Is(v.Err, err) {
			t.Errorf("%s: %s (%v)", body, shown(v), v.Err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Now()
	for text, want := range map[string]time.Duration{
		"": 0, "17": 17 * time.Second, "-1": 0, "soon": 0, "99999999": time.Hour, "99999999999999": 0,
		now.Add(90 * time.Second).UTC().Format(http.TimeFormat): 90 * time.Second,
		now.Add(-time.Hour).UTC().Format(http.TimeFormat):       0,
	} {
		if got := backoff(text, now.Truncate(time.Second)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	e := newEndpoint(t, func(w http.ResponseWriter, form url.Values, n int) {
		w.Header().Set("Retry-After", "30")
		says(http.StatusTooManyRequests, "")(w, form, n)
	})
	if _, v := newSource(t, config(e.URL)).Token(testContext(t), testUser, testSecret); v.Backoff != 30*time.Second {
		t.Errorf("held off for %s, want 30s", v.Backoff)
	}
}

// Nobody there has counted the password.
func TestDown(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	_, v := newSource(t, config("http://"+ln.Addr().String())).Token(testContext(t), testUser, testSecret)
	if v.Result != login.Unavailable || v.Unanswered || !errors.Is(v.Err, ErrNoToken) {
		t.Errorf("verdict %s (%v)", shown(v), v.Err)
	}
}

// An endpoint that never answers, or not to the end, costs no more time than there is.
func TestTimeout(t *testing.T) {
	for name, begin := range map[string]func(http.ResponseWriter){
		"silent": func(http.ResponseWriter) {},
		"half an answer": func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(`{"access_token":"x",`))
			_ = http.NewResponseController(w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			e := newEndpoint(t, func(w http.ResponseWriter, _ url.Values, _ int) {
				begin(w)
				<-over
			})
			defer close(over)
			s := newSource(t, config(e.URL))
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, v := s.Token(ctx, testUser, testSecret)
			if v.Result != login.Unavailable || !v.Unanswered || !errors.Is(v.Err, ErrTimeout) {
				t.Errorf("verdict %s (%v)", shown(v), v.Err)
			}
		})
	}
}

func TestHangsUp(t *testing.T) {
	e := newEndpoint(t, func(http.ResponseWriter, url.Values, int) { panic(http.ErrAbortHandler) })
	_, v := newSource(t, config(e.URL)).Token(testContext(t), testUser, testSecret)
	if v.Result != login.Unavailable || !v.Unanswered || !errors.Is(v.Err, ErrNoToken) {
		t.Errorf("verdict %s (%v)", shown(v), v.Err)
	}
}

// Environment variables do not send passwords through a proxy.
func TestNoProxy(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	for url, want := range map[string]string{
		"https://login.example.org/token": "login.example.org:443", "https://[2001:db8::1]:8443/token": "[2001:db8::1]:8443",
		"http://127.0.0.1/token": "127.0.0.1:80",
	} {
		s := newSource(t, config(url))
		var dialed string
		s.cfg.dial = func(_ context.Context, _, addr string) (net.Conn, error) {
			dialed = addr
			return nil, io.EOF
		}
		if s.Token(testContext(t), testUser, testSecret); dialed != want {
			t.Errorf("%s: dialed %q, want %q", url, dialed, want)
		}
	}
}
