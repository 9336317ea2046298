//go:build integration

package integration

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// A change of the configuration is not noticed by who connects in that moment, if
// the listener is of the network kept. The same with a plain one is measured only:
// that clients are reset there is likely, and not certain.
func TestKeptAcceptQueue(t *testing.T) {
	const reloads = 30
	for _, network := range []string{"kept", "tcp"} {
		t.Run(network, func(t *testing.T) {
			backend := imaptest.NewFake(t, imaptest.Profile{})
			addr := freeAddr(t)
			config := func(i int) string {
				return site{
					Backend:     "\t\t\tupstream " + backend.Addr(),
					IMAP:        network + "/" + addr,
					IMAPOptions: fmt.Sprintf("banner number%d", i),
				}.String()
			}
			c := startCaddy(t, config(0))
			clients := connectAll(t, addr)
			for i := range reloads {
				c.reload(config(i + 1))
				clients.await(20)
			}
			served, failed := clients.end()
			if network == "kept" && len(failed) > 0 {
				t.Errorf("of %d clients %d were not served: %v", served+len(failed), len(failed), failed[0])
			}
			if line, err := listenTo(t, "127.0.0.1", addr); !strings.Contains(line, fmt.Sprintf("number%d ", reloads)) {
				t.Errorf("at the end a client heard %q, %v", line, err)
			}
			figure(t, "%d clients were served during %d reloads, %d were reset or refused", served, reloads, len(failed))
		})
	}
}

// reload replaces the configuration. The answer may be lost, since Caddy moves its
// admin API to the new configuration first.
func (c *caddyServer) reload(options string) {
	c.t.Helper()
	resp, err := c.http.Post("http://localhost/load", "text/caddyfile", strings.NewReader(c.caddyfile(options)))
	if err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			c.t.Fatalf("reloading: %v", err)
		}
		return
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		c.t.Fatalf("reloading: %s %s", resp.Status, text)
	}
}

// connecting are clients that do nothing but connect, hear the greeting, and
// leave.
type connecting struct {
	t    *testing.T
	addr string
	stop chan struct{}
	wg   sync.WaitGroup

	mu     sync.Mutex
	heard  *sync.Cond
	served int
	failed []error
}

func connectAll(t *testing.T, addr string) *connecting {
	c := &connecting{t: t, addr: addr, stop: make(chan struct{})}
	c.heard = sync.NewCond(&c.mu)
	for range 16 {
		c.wg.Add(1)
		go c.run()
	}
	return c
}

func (c *connecting) run() {
	defer c.wg.Done()
	for {
		select {
		case <-c.stop:
			return
		default:
		}
		_, err := listenTo(c.t, "127.0.0.1", c.addr)
		c.mu.Lock()
		if err == nil {
			c.served++
		} else {
			c.failed = append(c.failed, err)
		}
		c.heard.Broadcast()
		c.mu.Unlock()
	}
}

// await waits until so many more clients have come and gone.
func (c *connecting) await(more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for until := c.served + len(c.failed) + more; c.served+len(c.failed) < until; {
		c.heard.Wait()
	}
}

func (c *connecting) end() (served int, failed []error) {
	close(c.stop)
	c.wg.Wait()
	return c.served, c.failed
}
