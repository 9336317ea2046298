package imapfront

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// everybody lets anybody in, at no cost.
func everybody(conn net.Conn) login.Opener {
	caps := []string{"IMAP4", "IMAP4rev1", "AUTH=PLAIN", "SASL-IR", "UIDPLUS", "MOVE", "ID", "UNSELECT", "CHILDREN", "IDLE", "NAMESPACE", "LITERAL+"}
	session := &login.Session{Conn: conn, Caps: caps}
	return func(context.Context, *login.Attempt) (*login.Session, login.Verdict) {
		return session, login.Verdict{Result: login.Granted}
	}
}

func benchConfig(tb testing.TB, conn net.Conn) *Config {
	return &Config{
		Banner: "mail.example.org", LoginTimeout: time.Minute,
		MaxAuthFailures: 3, TLS: serverTLS(tb), Open: everybody(conn),
	}
}

// BenchmarkConversation is what a login costs without network, TLS and backend,
// from the greeting to the Session.
func BenchmarkConversation(b *testing.B) {
	for _, bb := range []struct{ name, says string }{
		{"LOGIN", "a1 CAPABILITY\r\na2 LOGIN " + testUser + " \"" + testSecret + "\"\r\n"},
		{"LOGIN-literals", "a1 CAPABILITY\r\na2 LOGIN {17+}\r\n" + testUser + " {21+}\r\n" + testSecret + "\r\n"},
		{"PLAIN-initial", "a1 CAPABILITY\r\na2 AUTHENTICATE PLAIN " + b64("\x00"+testUser+"\x00"+testSecret) + "\r\n"},
		{"PLAIN", "a1 CAPABILITY\r\na2 AUTHENTICATE PLAIN\r\n" + b64("\x00"+testUser+"\x00"+testSecret) + "\r\n"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			conn := &recorded{}
			cfg := benchConfig(b, conn)
			says := []byte(bb.says)
			segments := make([][]byte, 1)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				segments[0] = says
				conn.segments = segments
				conn.out.Reset()
				if _, err := Serve(ctx, cfg, Client{Conn: conn, TLS: standing()}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLogin is the same over TCP and TLS, the client's share included.
func BenchmarkLogin(b *testing.B) {
	client := clientTLS(b)
	resuming := client.Clone()
	resuming.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for _, bb := range []struct {
		name string
		tls  *tls.Config
	}{{"starttls", client}, {"starttls-resumed", resuming}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				benchLogin(b, benchConfig(b, &recorded{}), bb.tls)
			}
		})
	}
}

func benchLogin(b *testing.B, cfg *Config, client *tls.Config) {
	ours, theirs := tcpPair(b)
	defer theirs.Close()
	done := make(chan error)
	go func() {
		defer ours.Close()
		_, err := Serve(context.Background(), cfg, Client{Conn: ours})
		done <- err
	}()
	buf := make([]byte, 4096)
	talk := func(conn net.Conn, say string) {
		if _, err := io.WriteString(conn, say); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
	talk(theirs, "")
	talk(theirs, "a1 STARTTLS\r\n")
	conn := tls.Client(theirs, client)
	talk(conn, "a2 LOGIN "+testUser+" "+testSecret+"\r\n")
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func tcpPair(tb testing.TB) (ours, theirs net.Conn) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	if theirs, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		tb.Fatal(err)
	}
	if ours, err = ln.Accept(); err != nil {
		tb.Fatal(err)
	}
	return ours, theirs
}

// BenchmarkIdle reports the bytes that a client costs who has been greeted, and
// one who has started TLS, and who then says nothing. The sockets are the
// client's, too; its share of TLS is not in it.
func BenchmarkIdle(b *testing.B) {
	for _, secure := range []bool{false, true} {
		name := "greeted"
		if secure {
			name = "starttls"
		}
		b.Run(name, func(b *testing.B) {
			var held float64
			for b.Loop() {
				held = idle(b, 500, secure)
			}
			b.ReportMetric(held, "B/conn")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func idle(b *testing.B, n int, secure bool) float64 {
	cfg := benchConfig(b, nil)
	var served sync.WaitGroup
	var conns []net.Conn
	before := memory()
	for range n {
		ours, theirs := tcpPair(b)
		conns = append(conns, theirs)
		served.Add(1)
		go func() {
			defer served.Done()
			_, _ = Serve(context.Background(), cfg, Client{Conn: ours})
			_ = ours.Close()
		}()
		buf := make([]byte, 512)
		if _, err := theirs.Read(buf); err != nil {
			b.Fatal(err)
		}
		if secure {
			if _, err := io.WriteString(theirs, "a1 STARTTLS\r\n"); err != nil {
				b.Fatal(err)
			}
			if _, err := theirs.Read(buf); err != nil {
				b.Fatal(err)
			}
			conn := tls.Client(theirs, clientTLS(b))
			if err := conn.Handshake(); err != nil {
				b.Fatal(err)
			}
			if _, err := io.WriteString(conn, "a2 NOOP\r\n"); err != nil {
				b.Fatal(err)
			}
			if _, err := conn.Read(buf); err != nil || !bytes.HasPrefix(buf, []byte("a2 OK")) {
				b.Fatal(err)
			}
		}
	}
	used := memory() - before
	for _, c := range conns {
		_ = c.Close()
	}
	served.Wait()
	return float64(used) / float64(n)
}

// memory is what lives on the heap and on stacks.
func memory() uint64 {
	var m runtime.MemStats
	for range 2 { // the second empties the pools
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
