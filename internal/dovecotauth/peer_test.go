package dovecotauth

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"go.uber.org/goleak"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// greeting is what our server says with its two mechanisms, but for the three
// fields that differ from connection to connection.
var greeting = regexp.MustCompile(`^VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\n` +
	`SPID\t[1-9][0-9]*\nCUID\t[1-9][0-9]*\nCOOKIE\t[0-9a-f]{32}\nDONE\n$`)

// hello is how a client of version 1.2 begins.
const hello = "VERSION\t1\t2\nCPID\t4711\n"

// accounts is a Checker that knows a few users.
func accounts(_ context.Context, a *login.Attempt) login.Verdict {
	switch {
	case strings.HasPrefix(a.User, "disabled@"):
		return login.DeniedWith(imap.ResponseCodeContactAdmin)
	case strings.EqualFold(a.User, "alice@example.test") && a.Secret == "Secret-1":
		return login.Verdict{Result: login.Granted}
	default:
		return login.DeniedWith("")
	}
}

// offers is what Server.Mechanisms returns.
func offers(mechanisms ...string) func() []string { return func() []string { return mechanisms } }

// plain is the SASL message of PLAIN, in base64.
func plain(authzid, user, password string) string {
	return b64(authzid + "\x00" + user + "\x00" + password)
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// peer is a client in a synctest bubble: all that the server has to say is known
// as soon as the bubble is at rest.
type peer struct {
	t      *testing.T
	nc     net.Conn
	served chan error

	mu     sync.Mutex
	got    strings.Builder
	closed bool
}

// serving is what Server and UserDB have in common.
type serving interface {
	Serve(ctx context.Context, nc net.Conn) error
}

// Serve serves a new connection.
func (s *Server) Serve(ctx context.Context, nc net.Conn) error { return s.NewConn(nc).Serve(ctx) }

func dial(t *testing.T, s serving) *peer {
	t.Helper()
	ours, theirs := net.Pipe()
	p := &peer{t: t, nc: ours, served: make(chan error, 1)}
	go func() { p.served <- s.Serve(t.Context(), theirs) }()
	go p.collect()
	return p
}

func (p *peer) collect() {
	buf := make([]byte, 4096)
	for {
		n, err := p.nc.Read(buf)
		p.mu.Lock()
		p.got.Write(buf[:n])
		p.closed = err != nil
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// take returns what the server has said since the last call.
func (p *peer) take() (said string, closed bool) {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	said = p.got.String()
	p.got.Reset()
	return said, p.closed
}

func (p *peer) send(s string) {
	p.t.Helper()
	_ = p.nc.SetWriteDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(p.nc, s); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		p.t.Fatalf("sending %q: %v", s, err)
	}
}

// expect fails unless the server has said exactly that, and nothing after it.
func (p *peer) expect(want string) {
	p.t.Helper()
	said, closed := p.take()
	if said != want {
		p.t.Fatalf("server said %q, want %q", said, want)
	}
	if closed {
		p.t.Fatalf("server closed the connection after %q", said)
	}
}

func (p *peer) expectGreeting() {
	p.t.Helper()
	if said, _ := p.take(); !greeting.MatchString(said) {
		p.t.Fatalf("server greeted with %q", said)
	}
}

// expectClosed fails unless the server has said exactly that and then closed.
func (p *peer) expectClosed(want string) {
	p.t.Helper()
	said, closed := p.take()
	if said != want || !closed {
		p.t.Fatalf("server said %q, closed: %v; want %q and a close", said, closed, want)
	}
	<-p.served
}

// hangUp closes the connection and returns what Serve returned.
func (p *peer) hangUp() error {
	_ = p.nc.Close()
	return <-p.served
}

// start connects, and does the handshake.
func start(t *testing.T, s *Server) *peer {
	t.Helper()
	p := dial(t, s)
	p.expectGreeting()
	p.send(hello)
	p.expect("")
	return p
}

// bound serves with a context of its own.
type bound struct {
	serving
	ctx context.Context
}

func (b bound) Serve(_ context.Context, nc net.Conn) error { return b.serving.Serve(b.ctx, nc) }
