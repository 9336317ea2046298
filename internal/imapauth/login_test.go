package imapauth

import (
	"slices"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

func TestOpenExchange(t *testing.T) {
	ca := imaptest.NewCA(t)
	srv := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS()))
	ctx := testContext(t)
	c, err := Dial(ctx, &Config{Address: srv.Addr(), Mode: StartTLS, TLS: ca.ClientTLS("localhost")})
	if err != nil {
		t.Fatal(err)
	}
	s, v := c.Open(ctx, attempt(login.FormLogin), Keep)
	if v.Result != login.Granted || v.Err != nil || v.Upstream != srv.Addr() {
		t.Fatalf("verdict %+v", v)
	}
	defer s.Conn.Close()
	if !slices.Contains(s.Caps, "CLIENTNETWORKPRESENCELOCATION") {
		t.Errorf("capabilities %q, want those after login", s.Caps)
	}
	if len(s.Buffered) != 0 {
		t.Errorf("buffered %q", s.Buffered)
	}
	// The session works, and no deadline is left on it.
	if _, err := s.Conn.Write([]byte("x NOOP\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = s.Conn.SetReadDeadline(time.Now().Add(deadline))
	buf := make([]byte, 64)
	n, err := s.Conn.Read(buf)
	if got := string(buf[:n]); err != nil || got != "x OK NOOP completed.\r\n" {
		t.Errorf("NOOP: %q, %v", got, err)
	}
	srv.CheckHidden(testSecret)
	logins := srv.Logins()
	want := imaptest.Login{Command: "LOGIN", User: testUser, Secret: testSecret, TLS: true}
	if len(logins) != 1 || logins[0] != want {
		t.Errorf("logins %+v, want %+v", logins, want)
	}
}
