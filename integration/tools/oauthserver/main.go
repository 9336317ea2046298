// Command oauthserver is an OAuth 2.0 server for tests. It grants tokens for the
// passwords of users and to programs, and tells who asks whether a token is good
// (RFC 7662). Users come and go while it runs.
package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/openid"
	"github.com/ory/fosite/storage"
	"github.com/ory/fosite/token/jwt"
)

// server is the OAuth 2.0 server.
type server struct {
	mu       sync.Mutex
	store    *storage.MemoryStore
	provider fosite.OAuth2Provider
}

func main() {
	store := storage.NewMemoryStore()
	config := &fosite.Config{AccessTokenLifespan: time.Hour, GlobalSecret: []byte(rand.Text() + rand.Text())[:32], ClientSecretsHasher: plain{}}
	s := &server{store: store, provider: compose.Compose(config, store,
		&compose.CommonStrategy{CoreStrategy: compose.NewOAuth2HMACStrategy(config)},
		compose.OAuth2ResourceOwnerPasswordCredentialsFactory,
		compose.OAuth2ClientCredentialsGrantFactory,
		compose.OAuth2TokenIntrospectionFactory)}
	listen := flag.String("listen", "", "where to serve HTTP")
	listenTLS := flag.String("listen-tls", "", "where to serve HTTPS")
	cert := flag.String("cert", "", "the certificate for HTTPS")
	key := flag.String("key", "", "its key")
	flag.Func("client", "a client, as id:secret", func(text string) error {
		id, secret, found := strings.Cut(text, ":")
		if !found {
			return errors.New("no secret")
		}
		store.Clients[id] = &fosite.DefaultClient{ID: id, Secret: []byte(secret), GrantTypes: fosite.Arguments{"password", "client_credentials"},
			Scopes: fosite.Arguments{"imap"}}
		return nil
	})
	flag.Func("user", "a user, as name=password", func(text string) error {
		name, password, _ := strings.Cut(text, "=")
		store.Users[name] = storage.MemoryUserRelation{Username: name, Password: password}
		return nil
	})
	flag.Parse()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("POST /introspect", s.introspect)
	mux.HandleFunc("PUT /users/{name}", s.putUser)
	mux.HandleFunc("DELETE /users/{name}", s.deleteUser)
	ended := make(chan error)
	go serve(ended, func() error {
		return (&http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: time.Minute}).ListenAndServe()
	})
	go serve(ended, func() error {
		return (&http.Server{Addr: *listenTLS, Handler: mux, ReadHeaderTimeout: time.Minute}).ListenAndServeTLS(*cert, *key)
	})
	log.Fatal(<-ended)
}

func serve(ended chan<- error, listen func() error) { ended <- listen() }

// newSession is what is remembered of a token.
func newSession(user string) *openid.DefaultSession {
	return &openid.DefaultSession{Claims: &jwt.IDTokenClaims{Subject: user}, Headers: &jwt.Headers{}, Subject: user, Username: user}
}

func (s *server) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx := r.Context()
	request, err := s.provider.NewAccessRequest(ctx, r, newSession(""))
	if err == nil {
		user := r.PostFormValue("username")
		session := request.GetSession().(*openid.DefaultSession)
		session.Subject, session.Username = user, user
		for _, scope := range request.GetRequestedScopes() {
			request.GrantScope(scope)
		}
		var response fosite.AccessResponder
		if response, err = s.provider.NewAccessResponse(ctx, request); err == nil {
			fmt.Println("granted", request.GetGrantTypes(), user)
			fmt.Println("token", response.GetAccessToken())
			s.provider.WriteAccessResponse(ctx, w, request, response)
			return
		}
	}
	fmt.Println("refused", r.PostFormValue("grant_type"), r.PostFormValue("username"), fosite.ErrorToRFC6749Error(err).ErrorField)
	s.provider.WriteAccessError(ctx, w, request, err)
}

func (s *server) introspect(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx := r.Context()
	response, err := s.provider.NewIntrospectionRequest(ctx, r, newSession(""))
	if err == nil && response.IsActive() {
		if user := response.GetAccessRequester().GetSession().GetUsername(); user != "" && s.store.Users[user].Username == "" {
			err = fosite.ErrInactiveToken // the user is gone
		}
	}
	if err != nil {
		fmt.Println("introspection refused:", fosite.ErrorToRFC6749Error(err).ErrorField)
		s.provider.WriteIntrospectionError(ctx, w, err)
		return
	}
	s.provider.WriteIntrospectionResponse(ctx, w, response)
}

func (s *server) putUser(w http.ResponseWriter, r *http.Request) {
	password, err := io.ReadAll(io.LimitReader(r.Body, 1024))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := r.PathValue("name")
	s.store.Users[name] = storage.MemoryUserRelation{Username: name, Password: string(password)}
}

func (s *server) deleteUser(_ http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.store.Users, r.PathValue("name"))
}
