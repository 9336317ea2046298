//go:build integration

package integration

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
)

// tokenServer is where Dovecot asks whose a token is (RFC 7662).
type tokenServer struct {
	*httptest.Server

	mu    sync.Mutex
	users map[string]string
	asked map[string]int
}

func newTokenServer(t *testing.T) *tokenServer {
	s := &tokenServer{users: make(map[string]string), asked: make(map[string]int)}
	s.Server = httptest.NewServer(http.HandlerFunc(s.introspect))
	t.Cleanup(s.Close)
	return s
}

// Issue makes a token for the user. For nobody, it is one that is worth nothing.
func (s *tokenServer) Issue(user, token string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if user != "" {
		s.users[token] = user
	}
	return secret(token)
}

// Asked says how often Dovecot has asked about a token.
func (s *tokenServer) Asked(token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[token]
}

func (s *tokenServer) introspect(w http.ResponseWriter, r *http.Request) {
	token := r.FormValue("token")
	s.mu.Lock()
	s.asked[token]++
	user, active := s.users[token]
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"active": active, "username": user})
}

// Settings have Dovecot ask here about what is not a password.
func (s *tokenServer) Settings(t *testing.T) string {
	file := writeFile(t, filepath.Join(shortDir(t), "oauth2.conf.ext"), `
introspection_mode = post
introspection_url = `+s.URL+`/introspect
username_attribute = username
active_attribute = active
active_value = true
`)
	return "passdb {\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  args = " + file + "\n}\n"
}
