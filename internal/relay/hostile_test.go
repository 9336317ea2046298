package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// flood is a connection that says a head, and then the same again and again, as
// fast as it is read. It takes all that is written to it.
type flood struct {
	net.Conn
	head, again string
	left        int64

	mu   sync.Mutex
	said bool
	over bool
}

func (f *flood) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.over:
		return 0, os.ErrDeadlineExceeded
	case !f.said:
		f.said = true
		return copy(p, f.head), nil
	case f.left <= 0:
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && int64(n) < f.left {
		n += copy(p[n:], f.again)
	}
	n = int(min(int64(n), f.left))
	f.left -= int64(n)
	return n, nil
}

func (f *flood) Write(p []byte) (int, error) { return len(p), nil }
func (f *flood) CloseWrite() error           { return nil }
func (f *flood) Close() error                { return nil }
func (f *flood) SetDeadline(d time.Time) error {
	if d == longAgo {
		f.mu.Lock()
		f.over = true
		f.mu.Unlock()
	}
	return nil
}
func (f *flood) SetReadDeadline(time.Time) error  { return nil }
func (f *flood) SetWriteDeadline(time.Time) error { return nil }

// counted is a client that counts what it gets, and says nothing.
type counted struct {
	flood
	bytes int64
	eof   chan struct{}
	once  sync.Once
}

func newCounted() *counted { return &counted{eof: make(chan struct{})} }

func (c *counted) Read([]byte) (int, error) {
	<-c.eof
	return 0, io.EOF
}

func (c *counted) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	return len(p), nil
}

func (c *counted) CloseWrite() error {
	c.once.Do(func() { close(c.eof) })
	return nil
}

// TestFloods has a backend say without end what has no boundary, or nothing but
// boundaries. All of it passes, and nothing of it is kept.
func TestFloods(t *testing.T) {
	const gib = 1 << 30
	for _, tc := range []struct {
		name, head, again string
		size              int64
	}{
		{"a line", "* ", "x", gib},
		{"a line that is no IMAP", "", "x", gib},
		{"a line of text", "* OK ", "x", gib},
		{"a tagged line", "a1 ", "x", gib},
		{"a list of capabilities", "* CAPABILITY ", "UNAUTHENTICATE", gib >> 4},
		{"many capabilities", "* CAPABILITY", " UNAUTHENTICAT", gib >> 6},
		{"a literal", "* 1 FETCH (BODY[] {1073741824}\r\n", "\r\n", gib},
		{"a literal that never ends", "* 1 FETCH (BODY[] {900000000000000000}\r\n", "a OK\r\n", gib},
		{"a literal beyond all numbers", "* 1 FETCH (BODY[] {9223372036854775807}\r\n", "a OK\r\n", gib >> 6},
		{"literals in one line", "* 1 FETCH (", "X {1}\r\nx ", gib >> 6},
		{"continuations", "", "+ go on\r\n", gib >> 6},
		{"BYE", "", "* BYE\r\n", gib >> 6},
		{"tagged OKs", "", "a1 OK done\r\n", gib >> 6},
		{"line ends", "", "\n", gib >> 6},
		{"NULs", "", "\x00", gib},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client, backend := newCounted(), &flood{head: tc.head, again: strings.Repeat(tc.again, 1<<16/len(tc.again)), left: tc.size}
			s := New(Leg{Conn: client}, Leg{Conn: backend}, Options{Idle: time.Minute})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			stats := s.Run()
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
				t.Errorf("%d bytes were allocated", used)
			}
			if stats.FromBackend < tc.size || client.bytes > stats.FromBackend ||
				!strings.Contains(tc.head, "CAPABILITY") && client.bytes != stats.FromBackend {
				t.Errorf("%d bytes of %d have reached the client", client.bytes, stats.FromBackend)
			}
		})
	}
}

// TestHostileBackend has a backend lie after the login. What it says is its own
// affair, and the client's: it reaches nobody else, and lets no command past us.
func TestHostileBackend(t *testing.T) {
	for _, tc := range []struct {
		name string
		// talk is what happens, by turns: what the backend says, which the client
		// gets; what the client says; and what the backend gets of it.
		talk [][3]string
		// told is what we tell the client of what it said last.
		told string
	}{
		{"an invitation that nobody waits for", [][3]string{
			{"+ send it\r\n", "a APPEND x {18}\r\nb UNAUTHENTICATE\r\n", "a APPEND x {18}\r\n"},
			{"a NO\r\n", "", ""},
		}, "b" + badUnauth},
		{"an invitation in a literal", [][3]string{
			{"* 1 FETCH (X {8}\r\n+ send\r\n)\r\n", "a APPEND x {18}\r\nb UNAUTHENTICATE\r\n", "a APPEND x {18}\r\n"},
			{"a NO\r\n", "", ""},
		}, "b" + badUnauth},
		{"many invitations before IDLE", [][3]string{
			{strings.Repeat("+ idling\r\n", 100), "a IDLE\r\n", "a IDLE\r\n"},
			{"a BAD\r\n", "b LOGIN x y\r\n", ""},
		}, "b" + badLogin},
		{"a completion before its command", [][3]string{
			{"a OK done\r\na OK done\r\n", "a APPEND x {18}\r\nb UNAUTHENTICATE\r\n", "a APPEND x {18}\r\n"},
			{"a NO\r\n", "", ""},
		}, "b" + badUnauth},
		{"a completion in a literal", [][3]string{
			{"", "a APPEND x {18}\r\nb UNAUTHENTICATE\r\n", "a APPEND x {18}\r\n"},
			{"* 1 FETCH (X {6}\r\na OK\r\n)\r\n* OK a NO\r\n+ go\r\n", "", "b UNAUTHENTICATE\r\n"},
		}, ""},
		{"COMPRESS granted that nobody has asked for", [][3]string{
			{"a OK DEFLATE active\r\n", "a COMPRESS DEFLATE\r\n", "a COMPRESS DEFLATE\r\n"},
			{"a NO\r\n", "b UNAUTHENTICATE\r\n", ""},
		}, "b" + badUnauth},
		{"capabilities that tempt", [][3]string{
			{"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED AUTH=PLAIN\r\n", "a STARTTLS\r\n", ""},
		}, "a" + badTLS},
		{"capabilities that tempt to log in again", [][3]string{
			{"* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\n", "a AUTHENTICATE PLAIN AGEAYg==\r\n", ""},
		}, "a" + badLogin},
		{"PREAUTH", [][3]string{
			{"* PREAUTH [CAPABILITY IMAP4rev1 AUTH=PLAIN] welcome\r\n", "a LOGIN bob guess\r\n", ""},
		}, "a" + badLogin},
		{"BYE and going on", [][3]string{
			{strings.Repeat("* BYE gone\r\n", 1000), "a UNAUTHENTICATE\r\n", ""},
		}, "a" + badUnauth},
		{"a referral", [][3]string{
			{"* OK [REFERRAL imap://u@127.0.0.1/] x\r\na NO [REFERRAL imap://u@127.0.0.1/] x\r\n", "a LOGIN bob guess\r\n", ""},
		}, "a" + badLogin},
		{"a greeting", [][3]string{
			{"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n", "a STARTTLS {3+}\r\nfoo\r\n", ""},
		}, "a" + badTLS},
		{"our own words", [][3]string{
			{"a" + badLogin + "* BYE Bye.\r\n", "a LOGIN bob guess\r\n", ""},
		}, "a" + badLogin},
		{"bare lines, as Exchange has them", [][3]string{
			{"[COPYUID 55 31 6]\r\n* 1 EXPUNGE\r\n\r\n{18}\r\n", "a LOGIN bob guess\r\n", ""},
		}, "a" + badLogin},
	} {
		t.Run(tc.name, func(t *testing.T) {
			overBoth(t, Options{}, func(t *testing.T, r *relayed) {
				for _, turn := range tc.talk {
					r.backend.send(turn[0])
					r.client.expect(turn[0])
					r.client.send(turn[1])
					r.backend.expect(turn[2])
				}
				r.client.expect(tc.told)
				r.client.send("z NOOP\r\n")
				r.backend.expect("z NOOP\r\n")
				r.client.closeWrite()
				r.backend.end()
				r.backend.closeWrite()
				r.client.end()
				r.finish(t, nil)
			})
		})
	}
	t.Run("an answer of ours in a literal that never ends", func(t *testing.T) {
		overBoth(t, Options{}, func(t *testing.T, r *relayed) {
			r.backend.send("* 1 FETCH (X {900000000000000000}\r\nx")
			r.client.expect("* 1 FETCH (X {900000000000000000}\r\nx")
			// So much may wait to be said; more of the client is not read.
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				_ = r.client.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
				for i := 0; ; i++ {
					if _, err := fmt.Fprintf(r.client.Conn, "a%d UNAUTHENTICATE\r\n", i); err != nil {
						return
					}
				}
			}()
			<-gone
			r.mu.Lock()
			waiting := len(r.answers)
			r.mu.Unlock()
			if waiting > 2*maxAnswers {
				t.Errorf("%d bytes wait to be said", waiting)
			}
			r.Kick("Bye.", 20*time.Millisecond)
			_ = r.client.Close()
			if s := <-r.stats; !errors.Is(s.Err, ErrKicked) {
				t.Errorf("ended with %v", s.Err)
			}
		})
	})
}

// TestLoginAgain tries after the login what could be used to guess other users'
// passwords where nobody counts: behind the login in its segment, a byte at a time,
// split in two, and under a backend that knows RFC 8437.
func TestLoginAgain(t *testing.T) {
	answers := []string{"a" + badUnauth, "b" + badLogin, "c" + badLogin, "d" + badTLS, "e" + badUnauth}
	const said = "a UNAUTHENTICATE\r\nb LOGIN bob guess\r\nc AUTHENTICATE PLAIN AGJvYgBndWVzcw==\r\nd STARTTLS\r\ne uNaUtHeNtIcAtE\r\n"
	want := strings.Join(answers, "")
	knows := "* CAPABILITY IMAP4rev1 UNAUTHENTICATE LITERAL+\r\n"
	ways := map[string]func(t *testing.T, o Options) *relayed{
		"at once": func(t *testing.T, o Options) *relayed {
			r := relay(t, o, false)
			r.client.send(said)
			return r
		},
		"behind the login": func(t *testing.T, o Options) *relayed {
			return relayFrom(t, o, false, said)
		},
	}
	for at := 1; at < len(said); at += 7 {
		ways["split at "+strconv.Itoa(at)] = func(t *testing.T, o Options) *relayed {
			r := relayFrom(t, o, false, said[:at])
			r.client.send(said[at:])
			return r
		}
	}
	ways["a byte at a time"] = func(t *testing.T, o Options) *relayed {
		r := relay(t, o, true) // each is a record
		for i := range said {
			r.client.send(said[i : i+1])
		}
		return r
	}
	for name, way := range ways {
		for _, strict := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, strict %v", name, strict), func(t *testing.T) {
				r := way(t, Options{Unauthenticate: strict})
				r.client.expect(want)
				r.client.send("z NOOP\r\n")
				r.backend.expect("z NOOP\r\n")
				r.client.closeWrite()
				r.backend.end()
				r.backend.closeWrite()
				r.client.end()
				r.finish(t, nil)
			})
		}
	}
	t.Run("what the backend said before", func(t *testing.T) {
		r := relay(t, Options{}, false)
		r.backend.send(knows)
		r.client.expect("* CAPABILITY IMAP4rev1 LITERAL+\r\n")
		// A literal that the backend might not take for one is asked about.
		r.client.send("a NOOP {18+}\r\nb UNAUTHENTICATE\r\n\r\nc COMPRESS DEFLATE\r\nd LOGIN bob {5+}\r\nguess\r\n")
		r.backend.expect("a NOOP {18}\r\n")
		r.backend.send("a BAD\r\n")
		r.client.expect("a BAD\r\nc" + noDeflate + "d" + badLogin)
		r.client.closeWrite()
		r.backend.end()
		r.backend.closeWrite()
		r.finish(t, nil)
	})
}
