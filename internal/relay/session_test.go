package relay

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestDialogue(t *testing.T) {
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		r.client.send("a NOOP\r\nb APPEND x {5+}\r\n12345 ~{3+}\r\n\x00\r\n\r\nc ID NIL\r\n")
		r.backend.expect("a NOOP\r\nb APPEND x {5+}\r\n12345 ~{3+}\r\n\x00\r\n\r\nc ID NIL\r\n")
		if s := r.State(); s.Idle || s.Commands != 3 || s.FromClient != 53 {
			t.Errorf("state %+v", s)
		}
		r.backend.send("* 1 FETCH (X {5}\r\na OK\n)\r\na OK text {5}\r\nb OK\r\n[COPYUID {5}\r\nc NO\r\n")
		r.client.expect("* 1 FETCH (X {5}\r\na OK\n)\r\na OK text {5}\r\nb OK\r\n[COPYUID {5}\r\nc NO\r\n")
		if s := r.State(); !s.Idle || s.Opaque || s.FromBackend != 67 {
			t.Errorf("state %+v", s)
		}

		r.client.send("d IDLE\r\n")
		r.backend.expect("d IDLE\r\n")
		r.backend.send("+ idling\r\n* 4 EXISTS\r\n")
		r.client.expect("+ idling\r\n* 4 EXISTS\r\n")
		if s := r.State(); !s.Idle || s.Commands != 4 {
			t.Errorf("state %+v", s)
		}
		r.client.send("DONE\r\n")
		r.backend.expect("DONE\r\n")
		if s := r.State(); s.Idle {
			t.Errorf("state %+v", s)
		}
		r.client.closeWrite()
		r.backend.end()
		r.backend.send("d OK\r\n")
		r.backend.closeWrite()
		r.client.expect("d OK\r\n")
		r.client.end()
		r.finish(t, nil)
	})
}

// TestRefusedLiteral pins that what a client sends before it is invited waits,
// and is a command if it is not.
func TestRefusedLiteral(t *testing.T) {
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		r.client.send("a APPEND x {18}\r\nb UNAUTHENTICATE\r\nc NOOP\r\n")
		r.backend.expect("a APPEND x {18}\r\n")
		r.backend.send("a NO\r\n")
		r.backend.expect("c NOOP\r\n")
		r.client.expect("a NO\r\nb" + badUnauth)
		// An answer to something else is none, and this time it is a literal.
		r.client.send("d NOOP\r\ne APPEND x {18}\r\nf UNAUTHENTICATE\r\n\r\n")
		r.backend.expect("d NOOP\r\ne APPEND x {18}\r\n")
		r.backend.send("d OK\r\n* OK e OK\r\n+ go on\r\n")
		r.backend.expect("f UNAUTHENTICATE\r\n\r\n")
		r.client.expect("d OK\r\n* OK e OK\r\n+ go on\r\n")
		r.client.closeWrite()
		r.backend.closeWrite()
		r.finish(t, nil)
	})
}

// TestAnswerAtBoundary pins that an answer of ours waits for the end of a
// response, literals included.
func TestAnswerAtBoundary(t *testing.T) {
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		r.backend.send("* 1 FETCH (X {12}\r\n* 1 X\r\n")
		r.client.expect("* 1 FETCH (X {12}\r\n* 1 X\r\n")
		r.client.send("a sTARTTLS {3+}\r\nabc\r\nb UNAUTHENTICATE\r\nc NOOP\r\n")
		r.backend.expect("c NOOP\r\n") // and so the others were answered
		r.backend.send("* 2 X)\r\n* 3 EXISTS\r\n")
		r.client.expect("* 2 X)\r\na" + badTLS + "b" + badUnauth + "* 3 EXISTS\r\n")
		r.client.closeWrite()
		r.backend.closeWrite()
		r.finish(t, nil)
	})
}

// TestManyAnswers pins that a client that asks a lot gets all of it.
func TestManyAnswers(t *testing.T) {
	const n = 5000
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			for i := range n {
				r.client.send(fmt.Sprintf("s%d STARTTLS\r\n", i))
			}
		})
		wg.Go(func() {
			for range n {
				r.backend.send("* 1 FETCH (X {2}\r\n\r\n)\r\n")
			}
		})
		for i, left := 0, n; i < n || left > 0; {
			line, err := r.client.br.ReadString('\n')
			switch {
			case err != nil:
				t.Fatal(err)
			case line == "* 1 FETCH (X {2}\r\n":
				r.client.expect("\r\n)\r\n")
				left--
			case line == fmt.Sprintf("s%d%s", i, badTLS):
				i++
			default:
				t.Fatalf("got %q, want answer %d", line, i)
			}
		}
		_ = r.client.Close()
		_ = r.backend.Close()
		<-r.stats
	})
}

// TestSmuggling plays a backend that does not take for a literal what is one, as
// Dovecot does where it expects no arguments.
func TestSmuggling(t *testing.T) {
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		r.backend.send("* OK [CAPABILITY IMAP4rev1 UNAUTHENTICATE LITERAL+] hello\r\n")
		r.client.expect("* OK [CAPABILITY IMAP4rev1 LITERAL+] hello\r\n")
		r.client.send("a NOOP {18+}\r\nb UNAUTHENTICATE\r\n\r\nc NOOP {18+}\r\nd UNAUTHENTICATE\r\n\r\ne COMPRESS DEFLATE\r\n")
		r.backend.expect("a NOOP {18}\r\n")
		r.backend.send("a OK\r\n")
		r.backend.expect("c NOOP {18}\r\n")
		r.backend.send("+ a conforming one\r\n")
		r.backend.expect("d UNAUTHENTICATE\r\n\r\n")
		r.client.expect("a OK\r\ne" + noDeflate)
		r.client.closeWrite()
		r.backend.closeWrite()
		r.finish(t, nil)
	})
}

func TestFault(t *testing.T) {
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		r.client.send("a SEARCH x{18+}\r\nb UNAUTHENTICATE\r\n")
		r.client.expect("* BYE " + faultLiteral + "\r\n")
		r.client.end()
		_ = r.client.Close()
		r.backend.expect("a SEARCH x{18+}\r")
		if rest, _ := io.ReadAll(r.backend.br); len(rest) > 0 {
			t.Errorf("the backend got %q", rest)
		}
		r.finish(t, ErrClient)
	})
}

// TestUnanswered ends a backend that is waited for.
func TestUnanswered(t *testing.T) {
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		r.client.send("a APPEND x {5}\r\n")
		r.backend.expect("a APPEND x {5}\r\n")
		r.backend.closeWrite()
		r.client.end()
		r.finish(t, io.ErrUnexpectedEOF)
	})
}

func TestCompress(t *testing.T) {
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		r.client.send("a COMPRESS DEFLATE\r\n")
		r.backend.expect("a COMPRESS DEFLATE\r\n")
		r.backend.send("a OK Compressed\r\n")
		r.client.expect("a OK Compressed\r\n")
		text := strings.Repeat("b STARTTLS\r\nc SELECT {5}\r\n* CAPABILITY UNAUTHENTICATE\r\n", 1000)
		for _, way := range [][2]*peer{{r.client, r.backend}, {r.backend, r.client}} {
			w, err := flate.NewWriter(way[0].Conn, flate.BestSpeed)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, text); err != nil || w.Flush() != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(text))
			if _, err := io.ReadFull(flate.NewReader(way[1].br), got); err != nil || string(got) != text {
				t.Fatalf("%s got something else, %v", way[1].name, err)
			}
		}
		if s := r.State(); !s.Opaque {
			t.Errorf("state %+v", s)
		}
		// There is no place for a BYE any more.
		r.Kick("Bye.", patience)
		r.client.end()
		_ = r.client.Close()
		r.finish(t, ErrKicked)
	})
}

func TestKickIdle(t *testing.T) {
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		r.client.send("a IDLE\r\n")
		r.backend.expect("a IDLE\r\n")
		r.backend.send("+ idling\r\n")
		r.client.expect("+ idling\r\n")
		r.Kick("Ended\r\nby the operator: ü"+strings.Repeat("!", 500), patience)
		r.Kick("Again", patience)
		r.client.expect("* BYE Ended??by the operator: ?" + strings.Repeat("!", 175) + "\r\n")
		r.client.end()
		_ = r.client.Close()
		r.finish(t, ErrKicked)
		r.Kick("Too late", patience)
	})
}

// TestKickInLiteral pins that a response is completed before the BYE.
func TestKickInLiteral(t *testing.T) {
	const size = 10 << 20
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		literal := strings.Repeat("* OK no boundary\r\n", size/18+1)[:size]
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			r.backend.send("* 1 FETCH (BODY[] {10485760}\r\n" + literal + ")\r\na OK done\r\n")
		}()
		r.client.expect("* 1 FETCH (BODY[] {10485760}\r\n" + literal[:1<<20])
		r.Kick("Bye.", patience)
		r.client.expect(literal[1<<20:] + ")\r\n* BYE Bye.\r\n")
		r.client.end()
		_ = r.client.Close()
		<-sent
		r.finish(t, ErrKicked)
	})
}

// TestKickInUpload pins that a client is told at once while it sends.
func TestKickInUpload(t *testing.T) {
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		r.client.send("a APPEND x {10485760+}\r\n" + strings.Repeat("x", 1<<20))
		r.backend.expect("a APPEND x {10485760+}\r\nx")
		go func() { _, _ = io.Copy(io.Discard, r.backend.br) }()
		r.Kick("Bye.", patience)
		// The client goes on as if nothing had happened, and is not reset.
		r.client.send(strings.Repeat("x", 1<<20))
		r.client.expect("* BYE Bye.\r\n")
		r.client.end()
		_ = r.client.Close()
		r.finish(t, ErrKicked)
	})
}

// TestKickStalled pins that the end comes after the time of grace, without a BYE.
func TestKickStalled(t *testing.T) {
	t.Run("backend", func(t *testing.T) {
		overBoth(t, Options{}, func(t *testing.T, r *relayed) {
			r.backend.send("* 1 FETCH (BODY[] {5}\r\nx")
			r.client.expect("* 1 FETCH (BODY[] {5}\r\nx")
			r.Kick("Bye.", 20*time.Millisecond)
			r.client.end()
			_ = r.client.Close()
			r.finish(t, ErrKicked)
		})
	})
	t.Run("client", func(t *testing.T) {
		overBoth(t, Options{}, func(t *testing.T, r *relayed) {
			go func() { _, _ = io.CopyN(r.backend.Conn, endless{}, 100<<20) }()
			r.client.expect("* 1") // and no more is read
			start := time.Now()
			r.Kick("Bye.", 20*time.Millisecond)
			r.finish(t, ErrKicked)
			if took := time.Since(start); took > 4*time.Second {
				t.Errorf("the end took %v", took)
			}
		})
	})
}

// endless says the same response again and again.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	const line = "* 1 EXISTS\r\n"
	n := 0
	for n+len(line) <= len(p) {
		n += copy(p[n:], line)
	}
	return n, nil
}

// TestKickHalf pins what happens once one direction has ended.
func TestKickHalf(t *testing.T) {
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		r.client.closeWrite()
		r.backend.end()
		r.Kick("Bye.", patience)
		r.client.expect("* BYE Bye.\r\n")
		r.client.end()
		r.finish(t, ErrKicked)
	})
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		r.backend.closeWrite()
		r.client.end()
		r.Kick("Bye.", patience)
		_ = r.client.Close()
		r.finish(t, ErrKicked)
	})
}

// TestPanic pins that an interceptor's panic ends the session, and no more.
func TestPanic(t *testing.T) {
	o := Options{Interceptor: interceptFunc(func([]byte) *Answer { panic(errors.New("hunter2")) })}
	overBoth(t, o, func(t *testing.T, r *relayed) {
		r.client.send("a NOOP\r\n")
		_, _ = io.ReadAll(r.client.br)
		_, _ = io.ReadAll(r.backend.br)
		s := <-r.stats
		if !errors.Is(s.Err, ErrPanic) || !strings.Contains(s.Err.Error(), "*errors.errorString") || strings.Contains(s.Err.Error(), "hunter2") {
			t.Errorf("ended with %v", s.Err)
		}
	})
}

// TestRandomCuts sends well-formed sessions both ways at once, in pieces of any
// size. Nothing may be changed on the way.
func TestRandomCuts(t *testing.T) {
	overBoth(t, Options{}, func(t *testing.T, r *relayed) {
		rnd := rand.New(rand.NewPCG(1, 2))
		var up, down bytes.Buffer
		for i := range maxOpen - 1 {
			lit := make([]byte, rnd.IntN(1<<rnd.IntN(14)))
			for i := range lit {
				lit[i] = "\r\n {+}\"* OKabDNE"[rnd.IntN(16)]
			}
			fmt.Fprintf(&up, "t%d APPEND \"a\\\\b\" (\\Seen) ~{%d+}\r\n%s {%d+}\r\n%s\r\n", i, len(lit), lit, len(lit), lit)
			fmt.Fprintf(&down, "+ text {%d}\r\n* %d FETCH (X {%d}\r\n%s Y ~{%d}\r\n%s)\r\nt%d OK [X] {3}\r\n", i, i, len(lit), lit, len(lit), lit, i)
		}
		pieces := func(p *peer, b []byte, seed uint64) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			for len(b) > 0 {
				n := min(1+rnd.IntN(1<<rnd.IntN(17)), len(b))
				if _, err := p.Write(b[:n]); err != nil {
					t.Error(err)
					return
				}
				b = b[n:]
			}
			p.closeWrite()
		}
		var wg sync.WaitGroup
		wg.Go(func() { pieces(r.client, up.Bytes(), 4) })
		wg.Go(func() { pieces(r.backend, down.Bytes(), 5) })
		wg.Go(func() {
			for range 1000 {
				_ = r.State()
			}
		})
		check := func(p *peer, want []byte) {
			if got, err := io.ReadAll(p.br); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s got %d bytes, %v, not the %d that were sent", p.name, len(got), err, len(want))
			}
		}
		wg.Go(func() { check(r.backend, up.Bytes()) })
		check(r.client, down.Bytes())
		wg.Wait()
		s := r.finish(t, nil)
		if s.FromClient != int64(up.Len()) || s.FromBackend != int64(down.Len()) {
			t.Errorf("stats %+v, want %d and %d", s, up.Len(), down.Len())
		}
	})
}

// TestBuffersGoBack runs on the fake clock of a bubble: after a second of silence
// no large buffer is held.
func TestBuffersGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, front := net.Pipe()
		back, backend := net.Pipe()
		s := New(Leg{Conn: front}, Leg{Conn: back}, Options{Idle: time.Hour})
		done := make(chan Stats)
		go func() { done <- s.Run() }()
		line := append(bytes.Repeat([]byte("x"), 3*idleSize), '\n')
		for range 2 {
			go func() { _, _ = backend.Write(line) }()
			if _, err := io.ReadFull(client, make([]byte, len(line))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * warmTime)
			synctest.Wait()
			if len(*s.down.buf) > idleSize {
				t.Error("a large buffer is kept")
			}
		}
		s.Kick("Bye.", time.Second)
		if got, err := io.ReadAll(client); err != nil || string(got) != "* BYE Bye.\r\n" {
			t.Errorf("client got %q, %v", got, err)
		}
		if stats := <-done; !errors.Is(stats.Err, ErrKicked) {
			t.Errorf("stats %+v", stats)
		}
		_ = backend.Close()
	})
}
