//go:build integration && unix

package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

const (
	// crowdSize is how many clients there are, if so many files may be open.
	crowdSize = 9000
	// crowdEach is the memory that one of them may cost. With the race detector,
	// which these tests are built with, each goroutine takes several times of what
	// it takes without.
	crowdEach = 128 << 10
	// crowdPatience is the time to log in.
	crowdPatience = 30 * time.Second
)

// Nine thousand clients connect and say nothing, each from an address of its own.
// Others log in meanwhile, what the crowd takes is bounded, and all of it comes back
// when the time to log in is over.
func TestSilentCrowd(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n := min(crowdSize, int(limit.Cur)-1000)
	if n < 100 {
		t.Fatalf("only %d files may be open; raise ulimit -n", limit.Cur)
	}
	password := secret("Through-The-Crowd-9")
	backend := imaptest.NewMemory(t, imaptest.Accounts{Passwords: map[string]string{"alice": password}})
	starttls, implicit := freeAddr(t), freeAddr(t)
	c := startCaddy(t, site{
		Backend: "\t\t\tupstream " + backend.Addr() + "\n\t\t\ttls off",
		IMAP:    starttls, IMAPS: implicit,
		IMAPOptions: fmt.Sprintf("login_timeout %s", crowdPatience),
	}.String())
	awaitCertificate(t, starttls)
	logIn := func() time.Duration {
		start := time.Now()
		if answer, err := imapLogin("127.0.0.2", implicit, "alice", password); err != nil || !strings.HasPrefix(answer, "OK") {
			t.Errorf("a login is answered with %q, %v", answer, err)
		}
		return time.Since(start)
	}
	logIn()
	c.collect()
	before := c.vitals()

	start := time.Now()
	conns, failed := assemble(starttls, n)
	defer func() {
		for _, nc := range conns {
			_ = nc.Close()
		}
	}()
	if failed != nil {
		t.Fatalf("of %d clients %d were greeted: %v", n, len(conns), failed)
	}
	took, during := time.Since(start), c.vitals()
	if during.Files < n {
		t.Errorf("the server has %d files open, with %d clients", during.Files, n)
	}
	if each := (during.Memory - before.Memory) / int64(n); each > crowdEach {
		t.Errorf("a silent client costs %d KiB", each>>10)
	}
	var slowest time.Duration
	for range 20 {
		slowest = max(slowest, logIn())
	}
	if total := time.Since(start); total > crowdPatience {
		t.Errorf("it took %v until others had logged in, and the crowd may be gone already", total)
	}
	for _, nc := range conns {
		_ = nc.SetReadDeadline(start.Add(crowdPatience + 2*patience))
		if text, err := io.ReadAll(nc); err != nil || string(text) != "* BYE Disconnected for inactivity.\r\n" {
			t.Fatalf("a silent client was told %q, %v", text, err)
		}
		_ = nc.Close()
	}
	after := c.awaitCalm(before)
	// What the process gives back to the system, it gives back by and by, and Go keeps a
	// little of each goroutine for the next one.
	if after.Heap > before.Heap+64<<20 {
		t.Errorf("the server uses %d MiB, and used %d MiB before", after.Heap>>20, before.Heap>>20)
	}
	logIn()
	figure(t, "%d silent clients came in %v; each cost %d KiB of memory; the slowest of 20 logins meanwhile took %v. Before: %v; meanwhile: %v; at the end: %v",
		n, took.Round(time.Second), (during.Memory-before.Memory)/int64(n)>>10, slowest.Round(time.Millisecond), before, during, after)
}

// assemble connects n clients, and waits until all are greeted.
func assemble(addr string, n int) (conns []net.Conn, failed error) {
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	next := make(chan int)
	for range 50 {
		wg.Go(func() {
			for i := range next {
				nc, err := dialFrom(fmt.Sprintf("127.20.%d.%d", i/250, i%250+1), addr)
				if err == nil {
					_ = nc.SetReadDeadline(time.Now().Add(patience))
					_, err = bufio.NewReader(nc).ReadString('\n')
				}
				mu.Lock()
				if err != nil {
					failed = err
				} else {
					conns = append(conns, nc)
				}
				mu.Unlock()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return conns, failed
}
