package imapfront

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The credentials that the backend of these tests knows. The secret is long
// enough to be found in base64.
const (
	testUser   = "alice@example.org"
	testSecret = "correct-horse-battery"
)

// What a client is told first, and what there is to it.
const (
	clearCaps     = "IMAP4rev1 SASL-IR LITERAL+ ID STARTTLS LOGINDISABLED"
	secureCaps    = "IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN AUTH=LOGIN"
	clearGreeting = "* OK [CAPABILITY " + clearCaps + "] mail.example.org ready."
	greeting      = "* OK [CAPABILITY " + secureCaps + "] mail.example.org ready."
	listed        = " OK Pre-login capabilities listed, post-login capabilities have more."
	failed        = " NO [AUTHENTICATIONFAILED] Authentication failed"
	privacy       = " NO [PRIVACYREQUIRED] Cleartext authentication disallowed, use TLS."
	backendCaps   = "* CAPABILITY IMAP4rev1 IDLE"
)

// patience bounds a test that is not about time; it passes only in failure.
const patience = 15 * time.Second

// testCA is shared, since keys take time to make.
var testCA = struct {
	once           sync.Once
	server, client *tls.Config
}{}

// serverTLS is as the handler makes it: TLS 1.2 or newer, ALPN imap.
func serverTLS(tb testing.TB) *tls.Config { tb.Helper(); initTLS(tb); return testCA.server }

// clientTLS trusts serverTLS.
func clientTLS(tb testing.TB) *tls.Config { tb.Helper(); initTLS(tb); return testCA.client.Clone() }

func initTLS(tb testing.TB) {
	tb.Helper()
	testCA.once.Do(func() {
		ca := imaptest.NewCA(tb)
		testCA.server, testCA.client = ca.ServerTLS(), ca.ClientTLS("localhost")
		testCA.server.MinVersion = tls.VersionTLS12
		testCA.server.NextProtos = []string{protocol}
	})
}

// offers is what Config.Mechanisms returns.
func offers(mechanisms ...string) func() []string { return func() []string { return mechanisms } }

// backend lets testUser in and nobody else, unless it is told otherwise.
type backend struct {
	tb testing.TB
	// verdict replaces the one of a backend that knows testUser.
	verdict func(*login.Attempt) login.Verdict
	// caps and early are what a session begins with.
	caps  []string
	early string
	// clear says that attempts without TLS are in order.
	clear bool

	mu    sync.Mutex
	asked []login.Attempt
	// refused counts those that no backend is asked about.
	refused int
	// conns are the backend's ends of the sessions.
	conns []net.Conn
}

// open is a login.Opener.
func (b *backend) open(ctx context.Context, a *login.Attempt) (*login.Session, login.Verdict) {
	if a.Check() != nil { // as whoever stands between us and a backend has to
		b.mu.Lock()
		defer b.mu.Unlock()
		b.refused++
		return nil, login.DeniedWith("")
	}
	if !a.Secured && !b.clear {
		b.tb.Error("the backend was asked without TLS")
	}
	b.mu.Lock()
	b.asked = append(b.asked, *a)
	b.mu.Unlock()
	verdict := login.DeniedWith("")
	switch {
	case b.verdict != nil:
		verdict = b.verdict(a)
	case a.User == testUser && a.Secret == testSecret:
		verdict = login.Verdict{Result: login.Granted}
	}
	if verdict.Result != login.Granted {
		return nil, verdict
	}
	ours, theirs := net.Pipe()
	b.mu.Lock()
	b.conns = append(b.conns, theirs)
	b.mu.Unlock()
	b.tb.Cleanup(func() { _ = theirs.Close() })
	caps := b.caps
	if caps == nil {
		caps = []string{"IMAP4rev1", "IDLE"}
	}
	return &login.Session{Conn: ours, Caps: caps, Buffered: []byte(b.early)}, verdict
}

// attempts are those that the backend was asked about.
func (b *backend) attempts() []login.Attempt {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]login.Attempt(nil), b.asked...)
}

// untouched fails the test if the backend was asked anything.
func (b *backend) untouched() {
	b.tb.Helper()
	if n := len(b.attempts()); n > 0 {
		b.tb.Errorf("the backend was asked %d times", n)
	}
}

// standing is TLS that somebody else has terminated.
func standing() *tls.ConnectionState { return &tls.ConnectionState{Version: tls.VersionTLS13} }

// setup is what a conversation is held with. Its zero value is a listener with
// STARTTLS and a backend that knows testUser.
type setup struct {
	ctx     context.Context
	backend *backend
	// tls is that which stands already.
	tls *tls.ConnectionState
	// amend changes the configuration.
	amend func(*Config)
	// wrap changes the connection that is served.
	wrap func(net.Conn) net.Conn
}

// peer is a client, played by a test.
type peer struct {
	tb      testing.TB
	backend *backend
	conn    net.Conn
	br      *bufio.Reader

	done    chan struct{}
	session *Session
	err     error
}

// dial has a client served over TCP.
func (s setup) dial(tb testing.TB) *peer {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	theirs, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	ours, err := ln.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	_ = theirs.SetDeadline(time.Now().Add(patience))
	return s.serve(tb, ours, theirs)
}

// pipe has a client served in memory, where time can be made up.
func (s setup) pipe(tb testing.TB) *peer {
	tb.Helper()
	ours, theirs := net.Pipe()
	return s.serve(tb, ours, theirs)
}

func (s setup) serve(tb testing.TB, ours, theirs net.Conn) *peer {
	tb.Helper()
	if s.ctx == nil {
		s.ctx = context.Background()
	}
	if s.backend == nil {
		s.backend = &backend{}
	}
	s.backend.tb = tb
	cfg := &Config{
		Banner: "mail.example.org", LoginTimeout: time.Minute,
		MaxAuthFailures: 3, TLS: serverTLS(tb), Open: s.backend.open,
	}
	if s.amend != nil {
		s.amend(cfg)
	}
	c := Client{
		Conn: ours, ID: "c1", TLS: s.tls,
		Remote: netip.MustParseAddr("192.0.2.7"), RemotePort: 7000, Local: netip.MustParseAddrPort("192.0.2.1:143"),
	}
	if s.wrap != nil {
		c.Conn = s.wrap(ours)
	}
	p := &peer{
		tb: tb, backend: s.backend, conn: theirs, br: bufio.NewReader(theirs),
		done: make(chan struct{}),
	}
	go func() {
		defer close(p.done)
		if p.session, p.err = Serve(s.ctx, cfg, c); p.session == nil {
			_ = ours.Close()
		}
	}()
	tb.Cleanup(func() {
		_ = theirs.Close()
		<-p.done
		if p.session != nil {
			_ = p.session.Backend.Conn.Close()
		}
		_ = ours.Close()
	})
	return p
}

// greeted has a client served that has read its greeting.
func (s setup) greeted(tb testing.TB) *peer {
	tb.Helper()
	p := s.dial(tb)
	if s.tls != nil {
		p.expect(greeting)
	} else {
		p.expect(clearGreeting)
	}
	return p
}

// send writes text as it is. The server may have hung up already.
func (p *peer) send(text string) {
	p.tb.Helper()
	if _, err := io.WriteString(p.conn, text); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		p.tb.Fatalf("sending: %v", err)
	}
}

// line reads a line without its CRLF.
func (p *peer) line() (string, error) {
	p.tb.Helper()
	line, err := p.br.ReadString('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.tb.Fatalf("still waiting for a line, with %q", line)
	}
	if err != nil {
		return line, err
	}
	bare, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		p.tb.Errorf("line ends in a bare LF: %q", line)
	}
	if found := imaptest.Revealed([]byte(line), testSecret); len(found) > 0 {
		p.tb.Errorf("the client was told %s", found)
	}
	return bare, nil
}

// expect reads lines that must be these.
func (p *peer) expect(want ...string) {
	p.tb.Helper()
	for _, w := range want {
		got, err := p.line()
		if err != nil {
			p.tb.Fatalf("got %q and %v, want %q", got, err, w)
		}
		if got != w {
			p.tb.Fatalf("got  %q\nwant %q", got, w)
		}
	}
}

// ask sends a line and expects the answer.
func (p *peer) ask(line string, want ...string) {
	p.tb.Helper()
	p.send(line + "\r\n")
	p.expect(want...)
}

// closed expects lines, then the end, and returns what Serve said about it.
func (p *peer) closed(want ...string) error {
	p.tb.Helper()
	p.expect(want...)
	if got, err := p.line(); err == nil {
		p.tb.Errorf("got %q, want the end", got)
	}
	s, err := p.result()
	if s != nil {
		p.tb.Error("there is a session")
	}
	if err == nil {
		p.tb.Error("there is no error")
	}
	return err
}

// closedFor is closed with the error that is due.
func (p *peer) closedFor(why error, want ...string) {
	p.tb.Helper()
	if err := p.closed(want...); !errors.Is(err, why) {
		p.tb.Errorf("error %v, want %v", err, why)
	}
}

// result waits for Serve.
func (p *peer) result() (*Session, error) {
	p.tb.Helper()
	<-p.done
	return p.session, p.err
}

// handshake puts TLS on the client's side.
func (p *peer) handshake(cfg *tls.Config) error {
	p.tb.Helper()
	conn := tls.Client(p.conn, cfg)
	if err := conn.Handshake(); err != nil {
		return err
	}
	p.conn, p.br = conn, bufio.NewReader(conn)
	return nil
}

// startTLS upgrades a client that has been greeted.
func (p *peer) startTLS() {
	p.tb.Helper()
	p.ask("tls STARTTLS", "tls OK Begin TLS negotiation now.")
	if err := p.handshake(clientTLS(p.tb)); err != nil {
		p.tb.Fatalf("handshake: %v", err)
	}
}

// logIn finishes with a login that works, which shows that the conversation has
// kept its state.
func (p *peer) logIn() *Session {
	p.tb.Helper()
	p.ask("in LOGIN "+testUser+" "+testSecret, backendCaps, "in OK Logged in")
	s, err := p.result()
	if err != nil {
		p.tb.Fatal(err)
	}
	return s
}
