// Package oauthlogin gets tokens for users from the token endpoint of an OAuth 2.0
// server, so that clients with a password can log in at a backend that takes only
// tokens.
//
// With the resource owner password grant (RFC 6749 section 4.3) it is the endpoint
// that decides whether a password is right. Nothing else does: a refresh token is
// neither asked for nor kept, and a token from before is used again only for who
// presents the password that it was got with, and for 5 minutes at most. So whoever
// changes a password or locks an account waits no longer than that.
//
// With the client credentials grant (section 4.4) the token says nothing about the
// user. Somebody else has to check the password before.
package oauthlogin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// MaxAge is how old a token may be that is used again.
const MaxAge = 5 * time.Minute

// maxToken is how long a token may be, in bytes, such that the message that shows it
// is not too long.
const maxToken = login.MaxMessage - 8<<10

// Source gets tokens and keeps them. It is safe for concurrent use.
type Source struct {
	cfg   Config
	cache *cache
	now   func() time.Time
}

// New returns a Source. The error is about what cannot be used of the Config.
func New(cfg Config) (*Source, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.connects()
	return &Source{cfg: cfg, cache: newCache(maxTokens), now: time.Now}, nil
}

// Token is what a backend is shown.
type Token struct {
	Secret login.Secret
	// Kept says that it was got for a login before.
	Kept bool

	holder holder
}

// Token returns a token for a user with a password. The verdict is Granted if there is
// one; else it is that of the login.
//
// With client credentials the password is not looked at. It must be known to be right.
func (s *Source) Token(ctx context.Context, user string, password login.Secret) (Token, login.Verdict) {
	endpoint, ok := s.cfg.endpoint(user)
	if !ok {
		v := login.DeniedWith("")
		v.Err = ErrTenant
		return Token{}, v
	}
	h := s.holder(endpoint, user, password)
	if secret, ok := s.cache.get(h, s.now()); ok {
		return Token{Secret: secret, Kept: true, holder: h}, login.Verdict{Result: login.Granted}
	}
	// It is as old as the question.
	asked := s.now()
	fresh, v := s.ask(ctx, endpoint, user, password)
	if v.Result != login.Granted {
		v.Upstream = s.cfg.url.Host
		return Token{}, v
	}
	t := Token{Secret: login.Secret(fresh.AccessToken), holder: h}
	age := MaxAge
	if !fresh.Expiry.IsZero() {
		age = min(age, time.Until(fresh.Expiry))
	}
	s.cache.put(h, t.Secret, asked, age)
	return t, v
}

// Drop forgets a token that the backend has not taken.
func (s *Source) Drop(t Token) { s.cache.drop(t.holder, t.Secret) }

func (s *Source) holder(endpoint, user string, password login.Secret) holder {
	if s.cfg.Grant == ClientCredentials {
		return s.cache.holder(endpoint, "", "")
	}
	return s.cache.holder(endpoint, user, string(password))
}

// ask gets a token from the endpoint.
func (s *Source) ask(ctx context.Context, endpoint, user string, password login.Secret) (*oauth2.Token, login.Verdict) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	q := &question{cfg: &s.cfg}
	token, err := s.grant(context.WithValue(ctx, oauth2.HTTPClient, q.client()), endpoint, user, password)
	if err == nil {
		err = checkToken(token)
	}
	if err == nil {
		return token, login.Verdict{Result: login.Granted}
	}
	v := s.verdict(ctx, err)
	v.Unanswered = v.Unanswered && q.sent
	return nil, v
}

func (s *Source) grant(ctx context.Context, endpoint, user string, password login.Secret) (*oauth2.Token, error) {
	// Which of the two the endpoint wants is never found out by trying: a wrong
	// password would be sent twice.
	style := oauth2.AuthStyleInParams
	if s.cfg.Basic {
		style = oauth2.AuthStyleInHeader
	}
	if s.cfg.Grant == ClientCredentials {
		cfg := clientcredentials.Config{ClientID: s.cfg.ClientID, ClientSecret: string(s.cfg.ClientSecret),
			TokenURL: endpoint, Scopes: s.cfg.Scopes, AuthStyle: style}
		return cfg.Token(ctx)
	}
	cfg := oauth2.Config{ClientID: s.cfg.ClientID, ClientSecret: string(s.cfg.ClientSecret),
		Endpoint: oauth2.Endpoint{TokenURL: endpoint, AuthStyle: style}, Scopes: s.cfg.Scopes}
	return cfg.PasswordCredentialsToken(ctx, user, string(password))
}

// errToken says that what came is nothing to show to a backend.
var errToken = errors.New("what it calls a token cannot be one")

// checkToken sees that there is nothing in a token that would make another message of
// the one that shows it.
func checkToken(t *oauth2.Token) error {
	switch {
	case !strings.EqualFold(t.Type(), "Bearer"):
		return fmt.Errorf("%w: its type is not Bearer", errToken)
	case len(t.AccessToken) > maxToken:
		return fmt.Errorf("%w: it is longer than %d bytes", errToken, maxToken)
	case strings.ContainsFunc(t.AccessToken, isNotInToken):
		return fmt.Errorf("%w: it has a character in it that no token has", errToken)
	}
	return nil
}

func isNotInToken(r rune) bool { return r <= ' ' || r > '~' }
