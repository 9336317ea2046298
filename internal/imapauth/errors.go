package imapauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Errors that a login can end with, wrapped in what was being done. They are
// for the operator and quote nothing that the backend said but the names of
// registered response codes.
var (
	// ErrNoStartTLS says that TLS is demanded and not offered.
	ErrNoStartTLS = errors.New("the backend does not offer STARTTLS")
	// ErrInjection says that somebody put clear text where TLS should begin.
	ErrInjection = errors.New("clear text follows the answer to STARTTLS")
	// ErrPreAuth says that the greeting leaves nobody to log in.
	ErrPreAuth = errors.New("the backend takes us for logged in already (PREAUTH)")
	// ErrProtocol says that an answer is not IMAP, or not to what was asked.
	ErrProtocol = errors.New("the backend's answer does not follow IMAP")
	// ErrTooMuch says that an answer broke a limit.
	ErrTooMuch = errors.New("the backend's answer is too long")
	// ErrClosed says that the connection ended.
	ErrClosed = errors.New("the backend closed the connection")
	// ErrTimeout says that the context's deadline passed.
	ErrTimeout = errors.New("the backend did not answer in time")
	// ErrRefused says that the backend answered NO or BAD.
	ErrRefused = errors.New("the backend refused")
	// ErrBye says that the backend hung up with a BYE.
	ErrBye = errors.New("the backend hung up")
	// ErrPrivacy says that the backend wants TLS before it takes passwords.
	ErrPrivacy = errors.New("the backend takes passwords only inside TLS; set tls to starttls or implicit")
	// ErrNoMechanism says that the backend takes no passwords at all.
	ErrNoMechanism = errors.New("the backend offers neither LOGIN nor AUTH=PLAIN nor AUTH=LOGIN")
	// ErrNotOffered says that the backend does not have the mechanism of a relayed
	// exchange.
	ErrNotOffered = errors.New("the backend does not offer the mechanism that the client has chosen")
	// ErrThrottled says that the backend wants to be left alone for a while.
	ErrThrottled = errors.New("the backend holds off logins")
	// ErrNotConnected says that the backend took the password, but gave no
	// access to a mailbox.
	ErrNotConnected = errors.New("the backend accepted the login, but did not open the mailbox")
	// ErrPenalty says that the backend may make us wait on purpose, which only Dovecot
	// is known to do.
	ErrPenalty = errors.New("as Dovecot does, the backend may let an address wait after wrong passwords")
	// ErrConfig says that a Config cannot be used.
	ErrConfig = errors.New("the configuration cannot be used")
)

// heldOff is the error of a backend that wants to be left alone, with the
// verdict that this comes to.
type heldOff struct{ verdict login.Verdict }

func (e *heldOff) Error() string { return e.verdict.Err.Error() }
func (e *heldOff) Unwrap() error { return e.verdict.Err }

// Failure returns the verdict for the error of a Dial or Prepare, or of several
// of them joined: Throttled if a backend asked to be left alone, else
// Unavailable.
func Failure(err error) login.Verdict {
	var held *heldOff
	if errors.As(err, &held) {
		v := held.verdict
		v.Err, v.Everybody = err, true
		return v
	}
	return login.UnavailableFor(err)
}

// ioError says what a failed read, write or handshake means. When ctx is over,
// that is the reason, whatever the connection made of it.
func ioError(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrTimeout, context.DeadlineExceeded)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrClosed
	case errors.Is(err, imapwire.ErrLineTooLong):
		return ErrTooMuch
	case errors.Is(err, imapwire.ErrBadLine):
		return ErrProtocol
	default:
		return err
	}
}

// refusal is the error for an answer that is not the OK that was asked for.
func refusal(r *imapwire.Response) error {
	if v, held := throttled(r); held {
		return &heldOff{v}
	}
	err := ErrRefused
	switch r.Status {
	case imap.StatusResponseTypeNo, imap.StatusResponseTypeBad:
	case imap.StatusResponseTypeBye:
		err = ErrBye
	case imap.StatusResponseTypePreAuth:
		return ErrPreAuth
	default:
		return ErrProtocol
	}
	if r.Code == imap.ResponseCodePrivacyRequired {
		err = ErrPrivacy
	}
	return fmt.Errorf("%w: %s", err, words(r))
}

// words names a status and its code, if that is a registered one.
func words(r *imapwire.Response) string {
	if r.Code == "" {
		return string(r.Status)
	}
	if !imapwire.KnownCode(r.Code) {
		return string(r.Status) + " and an unknown response code"
	}
	return fmt.Sprintf("%s [%s]", r.Status, r.Code)
}

// maxBackoff is the longest time that a backend may ask to be left alone. A
// larger number is more likely an error than meant.
const maxBackoff = time.Hour
