package imapauth

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-sasl"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// method is a way to send credentials.
type method uint8

const (
	// methodLogin is the LOGIN command (RFC 3501 section 6.2.3).
	methodLogin method = iota
	// methodPlain is AUTHENTICATE PLAIN (RFC 4616). It alone can carry an
	// authorization identity.
	methodPlain
	// methodSASLLogin is AUTHENTICATE LOGIN, the last resort.
	methodSASLLogin
	// methodRelayed passes on what the client says itself.
	methodRelayed
)

// command returns how an attempt is logged in, for Trace.
func (m method) command(a *login.Attempt) string {
	if m == methodRelayed {
		return "AUTHENTICATE " + a.Mechanism
	}
	return m.String()
}

// String returns the command.
func (m method) String() string {
	switch m {
	case methodPlain:
		return "AUTHENTICATE PLAIN"
	case methodSASLLogin:
		return "AUTHENTICATE LOGIN"
	default:
		return "LOGIN"
	}
}

// takePasswords reports whether there is any method.
func (caps capabilities) takePasswords() bool {
	return !caps.has(imap.CapLoginDisabled) || caps.has(imap.AuthCap(sasl.Plain)) || caps.has(imap.AuthCap(sasl.Login))
}

// choose picks the method for an attempt: the wanted one, and the other only
// where the backend does not offer it. It is false if the backend offers none.
func choose(caps capabilities, want AuthCommand, a *login.Attempt) (m method, ok bool) {
	if a.Relay != nil {
		return methodRelayed, caps.has(imap.AuthCap(a.Mechanism))
	}
	plain := want == Plain || want != Login && a.Form == login.FormAuthenticate
	if a.AuthzID != "" {
		// Only PLAIN can say it, so there is nothing to prefer.
		plain = true
	}
	canLogin := !caps.has(imap.CapLoginDisabled)
	canPlain := caps.has(imap.AuthCap(sasl.Plain))
	switch {
	case canPlain && (plain || !canLogin):
		return methodPlain, true
	case canLogin:
		return methodLogin, true
	default:
		return methodSASLLogin, caps.has(imap.AuthCap(sasl.Login))
	}
}

// submit sends the credentials and returns the answer. c.sent tells whether they
// were complete by then.
func (c *Client) submit(ctx context.Context, m method, a *login.Attempt) (imapwire.Response, error) {
	c.budget(maxLoginLine)
	switch m {
	case methodLogin:
		return c.submitLogin(ctx, a)
	case methodPlain:
		return c.submitSASL(ctx, sasl.NewPlainClient(a.AuthzID, a.User, string(a.Secret)), 1)
	default:
		return c.submitSASL(ctx, sasl.NewLoginClient(a.User, string(a.Secret)), 2)
	}
}

// maxLiteralMinus is the largest literal that may go uninvited with LITERAL-
// (RFC 7888 section 5).
const maxLiteralMinus = 4096

func (c *Client) submitLogin(ctx context.Context, a *login.Attempt) (imapwire.Response, error) {
	plus, minus := c.caps.has(imap.CapLiteralPlus), c.caps.has(imap.CapLiteralMinus)
	c.command("LOGIN")
	c.named = true
	for _, s := range []string{a.User, string(a.Secret)} {
		c.out = append(c.out, ' ')
		quoted := false
		if c.out, quoted = imapwire.AppendQuoted(c.out, s); quoted {
			continue
		}
		c.out = strconv.AppendInt(append(c.out, '{'), int64(len(s)), 10)
		if plus || minus && len(s) <= maxLiteralMinus {
			c.out = append(c.out, "+}\r\n"...)
		} else {
			c.out = append(c.out, '}')
			if err := c.send(ctx); err != nil {
				return imapwire.Response{}, err
			}
			r, err := c.await(ctx, true)
			if err != nil || r.Kind != imapwire.KindContinuation {
				return r, err
			}
		}
		c.out = append(c.out, s...)
	}
	return c.complete(ctx)
}

// submitSASL carries out the exchange of a mechanism in which the client speaks
// so many times. The first response goes along with the command only if there is
// no other, and the backend knows how to take it (RFC 4959).
func (c *Client) submitSASL(ctx context.Context, client sasl.Client, responses int) (imapwire.Response, error) {
	mechanism, response, err := client.Start()
	if err != nil {
		return imapwire.Response{}, fmt.Errorf("starting the SASL exchange: %w", err)
	}
	c.command("AUTHENTICATE ")
	c.out = append(c.out, mechanism...)
	if responses == 1 && c.caps.has(imap.CapSASLIR) {
		c.out = base64.StdEncoding.AppendEncode(append(c.out, ' '), response)
		return c.complete(ctx)
	}
	for n := 1; ; n++ {
		if err := c.send(ctx); err != nil {
			return imapwire.Response{}, err
		}
		r, err := c.await(ctx, true)
		if err != nil || r.Kind != imapwire.KindContinuation {
			return r, err
		}
		c.named = true
		if n > 1 {
			if response, err = nextResponse(client, r.Text); err != nil {
				return imapwire.Response{}, fmt.Errorf("%w: %w", ErrProtocol, err)
			}
		}
		c.out = base64.StdEncoding.AppendEncode(c.out, response)
		if n == responses {
			return c.complete(ctx)
		}
	}
}

func nextResponse(client sasl.Client, text []byte) ([]byte, error) {
	challenge, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return nil, err
	}
	return client.Next(challenge)
}

// complete sends the last part of the credentials. What the backend says from
// now on may be about the user; what it offered before no longer counts.
func (c *Client) complete(ctx context.Context) (imapwire.Response, error) {
	c.named, c.sent, c.caps = true, true, nil
	if err := c.send(ctx); err != nil {
		return imapwire.Response{}, err
	}
	return c.await(ctx, false)
}
