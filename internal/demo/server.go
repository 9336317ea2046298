// Package demo is an IMAP server with mailboxes in memory. It is the backend of
// the quick start, where nobody has an Exchange at hand, and of tests. It is no
// mail server: what it holds is gone when it ends.
package demo

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"github.com/emersion/go-sasl"
)

// Config says what a server of this package serves.
type Config struct {
	// Users are the accounts, by name.
	Users []*imapmemserver.User
	// TLS offers STARTTLS. Without it passwords are taken in the clear, which
	// is why the server listens on the loopback only.
	TLS *tls.Config
	// Implicit makes the handshake the first thing on a connection.
	Implicit bool
	// Observe, if set, is asked about each attempt to log in before the
	// password is looked at, and its error is the answer. The command is LOGIN
	// or AUTHENTICATE.
	Observe func(command, user, password string) error
}

// Server is a running server.
type Server struct {
	ln       *listener
	srv      *imapserver.Server
	served   chan struct{}
	sessions sync.WaitGroup
}

// ErrNotLoopback refuses to serve mailboxes without a password worth the name
// to the whole network.
var ErrNotLoopback = errors.New("the demo backend listens on loopback addresses only")

// Start serves at the address, which has to be of the loopback.
func Start(addr string, cfg Config) (*Server, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("reading the address of the demo backend: %w", err)
	}
	if !tcp.IP.IsLoopback() {
		return nil, fmt.Errorf("listening on %s: %w", addr, ErrNotLoopback)
	}
	inner, err := net.ListenTCP("tcp", tcp)
	if err != nil {
		return nil, fmt.Errorf("starting the demo backend: %w", err)
	}
	memory := imapmemserver.New()
	for _, user := range cfg.Users {
		memory.AddUser(user)
	}
	s := &Server{served: make(chan struct{})}
	s.ln = &listener{Listener: inner, s: s, open: make(map[net.Conn]struct{})}
	s.ln.close = sync.OnceValue(inner.Close)
	if cfg.Implicit {
		s.ln.tls = cfg.TLS
	}
	s.srv = imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &session{
				SessionIMAP4rev2: memory.NewSession().(imapserver.SessionIMAP4rev2),
				observe:          cfg.Observe,
				done:             s.sessions.Done,
			}, nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}},
		Logger:       silent{},
		TLSConfig:    cfg.TLS,
		InsecureAuth: cfg.TLS == nil,
	})
	go s.serve()
	return s, nil
}

func (s *Server) serve() {
	defer close(s.served)
	// It ends when the listener is closed, and for no other reason that the
	// one who closes it could do something about.
	_ = s.srv.Serve(s.ln)
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Close stops listening, cuts all connections and waits for their sessions.
func (s *Server) Close() error {
	s.ln.closeAll()
	err := s.srv.Close()
	<-s.served
	s.sessions.Wait()
	if err != nil {
		return fmt.Errorf("closing the demo backend: %w", err)
	}
	return nil
}

// listener keeps the connections it has accepted, because the server forgets
// those that it has not begun to serve when it is closed.
type listener struct {
	net.Listener
	s     *Server
	tls   *tls.Config
	close func() error

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	c := &conn{Conn: raw, l: l}
	l.open[c] = struct{}{}
	l.s.sessions.Add(1) // until Close of the session that the server makes of it
	if l.tls != nil {
		return tls.Server(c, l.tls), nil
	}
	return c, nil
}

// Close closes the socket; both we and the server do, which is no error.
func (l *listener) Close() error { return l.close() }

func (l *listener) closeAll() {
	_ = l.Close()
	l.mu.Lock()
	l.closed = true
	open := make([]net.Conn, 0, len(l.open))
	for c := range l.open {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

type conn struct {
	net.Conn
	l *listener
}

func (c *conn) Close() error {
	c.l.mu.Lock()
	delete(c.l.open, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// session lets us see the logins of go-imap's memory server, and when the
// session ends.
type session struct {
	imapserver.SessionIMAP4rev2
	observe func(command, user, password string) error
	done    func()
}

var _ imapserver.SessionSASL = (*session)(nil)

func (s *session) Login(user, password string) error { return s.login("LOGIN", user, password) }

func (s *session) login(command, user, password string) error {
	if s.observe != nil {
		if err := s.observe(command, user, password); err != nil {
			return err
		}
	}
	return s.SessionIMAP4rev2.Login(user, password)
}

func (s *session) AuthenticateMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Authenticate(mech string) (sasl.Server, error) {
	if mech != sasl.Plain {
		return nil, &imap.Error{Type: imap.StatusResponseTypeNo, Text: "mechanism not supported"}
	}
	return sasl.NewPlainServer(func(identity, user, password string) error {
		if identity != "" && identity != user {
			return &imap.Error{
				Type: imap.StatusResponseTypeNo,
				Code: imap.ResponseCodeAuthorizationFailed,
				Text: "no delegates here",
			}
		}
		return s.login("AUTHENTICATE", user, password)
	}), nil
}

func (s *session) Close() error {
	defer s.done()
	return s.SessionIMAP4rev2.Close()
}
