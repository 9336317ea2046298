package dovecotauth

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestRelayDawdlers begins more exchanges than may wait for a client. They keep nobody
// else from being served, and it is the oldest that are given up.
func TestRelayDawdlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := scram(yes)
		p := b.start(t)
		const n = maxWaiting + maxChecks + 10
		for id := 1; id <= n; id++ {
			p.authScram(id, "")
			time.Sleep(time.Millisecond)
		}
		if b.running() != maxWaiting {
			t.Errorf("%d exchanges are under way, want %d", b.running(), maxWaiting)
		}
		p.send(auth(n+1, "bob"))
		p.expect(fmt.Sprintf("OK\t%d\tuser=bob\n", n+1))
		p.send(fmt.Sprintf("CONT\t%d\t%s\n", n-maxWaiting, b64(scramProof)))
		p.expect(fmt.Sprintf("FAIL\t%d\treason=Authentication request timed out\n", n-maxWaiting))
		p.send(fmt.Sprintf("CONT\t%d\t%s\n", n-maxWaiting+1, b64(scramProof)))
		p.expect(fmt.Sprintf("CONT\t%d\t%s\n", n-maxWaiting+1, b64(scramFinal)))
		// A password's exchange takes the place of one, too.
		p.send(fmt.Sprintf("AUTH\t%d\tLOGIN\tservice=smtp\n", n+2))
		p.expect(fmt.Sprintf("CONT\t%d\t%s\n", n+2, askUser))
		// And one has its verdict.
		if b.running() != maxWaiting-2 {
			t.Errorf("%d exchanges are under way, want %d", b.running(), maxWaiting-2)
		}
		_ = p.hangUp()
		if b.running() != 0 {
			t.Errorf("%d exchanges go on", b.running())
		}
	})
}

// TestRelaySlots pins that a backend has no more to think about at a time than with
// passwords, and that whoever waits for a place gets one.
func TestRelaySlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := scram(yes)
		b.delay = time.Second
		var thinking, most atomic.Int32
		think := func(n int32) { most.Store(max(most.Load(), thinking.Add(n))) }
		s := b.relaying()
		s.Check = func(ctx context.Context, a *login.Attempt) login.Verdict {
			think(1)
			defer think(-1)
			if a.Relay == nil {
				return slow(ctx, a)
			}
			ask := a.Relay.Ask
			a.Relay.Ask = func(ctx context.Context, challenge []byte) ([]byte, error) {
				think(-1)
				defer think(1)
				return ask(ctx, challenge)
			}
			return b.check(ctx, a)
		}
		p, _ := begin(t, s)
		send := func(text string) { go func() { _, _ = io.WriteString(p.nc, text) }() }
		took := func(words ...string) {
			t.Helper()
			said, _ := p.take()
			for i, want := range []int{maxChecks, 1}[:len(words)] {
				if got := strings.Count(said, words[i]); got != want {
					t.Errorf("%d of %d were answered with %q", got, want, words[i])
				}
			}
		}
		var passwords, proofs strings.Builder
		for id := 1; id <= maxChecks; id++ {
			p.authScram(id, "")
			passwords.WriteString(auth(1000+id, "1s"))
			fmt.Fprintf(&proofs, "CONT\t%d\t%s\n", id, b64(scramProof))
		}
		send(passwords.String() + proofs.String() + auth(2000, "0s"))
		p.expect("")
		time.Sleep(time.Second)
		took("OK\t1")
		time.Sleep(time.Second)
		took(b64(scramFinal), "OK\t2000\tuser=0s\n")
		if most := most.Load(); most != maxChecks {
			t.Errorf("%d checks at a time, want %d", most, maxChecks)
		}
		_ = p.hangUp()
	})
}

// TestRelaySideBySide has hundreds of exchanges on one connection, some of which are
// cancelled, and some answered with nonsense. All others get what they are due.
func TestRelaySideBySide(t *testing.T) {
	client, front := tcpPair(t)
	b := scram(yes)
	b.delay = time.Millisecond
	s := b.relaying()
	c := s.NewConn(front)
	served := make(chan error, 1)
	go func() { served <- c.Serve(t.Context()) }()
	_ = client.SetDeadline(time.Now().Add(time.Minute))
	const n, atOnce = 600, maxWaiting / 2
	bw, br := bufio.NewWriter(client), bufio.NewReader(client)
	_, _ = bw.WriteString(hello)
	begin := func(id int) { fmt.Fprintf(bw, "AUTH\t%d\tSCRAM-SHA-256\tservice=smtp\tresp=%s\n", id, b64(scramFirst)) }
	steps, results := make(map[int]int), make(map[string]int)
	next, open := 1, 0
	for next <= n || open > 0 {
		for ; open < atOnce && next <= n; next++ {
			begin(next)
			open++
		}
		if err := bw.Flush(); err != nil {
			t.Fatal(err)
		}
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		var id int
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		_, _ = fmt.Sscan(rest, &id)
		switch {
		case id == 0 || word == "SPID" || word == "CUID" || word == "VERSION" || word == "COOKIE" || word == "MECH":
			continue
		case word != "CONT":
			results[word]++
			if steps[id]++; word == "OK" && steps[id] != 3 || word == "FAIL" && steps[id] != 2 {
				t.Errorf("%q after %d steps", line, steps[id])
			}
			open--
			continue
		}
		steps[id]++
		switch kind := rand.IntN(10); {
		case kind == 0:
			fmt.Fprintf(bw, "CANCEL\t%d\n", id)
			results["CANCEL"]++
			open--
		case kind == 1 && steps[id] == 1:
			fmt.Fprintf(bw, "CONT\t%d\tAAAA\n", id)
		case steps[id] == 1:
			fmt.Fprintf(bw, "CONT\t%d\t%s\n", id, b64(scramProof))
		default:
			fmt.Fprintf(bw, "CONT\t%d\t\n", id)
		}
	}
	if results["OK"]+results["FAIL"]+results["CANCEL"] != n || results["OK"] == 0 || results["FAIL"] == 0 || results["CANCEL"] == 0 {
		t.Errorf("results %v", results)
	}
	begin(n + 1)
	_ = bw.Flush()
	if _, err := br.ReadString('\n'); err != nil {
		t.Error(err)
	}
	_ = client.Close()
	if err := <-served; err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if b.running() != 0 || len(c.waiting)+len(c.checking)+c.running+len(c.slots) != 0 {
		t.Errorf("%d exchanges go on; %d wait, %d are under check, %d run, %d places are taken",
			b.running(), len(c.waiting), len(c.checking), c.running, len(c.slots))
	}
}

// TestRelayDisconnects ends connections at any time, with exchanges in all states.
func TestRelayDisconnects(t *testing.T) {
	for range 30 {
		client, front := tcpPair(t)
		b := scram(yes)
		b.delay = time.Millisecond
		c := b.relaying().NewConn(front)
		served := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { served <- c.Serve(ctx) }()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		bw := bufio.NewWriter(client)
		_, _ = bw.WriteString(hello)
		for id := 1; id <= 200; id++ {
			fmt.Fprintf(bw, "AUTH\t%d\tSCRAM-SHA-256\tservice=smtp\tresp=%s\n", id, b64(scramFirst))
			fmt.Fprintf(bw, "CONT\t%d\t%s\n", 1+rand.IntN(id), b64(scramProof))
		}
		_ = bw.Flush()
		switch rand.IntN(3) {
		case 0:
			cancel()
		case 1:
			c.Retire()
			fallthrough
		default:
			_ = client.Close()
		}
		<-served
		_ = client.Close()
		if b.running() != 0 || len(c.waiting)+len(c.checking)+c.running != 0 {
			t.Errorf("%d exchanges go on; %d wait, %d are under check, %d run", b.running(), len(c.waiting), len(c.checking), c.running)
		}
	}
}
