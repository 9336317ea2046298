package imapauth

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// In clear text, if the operator says so, and only then.
func TestModes(t *testing.T) {
	server, client := testTLS(t)
	for _, tc := range []struct {
		name    string
		profile imaptest.Profile
		mode    TLSMode
		want    string
		err     error
	}{
		{"implicit", imaptest.Profile{Implicit: true, TLS: server}, ImplicitTLS, "granted", nil},
		{"implicit, offering STARTTLS", imaptest.Profile{Implicit: true, TLS: server, Inside: "IMAP4rev1 STARTTLS"}, ImplicitTLS, "granted", nil},
		{"off", imaptest.Profile{Clear: true, Before: "IMAP4rev1 AUTH=PLAIN", After: "IMAP4rev1"}, NoTLS, "granted", nil},
		{"off, and refused", imaptest.Profile{Before: "IMAP4rev1 STARTTLS AUTH=PLAIN", TLS: server}, NoTLS, unavailable, ErrRefused},
		{"off, and not offered", imaptest.Profile{TLS: server}, NoTLS, unavailable, ErrPrivacy},
		{"starttls", imaptest.Profile{TLS: server}, StartTLS, "granted", nil},
		{"starttls against clear text", imaptest.Profile{Clear: true, Before: "IMAP4rev1 AUTH=PLAIN"}, StartTLS, unavailable, ErrNoStartTLS},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := imaptest.NewFake(t, tc.profile)
			_, v := openAt(t, &Config{Address: srv.Addr(), Mode: tc.mode, TLS: client}, attempt(login.FormAuthenticate), Keep)
			if got := summary(v); got != tc.want || tc.err != nil && !errors.Is(v.Err, tc.err) {
				t.Errorf("verdict %s (%v), want %s (%v)", got, v.Err, tc.want, tc.err)
			}
			if tc.mode != NoTLS {
				srv.CheckHidden(testSecret)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	_, client := testTLS(t)
	for _, tc := range []struct {
		cfg  Config
		want string
	}{
		{Config{Mode: StartTLS, TLS: client}, ""},
		{Config{Mode: NoTLS, AuthCommand: Plain, Probe: ProbeOff}, ""},
		{Config{}, "unknown TLS mode"},
		{Config{Mode: "on"}, "unknown TLS mode"},
		{Config{Mode: StartTLS}, "without settings"},
		{Config{Mode: ImplicitTLS}, "without settings"},
		{Config{Mode: NoTLS, AuthCommand: "cram"}, "unknown command"},
		{Config{Mode: NoTLS, Probe: "maybe"}, "unknown probe mode"},
		{Config{Mode: NoTLS, Forward: ForwardID}, ""},
		{Config{Mode: NoTLS, Forward: "xclient"}, "unknown way"},
	} {
		err := tc.cfg.Validate()
		switch {
		case tc.want == "" && err == nil:
		case tc.want == "" || err == nil || !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tc.want):
			t.Errorf("%+v: error %v, want %q", tc.cfg, err, tc.want)
		}
	}
	// Nothing is sent on a connection that cannot be used.
	srv := imaptest.NewFake(t, imaptest.Profile{Clear: true, Before: "IMAP4rev1"})
	if _, v := openAt(t, &Config{Address: srv.Addr(), Mode: StartTLS}, attempt(login.FormLogin), Keep); !errors.Is(v.Err, ErrConfig) {
		t.Errorf("verdict %+v", v)
	}
	srv.WaitIdle()
	if len(srv.Clear()) > 0 {
		t.Errorf("sent %q", srv.Clear())
	}
}

// The context ends a login wherever it is; a cancelled one tells its cause.
func TestContext(t *testing.T) {
	server, client := testTLS(t)
	reached := make(chan struct{}, 8)
	srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
		if c.StartTLS(server) != nil {
			return
		}
		c.Send("* OK [CAPABILITY IMAP4rev1] ready\r\n")
		if _, ok := c.ReadLine(); !ok {
			return
		}
		reached <- struct{}{}
		c.Rest()
	})
	cfg := &Config{Address: srv.Addr(), Mode: ImplicitTLS, TLS: client}

	t.Run("cancelled", func(t *testing.T) {
		gone := errors.New("the client is gone")
		ctx, cancel := context.WithCancelCause(testContext(t))
		c, err := Dial(ctx, cfg, login.Ends{})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			<-reached
			cancel(gone)
		}()
		if _, v := c.Open(ctx, attempt(login.FormLogin), Keep); v.Result != login.Unavailable || !errors.Is(v.Err, gone) {
			t.Errorf("verdict %+v", v)
		}
		srv.WaitIdle()
	})
	t.Run("late", func(t *testing.T) {
		c, err := Dial(testContext(t), cfg, login.Ends{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		v := c.Check(ctx, attempt(login.FormLogin), Keep)
		if v.Result != login.Unavailable || !errors.Is(v.Err, ErrTimeout) || !errors.Is(v.Err, context.DeadlineExceeded) {
			t.Errorf("verdict %+v", v)
		}
		srv.WaitIdle()
		select {
		case <-reached:
		default:
		}
	})
	t.Run("over before it began", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if c, err := Dial(ctx, cfg, login.Ends{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, %v", c, err)
		}
		c, err := Dial(testContext(t), cfg, login.Ends{})
		if err != nil {
			t.Fatal(err)
		}
		if _, v := c.Open(ctx, attempt(login.FormLogin), Keep); v.Result != login.Unavailable || !errors.Is(v.Err, context.Canceled) {
			t.Errorf("verdict %+v", v)
		}
		srv.WaitIdle()
		select {
		case <-reached:
			t.Error("something was sent")
		default:
		}
	})
}

// A connection serves one login.
func TestUsedOnce(t *testing.T) {
	server, _ := testTLS(t)
	p := imaptest.Exchange(server)
	p.Login = func(imaptest.Login) string { return "NO LOGIN failed." }
	srv := imaptest.NewFake(t, p)
	ctx := testContext(t)
	c, err := Dial(ctx, starttls(t, srv.Addr()), login.Ends{})
	if err != nil {
		t.Fatal(err)
	}
	if v := c.Check(ctx, attempt(login.FormLogin), Keep); summary(v) != denied {
		t.Errorf("verdict %s", summary(v))
	}
	if v := c.Check(ctx, attempt(login.FormLogin), Keep); v.Result != login.Unavailable || v.Code != imap.ResponseCodeUnavailable {
		t.Errorf("second verdict %s", summary(v))
	}
	c.Close()
	if n := len(srv.Logins()); n != 1 {
		t.Errorf("%d logins", n)
	}
}

// A session is handed over without a deadline, whoever had set one.
func TestNoDeadlineLeft(t *testing.T) {
	conn := &recorded{in: bytes.NewReader([]byte("* OK [CAPABILITY IMAP4rev1] ready\r\nT1 OK [CAPABILITY IMAP4rev1] in\r\n")), deadline: time.Now().Add(time.Hour)}
	c := newClient(conn, &Config{Mode: NoTLS}, fuzzPrefix)
	ctx := testContext(t)
	if err := c.within(ctx, c.prepare); err != nil {
		t.Fatal(err)
	}
	if _, v := c.Open(ctx, attempt(login.FormLogin), Keep); v.Result != login.Granted || !conn.deadline.IsZero() {
		t.Errorf("verdict %s (%v), deadline %v", summary(v), v.Err, conn.deadline)
	}
}
