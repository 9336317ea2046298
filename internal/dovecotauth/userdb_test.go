package dovecotauth

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestUserDB(t *testing.T) {
	const closes = "(close)"
	masterGreeting := regexp.MustCompile(`^VERSION\t1\t1\nSPID\t[1-9][0-9]*\n$`)
	long := func(size int) string {
		line := "USER\t1\tbob\tservice=smtp\tfoo="
		return line + strings.Repeat("x", size-len(line)-1) + "\n"
	}
	for _, tc := range []struct {
		name   string
		input  string
		server string
	}{
		{
			"recorded with prefetch", "VERSION\t1\t1\nUSER\t1\tok@example.test\tservice=smtp\n",
			"FAIL\t1\n",
		},
		{
			"recorded doveadm", "VERSION\t1\t0\nUSER\t1\talice@example.test\tservice=doveadm\tdebug\n",
			"FAIL\t1\n",
		},
		{
			"PASS", "VERSION\t1\t1\nPASS\t7\talice@example.test\tservice=smtp\n",
			"FAIL\t7\treason=Configured passdbs don't support credentials lookups\n",
		},
		{"LIST", "VERSION\t1\t0\nLIST\t1\tuser=*\tservice=doveadm\tdebug\n", "DONE\t1\tfail\n"},
		{"LIST without anything", "VERSION\t1\t0\nLIST\t1\n", "DONE\t1\tfail\n"},
		{"protocol for service", "VERSION\t1\t1\nUSER\t1\tbob\tprotocol=smtp\n", "FAIL\t1\n"},
		{"several, CRLF", "VERSION\t1\t1\r\nUSER\t1\tbob\tservice=smtp\r\nUSER\t4294967295\tbob\tservice=smtp\r\n", "FAIL\t1\nFAIL\t4294967295\n"},
		{"line of 1024 bytes", "VERSION\t1\t1\n" + long(1024), "FAIL\t1\n"},
		{"line of 1025 bytes", "VERSION\t1\t1\n" + long(1025), closes},
		{"line without an end", "VERSION\t1\t1\n" + strings.Repeat("x", 1100), closes},
		{"no VERSION first", "USER\t1\tbob\tservice=smtp\n", closes},
		{"major version 2", "VERSION\t2\t1\n", closes},
		{"VERSION again", "VERSION\t1\t1\nVERSION\t1\t1\n", closes},
		{"unknown command", "VERSION\t1\t1\nPING\n", closes},
		{"for masters only", "VERSION\t1\t1\nREQUEST\t1\t2\t3\tcookie\n", closes},
		{"empty line", "VERSION\t1\t1\n\n", closes},
		{"id no number", "VERSION\t1\t1\nUSER\tx\tbob\tservice=smtp\n", closes},
		{"id 2^32", "VERSION\t1\t1\nLIST\t4294967296\n", closes},
		{"no user", "VERSION\t1\t1\nUSER\t1\n", closes},
		{"empty user", "VERSION\t1\t1\nUSER\t1\t\tservice=smtp\n", closes},
		{"no service", "VERSION\t1\t1\nUSER\t1\tbob\tdebug\n", closes},
		{"no service for PASS", "VERSION\t1\t1\nPASS\t1\tbob\n", closes},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := dial(t, &UserDB{})
				if said, _ := p.take(); !masterGreeting.MatchString(said) {
					t.Fatalf("server greeted with %q", said)
				}
				p.send(tc.input)
				if tc.server == closes {
					if said, closed := p.take(); said != "" || !closed {
						t.Fatalf("server said %q, closed: %v; want a close", said, closed)
					}
					if err := p.hangUp(); !errors.Is(err, ErrProtocol) {
						t.Errorf("Serve returned %v, want a protocol violation", err)
					}
					return
				}
				p.expect(tc.server)
				time.Sleep(7 * 24 * time.Hour) // it may be idle
				p.expect("")
				if err := p.hangUp(); err != nil {
					t.Errorf("Serve returned %v for a client that hung up", err)
				}
			})
		})
	}
}

func TestUserDBEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := dial(t, &UserDB{})
		p.take()
		time.Sleep(handshakeTimeout)
		if _, closed := p.take(); !closed {
			t.Error("still open after the time for the handshake")
		}
		if err := p.hangUp(); err == nil {
			t.Error("Serve returned nil although the client did not hang up")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := dial(t, bound{&UserDB{}, ctx})
		p.send("VERSION\t1\t1\n")
		p.take()
		cancel()
		if _, closed := p.take(); !closed {
			t.Error("still open although its owner ended it")
		}
		if err := p.hangUp(); !errors.Is(err, context.Canceled) {
			t.Errorf("Serve returned %v", err)
		}
	})
}
