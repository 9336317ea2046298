package imapauth

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Answers without end are cut off long before they cost anything.
func TestTooMuch(t *testing.T) {
	untagged := strings.Repeat("* OK still here\r\n", 100_000)
	run(t, []hostile{
		{name: "greeting of 20 MB", greeting: "* OK " + strings.Repeat("x", 20<<20) + "\r\n", want: unavailable, err: ErrTooMuch},
		{name: "greeting without end", greeting: "* OK " + strings.Repeat("x", 20<<20), want: unavailable, err: ErrTooMuch},
		{name: "100,000 lines with the greeting", greeting: plainGreeting + untagged, want: unavailable, err: ErrTooMuch},
		{name: "100,000 lines with the capabilities", caps: untagged + plainCaps, want: unavailable, err: ErrTooMuch},
		{name: "100,000 lines before STARTTLS' OK", starttls: untagged + plainStart, want: unavailable, err: ErrTooMuch},
		{name: "100,000 lines inside TLS", inside: untagged, want: unavailable, err: ErrTooMuch},
		{name: "a few long lines", caps: strings.Repeat("* X "+strings.Repeat("x", 8000)+"\r\n", 40) + plainCaps, want: unavailable, err: ErrTooMuch},
		{name: "many short lines", caps: strings.Repeat("* OK x\r\n", maxLines) + plainCaps, want: unavailable, err: ErrTooMuch},
		{name: "many lines, but not too many", caps: strings.Repeat("* OK x\r\n", maxLines-2) + plainCaps, want: "granted"},
		{name: "a literal of 4 GiB", caps: "* LIST () {4294967296}\r\n" + plainCaps, want: unavailable, err: ErrTooMuch},
		{name: "a literal beyond all numbers", caps: "* LIST () {99999999999999999999}\r\n" + plainCaps, want: unavailable, err: ErrTooMuch},
		{name: "many literals", caps: "* LIST" + strings.Repeat(" {30000}\r\n"+strings.Repeat("x", 30000), 9) + "\r\n" + plainCaps, want: unavailable, err: ErrTooMuch},
		{name: "a literal", caps: "* LIST {30000}\r\n" + strings.Repeat("\x00", 30000) + "\r\n" + plainCaps, want: "granted"},
		// In the greeting, braces are text, so there is nothing to wait for.
		{name: "a literal in the greeting", greeting: "* OK {4294967296}\r\n", want: "granted"},
	})
}

// A backend that keeps silent, at any point, holds nobody longer than the
// context says; one that closes is noticed at once.
func TestSilence(t *testing.T) {
	server, client := testTLS(t)
	inTLS := func(play func(c *imaptest.Conn)) func(c *imaptest.Conn) {
		return func(c *imaptest.Conn) {
			c.Send(plainGreeting)
			tag, _ := c.Command("CAPABILITY")
			c.Send(strings.ReplaceAll(plainCaps, "TAG", tag))
			tag, _ = c.Command("STARTTLS")
			c.Sendf("%s OK begin", tag)
			if c.StartTLS(server) == nil {
				play(c)
			}
		}
	}
	inLogin := func(play func(c *imaptest.Conn, tag string)) func(c *imaptest.Conn) {
		return inTLS(func(c *imaptest.Conn) {
			tag, _ := c.Command("CAPABILITY")
			c.Sendf("* CAPABILITY IMAP4rev1\r\n%s OK done", tag)
			tag, _ = c.Command("LOGIN")
			play(c, tag)
		})
	}
	for _, tc := range []struct {
		name string
		play func(c *imaptest.Conn)
	}{
		{"accepted", func(*imaptest.Conn) {}},
		{"greeting half said", func(c *imaptest.Conn) { c.Send("* OK rea") }},
		{"greeted", func(c *imaptest.Conn) { c.Send(plainGreeting) }},
		{"capabilities listed, not completed", func(c *imaptest.Conn) {
			c.Send(plainGreeting)
			c.Command("CAPABILITY")
			c.Send("* CAPABILITY IMAP4rev1 STARTTLS\r\n")
		}},
		{"asked for TLS", func(c *imaptest.Conn) {
			c.Send(plainGreeting)
			tag, _ := c.Command("CAPABILITY")
			c.Send(strings.ReplaceAll(plainCaps, "TAG", tag))
			c.Command("STARTTLS")
		}},
		{"handshake agreed on", func(c *imaptest.Conn) {
			c.Send(plainGreeting)
			tag, _ := c.Command("CAPABILITY")
			c.Send(strings.ReplaceAll(plainCaps, "TAG", tag))
			tag, _ = c.Command("STARTTLS")
			c.Sendf("%s OK begin", tag)
		}},
		{"TLS stands", inTLS(func(*imaptest.Conn) {})},
		{"inside a literal", inTLS(func(c *imaptest.Conn) {
			c.Command("CAPABILITY")
			c.Send("* LIST {1000}\r\nabc")
		})},
		{"asked for a login", inLogin(func(*imaptest.Conn, string) {})},
		{"logged in", inLogin(func(c *imaptest.Conn, tag string) {
			c.Sendf("%s OK in", tag)
			c.Command("CAPABILITY")
		})},
	} {
		t.Run(tc.name+", closes", func(t *testing.T) {
			srv := imaptest.NewScript(t, tc.play)
			_, v := openAt(t, &Config{Address: srv.Addr(), Mode: StartTLS, TLS: client}, attempt(login.FormLogin), Keep)
			if summary(v) != unavailable || errors.Is(v.Err, ErrTimeout) {
				t.Errorf("verdict %s (%v)", summary(v), v.Err)
			}
			if want := tc.name == "asked for a login"; v.Unanswered != want {
				t.Errorf("unanswered %t, want %t", v.Unanswered, want)
			}
			srv.CheckHidden(testSecret)
		})
		t.Run(tc.name+", stalls", func(t *testing.T) {
			t.Parallel()
			srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
				tc.play(c)
				c.Rest()
			})
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			v := openWithin(ctx, &Config{Address: srv.Addr(), Mode: StartTLS, TLS: client})
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("it took %v", d)
			}
			if summary(v) != unavailable || !errors.Is(v.Err, ErrTimeout) {
				t.Errorf("verdict %s (%v)", summary(v), v.Err)
			}
			if want := tc.name == "asked for a login"; v.Unanswered != want {
				t.Errorf("unanswered %t, want %t", v.Unanswered, want)
			}
			srv.CheckHidden(testSecret)
			srv.WaitIdle()
		})
	}
	t.Run("one byte at a time", func(t *testing.T) {
		t.Parallel()
		srv := imaptest.NewScript(t, func(c *imaptest.Conn) {
			for {
				c.Send("*")
				time.Sleep(5 * time.Millisecond)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if v := openWithin(ctx, &Config{Address: srv.Addr(), Mode: StartTLS, TLS: client}); !errors.Is(v.Err, ErrTimeout) {
			t.Errorf("verdict %s (%v)", summary(v), v.Err)
		}
		srv.WaitIdle()
	})
}

// openWithin is openAt with a context of the test's own.
func openWithin(ctx context.Context, cfg *Config) login.Verdict {
	c, err := Dial(ctx, cfg, login.Ends{})
	if err != nil {
		return Failure(err)
	}
	s, v := c.Open(ctx, attempt(login.FormLogin), Keep)
	if s != nil {
		_ = s.Conn.Close()
	}
	return v
}
