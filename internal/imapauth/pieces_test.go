package imapauth

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// meddler is somebody on the way to a backend that means well: whatever he puts in
// before TLS, each piece is one segment.
type meddler struct {
	// greeted comes behind the greeting, before and behind around the OK to STARTTLS,
	// which is in the last segment of before and the first of behind.
	greeted, before, behind []string
	// clear is what we have sent before TLS, inside the commands of ours in it.
	clear  strings.Builder
	inside []string
}

// play is the backend, with the meddler before it.
func (m *meddler) play(conn net.Conn, server *tls.Config) {
	raw := imaptest.NewUnread(conn)
	defer raw.Close()
	br := bufio.NewReader(raw)
	line := func() (tag, name string, ok bool) {
		text, err := br.ReadString('\n')
		m.clear.WriteString(text)
		tag, name, _ = imaptest.SplitCommand(strings.TrimSpace(text))
		return tag, name, err == nil
	}
	say := func(pieces ...string) {
		for _, piece := range pieces {
			_, _ = io.WriteString(raw, piece)
		}
	}
	say(append([]string{plainGreeting}, m.greeted...)...)
	tag, _, ok := line()
	if !ok {
		return
	}
	say(strings.ReplaceAll(plainCaps, "TAG", tag))
	if tag, _, ok = line(); !ok {
		return
	}
	pieces := slices.Clone(m.before)
	if len(pieces) == 0 {
		pieces = []string{""}
	}
	pieces[len(pieces)-1] += strings.ReplaceAll(plainStart, "TAG", tag)
	if len(m.behind) > 0 {
		pieces[len(pieces)-1] += m.behind[0]
		pieces = append(pieces, m.behind[1:]...)
	}
	say(pieces...)
	secure := tls.Server(raw, server)
	if secure.Handshake() != nil {
		return
	}
	for in := bufio.NewReader(secure); ; {
		text, err := in.ReadString('\n')
		if err != nil {
			return
		}
		tag, name, _ := imaptest.SplitCommand(strings.TrimSpace(text))
		m.inside = append(m.inside, name)
		answer := tag + " BAD unknown\r\n"
		switch name {
		case "CAPABILITY":
			answer = "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n" + tag + " OK done\r\n"
		case "LOGIN":
			answer = tag + " OK [CAPABILITY " + afterCaps + "] in\r\n"
		}
		if _, err := io.WriteString(secure, answer); err != nil {
			return
		}
	}
}

// run logs in past the meddler, in a bubble, and looks whether that has made a
// difference: if TLS stands, all that is said in it is the same.
func (m *meddler) run(t *testing.T) login.Verdict {
	server, client := testTLS(t)
	ours, theirs := net.Pipe()
	played := make(chan struct{})
	go func() {
		defer close(played)
		m.play(theirs, server)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := newClient(imaptest.NewUnread(ours), &Config{Address: "x", Mode: StartTLS, TLS: client}, fuzzPrefix)
	var s *login.Session
	var v login.Verdict
	if err := c.within(ctx, c.prepare); err != nil {
		v = Failure(err)
	} else {
		s, v = c.Open(ctx, attempt(login.FormLogin), Keep)
	}
	if s != nil {
		if got := strings.Join(s.Caps, " "); got != afterCaps || len(s.Buffered) > 0 {
			t.Errorf("capabilities %q, buffered %q", got, s.Buffered)
		}
		s.Close()
	}
	c.Close()
	<-played
	switch v.Result {
	case login.Granted:
		if got := strings.Join(m.inside, " "); got != "CAPABILITY LOGIN" {
			t.Errorf("inside TLS we said %q", got)
		}
	case login.Denied:
		t.Errorf("somebody on the way can have users blamed: %v", v.Err)
	default:
		if len(m.inside) > 0 {
			t.Errorf("TLS stood, we said %q in it, and it failed: %v", m.inside, v.Err)
		}
	}
	for _, found := range imaptest.Revealed([]byte(m.clear.String()), testSecret, testUser) {
		t.Errorf("sent without TLS: %s", found)
	}
	return v
}

// TestInjectionInPieces splits the OK to STARTTLS, and what was put behind it, at
// each place.
func TestInjectionInPieces(t *testing.T) {
	testTLS(t)
	ok := strings.ReplaceAll(plainStart, "TAG", fuzzPrefix+"2")
	for _, behind := range []string{
		"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n", "T3 OK in\r\nT4 OK in\r\n", "* BYE x\r\n", "* LIST {100}\r\nabcde", "\x16\x03\x03\x00\x04\x0e\x00\x00\x00",
	} {
		all := ok + behind
		for at := 1; at <= len(all); at++ {
			t.Run(fmt.Sprintf("%q, split at %d", behind[:5], at), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := &meddler{}
					if at < len(ok) { // the OK itself is split, and comes twice at worst
						m.before = []string{all[:at], all[at:]}
					} else {
						m.behind = []string{all[len(ok):at], all[at:]}
					}
					v := m.run(t)
					if v.Result != login.Unavailable {
						t.Fatalf("verdict %s (%v)", summary(v), v.Err)
					}
					// What came in the segment of the OK is told by its name; what came
					// later is no handshake.
					if at > len(ok) && !errors.Is(v.Err, ErrInjection) {
						t.Errorf("error %v", v.Err)
					}
				})
			})
		}
		t.Run(fmt.Sprintf("%q, a byte at a time", behind[:5]), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &meddler{behind: append([]string{""}, strings.Split(behind, "")...)}
				if v := m.run(t); v.Result != login.Unavailable {
					t.Fatalf("verdict %s (%v)", summary(v), v.Err)
				}
			})
		})
	}
	t.Run("honest answers, a byte at a time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := &meddler{greeted: strings.Split("* OK [ALERT] x\r\n", ""), before: strings.Split("* LIST () {3}\r\nabc\r\n", "")}
			if v := m.run(t); v.Result != login.Granted {
				t.Errorf("verdict %s (%v)", summary(v), v.Err)
			}
		})
	})
}

// TestInjectionInLiteral hides answers in literals, and has literals swallow answers.
func TestInjectionInLiteral(t *testing.T) {
	testTLS(t)
	for _, tc := range []struct {
		name   string
		m      meddler
		want   login.Result
		within time.Duration
	}{
		{"the OK, and the real one after it", meddler{before: []string{"* LIST {13}\r\nT2 OK begin\r\n\r\n"}}, login.Granted, 0},
		{"the OK, in pieces", meddler{before: []string{"* LIST {1", "3}\r", "\nT2 OK beg", "in\r\n\r\n"}}, login.Granted, 0},
		{"capabilities behind the greeting", meddler{greeted: []string{"* LIST {33}\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN", "\r\n"}}, login.Granted, 0},
		{"the real OK is swallowed", meddler{before: []string{"* LIST {100}\r\n"}}, login.Unavailable, patience},
		{"the real capabilities are swallowed", meddler{greeted: []string{"* LIST {1000}\r\n"}}, login.Unavailable, patience},
		{"a literal across the handshake", meddler{before: []string{"* LIST {1}\r\n"}, behind: []string{"x"}}, login.Unavailable, patience},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				if v := tc.m.run(t); v.Result != tc.want {
					t.Errorf("verdict %s (%v)", summary(v), v.Err)
				}
				if d := time.Since(start); d > tc.within {
					t.Errorf("it took %v", d)
				}
			})
		})
	}
}

// FuzzInjection has somebody on the way say anything before TLS stands. Whatever it
// is, either nobody logs in, or all is as if nothing had been said.
func FuzzInjection(f *testing.F) {
	f.Add("", "", "")
	f.Add("* CAPABILITY IMAP4rev1 STARTTLS XPROXY3\r\n", "* OK [ALERT] x\r\n", "")
	f.Add("T1 OK x\r\n", "T2 OK begin\r\n", "T3 OK in\r\n")
	f.Add("* LIST {20}\r\n", "* LIST {13}\r\nT2 OK begin\r\n\r\n", "\x00")
	f.Add("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] The Microsoft Exchange IMAP4 service is ready.\r\n", "* BYE Too many connections\r\n", "")
	f.Add("* BAD Request is throttled. Suggested Backoff Time: 90 milliseconds\r\n", "+ \r\n", "\r\n")
	testTLS(f)
	f.Fuzz(func(t *testing.T, greeted, before, behind string) {
		synctest.Test(t, func(t *testing.T) {
			m := &meddler{greeted: []string{greeted}, before: strings.SplitAfter(before, "\n"), behind: []string{behind}}
			if v := m.run(t); v.Result == login.Granted && behind != "" {
				t.Errorf("granted, with %q behind the OK", behind)
			}
		})
	})
}
