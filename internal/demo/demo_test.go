package demo

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T) *Server {
	t.Helper()
	s, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func dial(t *testing.T, s *Server) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialInsecure(s.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestMessagesCanBeRead(t *testing.T) {
	c := dial(t, listen(t))
	if err := c.Login(User, Password).Wait(); err != nil {
		t.Fatal(err)
	}
	list, err := c.List("", "*", nil).Collect()
	if err != nil || len(list) != len(folders) {
		t.Errorf("%d folders, %v; want %d", len(list), err, len(folders))
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages != uint32(len(inbox)) {
		t.Fatalf("INBOX %+v, %v; want %d messages", box, err, len(inbox))
	}
	var all imap.SeqSet
	all.AddRange(1, 0)
	got, err := c.Fetch(all, &imap.FetchOptions{
		Envelope:    true,
		BodySection: []*imap.FetchItemBodySection{{}},
	}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range got {
		if m.Envelope.Subject == "" || m.Envelope.Date.IsZero() || len(m.Envelope.From) != 1 {
			t.Errorf("message %d: envelope %+v", i+1, m.Envelope)
		}
		text := string(m.BodySection[0].Bytes)
		if !strings.Contains(text, "\r\n\r\n") || strings.Count(text, "\n") != strings.Count(text, "\r\n") {
			t.Errorf("message %d: %q", i+1, text)
		}
	}
	if want := "Grüße aus Köln"; got[2].Envelope.Subject != want {
		t.Errorf("subject %q, want %q", got[2].Envelope.Subject, want)
	}
}

func TestLogins(t *testing.T) {
	s := listen(t)
	tests := []struct {
		name  string
		login func(c *imapclient.Client) error
		ok    bool
	}{
		{"LOGIN", func(c *imapclient.Client) error { return c.Login("demo", "demo").Wait() }, true},
		{"wrong password", func(c *imapclient.Client) error { return c.Login("demo", "omed").Wait() }, false},
		{"unknown user", func(c *imapclient.Client) error { return c.Login("nobody", "demo").Wait() }, false},
		{"PLAIN", func(c *imapclient.Client) error { return c.Authenticate(sasl.NewPlainClient("", "demo", "demo")) }, true},
		{"delegate", func(c *imapclient.Client) error { return c.Authenticate(sasl.NewPlainClient("x", "demo", "demo")) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.login(dial(t, s)); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLoopbackOnly(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "192.0.2.1:0"} {
		if s, err := Listen(addr); !errors.Is(err, ErrNotLoopback) {
			t.Errorf("%s: %v, %v", addr, s, err)
		}
	}
}

// A connection that says nothing, one that idles and one that is in its login
// must not keep Close from returning.
func TestCloseEndsSessions(t *testing.T) {
	s, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	idle := dial(t, s)
	if err := idle.Login(User, Password).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	cmd, err := idle.Idle()
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	_ = silent.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, silent); err != nil && !errors.Is(err, net.ErrClosed) {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			t.Error("the silent connection still stands")
		}
	}
}
