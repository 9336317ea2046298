// Package login holds the words that every room of the proxy shares about one
// login: who tries to get in (Attempt), what came of it (Verdict), and what is
// left in our hands when it was granted (Session).
//
// The package knows no protocol. The IMAP face and the Dovecot auth-client
// listener fill in an Attempt, the backend leg decides it, and each face
// translates the Verdict into its own words.
package login

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/emersion/go-imap/v2"
)

// Secret is a password. It prints as "[redacted]" wherever it is formatted,
// logged or marshalled; only a conversion to string reveals it.
type Secret string

const redacted = "[redacted]"

// Format implements fmt.Formatter, so that no verb prints the secret.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText implements encoding.TextMarshaler, for JSON and structured logs.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Form is the way in which credentials reached us. The backend is asked in the
// same form where it can be, because Exchange accepts some spellings of a user
// name with LOGIN and not with AUTHENTICATE, and the reverse.
type Form uint8

const (
	// FormAuthenticate means a SASL exchange: IMAP AUTHENTICATE, SMTP AUTH.
	FormAuthenticate Form = iota
	// FormLogin means the LOGIN command of RFC 3501 section 6.2.3.
	FormLogin
)

// Attempt is one try of somebody to get in.
type Attempt struct {
	// ID names the connection in logs.
	ID string
	// Service is what the client wants to use: "imap", or the service= of the
	// auth protocol, such as "smtp".
	Service string
	// User is the authentication identity as it was typed. If Nameless is set, only the
	// backend knows it, and User is what is shown instead, with the address.
	User     string
	Nameless bool
	// AuthzID is the authorization identity of SASL PLAIN (RFC 4616). It is
	// empty if the client named none, or the same as User.
	AuthzID string
	// NoDelegates says that nobody may ask for the mailbox of somebody else, even
	// if it is the backend's name for the user that does.
	NoDelegates bool
	// Secret is the password as it was typed, or the token of a mechanism that has
	// one. If OneTime is set, it is neither: what the client proves is another each
	// time, and Secret is only what tells this exchange from all others.
	Secret  Secret
	OneTime bool
	// Relay, if it is set, is the exchange by which the client logs in at the backend
	// itself, and there is no password to log in with. User, AuthzID and Secret are
	// filled in as the exchange shows them.
	Relay *Relay
	// Certificate, if it is set, is the client's, verified, and vouches for User. There
	// is no password then, and none is tried: neither does a refusal say anything about
	// the client.
	Certificate *x509.Certificate
	// Form and Mechanism say how the credentials came.
	Form      Form
	Mechanism string
	// Remote is the address of the person who logs in, as far as it is known, and
	// RemotePort the port; 0 if that is not known.
	Remote     netip.Addr
	RemotePort uint16
	// Local is the address that this person connected to, as far as it is known.
	Local netip.AddrPort
	// TLS is the version of TLS that protected the credentials on their way
	// to us, or to the mail server that asks us; 0 if none or not known.
	TLS uint16
	// Secured says that the way was protected, even if TLS is not known.
	Secured bool
	// Start is when the credentials were complete, or the client's last message of a
	// Relay so far.
	Start time.Time
}

// ErrUnsafe says that credentials hold something that no backend should ever
// be asked about.
var ErrUnsafe = errors.New("empty, too long, or with a NUL, CR or LF in it, or a control character in the name")

// Longer names and passwords than these, in bytes, nobody has. Exchange does not
// say that such a password is wrong, but that the command is too long.
// Tokens may be longer.
const (
	maxUser   = 1024
	maxSecret = 6 << 10
)

// Check refuses credentials that must never reach a backend: a user name or password
// that is empty or absurdly long, and any NUL, CR or LF, which could end a command
// early. No name has other control characters either: a backend might leave them out,
// and each spelling with some would be another account to whoever counts. What a
// certificate vouches for is a name without a password.
func (a *Attempt) Check() error {
	if a.Certificate != nil {
		return a.checkVouched()
	}
	most := maxSecret
	if a.Relay != nil {
		most = MaxMessage
	}
	if len(a.User) > maxUser || len(a.AuthzID) > maxUser || len(a.Secret) > most {
		return ErrUnsafe
	}
	if a.User == "" || a.Secret == "" || strings.ContainsAny(string(a.Secret), "\x00\r\n") ||
		strings.ContainsFunc(a.User+a.AuthzID, unicode.IsControl) {
		return ErrUnsafe
	}
	return nil
}

// Result is what became of an attempt. Its zero value is Unavailable, so that a
// verdict nobody filled in lets nobody in and accuses nobody.
type Result uint8

const (
	// Unavailable means that the backend could not be asked, or gave no answer
	// that decides. It is the operator's trouble and says nothing about the
	// password.
	Unavailable Result = iota
	// Throttled means that the backend, or our guard, wants to be left alone
	// for a while. It says nothing about the password.
	Throttled
	// Denied means that the backend has refused these credentials.
	Denied
	// Granted means that the backend has let this user in.
	Granted
)

// String returns the word for logs and metrics.
func (r Result) String() string {
	switch r {
	case Granted:
		return "granted"
	case Denied:
		return "denied"
	case Throttled:
		return "throttled"
	default:
		return "unavailable"
	}
}

// Verdict is the one answer to an attempt.
type Verdict struct {
	Result Result
	// Code is the RFC 5530 response code that an IMAP client is told. It is
	// empty only if the attempt was granted.
	Code imap.ResponseCode
	// Backoff is how long a throttling backend asked to be left alone; 0 if it
	// named no time.
	Backoff time.Duration
	// Suspect says that the password may be wrong, although the backend did not
	// say so: Exchange lets some users in and then knows nothing of them.
	Suspect bool
	// Unanswered says that the backend has the credentials, and that its answer,
	// if there was one, says nothing about them: it may have counted them.
	Unanswered bool
	// Proven says that the password is right, although the login was denied: there is
	// something else that keeps the user out. It is no guess, and counts as none.
	Proven bool
	// Everybody says that a throttling backend has not been told who wants to log
	// in. So it holds off everybody, and not one user.
	Everybody bool
	// Final is what the backend said last to the client of a Relay, if that was after
	// the proof: the client is to be told of it, and to answer, before it is told the
	// verdict. Its answer means nothing any more. It is nil if there is nothing.
	Final []byte
	// Upstream is the address that decided, or that was asked last.
	Upstream string
	// Err tells the operator what went wrong. It never holds a secret or a raw
	// protocol line. It is nil if the attempt was granted or plainly denied.
	Err error
}

// UnavailableFor returns the verdict for a failure on the way to an answer.
func UnavailableFor(err error) Verdict {
	return Verdict{Result: Unavailable, Code: imap.ResponseCodeUnavailable, Err: err}
}

// DeniedWith returns the verdict for a refusal with the code, which may be
// empty.
func DeniedWith(code imap.ResponseCode) Verdict {
	if code == "" {
		code = imap.ResponseCodeAuthenticationFailed
	}
	return Verdict{Result: Denied, Code: code}
}

// ThrottledFor returns the verdict for a backend that holds users off.
func ThrottledFor(code imap.ResponseCode, backoff time.Duration, err error) Verdict {
	return Verdict{Result: Throttled, Code: code, Backoff: backoff, Err: err}
}

// Session is a logged-in connection to a backend. Whoever receives it closes
// it.
type Session struct {
	// Conn is positioned behind Buffered: what the backend said after it
	// granted the login and before we stopped reading.
	Conn     net.Conn
	Buffered []byte
	// Caps are the capabilities that the backend has after login, and Added those
	// that a client has besides. Extender, if it is set, is what answers them, and for
	// whoever relays the session to know.
	Caps, Added []string
	Extender    any
	// Backend is the name of the backend, and Upstream the address of its server.
	Backend, Upstream string
	// Owner tells the mailboxes of one user at one backend from all others; empty if it
	// is not known whose they are.
	Owner string
	// Stay, if it is set, is done when the session is to end because its upstream
	// is taken out of service.
	Stay context.Context
	// End, if it is set, is to be called when the session is over. Close does.
	End func()
}

// Close ends the session, which can have ended before.
func (s *Session) Close() {
	_ = s.Conn.Close()
	if s.End != nil {
		s.End()
	}
}

// Opener logs an attempt in at a backend and hands the session over. The
// session is nil unless the verdict is Granted. It returns when ctx is done.
type Opener func(ctx context.Context, a *Attempt) (*Session, Verdict)

// Checker asks the backend about an attempt and leaves no session behind.
type Checker func(ctx context.Context, a *Attempt) Verdict
