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

func testFailedConfiguration(t *testing.T, network string) {
	backend := imaptest.NewFake(t, imaptest.Profile{})
	addr := freeAddr(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	options := "\t\t\tupstream " + backend.Addr()
	c := startCaddy(t, site{Backend: options, IMAP: network + "/" + addr, IMAPOptions: "banner good"}.String())

	refused := site{Backend: options, IMAP: network + "/" + addr, Auth: taken.Addr().String(), IMAPOptions: "banner refused"}.String()
	const loads = 10 // layer4 opens listeners in no fixed order
	for range loads {
		resp, err := c.http.Post("http://localhost/load", "text/caddyfile", strings.NewReader(c.caddyfile(refused)))
		if err != nil {
			continue // Caddy moves its admin API to each new configuration first
		}
		answer, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK || !strings.Contains(string(answer), "address already in use") {
			t.Fatalf("%s %s, want a refusal", resp.Status, answer)
		}
	}
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
