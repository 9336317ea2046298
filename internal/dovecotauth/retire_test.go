package dovecotauth

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

const authLogin = "AUTH\t7\tLOGIN\tservice=submission\n"

// open connects, and does the handshake.
func open(t *testing.T, s *Server) (*peer, *Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	c := s.NewConn(theirs)
	p := &peer{t: t, nc: ours, served: make(chan error, 1)}
	go func() { p.served <- c.Serve(t.Context()) }()
	go p.collect()
	p.expectGreeting()
	p.send(hello)
	p.expect("")
	return p, c
}

// retired fails unless the connection was ended by us, for that reason.
func (p *peer) retired(want string) {
	p.t.Helper()
	time.Sleep(lastLook)
	said, closed := p.take()
	if said != want || !closed {
		p.t.Fatalf("server said %q, closed: %v; want %q and a close", said, closed, want)
	}
	if err := <-p.served; !errors.Is(err, errReset) && !errors.Is(err, errRetired) {
		p.t.Errorf("served: %v", err)
	}
}

// TestRetire pins that a connection is reset only once nothing is under way.
func TestRetire(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, c := open(t, &Server{Check: accounts})
			c.Retire()
			c.Retire()
			p.retired("")
			c.Retire() // does no harm any more
		})
	})
	t.Run("before the handshake", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			c := (&Server{Check: accounts}).NewConn(theirs)
			c.Retire()
			p := &peer{t: t, nc: ours, served: make(chan error, 1)}
			go func() { p.served <- c.Serve(t.Context()) }()
			go p.collect()
			p.expectGreeting()
			p.send(hello)
			p.retired("")
		})
	})
	t.Run("passwords are checked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			verdicts := make(chan login.Verdict)
			p, c := open(t, &Server{Check: func(context.Context, *login.Attempt) login.Verdict { return <-verdicts }})
			p.send("AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("", "a", "x") + "\nAUTH\t2\tPLAIN\tservice=smtp\tresp=" + plain("", "b", "x") + "\n")
			p.expect("")
			if got, want := c.State(), (State{Service: "smtp", PID: 4711, Requests: 2, InFlight: 2}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			c.Retire()
			time.Sleep(time.Second)
			p.expect("")
			verdicts <- login.DeniedWith("")
			time.Sleep(time.Second)
			if said, closed := p.take(); closed {
				t.Fatalf("closed after %q", said)
			}
			// What comes meanwhile is not even read.
			go func() { _, _ = io.WriteString(p.nc, "AUTH\t3\tPLAIN\tservice=smtp\tresp="+plain("", "c", "x")+"\n") }()
			p.expect("")
			verdicts <- login.Verdict{Result: login.Granted}
			said, closed := p.take()
			if !closed || len(said) < 4 {
				t.Errorf("said %q, closed: %v", said, closed)
			}
			if got := c.State().Requests; got != 2 {
				t.Errorf("%d requests", got)
			}
			<-p.served
		})
	})
	t.Run("a CONT is awaited", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, c := open(t, &Server{Check: accounts})
			p.send(authLogin)
			p.expect("CONT\t7\t" + b64("Username:") + "\n")
			c.Retire()
			p.retired("")
		})
	})
	t.Run("a request has come already", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, c := open(t, &Server{Check: accounts})
			c.Retire()
			synctest.Wait()
			asked := "AUTH\t%\tPLAIN\tservice=smtp\tresp=" + plain("", "alice@example.test", "Secret-1") + "\n"
			// One, and no more.
			p.send(strings.Replace(asked, "%", "1", 1) + strings.Replace(asked, "%", "2", 1))
			p.retired("OK\t1\tuser=alice@example.test\n")
		})
	})
	t.Run("a password takes too long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, c := open(t, &Server{Deadline: time.Hour, Check: func(ctx context.Context, _ *login.Attempt) login.Verdict {
				<-ctx.Done()
				return login.UnavailableFor(ctx.Err())
			}})
			p.send("AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("", "a", "x") + "\n")
			c.Retire()
			time.Sleep(retireTimeout - time.Second)
			c.Retire() // is no more time
			p.expect("")
			time.Sleep(time.Second)
			p.retired("")
		})
	})
	t.Run("a line never ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, c := open(t, &Server{Check: accounts})
			p.send("AUTH\t1\tPLAIN")
			synctest.Wait()
			c.Retire()
			time.Sleep(retireTimeout - time.Second)
			p.expect("")
			time.Sleep(time.Second)
			p.retired("")
		})
	})
	t.Run("a line has begun", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, c := open(t, &Server{Check: accounts})
			line := "AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("", "alice@example.test", "Secret-1") + "\n"
			p.send(line[:9])
			synctest.Wait()
			c.Retire()
			time.Sleep(time.Second)
			p.send(line[9:])
			p.retired("OK\t1\tuser=alice@example.test\n")
		})
	})
}

// TestRetireResets pins what is seen on a socket: a reset, and no orderly end.
func TestRetireResets(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		theirs, _ := ln.Accept()
		accepted <- theirs
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	c := (&Server{Check: accounts}).NewConn(<-accepted)
	served := make(chan error, 1)
	go func() { served <- c.Serve(t.Context()) }()
	if _, err := io.WriteString(nc, hello); err != nil {
		t.Fatal(err)
	}
	c.Retire()
	if _, err := io.ReadAll(nc); !errors.Is(err, syscall.ECONNRESET) && runtime.GOOS != "windows" || err == nil {
		t.Errorf("reading ended with %v, want a reset", err)
	}
	if err := <-served; err == nil {
		t.Error("Serve returned nil although the client did not hang up")
	}
}

// TestAdopt pins that new requests are answered as the new server says, those under
// way as the old one does, and that a client which knows a mechanism that is gone
// has to connect anew.
func TestAdopt(t *testing.T) {
	verdict := func(v login.Verdict) login.Checker {
		return func(context.Context, *login.Attempt) login.Verdict { return v }
	}
	asked := func(id string) string {
		return "AUTH\t" + id + "\tPLAIN\tservice=smtp\tresp=" + plain("", "Alice", "x") + "\n"
	}
	synctest.Test(t, func(t *testing.T) {
		wait := make(chan struct{})
		p, c := open(t, &Server{Check: func(context.Context, *login.Attempt) login.Verdict {
			<-wait
			return login.DeniedWith("")
		}})
		p.send(asked("1"))
		p.expect("")
		next := &Server{
			Check:      verdict(login.Verdict{Result: login.Granted}),
			Mechanisms: offers("LOGIN", "PLAIN"),
			Identity:   func(*login.Attempt) (string, error) { return "somebody", nil },
		}
		c.Adopt(next)
		p.send(asked("2"))
		p.expect("OK\t2\tuser=somebody\n")
		close(wait)
		p.expect("FAIL\t1\tuser=alice\n")
		c.Adopt(&Server{Check: verdict(login.DeniedWith("")), Mechanisms: offers("LOGIN")})
		p.retired("")
	})
}
