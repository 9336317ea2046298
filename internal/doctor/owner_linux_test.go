package doctor

import (
	"net"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

// TestOwner pins that it is said whose a unix socket is, and that nothing is said of TCP.
func TestOwner(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for network, address := range map[string]string{"unix": filepath.Join(t.TempDir(), "s"), "tcp": "127.0.0.1:0"} {
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		conn, err := net.Dial(network, ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		got := owner(conn)
		if network == "unix" && !strings.Contains(got, "of the user "+me.Username+" listens there") || network == "tcp" && got != "" {
			t.Errorf("%s: %q", network, got)
		}
	}
}
