package dovecotauth

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestHostilePeer is what somebody may say who was let in to the auth listener and
// is no mail server. Nobody is granted anything, and no request has two answers.
func TestHostilePeer(t *testing.T) {
	const (
		asks   = "AUTH\t1\tPLAIN\tservice=smtp"
		closes = "(close)"
		gone   = "\treason=Authentication request timed out\n"
	)
	login1 := "AUTH\t1\tLOGIN\tservice=smtp\n"
	fill := func(param string) string { // a line as long as a line may be
		return asks + strings.Repeat(param, (maxAuthLine-len(asks)-1-len("\tresp="+good))/len(param)) + "\tresp=" + good + "\n"
	}
	for _, tc := range []struct{ name, input, server string }{
		{"an id twice in a segment, both under check", auth(1, "3s") + auth(1, "0s"), closes},
		{"an id twice in a segment, with another between", auth(1, "3s") + auth(2, "0s") + auth(1, "0s"), "OK\t2\tuser=0s\n" + closes},
		{"an id under check asked for a challenge", auth(1, "3s") + login1, closes},
		{"an id written in another way", auth(1, "3s") + strings.Replace(auth(1, "0s"), "\t1\t", "\t001\t", 1), closes},
		{"an id with a sign", strings.Replace(auth(1, "0s"), "\t1\t", "\t+1\t", 1), closes},
		{"an id with a space", strings.Replace(auth(1, "0s"), "\t1\t", "\t 1\t", 1), closes},
		{"an id in hexadecimal", strings.Replace(auth(1, "0s"), "\t1\t", "\t0x1\t", 1), closes},
		{"an id that wraps around", strings.Replace(auth(1, "0s"), "\t1\t", "\t4294967297\t", 1), closes},
		{"an id of 1000 digits", strings.Replace(auth(1, "0s"), "\t1\t", "\t"+strings.Repeat("1", 1000)+"\t", 1), closes},
		{"a CONT while the password is under check", auth(1, "3s") + "CONT\t1\tAA==\n", "FAIL\t1\treason=Unexpected continuation\n"},
		{"VERSION while a password is under check", auth(1, "3s") + "VERSION\t1\t2\n", closes},
		{"the handshake again", hello + auth(1, "0s"), closes},
		{"the server's own words", "OK\t1\tuser=alice\n", closes},
		{"a command of the master protocol", "USER\t1\tbob\tservice=smtp\n", closes},
		{"HTTP", "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n" + hello + auth(1, "0s"), closes},

		{"a NUL in a command", "AU\x00TH\t1\tPLAIN\tservice=smtp\n", closes},
		{"a NUL behind a command", "\x00" + auth(1, "0s"), closes},
		{"a NUL in an id", "AUTH\t1\x00\tPLAIN\tservice=smtp\n", closes},
		{"a NUL in a mechanism", "AUTH\t1\tPLAIN\x00\tservice=smtp\tresp=" + good + "\n", "FAIL\t1" + notOffered},
		{"a NUL in a name of a parameter", asks + "\tser\x00vice=x\tresp=" + plain("", "0s", "x") + "\n", "OK\t1\tuser=0s\n"},
		{"a NUL in base64", asks + "\tresp=AA\x00==\n", "FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in initial response\n"},
		{"a NUL in the password", asks + "\tresp=" + plain("", "0s", "x\x00y") + "\n", "FAIL\t1\n"},
		{"a lone CR in a line", asks + "\tfoo=a\rb\tresp=" + plain("", "0s", "x") + "\n", "OK\t1\tuser=0s\n"},
		{"a line of NULs", strings.Repeat("\x00", maxAuthLine-1) + "\n", closes},

		{"thousands of empty parameters", fill("\t"), "FAIL\t1\tuser=alice@example.test\n"},
		{"thousands of parameters", fill("\ta"), "FAIL\t1\tuser=alice@example.test\n"},
		{"thousands of addresses", fill("\trip=::1"), "FAIL\t1\tuser=alice@example.test\n"},
		{"thousands of services", fill("\tservice=x"), "FAIL\t1\tuser=alice@example.test\n"},
		{"thousands of escapes", fill("\t\x01t=\x01"), "FAIL\t1\tuser=alice@example.test\n"},
		{"thousands of responses", fill("\tresp=" + plain("", "0s", "x")), closes},
		{"a service of 16 KiB", "AUTH\t1\tPLAIN\tservice=" + strings.Repeat("x", 16000) + "\tresp=" + plain("", "0s", "x") + "\n", "OK\t1\tuser=0s\n"},
		{"a mechanism of 16 KiB", "AUTH\t1\t" + strings.Repeat("x", 16000) + "\tservice=smtp\n", "FAIL\t1" + notOffered},
		{"a password of 11 KiB", asks + "\tresp=" + plain("", "0s", strings.Repeat("x", 11<<10)) + "\n", "FAIL\t1\tuser=0s\n"},
		{"a name of 11 KiB", asks + "\tresp=" + plain("", strings.Repeat("x", 11<<10), "x") + "\n", "FAIL\t1\n"},

		{"CONT after CONT", login1 + strings.Repeat("CONT\t1\t"+b64("bob")+"\n", 4),
			"CONT\t1\t" + askUser + "\nCONT\t1\t" + askPass + "\nFAIL\t1\tuser=bob\nFAIL\t1" + gone + "FAIL\t1" + gone},
		{"CONT for everybody", "CONT\t1\t\nCONT\t2\t\nCONT\t4294967295\t\n", "FAIL\t1" + gone + "FAIL\t2" + gone + "FAIL\t4294967295" + gone},
		{"CONT for nobody", "CONT\t4294967296\t\n", closes},
		{"CONT with a response of 16 KiB", login1 + "CONT\t1\t" + strings.Repeat("A", 16000) + "\n", "CONT\t1\t" + askUser + "\nFAIL\t1\n"},
		{"CONT that brings a parameter", login1 + "CONT\t1\t" + b64("bob") + "\tservice=imap\n",
			"CONT\t1\t" + askUser + "\nFAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in continued response\n"},
		{"CANCEL of another's id, and of all", auth(1, "0s") + "CANCEL\t1\nCANCEL\t2\nCANCEL\t4294967295\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// What is asked takes a moment, so that all of a segment is read before.
				p := start(t, &Server{Check: func(ctx context.Context, a *login.Attempt) login.Verdict {
					time.Sleep(time.Millisecond)
					return slow(ctx, a)
				}})
				var sent strings.Builder
				sent.WriteString(hello)
				for line := range strings.Lines(tc.input) {
					// A check that is answered comes before the next line.
					p.send(line)
					sent.WriteString(line)
					if !strings.Contains(tc.name, "CANCEL") {
						time.Sleep(2 * time.Millisecond)
					}
				}
				want, closed := strings.CutSuffix(tc.server, closes)
				time.Sleep(time.Second)
				said, over := p.take()
				if said != want || over != closed {
					t.Errorf("server said %q, closed: %v; want %q, %v", said, over, want, closed)
				}
				examine(t, sent.String(), said)
				err := p.hangUp()
				if closed != errors.Is(err, ErrProtocol) {
					t.Errorf("Serve returned %v", err)
				}
			})
		})
	}
	t.Run("a line that drips", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := start(t, &Server{Check: granted})
			start := time.Now()
			for range 100 {
				p.send("x")
				time.Sleep(time.Second)
				if _, closed := p.take(); closed {
					break
				}
			}
			if d := time.Since(start); d != lineTimeout {
				t.Errorf("closed after %v, want %v", d, lineTimeout)
			}
			_ = p.hangUp()
		})
	})
}

// TestCancelledGuesses cancels each check at once: that makes them neither more at a
// time nor fewer that are counted.
func TestCancelledGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most, asked atomic.Int32
		p := start(t, &Server{Check: func(ctx context.Context, a *login.Attempt) login.Verdict {
			n := running.Add(1)
			defer running.Add(-1)
			most.Store(max(most.Load(), n))
			asked.Add(1)
			return slow(ctx, a)
		}})
		const guesses = 1000
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for range guesses { // always the same id
				_, _ = io.WriteString(p.nc, auth(1, "1s")+"CANCEL\t1\n")
			}
		}()
		time.Sleep(time.Hour)
		<-sent
		if said, closed := p.take(); said != "" || closed {
			t.Errorf("server said %q, closed: %v", said, closed)
		}
		if n := asked.Load(); n != guesses {
			t.Errorf("%d of %d were asked about", n, guesses)
		}
		if n := most.Load(); n != maxChecks {
			t.Errorf("%d checks at a time, want %d", n, maxChecks)
		}
		_ = p.hangUp()
	})
}

// TestPeerFloods sends as much as possible of what costs nothing to send. Nothing of
// it is kept beyond the limits.
func TestPeerFloods(t *testing.T) {
	long := "\t" + strings.Repeat("a\t", 7000)
	for _, tc := range []struct {
		name string
		line func(id int) string
		n    int
	}{
		{"ids that wait for a CONT", func(id int) string { return fmt.Sprintf("AUTH\t%d\tLOGIN\tservice=smtp\n", id) }, 20_000},
		{"CONT for ids that nobody knows", func(id int) string { return fmt.Sprintf("CONT\t%d\tAAAA\n", id) }, 20_000},
		{"CONT without end", func(int) string { return "CONT\t1\t" + b64("bob") + "\n" }, 20_000},
		{"CANCEL", func(id int) string { return fmt.Sprintf("CANCEL\t%d\n", id) }, 20_000},
		{"passwords", func(id int) string { return auth(id, "bob") }, 5_000},
		{"names that nobody may have", func(id int) string { return auth(id, "b ob") }, 5_000},
		{"mechanisms that nobody has", func(id int) string { return fmt.Sprintf("AUTH\t%d\tX%d\tservice=x%d\n", id, id, id) }, 5_000},
		{"exchanges that wait for a CONT", func(id int) string { return fmt.Sprintf("AUTH\t%d\tXOAUTH2\tservice=smtp\n", id) }, 5_000},
		{"exchanges that the backend waits for", func(id int) string {
			return fmt.Sprintf("AUTH\t%d\tSCRAM-SHA-1\tservice=smtp\tresp=%s\n", id, b64(scramFirst))
		}, 5_000},
		{"exchanges that are cancelled", func(id int) string { return fmt.Sprintf("AUTH\t%d\tCRAM-MD5\tservice=smtp\nCANCEL\t%[1]d\n", id) }, 5_000},
		{"exchanges with a message that is none", func(id int) string { return fmt.Sprintf("AUTH\t%d\tXOAUTH2\tservice=smtp\tresp=\n", id) }, 5_000},
		{"wrong tokens", func(id int) string {
			return fmt.Sprintf("AUTH\t%d\tXOAUTH2\tservice=smtp\tresp=%s\n", id, b64(xoauth2))
		}, 5_000},
		{"lines of 16 KiB", func(id int) string { return fmt.Sprintf("AUTH\t%d\tLOGIN\tservice=smtp%s\n", id, long) }, 500},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client, front := tcpPair(t)
			b := &backend{challenges: []string{scramServer}, verdict: login.DeniedWith("")}
			b.verdict.Final = []byte(tokenError)
			s := b.relaying()
			c := s.NewConn(front)
			served := make(chan error, 1)
			go func() { served <- c.Serve(t.Context()) }()
			_ = client.SetDeadline(time.Now().Add(time.Minute))
			const last = 2_000_000_000
			answers := make(chan int, 1)
			go func() {
				br, n := bufio.NewReader(client), 0
				for {
					line, err := br.ReadString('\n')
					if err != nil {
						t.Errorf("reading an answer: %v", err)
						break
					}
					if strings.Contains(line, fmt.Sprint(last)) {
						break
					}
					n++
				}
				answers <- n
			}()
			before := heap()
			bw := bufio.NewWriter(client)
			_, _ = bw.WriteString(hello)
			for id := 1; id <= tc.n; id++ {
				if _, err := bw.WriteString(tc.line(id)); err != nil {
					t.Fatal(err)
				}
			}
			_, _ = fmt.Fprintf(bw, "CONT\t%d\t\n", last)
			if err := bw.Flush(); err != nil {
				t.Fatal(err)
			}
			// Those with a password may be answered after the last one.
			const greeted = 12
			if n := <-answers; n > tc.n+greeted {
				t.Errorf("%d answers to %d lines", n, tc.n)
			}
			if used := heap() - before; used > 2<<20 {
				t.Errorf("%d bytes are held", used)
			}
			_ = client.Close()
			if err := <-served; err != nil {
				t.Errorf("Serve returned %v", err)
			}
			if most := b.most; most > maxExchanges {
				t.Errorf("%d exchanges at a time", most)
			}
			if len(c.waiting) > maxWaiting || len(c.checking) != 0 || c.running != 0 {
				t.Errorf("%d wait, %d are under check, %d run", len(c.waiting), len(c.checking), c.running)
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func tcpPair(t *testing.T) (client, front net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	front, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), front.Close() })
	return client, front
}
