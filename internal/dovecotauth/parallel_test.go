package dovecotauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

func granted(context.Context, *login.Attempt) login.Verdict {
	return login.Verdict{Result: login.Granted}
}

// slow is a Checker whose users are durations: "3s" is granted after 3 seconds.
// "3s-down" is unavailable after them.
func slow(ctx context.Context, a *login.Attempt) login.Verdict {
	text, down := strings.CutSuffix(a.User, "-down")
	d, err := time.ParseDuration(text)
	if err != nil {
		return login.DeniedWith("")
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return login.UnavailableFor(ctx.Err())
	}
	if down {
		return login.UnavailableFor(context.DeadlineExceeded)
	}
	return login.Verdict{Result: login.Granted}
}

func auth(id int, user string) string {
	return fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=smtp\tresp=%s\n", id, plain("", user, "x"))
}

// TestParallel pins that answers come when they are ready, and once.
func TestParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, &Server{Check: slow})
		p.send(auth(30, "3s") + auth(10, "1s") + auth(20, "2s") + auth(5, "0s"))
		p.expect("OK\t5\tuser=0s\n")
		time.Sleep(time.Second)
		p.expect("OK\t10\tuser=1s\n")
		p.send(auth(10, "3s")) // an id is free again once it was answered
		time.Sleep(time.Second)
		p.expect("OK\t20\tuser=2s\n")
		p.send("AUTH\t40\tLOGIN\tservice=smtp\n")
		p.expect("CONT\t40\t" + askUser + "\n")
		time.Sleep(time.Second)
		p.expect("OK\t30\tuser=3s\n")
		time.Sleep(time.Minute)
		p.expect("OK\t10\tuser=3s\n")
		_ = p.hangUp()
	})
}

// TestUnavailableBesideOthers pins that a request that could not be decided takes
// no other check down with it.
func TestUnavailableBesideOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, &Server{Check: slow})
		p.send(auth(1, "1s-down") + auth(2, "2s") + auth(3, "3s-down"))
		time.Sleep(time.Second)
		p.expect("FAIL\t1\tuser=1s-down\ttemp\tcode=temp_fail\n")
		time.Sleep(time.Second)
		p.expect("OK\t2\tuser=2s\n")
		time.Sleep(time.Second)
		p.expectClosed("") // it was alone by then
	})
}

// TestUnavailableAfterAbort pins the case of Postfix whose SMTP client gave up an
// exchange with "*": the request that waits forever is not one in flight.
func TestUnavailableAfterAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, &Server{Check: slow})
		p.send("AUTH\t1\tLOGIN\tservice=smtp\n")
		p.expect("CONT\t1\t" + askUser + "\n")
		p.send(auth(2, "0s-down"))
		p.expectClosed("")
	})
}

// TestUnavailableAfterCancel pins that a cancelled request counts no more.
func TestUnavailableAfterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, &Server{Check: slow})
		p.send(auth(1, "5s") + auth(2, "1s-down") + "CANCEL\t1\n")
		p.expect("")
		time.Sleep(time.Second)
		p.expectClosed("")
	})
}

// TestCancel pins that a cancelled request gets no answer. Its check goes on: it
// counts as a guess, if it is one.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		p := start(t, &Server{OnUnavailable: Fail, Check: func(ctx context.Context, a *login.Attempt) login.Verdict {
			v := slow(ctx, a)
			if ctx.Err() == nil {
				ended.Add(1)
			}
			return v
		}})
		p.send(auth(1, "5s"))
		p.expect("")
		p.send("CANCEL\t1\n" + auth(1, "1s")) // the id is free at once
		p.expect("")
		time.Sleep(time.Minute)
		p.expect("OK\t1\tuser=1s\n")
		if n := ended.Load(); n != 2 {
			t.Errorf("%d checks came to an end, want 2", n)
		}
		_ = p.hangUp()
	})
}

// TestUnexpectedContinuation gives a CONT to a request that is being checked.
func TestUnexpectedContinuation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, &Server{Check: slow})
		p.send(auth(1, "1s") + "CONT\t1\tAA==\n")
		p.expect("FAIL\t1\treason=Unexpected continuation\n")
		time.Sleep(time.Minute)
		p.expect("")
		// The same after the last step of an exchange that began with a CONT.
		p.send("AUTH\t2\tPLAIN\tservice=smtp\n")
		p.expect("CONT\t2\t\n")
		p.send("CONT\t2\t" + plain("", "1s", "x") + "\n")
		p.expect("")
		p.send("CONT\t2\t" + plain("", "1s", "x") + "\n")
		p.expect("FAIL\t2\treason=Unexpected continuation\n")
		time.Sleep(time.Minute)
		p.expect("")
		_ = p.hangUp()
	})
}

// TestHangUp pins that a client that goes away takes its checks with it.
func TestHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running atomic.Int32
		p := start(t, &Server{Check: func(ctx context.Context, _ *login.Attempt) login.Verdict {
			running.Add(1)
			defer running.Add(-1)
			<-ctx.Done()
			time.Sleep(time.Second) // some cleaning up
			return login.UnavailableFor(ctx.Err())
		}})
		p.send(auth(1, "a") + auth(2, "b"))
		p.expect("")
		if n := running.Load(); n != 2 {
			t.Fatalf("%d checks under way, want 2", n)
		}
		if err := p.hangUp(); err != nil {
			t.Error(err)
		}
		if n := running.Load(); n != 0 {
			t.Errorf("Serve returned with %d checks under way", n)
		}
	})
}

// TestOwnerEnds pins that Serve ends with its context.
func TestOwnerEnds(t *testing.T) {
	for _, input := range []string{"", hello, hello + auth(1, "5s")} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			p := dial(t, bound{&Server{Check: slow}, ctx})
			p.expectGreeting()
			p.send(input)
			p.expect("")
			cancel()
			if said, closed := p.take(); said != "" || !closed {
				t.Fatalf("server said %q, closed: %v", said, closed)
			}
			if err := <-p.served; !errors.Is(err, context.Canceled) {
				t.Errorf("Serve returned %v", err)
			}
		})
	}
}

// TestReuse pins that an id is free again after each kind of answer.
func TestReuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, &Server{Check: accounts})
		for range 2 {
			p.send("AUTH\t1\tLOGIN\tservice=smtp\n")
			p.expect("CONT\t1\t" + askUser + "\n")
			p.send("CONT\t1\t" + alice + "\n")
			p.expect("CONT\t1\t" + askPass + "\n")
			p.send("CONT\t1\t" + goodPass + "\n")
			p.expect("OK\t1\tuser=alice@example.test\n")
			p.send(auth(1, "bob"))
			p.expect("FAIL\t1\tuser=bob\n")
			p.send("AUTH\t1\tPLAIN\tservice=smtp\n")
			p.expect("CONT\t1\t\n")
			p.send("CONT\t1\t!\n")
			p.expect("FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in continued response\n")
		}
		_ = p.hangUp()
	})
}

// TestInFlight pins that reading pauses while too many checks are under way, and
// that all of them are answered in the end.
func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		p := start(t, &Server{Check: func(ctx context.Context, a *login.Attempt) login.Verdict {
			n := running.Add(1)
			defer running.Add(-1)
			most.Store(max(most.Load(), n))
			return slow(ctx, a)
		}})
		const requests = 3*maxChecks + 1
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for id := 1; id <= requests; id++ {
				if _, err := io.WriteString(p.nc, auth(id, "1s")); err != nil {
					t.Errorf("sending request %d: %v", id, err)
				}
			}
		}()
		p.expect("")
		if n := running.Load(); n != maxChecks {
			t.Errorf("%d checks under way, want %d", n, maxChecks)
		}
		time.Sleep(time.Minute)
		<-sent
		said, _ := p.take()
		seen := make(map[string]int)
		for line := range strings.Lines(said) {
			seen[line]++
		}
		for id := 1; id <= requests; id++ {
			if n := seen[fmt.Sprintf("OK\t%d\tuser=1s\n", id)]; n != 1 {
				t.Errorf("%d answers for %d, want 1", n, id)
			}
		}
		if len(seen) != requests {
			t.Errorf("%d different answers, want %d", len(seen), requests)
		}
		if n := most.Load(); n != maxChecks {
			t.Errorf("at most %d checks at a time, want %d", n, maxChecks)
		}
		_ = p.hangUp()
	})
}

// TestWaiting pins that a request whose CONT does not come is forgotten without a
// word, and its id free again.
func TestWaiting(t *testing.T) {
	const ask = "AUTH\t1\tLOGIN\tservice=smtp\n"
	synctest.Test(t, func(t *testing.T) {
		p := start(t, &Server{Check: granted})
		p.send(ask)
		p.expect("CONT\t1\t" + askUser + "\n")
		time.Sleep(continueTimeout)
		p.send("CONT\t1\t" + alice + "\n") // in the last moment
		p.expect("CONT\t1\t" + askPass + "\n")
		time.Sleep(continueTimeout + time.Millisecond)
		p.expect("")
		p.send("CONT\t1\t" + goodPass + "\n")
		p.expect("FAIL\t1\treason=Authentication request timed out\n")

		p.send(ask)
		p.expect("CONT\t1\t" + askUser + "\n")
		time.Sleep(continueTimeout + time.Millisecond)
		p.send(auth(1, "bob"))
		p.expect("OK\t1\tuser=bob\n")
		p.send("CONT\t1\t" + alice + "\n")
		p.expect("FAIL\t1\treason=Authentication request timed out\n")
		_ = p.hangUp()
	})
}

// TestTooManyWaiting pins that the oldest request that waits is forgotten.
func TestTooManyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, &Server{Check: granted})
		for id := 1; id <= maxWaiting+1; id++ {
			p.send(fmt.Sprintf("AUTH\t%d\tLOGIN\tservice=smtp\n", id))
			p.expect(fmt.Sprintf("CONT\t%d\t%s\n", id, askUser))
			time.Sleep(time.Millisecond)
		}
		p.send("CONT\t1\t" + alice + "\n")
		p.expect("FAIL\t1\treason=Authentication request timed out\n")
		p.send("CONT\t2\t" + alice + "\n")
		p.expect("CONT\t2\t" + askPass + "\n")
		_ = p.hangUp()
	})
}

// TestUnreadAnswers pins that a client that does not read is given up.
func TestUnreadAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- (&Server{Check: granted}).Serve(t.Context(), theirs) }()
		buf := make([]byte, 4096)
		n, err := ours.Read(buf)
		if err != nil || !greeting.Match(buf[:n]) {
			t.Fatalf("greeting %q, %v", buf[:n], err)
		}
		if _, err := ours.Write([]byte(hello + auth(1, "a"))); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := <-served; err == nil || !strings.Contains(err.Error(), "writing an answer") {
			t.Errorf("Serve returned %v", err)
		}
		if d := time.Since(began); d != writeTimeout {
			t.Errorf("given up after %v, want %v", d, writeTimeout)
		}
		_ = ours.Close()
	})
}

// TestMechanisms pins that only what is configured is offered and taken.
func TestMechanisms(t *testing.T) {
	for _, m := range login.Mechanisms {
		synctest.Test(t, func(t *testing.T) {
			p := dial(t, &Server{Check: granted, Mechanisms: offers(m)})
			said, _ := p.take()
			lines := strings.Split(said, "\n")
			if lines[1] != "MECH\t"+m+"\tplaintext" || !strings.HasPrefix(lines[2], "SPID\t") {
				t.Errorf("greeting %q", said)
			}
			if len(said) > 1024 {
				t.Errorf("greeting of %d bytes", len(said))
			}
			p.send(hello)
			for i, other := range login.Mechanisms {
				p.send(fmt.Sprintf("AUTH\t%d\t%s\tservice=smtp\n", i+1, other))
				said, _ := p.take()
				if word, _, _ := strings.Cut(said, "\t"); (word == "CONT") != (m == other) {
					t.Errorf("%s offered, %s asked for: %q", m, other, said)
				}
			}
			_ = p.hangUp()
		})
	}
}

// TestHold pins that verdicts which are held back do not keep others from being
// asked about.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const held = 2 * maxChecks
		p := dial(t, &Server{
			Check: func(_ context.Context, a *login.Attempt) login.Verdict {
				if a.Secret == "right" {
					return login.Verdict{Result: login.Granted}
				}
				return login.DeniedWith("")
			},
			Hold: func(ctx context.Context, _ *login.Attempt, v login.Verdict) {
				if v.Result == login.Granted {
					return
				}
				select {
				case <-time.After(2 * time.Second):
				case <-ctx.Done():
				}
			},
		})
		_, _ = p.take()
		p.send(hello)
		for i := range held {
			p.send(fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=smtp\tresp=%s\n", i+1, plain("", "bob", "wrong")))
		}
		start := time.Now()
		p.send(fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=smtp\tresp=%s\n", held+1, plain("", "bob", "right")))
		if said, _ := p.take(); said != fmt.Sprintf("OK\t%d\tuser=bob\n", held+1) || time.Since(start) != 0 {
			t.Errorf("%q after %v", said, time.Since(start))
		}
		time.Sleep(2 * time.Second)
		if said, _ := p.take(); strings.Count(said, "FAIL\t") != held {
			t.Errorf("%d refusals, want %d", strings.Count(said, "FAIL\t"), held)
		}
		_ = p.hangUp()
	})
}

// TestRefused pins that a name which nobody may log in with is told of, and takes
// as long as a wrong password.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refused []string
		p := dial(t, &Server{
			Check: func(context.Context, *login.Attempt) login.Verdict {
				t.Error("the backend was asked")
				return login.Verdict{Result: login.Granted}
			},
			Refused: func(_ context.Context, a *login.Attempt, v login.Verdict) {
				if v.Result != login.Denied || v.Err == nil {
					t.Errorf("%v %v", v.Result, v.Err)
				}
				refused = append(refused, a.User)
			},
			Hold: func(ctx context.Context, _ *login.Attempt, _ login.Verdict) {
				select {
				case <-time.After(2 * time.Second):
				case <-ctx.Done():
				}
			},
		})
		_, _ = p.take()
		p.send(hello)
		p.send("AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("", "alice/shared", "x") + "\n")
		if said, _ := p.take(); said != "" {
			t.Errorf("%q at once", said)
		}
		time.Sleep(2 * time.Second)
		if said, _ := p.take(); said != "FAIL\t1\tuser=alice/shared\n" {
			t.Errorf("%q", said)
		}
		if len(refused) != 1 || refused[0] != "alice/shared" {
			t.Errorf("told of %q", refused)
		}
		_ = p.hangUp()
	})
}
