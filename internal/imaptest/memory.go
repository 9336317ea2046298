package imaptest

import (
	"crypto/tls"
	"slices"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"github.com/caddy-imap/caddy-imap/internal/demo"
)

// Accounts says what a Memory serves.
type Accounts struct {
	// Passwords are the accounts, password by name. Each has an empty INBOX.
	Passwords map[string]string
	// TLS is for STARTTLS, or from the first byte if Implicit is set. Without
	// it the server takes passwords in the clear.
	TLS      *tls.Config
	Implicit bool
}

// Memory is a whole IMAP server, go-imap's, with mailboxes in memory.
type Memory struct {
	srv *demo.Server

	mu       sync.Mutex
	disabled map[string]bool
	logins   []Login
}

// NewMemory starts a Memory on 127.0.0.1.
func NewMemory(tb testing.TB, a Accounts) *Memory {
	tb.Helper()
	m := &Memory{disabled: make(map[string]bool)}
	cfg := demo.Config{TLS: a.TLS, Implicit: a.Implicit, Observe: m.observe}
	for name, password := range a.Passwords {
		user := imapmemserver.NewUser(name, password)
		if err := user.Create("INBOX", nil); err != nil {
			tb.Fatalf("creating an INBOX: %v", err)
		}
		cfg.Users = append(cfg.Users, user)
	}
	srv, err := demo.Start("127.0.0.1:0", cfg)
	if err != nil {
		tb.Fatalf("starting a memory server: %v", err)
	}
	m.srv = srv
	tb.Cleanup(func() {
		if err := srv.Close(); err != nil {
			tb.Errorf("closing a memory server: %v", err)
		}
	})
	return m
}

// Addr is where the server listens, as host:port.
func (m *Memory) Addr() string { return m.srv.Addr().String() }

// Disable refuses all logins of the user from now on, or no longer.
func (m *Memory) Disable(user string, disabled bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disabled[user] = disabled
}

// Logins are the attempts so far, refused ones included. Their mechanisms and
// the like are not known.
func (m *Memory) Logins() []Login {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.logins)
}

func (m *Memory) observe(command, user, password string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.logins = append(m.logins, Login{Command: command, User: user, Secret: password})
	if m.disabled[user] {
		return imapserver.ErrAuthFailed
	}
	return nil
}
