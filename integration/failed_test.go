//go:build integration

package integration

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// A configuration that cannot start serves nobody, even where layer4 has opened a
// listener for it that it forgets: the banner of what was refused is never seen.
func TestFailedConfiguration(t *testing.T) {
	for _, network := range []string{"tcp", "kept"} {
		t.Run(network, func(t *testing.T) { testFailedConfiguration(t, network) })
	}
}

// taken returns an address where nobody else can listen.
func taken(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

// refused loads a configuration one of whose addresses is taken.
func (c *caddyServer) refused(options string) {
	c.t.Helper()
	resp, err := c.http.Post("http://localhost/load", "text/caddyfile", strings.NewReader(c.caddyfile(options)))
	if err != nil {
		return // Caddy moves its admin API to each new configuration first
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusOK || !strings.Contains(string(answer), "address already in use") {
		c.t.Fatalf("%s %s, want a refusal", resp.Status, answer)
	}
}

func testFailedConfiguration(t *testing.T, network string) {
	backend := imaptest.NewFake(t, imaptest.Profile{})
	addr := freeAddr(t)
	options := "\t\t\tupstream " + backend.Addr()
	c := startCaddy(t, site{Backend: options, IMAP: network + "/" + addr, IMAPOptions: "banner good"}.String())

	refused := site{Backend: options, IMAP: network + "/" + addr, Auth: taken(t), IMAPOptions: "banner refused"}.String()
	const loads = 10 // layer4 opens listeners in no fixed order
	connecting := connectAll(t, addr)
	for range loads {
		c.refused(refused)
		connecting.await(20)
	}
	served, failed := connecting.end()
	if network == "kept" && len(failed) > 0 {
		t.Errorf("of %d clients %d were not served: %v", served+len(failed), len(failed), failed[0])
	}
	figure(t, "%d clients were served during %d refused configurations, %d were reset or refused", served, loads, len(failed))
	const clients = 60
	good, reset := 0, 0
	for range clients {
		line, _ := listenTo(t, "127.0.0.2", addr)
		switch {
		case strings.Contains(line, "] good ready."):
			good++
		case line == "":
			reset++
		default:
			t.Errorf("heard %q", line)
		}
	}
	if good != clients {
		t.Errorf("%d of %d clients were served", good, clients)
	}
	figure(t, "%d of %d clients were served by the good configuration after %d refused ones, %d were reset", good, clients, loads, reset)
}
