package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// everything is an extension that does all that a turn can do.
func everything() *extension {
	e := carrying(Whole, nil)
	e.wants = map[string]Interest{"X": Whole, "UID X": Whole, "APPEND": Head, "Z": Whole, "W": Whole, "S": Whole, "I": Whole}
	e.plan = func(command string) func(*Turn) error {
		tag, rest, _ := strings.Cut(strings.TrimRight(command, "\r\n"), " ")
		name, rest, _ := strings.Cut(rest, " ")
		switch strings.ToUpper(name) {
		case "APPEND":
			return func(t *Turn) error { return copying(t, tag, command) }
		case "I":
			return func(t *Turn) error { return idling(t, tag) }
		case "W":
			return func(t *Turn) error {
				_ = t.Tellf("%s OK wrapped", tag)
				return t.Wrap(func(c net.Conn) net.Conn { return shifted{c} })
			}
		case "Z":
			return func(t *Turn) error {
				t.Forward([]byte(tag + " NOOP {3+}\r\nabc " + rest + "\r\n"))
				return nil
			}
		case "S":
			return func(t *Turn) error {
				all := func([]byte) bool { return true }
				status, err := t.Stream(all, nil, "FETCH ", rest, "")
				if err != nil {
					return err
				}
				return t.Tellf("%s %s", tag, status)
			}
		case "X":
			return func(t *Turn) error {
				status, err := t.Ask(nil, "SEARCH ", rest, " ALL")
				if err != nil {
					return err
				}
				return t.Tellf("%s %s", tag, status)
			}
		}
		return nil
	}
	return e
}

// copying passes literals on, one after the other, as MULTIAPPEND would.
func copying(t *Turn, tag, command string) error {
	line := []byte(strings.TrimRight(command, "\r\n"))
	own := t.Begin("APPEND")
	for {
		size, ok := announced(bytes.ReplaceAll(line, []byte("+}"), []byte("}")))
		if !ok {
			break
		}
		invited, status, err := t.Offer(own, size, nil)
		if err != nil || !invited {
			return errors.Join(err, t.Tellf("%s %s", tag, status))
		}
		if !bytes.Contains(line, []byte("+}")) {
			_ = t.Tellf("+ OK")
		}
		if _, err := t.CopyLiteral(size); err != nil {
			return err
		}
		next, err := t.ClientLine(time.Minute)
		if err != nil {
			return err
		}
		line = bytes.TrimRight(bytes.Clone(next), "\r\n")
	}
	t.Write("\r\n")
	status, err := t.Complete(own, nil)
	if err != nil {
		return err
	}
	return t.Tellf("%s %s", tag, status)
}

// idling asks the backend again and again until the client says something.
func idling(t *Turn, tag string) error {
	_ = t.Tellf("+ idling")
	for {
		if err := t.Flush(); err != nil {
			return err
		}
		switch _, err := t.ClientLine(time.Minute); {
		case err == nil:
			return t.Tellf("%s OK", tag)
		case !errors.Is(err, ErrClientTimeout):
			return err
		}
		if _, err := t.Ask(nil, "NOOP"); err != nil {
			return err
		}
	}
}

// FuzzTurns lets both sides say anything to a session with an extension. In what the
// backend says, a byte 1 is the tag of the last command that it got, at a time when
// nothing else happens any more. The session has to end when it is told to, and
// without a panic.
func FuzzTurns(f *testing.F) {
	for _, s := range [][2]string{
		{"a X abc\r\nb NOOP\r\n", "+ go\r\n* SEARCH 1\r\n\x01 OK found\r\n\x01 OK\r\n"},
		{"a UID X {3}\r\nabc\r\nb LOGOUT\r\n", "+ go\r\n* 1 FETCH (X {3}\r\nabc)\r\n\x01 NO\r\n* BYE\r\n\x01 OK\r\n"},
		{"a APPEND x {5+}\r\nhello {2}\r\nhi\r\nb NOOP\r\n", "+\r\n* 1 EXISTS\r\n\x01 OK [APPENDUID 1 2]\r\n\x01 OK\r\n"},
		{"a I\r\nDONE\r\nb I\r\n", "\x01 OK\r\n* 3 EXPUNGE\r\n\x01 OK\r\n"},
		{"a S x\r\nb NOOP\r\n", "+ go\r\n* 1 FETCH (X {3}\r\nabc Y {0}\r\n)\r\n* 2 FETCH (X {5}\r\nab"},
		{"a S x\r\nb NOOP\r\n", "* 1 FETCH (X {3}\r\nabc)\r\n\x01 OK found\r\n\x01 OK again\r\n\x01 OK\r\n"},
		{"a W\r\nb NOOP\r\n", "\x01 OK\r\n"},
		{"a Z b\r\nc Z d\r\n", "+\r\n\x01 OK\r\n+\r\n\x01 BAD\r\n"},
		{"a X\r\n", "* 1 FETCH (X {99999}\r\nabc"},
		{"a X\r\n", "[COPYUID 1 2 3]\r\n\r\n\x00\n+\r\n\x01\r\n\x01 OK"},
	} {
		f.Add([]byte(s[0]), []byte(s[1]), uint64(1), false)
		f.Add([]byte(s[0]), []byte(s[1]), uint64(2), true)
	}
	f.Fuzz(func(t *testing.T, up, down []byte, seed uint64, plus bool) {
		synctest.Test(t, func(t *testing.T) {
			defer func(before time.Time) { base = before }(base)
			base = time.Now()
			client, front := net.Pipe()
			backend, back := net.Pipe()
			s := New(Leg{Conn: front}, Leg{Conn: back}, Options{Idle: time.Hour, Extension: everything(), LiteralPlus: plus})
			stats := make(chan Stats, 1)
			go func() { stats <- s.Run() }()
			var tag atomic.Value
			toClient := gather(client)
			go noteTags(backend, &tag)
			go cut(string(up), seed, func(piece string) bool {
				_, err := io.WriteString(client, piece)
				return err == nil
			})
			go func() {
				for i, piece := range strings.Split(string(down), "\x01") {
					if i > 0 {
						time.Sleep(time.Second)
						last, _ := tag.Load().(string)
						piece = last + piece
					}
					if _, err := io.WriteString(backend, piece); err != nil {
						return
					}
				}
			}()
			time.Sleep(5 * time.Minute)
			start := time.Now()
			s.Kick("Bye.", time.Second)
			ended := <-stats
			if took := time.Since(start); took > faultGrace+2*farewellTimeout {
				t.Errorf("the end took %v", took)
			}
			if errors.Is(ended.Err, ErrPanic) {
				t.Error(ended.Err)
			}
			_, _ = client.Close(), backend.Close()
			<-toClient
		})
	})
}

// noteTags reads commands and notes their tags.
func noteTags(conn net.Conn, tag *atomic.Value) {
	buf, line := make([]byte, 1024), []byte(nil)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		for _, b := range buf[:n] {
			if line = append(line, b); b != '\n' {
				continue
			}
			if word, _, found := strings.Cut(string(line), " "); found {
				tag.Store(word)
			}
			line = line[:0]
		}
	}
}

// FuzzTurnResponses compares how a turn cuts what the backend says into responses with
// how the relay does.
func FuzzTurnResponses(f *testing.F) {
	for _, s := range []string{
		"* 1 FETCH (X {3}\r\nabc)\r\n* OK {3}\r\nabc\r\n", "* OK] {3}\r\n* 1\r\n", "*  {1}\r\nx\r\n", "[COPYUID {5}\r\n",
		"* X {00000000000000000000001}\r\na\r\n", "* X {0}\r\n{1}\r\n\n\n", "+ {3}\r\na OK {3}\r\n\r\n", "* CAPABILITY {2}\r\n* CAPABILITYX {2}\r\nab\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		client, front := net.Pipe()
		_, back := net.Pipe()
		s := New(Leg{Conn: front}, Leg{Conn: back}, Options{Idle: time.Hour})
		_, _ = client.Close(), back.Close()
		turn := &Turn{session: s, up: &s.up, down: &s.down, backend: input{held: said}}
		scan := newHeard().scan
		for rest := said; ; {
			r, err := turn.response()
			if err != nil {
				return
			}
			if len(r) > len(rest) || !bytes.Equal(r, rest[:len(r)]) {
				t.Fatalf("read %q of %q", r, rest)
			}
			n := 0
			for boundary := false; !boundary && n < len(r); boundary = scan.atBoundary() {
				pass, skip := scan.next(rest[n:], true)
				if n += pass + skip; pass+skip == 0 {
					t.Fatalf("%q is not decided", rest)
				}
			}
			if n != len(r) || !scan.atBoundary() {
				t.Fatalf("%q is a response, and not the %d bytes of %q", r, n, rest)
			}
			rest = rest[len(r):]
		}
	})
}

// TestHostileTurn has a backend lie while a command of ours is under way.
func TestHostileTurn(t *testing.T) {
	for _, tc := range []struct {
		// said is what the backend says, where '#' is our tag.
		name, said, got string
	}{
		{"other tags", "z OK done\r\nb OK done\r\n#OK\r\n", "z OK done\r\nb OK done\r\nb OK \r\n"},
		{"its tag in a literal", "* 1 X {%}\r\n#OK \r\n\r\n#NO at last\r\n", "* 1 X {%}\r\n#OK \r\n\r\nb NO at last\r\n"},
		{"invitations", "+ go\r\n+\r\n#OK x\r\n", "b OK x\r\n"},
		{"no text", "#OK\r\n", "b OK \r\n"},
		{"no status", "#\r\n", "b NO \r\n"},
		{"a bare line", "[COPYUID 1 2 3]\r\n\r\n#OK x\r\n", "[COPYUID 1 2 3]\r\n\r\nb OK x\r\n"},
		{"capabilities", "* CAPABILITY IMAP4rev1 UNAUTHENTICATE X\r\n#OK x\r\n", "* CAPABILITY IMAP4rev1 X\r\nb OK x\r\n"},
		{"a literal in text", "* OK {100}\r\n#OK x\r\n", "* OK {100}\r\nb OK x\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			overBoth(t, Options{Extension: everything(), LiteralPlus: true}, func(t *testing.T, r *relayed) {
				r.client.send("b X x\r\n")
				tag := r.backend.ownTag("SEARCH {1+}\r\n")
				r.backend.expect("x ALL\r\n")
				theirs := strings.NewReplacer("#", tag+" ", "%", fmt.Sprint(len(tag)+len(" OK \r\n")))
				r.backend.send(theirs.Replace(tc.said))
				r.client.expect(theirs.Replace(tc.got))
				r.client.send("c NOOP\r\n")
				r.backend.expect("c NOOP\r\n")
				_ = r.client.Close()
				r.backend.closeWrite()
				<-r.stats
			})
		})
	}
	t.Run("a literal that never ends", func(t *testing.T) {
		overBoth(t, Options{Extension: everything()}, func(t *testing.T, r *relayed) {
			r.client.send("b X x\r\n")
			r.backend.ownTag("SEARCH {1}\r\n")
			r.backend.send("* 1 FETCH (X {1000000}\r\nabc")
			r.Kick("enough", time.Minute)
			r.client.expect("* BYE enough\r\n")
			_ = r.client.Close()
			r.finish(t, ErrKicked)
		})
	})
	t.Run("words without end", func(t *testing.T) {
		// Its talk does not keep a session going.
		overBoth(t, Options{Extension: everything(), Idle: 100 * time.Millisecond}, func(t *testing.T, r *relayed) {
			r.client.send("b X x\r\n")
			r.backend.ownTag("SEARCH {1}\r\n")
			go func() { _, _ = io.Copy(io.Discard, r.client) }()
			for {
				if _, err := io.WriteString(r.backend, "* OK still here\r\n"); err != nil {
					break
				}
			}
			r.finish(t, ErrIdle)
		})
	})
}
