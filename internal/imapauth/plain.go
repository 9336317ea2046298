package imapauth

import (
	"context"
	"errors"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-sasl"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// ErrNoAuthzID says that the backend cannot be told an authorization identity, so that
// nobody can log in there as somebody else.
var ErrNoAuthzID = errors.New("the backend does not offer AUTH=PLAIN, without which a master user cannot log in as others; " +
	"switch it on there")

// OpenAs is Open for an attempt of somebody who is to log in as somebody else: as the
// attempt's authorization identity, which only AUTHENTICATE PLAIN can say (RFC 4616).
// If the backend does not offer that, it is sent nothing.
func (c *Client) OpenAs(ctx context.Context, a *login.Attempt) (*login.Session, login.Verdict) {
	if !c.caps.has(imap.AuthCap(sasl.Plain)) {
		c.Leave(ctx)
		return nil, c.signed(login.UnavailableFor(ErrNoAuthzID))
	}
	return c.Open(ctx, a, Plain)
}
