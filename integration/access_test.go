//go:build integration

package integration

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// The auth listener is an oracle for passwords. Who is not allowed to ask it
// hears nothing at all.
func TestAuthListenerAllows(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, options string
		from          string
		allowed       bool
	}{
		{"listed", "allow 127.0.0.1/32", "127.0.0.1", true},
		{"not listed", "allow 127.0.0.1/32", "127.0.0.2", false},
		{"other list", "allow 127.0.0.2/32 192.0.2.0/24", "127.0.0.2", true},
		{"loopback by default", "", "127.0.0.2", true},
		{"loopback left off the list", "allow 192.0.2.0/24", "127.0.0.1", false},
	}
	backend := imaptest.NewFake(t, imaptest.Profile{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			auth := freeAddr(t)
			c := startCaddy(t, site{Backend: "\t\t\tupstream " + backend.Addr(), Auth: auth, AuthOptions: tt.options}.String())
			for range 3 {
				heard, err := listenTo(t, tt.from, auth)
				if tt.allowed {
					if err != nil || !strings.HasPrefix(heard, "VERSION\t1\t") {
						t.Errorf("heard %q, %v; want a greeting", heard, err)
					}
				} else if heard != "" || !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("heard %q, %v; want a reset", heard, err)
				}
			}
			lines := c.LogLines(`"level":"error"`, tt.from)
			if tt.allowed && len(lines) != 0 {
				t.Errorf("errors in the log: %q", lines)
			}
			if !tt.allowed && len(lines) != 1 {
				t.Errorf("%d errors in the log about %s, want 1: %q", len(lines), tt.from, lines)
			}
		})
	}
}

// listenTo connects, says nothing, and returns what it hears in a line.
func listenTo(t *testing.T, from, addr string) (string, error) {
	t.Helper()
	conn, err := dialFrom(from, addr)
	if err != nil {
		// A reset may even overtake our own idea of being connected.
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = errors.New("closed without a reset")
	}
	return line, err
}
