package imapauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Commands for a backend that is shown a token in place of a password. Of a Config
// with one of them, it is demanded that the backend offers it, and not that it takes
// passwords.
const (
	// XOAuth2 is AUTHENTICATE XOAUTH2, as Google and Microsoft have it.
	XOAuth2 AuthCommand = "xoauth2"
	// OAuthBearer is AUTHENTICATE OAUTHBEARER (RFC 7628).
	OAuthBearer AuthCommand = "oauthbearer"
)

var (
	// ErrNoTokens says that the backend does not take tokens in the way that is wanted.
	ErrNoTokens = errors.New("the backend does not offer the mechanism for tokens")
	// errNoToken keeps a password from being sent as a token, or the reverse.
	errNoToken = errors.New("the backend takes tokens, and this is none")
)

// mechanism is the SASL mechanism of a command for tokens; empty for any other.
func (c AuthCommand) mechanism() string {
	switch c {
	case XOAuth2:
		return login.XOAuth2
	case OAuthBearer:
		return login.OAuthBearer
	}
	return ""
}

// ready says why nobody could log in.
func (c *Client) ready() error {
	mechanism := c.cfg.AuthCommand.mechanism()
	switch {
	case mechanism != "" && c.caps.has(imap.AuthCap(mechanism)),
		mechanism == "" && c.caps.takePasswords():
		return nil
	case c.cfg.Mode == NoTLS:
		return ErrPrivacy
	case mechanism != "":
		return fmt.Errorf("%w: AUTH=%s", ErrNoTokens, mechanism)
	default:
		return ErrNoMechanism
	}
}

// takesAuthzID says whether a method can tell whom the user wants to be.
func (m method) takesAuthzID() bool {
	return m == methodPlain || m == methodXOAuth2 || m == methodOAuthBearer
}

// submitToken shows a token, and returns the tagged answer. A backend that refuses it
// says why in a challenge, which has to be answered before it says NO.
func (c *Client) submitToken(ctx context.Context, a *login.Attempt, mechanism string) (imapwire.Response, error) {
	c.command("AUTHENTICATE ")
	c.out = append(c.out, mechanism...)
	message := tokenMessage(a, mechanism)
	if c.caps.has(imap.CapSASLIR) {
		c.out = append(c.out, ' ')
	} else {
		if err := c.send(ctx); err != nil {
			return imapwire.Response{}, err
		}
		r, err := c.await(ctx, true)
		if err != nil || r.Kind != imapwire.KindContinuation {
			return r, err
		}
	}
	c.out = base64.StdEncoding.AppendEncode(c.out, message)
	clear(message)
	c.named, c.sent, c.caps = true, true, nil
	if err := c.send(ctx); err != nil {
		return imapwire.Response{}, err
	}
	r, err := c.await(ctx, true)
	if err != nil || r.Kind != imapwire.KindContinuation {
		return r, err
	}
	c.out = base64.StdEncoding.AppendEncode(c.out, login.Dismissal(mechanism))
	if err := c.send(ctx); err != nil {
		return imapwire.Response{}, err
	}
	r, err = c.await(ctx, false)
	if err == nil && r.Status == imap.StatusResponseTypeOK {
		return imapwire.Response{}, fmt.Errorf("%w: OK after an error of %s", ErrProtocol, mechanism)
	}
	return r, err
}

// tokenMessage is the one message that shows a token. Who wants the mailbox of
// somebody else names that one: whose the token is, it says itself.
func tokenMessage(a *login.Attempt, mechanism string) []byte {
	user := a.User
	if a.AuthzID != "" {
		user = a.AuthzID
	}
	if mechanism == login.OAuthBearer {
		return fmt.Appendf(nil, "n,a=%s,\x01auth=Bearer %s\x01\x01", login.SASLName(user), string(a.Secret))
	}
	return fmt.Appendf(nil, "user=%s\x01auth=Bearer %s\x01\x01", user, string(a.Secret))
}
