package imapext

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// rigged is a session that is relayed, with an extension.
type rigged struct {
	*relay.Session
	client, backend net.Conn
	stats           chan relay.Stats
}

// rig begins a session to a backend that has the capabilities.
func rig(t *testing.T, cfg *Config, caps string) *rigged {
	t.Helper()
	offer := cfg.Offer(strings.Fields(caps))
	client, front := tcpPair(t)
	backend, back := tcpPair(t)
	deadline := time.Now().Add(20 * time.Second)
	_, _ = client.SetDeadline(deadline), backend.SetDeadline(deadline)
	r := &rigged{client: client, backend: backend, stats: make(chan relay.Stats, 1)}
	r.Session = relay.New(relay.Leg{Conn: front}, relay.Leg{Conn: back}, relay.Options{
		Idle: time.Minute, Extension: NewSession(offer), LiteralPlus: offer.Has("LITERAL+"),
	})
	go func() { r.stats <- r.Run() }()
	return r
}

func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if near, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// dialogue plays a session, line by line. What is behind "C: " is said by the client, and
// behind "S: " by the backend; what is behind "c: " and "s: " has to reach the client and
// the backend. A '%' is the tag of the last command that has reached the backend. A line
// ends without CRLF if the last byte is a backslash.
func dialogue(t *testing.T, cfg *Config, caps, script string) {
	t.Helper()
	r := rig(t, cfg, caps)
	client, backend := bufio.NewReader(r.client), bufio.NewReader(r.backend)
	tag := ""
	for line := range strings.Lines(strings.TrimSpace(script)) {
		line = strings.TrimSpace(line)
		who, text, found := strings.Cut(line, ": ")
		if !found {
			who, text = strings.TrimSuffix(line, ":"), ""
		}
		if cut, ok := strings.CutSuffix(text, "\\"); ok {
			text = cut
		} else {
			text += "\r\n"
		}
		switch who {
		case "C":
			if _, err := io.WriteString(r.client, text); err != nil {
				t.Fatal(err)
			}
		case "S":
			if _, err := io.WriteString(r.backend, strings.ReplaceAll(text, "%", tag)); err != nil {
				t.Fatal(err)
			}
		case "c":
			hears(t, "client", client, text)
		case "s":
			if rest, ours := strings.CutPrefix(text, "%"); ours {
				got, err := backend.ReadString(' ')
				if err != nil {
					t.Fatalf("the backend got %q, %v; want %q under a tag", got, err, text)
				}
				tag, text = strings.TrimSuffix(got, " "), strings.TrimPrefix(rest, " ")
			}
			hears(t, "backend", backend, text)
		default:
			t.Fatalf("nobody is %q", who)
		}
	}
	_, _ = r.client.Close(), r.backend.Close()
	<-r.stats
}

func hears(t *testing.T, who string, from io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(from, got); string(got[:n]) != want {
		t.Fatalf("the %s got %q, %v; want %q", who, got[:n], err, want)
	}
}

// only answers the extensions of these names.
func only(names ...string) *Config {
	return &Config{Names: names, IdleInterval: 10 * time.Millisecond}
}
