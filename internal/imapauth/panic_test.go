package imapauth

import (
	"fmt"
	"net"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// faulty is a connection whose nth write panics.
type faulty struct {
	net.Conn
	left int
}

func (f *faulty) Write(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		panic("a fault")
	}
	return f.Conn.Write(p)
}

// TestPanic pins that a fault of ours leaves no connection to the backend, wherever in
// the conversation it is.
func TestPanic(t *testing.T) {
	server, _ := testTLS(t)
	for _, checkOnly := range []bool{false, true} {
		ended := false
		for writes := 0; !ended; writes++ {
			t.Run(fmt.Sprintf("check only %v, after %d writes", checkOnly, writes), func(t *testing.T) {
				srv := imaptest.NewFake(t, imaptest.Exchange(server))
				conn, err := net.Dial("tcp", srv.Addr())
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					ended = recover() == nil
					srv.WaitIdle()
				}()
				c, err := Prepare(testContext(t), &faulty{conn, writes}, starttls(t, srv.Addr()), login.Ends{})
				if err != nil {
					t.Fatal(err)
				}
				if checkOnly {
					c.Check(testContext(t), attempt(login.FormLogin), Keep)
					return
				}
				if s, _ := c.Open(testContext(t), attempt(login.FormLogin), Keep); s != nil {
					_ = conn.Close() // TLS would write
				}
			})
		}
	}
}
