package imapfront

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// login answers LOGIN (RFC 3501 section 6.2.3).
func (f *front) login(ctx context.Context, cmd *command) error {
	if !f.takesPasswords() {
		f.printf("%s NO [%s] LOGIN is disabled, use AUTHENTICATE.", cmd.tag, imap.ResponseCodeCannot)
		return nil
	}
	a := args{cmd: cmd}
	user, err := a.astring()
	var secret string
	if err == nil {
		secret, err = a.astring()
	}
	if err != nil || !a.end() {
		return f.bad(cmd, invalidArguments)
	}
	attempt := f.attempt()
	attempt.Form, attempt.Mechanism = login.FormLogin, "LOGIN"
	attempt.User, attempt.Secret = user, login.Secret(secret)
	return f.decide(ctx, cmd, attempt)
}

// authenticate answers AUTHENTICATE (RFC 3501 section 6.2.2), with or without
// an initial response (RFC 4959).
func (f *front) authenticate(ctx context.Context, cmd *command) error {
	words := strings.SplitN(strings.TrimRight(string(cmd.lines[0]), " "), " ", 4)
	if len(cmd.lines) != 1 || len(words) < 2 || len(words) > 3 || words[0] != "" || words[1] == "" {
		return f.bad(cmd, invalidArguments)
	}
	mechanism := strings.ToUpper(words[1])
	if !slices.Contains(f.mechanisms(), mechanism) {
		f.printf("%s NO [%s] Unsupported authentication mechanism.", cmd.tag, imap.ResponseCodeCannot)
		return nil
	}
	var initial []byte
	if len(words) == 3 {
		var err error
		if initial, err = decode(words[2]); err != nil {
			return f.bad(cmd, invalidArguments)
		}
	}
	if login.IsRelayed(mechanism) {
		return f.relay(ctx, cmd, mechanism, initial)
	}
	attempt := f.attempt()
	err := f.exchange(mechanism, initial, attempt)
	switch {
	case errors.Is(err, login.ErrCancelled):
		return f.cancelled(cmd, false)
	case errors.Is(err, errExchange):
		return f.bad(cmd, invalidArguments)
	case err != nil:
		return f.hangUp(ctx, err)
	}
	if mechanism == login.External {
		attempt.Certificate = f.certificate()
	}
	return f.decide(ctx, cmd, attempt)
}

var errExchange = errors.New("invalid SASL exchange")

// exchange carries a SASL exchange through, until the attempt is complete.
func (f *front) exchange(mechanism string, response []byte, a *login.Attempt) error {
	server, err := login.NewSASLServer(mechanism, a, nil)
	if err != nil {
		return err
	}
	for {
		// go-sasl's PLAIN server says done together with an error.
		challenge, done, err := server.Next(response)
		if err != nil {
			return errExchange
		}
		if done {
			return nil
		}
		f.printf("+ %s", base64.StdEncoding.EncodeToString(challenge))
		if err := f.flush(); err != nil {
			return err
		}
		line, err := f.r.ReadLine(maxCommand)
		if errors.Is(err, imapwire.ErrBadLine) {
			return errExchange
		}
		if err != nil {
			return fmt.Errorf("reading a SASL response: %w", err)
		}
		if string(line) == "*" {
			return login.ErrCancelled
		}
		if response, err = base64.StdEncoding.DecodeString(string(line)); err != nil {
			return errExchange
		}
	}
}

// decode decodes an initial response, of which "=" is the empty one.
func decode(s string) ([]byte, error) {
	if s == "=" {
		return []byte{}, nil
	}
	return base64.StdEncoding.DecodeString(s)
}

func (f *front) attempt() *login.Attempt {
	a := &login.Attempt{
		ID: f.id, Service: "imap", Secured: f.tls != nil,
		Remote: f.remote.Addr(), RemotePort: f.remote.Port(), Local: f.local,
	}
	if f.tls != nil {
		a.TLS = f.tls.Version
	}
	return a
}

// decide asks the backend and tells the client.
func (f *front) decide(ctx context.Context, cmd *command, a *login.Attempt) error {
	a.Start = time.Now()
	session, verdict := f.cfg.Open(ctx, a)
	return f.tell(cmd, a, session, verdict)
}

// tell tells the client what has become of an attempt.
func (f *front) tell(cmd *command, a *login.Attempt, session *login.Session, verdict login.Verdict) error {
	switch verdict.Result {
	case login.Granted:
		f.session = &Session{Conn: f.conn, User: a.User, Remote: a.Remote, TLS: f.tls, Backend: session}
		f.printf("* CAPABILITY %s", f.amend(relayedCaps(slices.Concat(session.Caps, session.Added))))
		f.printf("%s OK Logged in", cmd.tag)
		return nil
	case login.Denied:
		return f.denied(cmd, verdict.Code)
	case login.Throttled:
		return f.refused(cmd, verdict.Code, "Too many logins, try again later.")
	default:
		return f.refused(cmd, imap.ResponseCodeUnavailable, "The mail server is not available, try again later.")
	}
}

// denied refuses a login for its password.
func (f *front) denied(cmd *command, code imap.ResponseCode) error {
	return f.refused(cmd, code, deniedText(code))
}

// refused refuses a login, and hangs up on a client that goes on trying, whatever
// the reason is: what a backend says to a wrong password may look like anything.
func (f *front) refused(cmd *command, code imap.ResponseCode, text string) error {
	f.printf("%s NO [%s] %s", cmd.tag, code, text)
	return f.failed()
}

// failed counts a try to log in, and ends a conversation with too many of them.
func (f *front) failed() error {
	if f.failures++; f.failures >= f.cfg.MaxAuthFailures {
		f.printf("* BYE Too many failed logins.")
		return ErrTooManyFailures
	}
	return nil
}

// deniedText is the same for a wrong user and a wrong password, always.
func deniedText(code imap.ResponseCode) string {
	switch code {
	case imap.ResponseCodeExpired:
		return "Password expired"
	case imap.ResponseCodeContactAdmin, imap.ResponseCodeNoPerm:
		return "Account disabled, contact your administrator"
	case imap.ResponseCodeAuthorizationFailed:
		return "Authorization failed"
	default:
		return "Authentication failed"
	}
}

// privacyRequired refuses a password without TLS, before it is sent if the
// client waits to be asked. Who goes on without TLS does not want to hear.
func (f *front) privacyRequired(cmd *command) error {
	f.printf("%s NO [%s] Cleartext authentication disallowed, use TLS.", cmd.tag, imap.ResponseCodePrivacyRequired)
	return f.misbehaved()
}
