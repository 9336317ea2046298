package login

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/emersion/go-sasl"
)

// The SASL mechanisms that are relayed: the client and the backend carry them out, and
// we only pass on what they say.
const (
	XOAuth2     = "XOAUTH2"
	OAuthBearer = sasl.OAuthBearer
	ScramSHA1   = "SCRAM-SHA-1"
	ScramSHA256 = "SCRAM-SHA-256"
	CramMD5     = "CRAM-MD5"
	NTLM        = "NTLM"
	GSSAPI      = "GSSAPI"
)

// RelayedForAll are the mechanisms that can be relayed for every client.
// RelayedForIMAP are those for IMAP clients: a Kerberos ticket for a mail server is
// worth nothing at the backend, and shows nobody a user's name.
//
// There is none that binds to a channel (-PLUS), which must not get through a proxy,
// nor EXTERNAL and ANONYMOUS, by which the backend would let us in, or anybody.
var (
	RelayedForAll  = []string{XOAuth2, OAuthBearer, ScramSHA256, ScramSHA1, CramMD5}
	RelayedForIMAP = append(slices.Clone(RelayedForAll), NTLM, GSSAPI)
)

// MaxMessage is how long a message of a relayed exchange may be, in bytes.
const MaxMessage = 64 << 10

var (
	// ErrCancelled says that the client has called an exchange off.
	ErrCancelled = errors.New("authentication cancelled by the client")
	// ErrMessage says that a message is not what its mechanism has at that point.
	ErrMessage = errors.New("invalid SASL message")
)

// Relay is an exchange that the client carries on with the backend. All of it up to
// the proof, which is the message by which the client shows that it knows the secret,
// goes to and fro as it comes. The proof waits until it may be sent; what it is worth
// is the verdict.
type Relay struct {
	// Initial is the client's first message, as far as it came with the command; nil if
	// there was none, which is not the same as an empty one.
	Initial []byte
	// Ask passes a challenge of the backend on to the client and returns the answer.
	// Its error is ErrCancelled, or wraps it, if the client wants no more, has gone or
	// says nothing; ErrMessage if its answer was no message at all. Any other is not the
	// client's doing, such as the end of ctx.
	Ask func(ctx context.Context, challenge []byte) ([]byte, error)
	// Watch reads what the client says.
	Watch Watcher
	// Proof is the message that shows that the client knows the secret, once it has
	// come.
	Proof []byte

	attempt *Attempt
	// backendFirst says that the client has nothing to say before it is challenged.
	backendFirst bool
}

// Format implements fmt.Formatter, so that no verb prints what the client says.
func (*Relay) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText implements encoding.TextMarshaler, for JSON and structured logs.
func (*Relay) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Start returns the client's first message, which is nil if the backend has the first
// word, and whether it is the proof. A client that has sent none is asked for one, so
// that a backend hears of nobody who says nothing. Errors are as in Ask and Next.
func (r *Relay) Start(ctx context.Context) (message []byte, proof bool, err error) {
	switch {
	case r.backendFirst:
		return nil, false, nil
	case r.Initial == nil:
		return r.Answer(ctx, nil)
	}
	return r.read(r.Initial)
}

// Answer returns the client's answer to a challenge, and whether it is the proof.
// Errors are as in Ask and Next.
func (r *Relay) Answer(ctx context.Context, challenge []byte) (message []byte, proof bool, err error) {
	if message, err = r.Ask(ctx, challenge); err != nil {
		return nil, false, err
	}
	// What a client takes its time for is not part of the login.
	r.attempt.Start = time.Now()
	return r.read(message)
}

func (r *Relay) read(message []byte) ([]byte, bool, error) {
	if len(message) > MaxMessage {
		return nil, false, ErrMessage
	}
	proof, err := r.Watch.Next(message)
	if err != nil {
		return nil, false, err
	}
	if message == nil {
		message = []byte{} // it has been said
	}
	if proof {
		r.Proof = message
	}
	return message, proof, nil
}

// A Watcher reads the client's messages of one exchange, in their order, for what
// they show of the client, which is worth nothing before the backend has agreed.
type Watcher interface {
	// Next says whether a message is the proof. By then the attempt has all that the
	// exchange shows, and Check has nothing against it. The error is ErrMessage, or
	// wraps it, if no client would say such a thing; the backend is not told then.
	Next(message []byte) (proof bool, err error)
}

// NewRelay readies an attempt for the exchange of a mechanism, which fills it in.
// initial and ask are as in Relay. The error is ErrMechanism, or ErrMessage if the
// mechanism has nothing that the client could say first.
func NewRelay(mechanism string, a *Attempt, initial []byte, ask func(context.Context, []byte) ([]byte, error)) error {
	w := watcher(mechanism, a)
	switch {
	case w == nil:
		return ErrMechanism
	case mechanism == CramMD5 && initial != nil:
		return ErrMessage
	}
	a.Form, a.Mechanism = FormAuthenticate, mechanism
	a.Relay = &Relay{Initial: initial, Ask: ask, Watch: &ending{Watcher: w}, attempt: a, backendFirst: mechanism == CramMD5}
	if !hasToken(mechanism) {
		a.oneTime()
	}
	return nil
}

// Dismissal is the client's answer to what a backend says after the proof: it is due,
// and means nothing.
func Dismissal(mechanism string) []byte {
	if mechanism == OAuthBearer {
		return []byte{1} // RFC 7628 section 3.2.3
	}
	return nil
}

// hasToken says whether a mechanism's proof is a token, which is the same each time.
func hasToken(mechanism string) bool { return mechanism == XOAuth2 || mechanism == OAuthBearer }

// oneTime makes the attempt's secret one that no other exchange has.
func (a *Attempt) oneTime() { a.Secret, a.OneTime = Secret(rand.Text()), true }

// Unproven fills in what an exchange has not shown that ended before the proof, so that
// it can be counted: who has not said his name is known by his address.
func (a *Attempt) Unproven() {
	if a.User == "" {
		a.nameless()
	}
	a.oneTime()
}

// nameless fills in what is shown of somebody whose name only the backend knows.
func (a *Attempt) nameless() {
	addr := "unknown"
	if a.Remote.IsValid() {
		addr = a.Remote.Unmap().WithZone("").String()
	}
	a.User, a.AuthzID, a.Nameless = a.Mechanism+":"+addr, "", true
}

// IsRelayed says whether a mechanism is one that is relayed.
func IsRelayed(mechanism string) bool { return slices.Contains(RelayedForIMAP, mechanism) }
