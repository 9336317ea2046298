//go:build integration && unix

package integration

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// vitals are what a server holds.
type vitals struct {
	// Memory is what is in RAM, in bytes, and Heap what is used of that, stacks
	// included.
	Memory, Heap int64
	// Files are open file descriptors.
	Files, Goroutines int
	// Sessions are those of IMAP, Connections those of mail servers.
	Sessions, Connections int
}

func (v vitals) String() string {
	return fmt.Sprintf("%d MiB (%d in use), %d files, %d goroutines, %d sessions, %d mail servers", v.Memory>>20, v.Heap>>20, v.Files, v.Goroutines, v.Sessions, v.Connections)
}

// vitals looks at the server.
func (c *caddyServer) vitals() (v vitals) {
	c.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", c.p.cmd.Process.Pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &v.Memory); err == nil {
			v.Memory <<= 10
		}
	}
	files, err := os.ReadDir(proc + "fd")
	if err != nil {
		c.t.Fatal(err)
	}
	v.Files = len(files)
	if _, err := fmt.Sscanf(c.request(http.MethodGet, "/debug/pprof/goroutine?debug=1", "", ""), "goroutine profile: total %d", &v.Goroutines); err != nil {
		c.t.Fatalf("reading the number of goroutines: %v", err)
	}
	for line := range strings.Lines(c.request(http.MethodGet, "/metrics", "", "")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "go_memstats_heap_inuse_bytes" || name == "go_memstats_stack_inuse_bytes" {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				c.t.Fatalf("%q: %v", line, err)
			}
			v.Heap += int64(n)
		}
	}
	s := c.Scrape()
	sessions, _ := s.sum("caddy_imap_sessions")
	connections, _ := s.sum("caddy_dovecot_auth_connections")
	v.Sessions, v.Connections = int(sessions), int(connections)
	return v
}

// collect has the server collect its garbage.
func (c *caddyServer) collect() {
	c.t.Helper()
	for range 2 { // pools give things back at the second one only
		c.request(http.MethodGet, "/debug/pprof/heap?gc=1", "", "")
	}
}

// awaitCalm waits until the server holds no more than it did before, but for what
// the test's own look at it takes, and returns what that is.
func (c *caddyServer) awaitCalm(before vitals) (v vitals) {
	c.t.Helper()
	eventually(c.t, "the server to come to rest", func() error {
		if v = c.vitals(); v.Files > before.Files+3 || v.Goroutines > before.Goroutines+5 || v.Sessions > 0 || v.Connections > 0 {
			return errors.New(v.String() + "; before: " + before.String())
		}
		return nil
	})
	c.collect()
	return c.vitals()
}
