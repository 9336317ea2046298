package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// carrying is an extension that carries out the command X, wholly or from its head.
func carrying(interest Interest, plan func(t *Turn, command string) error) *extension {
	return &extension{
		wants: map[string]Interest{"X": interest, "UID X": interest},
		plan: func(command string) func(*Turn) error {
			return func(t *Turn) error { return plan(t, command) }
		},
	}
}

// listening answers X with what the client says behind it.
func listening() *extension {
	return carrying(Whole, func(t *Turn, _ string) error {
		_ = t.Tellf("+ go on")
		if err := t.Flush(); err != nil {
			return err
		}
		line, err := t.ClientLine(time.Minute)
		if err != nil {
			return err
		}
		return t.Tellf("x OK %q", line)
	})
}

func TestClientLine(t *testing.T) {
	t.Run("behind the command", func(t *testing.T) {
		overBoth(t, Options{Extension: listening()}, func(t *testing.T, r *relayed) {
			r.client.send("x X\r\nDONE\r\ny LOGOUT\r\n")
			r.client.expect("+ go on\r\nx OK \"DONE\\r\\n\"\r\n")
			r.backend.expect("y LOGOUT\r\n")
			r.backend.send("* BYE\r\ny OK\r\n")
			r.client.expect("* BYE\r\ny OK\r\n")
			if s := r.State(); !s.Idle || s.Commands != 2 {
				t.Errorf("state %+v", s)
			}
			r.client.closeWrite()
			r.backend.closeWrite()
			r.finish(t, nil)
		})
	})
	t.Run("a byte at a time", func(t *testing.T) {
		overBoth(t, Options{Extension: listening()}, func(t *testing.T, r *relayed) {
			r.client.send("x X\r\n")
			r.client.expect("+ go on\r\n")
			for _, b := range "DONE\r" {
				r.client.send(string(b))
			}
			r.client.send("\ny NOOP\r\n")
			r.client.expect("x OK \"DONE\\r\\n\"\r\n")
			r.backend.expect("y NOOP\r\n")
		})
	})
	t.Run("too long", func(t *testing.T) {
		overBoth(t, Options{Extension: listening()}, func(t *testing.T, r *relayed) {
			r.client.send("x X\r\n" + strings.Repeat("x", 3*maxClientLine))
			r.client.expect("+ go on\r\n* BYE " + faultLine + "\r\n")
			_ = r.client.Close()
			r.finish(t, ErrClient)
		})
	})
	t.Run("nothing", func(t *testing.T) {
		e := carrying(Whole, func(t *Turn, _ string) error {
			_ = t.Tellf("+ go on")
			if err := t.Flush(); err != nil {
				return err
			}
			late := 0
			for {
				line, err := t.ClientLine(time.Millisecond)
				if !errors.Is(err, ErrClientTimeout) {
					return errors.Join(err, t.Tellf("x OK %q after %v", line, late > 0))
				}
				if late++; late == 1 {
					_ = t.Tellf("* OK hurry")
					_ = t.Flush()
				}
			}
		})
		overBoth(t, Options{Extension: e}, func(t *testing.T, r *relayed) {
			r.client.send("x X\r\nDO")
			r.client.expect("+ go on\r\n* OK hurry\r\n")
			r.client.send("NE\r\n")
			r.client.expect("x OK \"DONE\\r\\n\" after true\r\n")
		})
	})
	t.Run("kick", func(t *testing.T) {
		overBoth(t, Options{Extension: listening()}, func(t *testing.T, r *relayed) {
			r.client.send("x X\r\n")
			r.client.expect("+ go on\r\n")
			r.Kick("enough", time.Minute)
			r.client.expect("* BYE enough\r\n")
			r.client.closeWrite()
			r.finish(t, ErrKicked)
		})
	})
	t.Run("idle", func(t *testing.T) {
		overBoth(t, Options{Extension: listening(), Idle: 50 * time.Millisecond}, func(t *testing.T, r *relayed) {
			r.client.send("x X\r\n")
			r.client.expect("+ go on\r\n")
			r.finish(t, ErrIdle)
		})
	})
	for _, half := range []bool{false, true} {
		overBoth(t, Options{Extension: listening()}, func(t *testing.T, r *relayed) {
			r.client.send("x X\r\n")
			r.client.expect("+ go on\r\n")
			if half {
				r.client.closeWrite()
			} else {
				_ = r.client.Close()
			}
			r.finish(t, nil)
		})
	}
}

// TestClientGone has a client hang up while the backend is asked. The answer is for
// nobody, and the session ends.
func TestClientGone(t *testing.T) {
	overBoth(t, Options{Extension: sorting()}, func(t *testing.T, r *relayed) {
		r.client.send("b SORT x\r\nc LOGOUT\r\n")
		tag := r.backend.ownTag("SEARCH x\r\n")
		_ = r.client.Close()
		r.backend.send("* SEARCH 1\r\n" + tag + " OK found\r\n")
		_, _ = io.ReadAll(r.backend.br)
		r.backend.closeWrite()
		<-r.stats
	})
}

// scribbler is a client's connection that uses each buffer that is free before it is
// written to.
type scribbler struct{ net.Conn }

func (s scribbler) Write(p []byte) (int, error) {
	for class := range sizes {
		var free [4]*[]byte // a pool has several places
		for i := range free {
			free[i] = getBuffer(class)
			for j := range *free[i] {
				(*free[i])[j] = '#'
			}
		}
		for _, b := range free {
			putBuffer(b)
		}
	}
	return s.Conn.Write(p)
}

// TestTurnBuffers pins that nothing is used that was given back.
func TestTurnBuffers(t *testing.T) {
	client, front := connect(t, false)
	backend, back := connect(t, false)
	s := New(Leg{Conn: scribbler{front}}, Leg{Conn: back}, Options{Extension: sorting(), Idle: time.Minute})
	r := &relayed{Session: s, client: newPeer(t, "client", client), backend: newPeer(t, "backend", backend), stats: make(chan Stats, 1)}
	go func() { r.stats <- s.Run() }()
	for range 10 {
		r.client.send("b SORT x\r\n")
		tag := r.backend.ownTag("SEARCH x\r\n")
		r.backend.send("* SEARCH 1\r\n" + tag + " OK found\r\n* 5 EXISTS\r\n")
		r.client.expect("* SORT 1\r\nb OK found\r\n* 5 EXISTS\r\n")
	}
	_, _ = client.Close(), backend.Close()
	<-r.stats
}

// appending carries out X as an APPEND whose literal it copies.
func appending() *extension {
	return carrying(Head, func(t *Turn, command string) error {
		size, ok := announced(bytes.ReplaceAll([]byte(strings.TrimRight(command, "\n")), []byte("+"), nil))
		if !ok {
			return t.Tellf("x BAD")
		}
		tag := t.Begin("APPEND x ")
		invited, status, err := t.Offer(tag, size, nil)
		if err != nil || !invited {
			return errors.Join(err, t.Tellf("x %s", status))
		}
		if !strings.Contains(command, "+") {
			_ = t.Tellf("+ OK")
		}
		if _, err := t.CopyLiteral(size); err != nil {
			return err
		}
		if _, err := t.ClientLine(time.Minute); err != nil {
			return err
		}
		t.Write("\r\n")
		if status, err = t.Complete(tag, nil); err != nil {
			return err
		}
		return t.Tellf("x %s", status)
	})
}

func TestCopyLiteral(t *testing.T) {
	mail := strings.Repeat("a line of it\r\n", 100_000)
	overBoth(t, Options{Extension: appending(), LiteralPlus: true}, func(t *testing.T, r *relayed) {
		go r.client.send("x X {1400000+}\r\n" + mail + "\r\ny NOOP\r\n")
		tag := r.backend.ownTag("APPEND x {1400000+}\r\n")
		r.backend.expect(mail + "\r\n")
		r.backend.send(tag + " OK done\r\n")
		r.client.expect("x OK done\r\n")
		r.backend.expect("y NOOP\r\n")
	})
	overBoth(t, Options{Extension: appending()}, func(t *testing.T, r *relayed) {
		r.client.send("x X {5}\r\n")
		tag := r.backend.ownTag("APPEND x {5}\r\n")
		r.backend.send("* 1 EXISTS\r\n+ go\r\n")
		r.client.expect("* 1 EXISTS\r\n+ OK\r\n")
		r.client.send("ab\r\n}\r\ny NOOP\r\n")
		r.backend.expect("ab\r\n}\r\n")
		r.backend.send("+ what\r\n" + tag + " OK done\r\n")
		r.client.expect("x OK done\r\n")
		r.backend.expect("y NOOP\r\n")
		r.backend.send("y OK\r\n")
		r.client.expect("y OK\r\n")
		// One that is not invited is not asked for.
		r.client.send("x X {5}\r\n")
		tag = r.backend.ownTag("APPEND x {5}\r\n")
		r.backend.send(tag + " NO [TRYCREATE] no\r\n")
		r.client.expect("x NO [TRYCREATE] no\r\n")
		r.client.send("z NOOP\r\n")
		r.backend.expect("z NOOP\r\n")
	})
	t.Run("hung up", func(t *testing.T) {
		overBoth(t, Options{Extension: appending()}, func(t *testing.T, r *relayed) {
			r.client.send("x X {5+}\r\nab")
			r.backend.ownTag("APPEND x {5}\r\n")
			r.backend.send("+ go\r\n")
			r.client.closeWrite()
			r.finish(t, nil)
		})
	})
	t.Run("kick", func(t *testing.T) {
		overBoth(t, Options{Extension: appending(), LiteralPlus: true}, func(t *testing.T, r *relayed) {
			r.client.send("x X {500000+}\r\nab")
			r.backend.ownTag("APPEND x {500000+}\r\n")
			r.backend.expect("ab")
			r.Kick("enough", time.Minute)
			r.client.expect("* BYE enough\r\n")
			_ = r.client.Close()
			r.finish(t, ErrKicked)
		})
	})
}

// shifted is a connection on which each byte is another one.
type shifted struct{ net.Conn }

func (s shifted) NetConn() net.Conn { return s.Conn }

func (s shifted) CloseWrite() error { return s.Conn.(closeWriter).CloseWrite() }

func (s shifted) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	copy(p, shift(p[:n]))
	return n, err
}

func (s shifted) Write(p []byte) (int, error) { return s.Conn.Write(shift(p)) }

func shift(p []byte) []byte {
	out := bytes.Clone(p)
	for i := range out {
		out[i] ^= 1
	}
	return out
}

func TestForward(t *testing.T) {
	e := carrying(Whole, func(t *Turn, command string) error {
		if _, err := t.Ask(nil, "SEARCH TEXT ", "a b", " ALL"); err != nil {
			return err
		}
		tag, _, _ := strings.Cut(command, " ")
		t.Forward([]byte(tag + " UID FETCH 1,2 (X {3+}\r\nabc)\r\n"))
		return nil
	})
	overBoth(t, Options{Extension: e, LiteralPlus: true}, func(t *testing.T, r *relayed) {
		r.client.send("a UiD x $\r\nb NOOP\r\n")
		tag := r.backend.ownTag("SEARCH TEXT {3+}\r\n")
		r.backend.expect("a b ALL\r\n")
		r.backend.send(tag + " OK\r\n")
		r.backend.expect("a UID FETCH 1,2 (X {3+}\r\nabc)\r\nb NOOP\r\n")
		if s := r.State(); s.Idle || s.Commands != 2 {
			t.Errorf("state %+v", s)
		}
		r.backend.send("a OK\r\nb OK\r\n")
		r.client.expect("a OK\r\nb OK\r\n")
	})
	overBoth(t, Options{Extension: e}, func(t *testing.T, r *relayed) {
		r.client.send("a X $\r\nb NOOP\r\n")
		tag := r.backend.ownTag("SEARCH TEXT {3}\r\n")
		r.backend.send("+\r\n")
		r.backend.expect("a b ALL\r\n")
		r.backend.send(tag + " OK\r\n")
		r.backend.expect("a UID FETCH 1,2 (X {3}\r\n")
		r.backend.send("+\r\n")
		r.backend.expect("abc)\r\nb NOOP\r\n")
		// The next one, whose literal the backend does not want.
		r.client.send("c X $\r\n")
		r.backend.send("a OK\r\nb OK\r\n")
		r.client.expect("a OK\r\nb OK\r\n")
		tag = r.backend.ownTag("SEARCH TEXT {3}\r\n")
		r.backend.send(tag + " BAD what\r\n")
		r.backend.expect("c UID FETCH 1,2 (X {3}\r\n")
		r.backend.send("c BAD\r\n")
		r.client.expect("c BAD\r\n")
		r.client.send("d NOOP\r\n")
		r.backend.expect("d NOOP\r\n")
	})
	half := carrying(Whole, func(t *Turn, _ string) error {
		t.Forward([]byte("x UID FET"))
		return nil
	})
	overBoth(t, Options{Extension: half}, func(t *testing.T, r *relayed) {
		r.client.send("a X $\r\n")
		r.finish(t, errForward)
	})
}

// TestWants pins which names an extension is asked for, wherever commands are cut.
func TestWants(t *testing.T) {
	const said = "a NOOP\r\nb uid Fetch 1 x\r\nc UID\r\nd UID \r\ne  UID   sort x\r\nf UID ABCDEFGHIJKLMNOPQ\r\n"
	want := []string{"NOOP", "UID FETCH", "UID", "UID", "UID SORT", "UID"}
	for at := 0; at <= len(said); at++ {
		s := newScripted("", false)
		var asked asking
		s.scan.gathered.extension = &asked
		if ok := s.feed(said[:at]) && s.feed(said[at:]); !ok || !slices.Equal(asked, want) {
			t.Fatalf("cut at %d: asked for %q", at, asked)
		}
	}
}

// asking notes what it is asked for.
type asking []string

func (a *asking) Wants(name []byte) Interest {
	*a = append(*a, string(name))
	return Pass
}

func (a *asking) Plan([]byte) func(*Turn) error { return nil }

// TestUninvited pins that with an extension a client may send all literals at once,
// whatever the backend takes.
func TestUninvited(t *testing.T) {
	overBoth(t, Options{Extension: sorting()}, func(t *testing.T, r *relayed) {
		r.client.send("a APPEND {5+}\r\nINBOX {3+}\r\nabc\r\nb COMPRESS DEFLATE\r\n")
		r.backend.expect("a APPEND {5}\r\n")
		r.backend.send("+\r\n")
		r.backend.expect("INBOX {3}\r\n")
		r.backend.send("+\r\n")
		r.backend.expect("abc\r\nb COMPRESS DEFLATE\r\n")
		r.backend.send("a OK\r\nb NO\r\n")
		r.client.expect("a OK\r\nb NO\r\n")
	})
}
