package dovecotauth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/emersion/go-sasl"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

const (
	// DefaultDeadline is how long a password check may take. Postfix waits 10
	// seconds for an answer and then drops the connection.
	DefaultDeadline = 8 * time.Second

	// handshakeTimeout bounds the time until VERSION and CPID have come. Known
	// clients send them at once, some of them only after they read our DONE.
	handshakeTimeout = time.Minute
	// lineTimeout bounds the time from the first byte of a line to its last.
	lineTimeout = time.Minute
	// writeTimeout bounds how long a client may leave an answer unread.
	writeTimeout = 10 * time.Second
	// continueTimeout is how long a request waits for the CONT of its client,
	// as in Dovecot. Postfix abandons requests without a word.
	continueTimeout = 150 * time.Second
	// relayTimeout is the same for a request whose exchange is relayed, which keeps
	// the backend waiting.
	relayTimeout = 30 * time.Second
	// maxChallenge bounds what the backend may ask a client, in base64: lines are
	// about as long, at the most, as those that we take.
	maxChallenge = 16 << 10

	// maxChecks is the number of passwords that are checked at a time for one
	// connection. While there are that many, nothing is read from it.
	maxChecks = 64
	// maxHeld is the number of refusals that are held back besides.
	maxHeld = 1024
	// maxWaiting is the number of requests that wait for a CONT on one
	// connection. One more, and the oldest is forgotten.
	maxWaiting = 64
	// maxExchanges is the number of relayed exchanges on one connection, those included
	// that are coming to their end. While there are that many, no other is begun. It is
	// more than may wait for a client, so that some always end.
	maxExchanges = 256
	// maxQueue is the number of answers that wait to be written.
	maxQueue = 64
)

// OnUnavailable is what a client is told if a password could not be checked.
type OnUnavailable uint8

const (
	// Disconnect resets the connection. That is the one thing that makes
	// Postfix and Exim tell their client to come back later (454, 435); they
	// turn every FAIL into 535, and mail programs ask for a new password then.
	// If the connection has other checks under way it is left alone, and the
	// answer is as with Fail.
	Disconnect OnUnavailable = iota
	// Fail answers FAIL with the code temp_fail.
	Fail
)

// Server serves connections of the auth-client protocol, version 1.2. Its
// fields must not change while it serves. It is safe for concurrent use.
type Server struct {
	// Mechanisms returns the SASL mechanisms that are offered at the moment, in this
	// order, out of login.Mechanisms and login.RelayedForAll. It is called for each
	// greeting and each AUTH, and what it returns is not changed. Default: PLAIN and
	// LOGIN.
	Mechanisms func() []string
	// Deadline is how long a check may take. When it has passed, the answer is
	// as if Check had returned an unavailable verdict. Default: DefaultDeadline.
	Deadline time.Duration
	// OnUnavailable says how unavailable and throttled verdicts are answered.
	// Default: Disconnect.
	OnUnavailable OnUnavailable
	// AllowDelegates lets names through that ask for the mailbox of somebody
	// else: alice/shared, DOM\alice\shared, and a SASL authorization identity
	// other than the user. Default: refused without asking.
	AllowDelegates bool
	// Identity makes the name that the client is told in user= out of an
	// attempt, whose Secret may be missing yet. Mail servers decide by it which
	// sender addresses somebody may use. A name that SafeName does not like, or
	// an error, refuses the attempt. Default: DefaultIdentity.
	Identity func(*login.Attempt) (string, error)
	// Check decides about a password. It must return when its context is done.
	// Required.
	Check login.Checker
	// Refused, if it is set, is told of attempts that Check is not asked about,
	// since nobody may log in with such a name.
	Refused func(context.Context, *login.Attempt, login.Verdict)
	// Hold, if it is set, waits until a verdict may be told. It must return when
	// its context is done.
	Hold func(context.Context, *login.Attempt, login.Verdict)
	// Logger gets what the operator should know. Default: none.
	Logger *zap.Logger
}

func (s *Server) mechanisms() []string {
	if s.Mechanisms == nil {
		return login.Mechanisms
	}
	return s.Mechanisms()
}

func (s *Server) deadline() time.Duration {
	if s.Deadline <= 0 {
		return DefaultDeadline
	}
	return s.Deadline
}

func orNop(l *zap.Logger) *zap.Logger {
	if l == nil {
		return zap.NewNop()
	}
	return l
}

// NewConn returns a connection to serve. It does nothing until Serve is called.
func (s *Server) NewConn(nc net.Conn) *Conn {
	id := randomHex(8)
	c := &Conn{
		lines:     newLineReader(nc, maxAuthLine),
		waiting:   make(map[uint32]*request),
		recoverer: recoverer{orNop(s.Logger).With(zap.String("connection", id))},
		told:      s.mechanisms(),
		id:        id,
		nc:        nc,
		out:       make(chan []byte, maxQueue),
		written:   make(chan struct{}),
		slots:     make(chan struct{}, maxChecks),
		exchanges: make(chan struct{}, maxExchanges),
		held:      make(chan struct{}, maxHeld),
		checking:  make(map[uint32]*request),
	}
	c.server.Store(s)
	return c
}

// Serve talks to the client until it closes the connection, breaks the rules, or
// ctx is done. It closes the connection: with a TCP reset if the decision was
// ours, since Postfix does not see another end of a connection that it keeps in
// store, and would fail the next login on it. It is called once.
//
// The error says why the conversation ended, and is nil if the client ended it.
func (c *Conn) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.mu.Lock()
	c.ctx, c.cancel = ctx, cancel
	c.mu.Unlock()
	return c.serve()
}

// connections counts connections, since each tells its client a different CUID.
var connections atomic.Uint32

// flags tell a client how much a mechanism reveals, as Dovecot does: some clients
// use none with plaintext unless TLS protects it.
var flags = map[string]string{
	sasl.Plain:        "\tplaintext",
	sasl.Login:        "\tplaintext",
	login.XOAuth2:     "\tplaintext",
	login.OAuthBearer: "\tplaintext",
	login.CramMD5:     "\tdictionary\tactive",
	login.ScramSHA1:   "\tmutual-auth",
	login.ScramSHA256: "\tmutual-auth",
}

// greet returns all that the server says before it reads. The order matters:
// Postfix and Exim look for the mechanisms before SPID. So does the size:
// Radicale reads at most 1024 bytes, once.
func greet(mechanisms []string) []byte {
	var b strings.Builder
	b.WriteString("VERSION\t1\t2\n")
	for _, m := range mechanisms {
		b.WriteString("MECH\t" + m + flags[m] + "\n")
	}
	b.WriteString("SPID\t" + strconv.Itoa(os.Getpid()) + "\n")
	b.WriteString("CUID\t" + strconv.FormatUint(uint64(connections.Add(1)), 10) + "\n")
	b.WriteString("COOKIE\t" + randomHex(16) + "\nDONE\n")
	return []byte(b.String())
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // which never fails
	return hex.EncodeToString(b)
}

// reset closes a connection so that the other end is told at once: on TCP by a
// reset instead of an orderly end.
func reset(nc net.Conn) {
	if l, ok := nc.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = nc.Close()
}

// ended says whether the client has gone, which is no error.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
