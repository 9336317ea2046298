package imapext

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// FuzzSession lets both sides say anything to a session in which all extensions are
// answered. A byte 1 in what the backend says is the tag of the next command that it
// gets. The session has to end when both have hung up, and without a panic.
func FuzzSession(f *testing.F) {
	for _, s := range [][2]string{
		{"s SELECT a\r\na MOVE 1 b\r\nc NOOP\r\n", "\x01 OK [READ-WRITE] x\r\n\x01 OK [COPYUID 1 2 3] x\r\n\x01 OK\r\n\x01 OK\r\n"},
		{"s SELECT a\r\na UID MOVE 1 b\r\n", "\x01 OK x\r\n\x01 OK x\r\n* SEARCH 1\r\n\x01 OK\r\n"},
		{"s SELECT a\r\na REPLACE 1 b {2+}\r\nhi\r\n", "\x01 OK x\r\n* 1 FETCH (UID 3)\r\n\x01 OK x\r\n\x01 OK [APPENDUID 1 2] x\r\n\x01 OK\r\n\x01 NO\r\n\x01 OK\r\n"},
		{"a APPEND b {2+}\r\nhi {1}\r\nx\r\n", "\x01 OK [APPENDUID 1 2]\r\n+\r\n\x01 NO\r\n\x01 OK x\r\n\x01 OK\r\n\x01 OK\r\n\x01 OK\r\n"},
		{"s SELECT c\r\na APPEND {1+}\r\nb {2+}\r\nhi z\r\n", "\x01 OK x\r\n\x01 OK [APPENDUID 1 2]\r\n* 1 FETCH (UID 3)\r\n\x01 OK\r\n\x01 OK\r\n\x01 OK\r\n\x01 OK\r\n\x01 OK\r\n\x01 OK\r\n"},
		{"a IDLE\r\nDONE\r\nb COMPRESS DEFLATE\r\n\x00\x01", "\x01 OK x\r\n\x01 OK x\r\n"},
		{"s EXAMINE {1}\r\na\r\nb UNSELECT\r\nc CAPABILITY\r\nd ENABLE X\r\ne ID (\"a\" NIL)\r\n", "+\r\n\x01 OK x\r\n\x01 OK\r\n\x01 OK\r\n* CAPABILITY X\r\n\x01 OK\r\n"},
	} {
		f.Add([]byte(s[0]), []byte(s[1]), true)
		f.Add([]byte(s[0]), []byte(s[1]), false)
	}
	f.Fuzz(func(t *testing.T, up, down []byte, plus bool) {
		client, front := net.Pipe()
		backend, back := net.Pipe()
		cfg := &Config{Names: []string{Auto}, IdleInterval: time.Millisecond, AppendLimit: 100}
		s := relay.New(relay.Leg{Conn: front}, relay.Leg{Conn: back}, relay.Options{
			Idle: time.Minute, Extension: NewSession(cfg.Offer([]string{"IMAP4rev1", "UIDPLUS"})), LiteralPlus: plus,
		})
		stats := make(chan relay.Stats, 1)
		go func() { stats <- s.Run() }()
		said := make(chan struct{}, 3)
		go func() {
			_, _ = io.Copy(io.Discard, client)
			said <- struct{}{}
		}()
		go func() {
			_, _ = client.Write(up)
			said <- struct{}{}
		}()
		go func() {
			answer(backend, string(down))
			said <- struct{}{}
		}()
		wait := time.After(30 * time.Millisecond)
		for range 2 {
			select {
			case <-said:
			case <-wait:
			}
		}
		_, _ = client.Close(), backend.Close()
		select {
		case ended := <-stats:
			if errors.Is(ended.Err, relay.ErrPanic) {
				t.Error(ended.Err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the session does not end")
		}
		for len(said) > 0 {
			<-said
		}
	})
}

// answer says what a backend says, and reads all that it is told meanwhile.
func answer(conn net.Conn, script string) {
	tags := make(chan string, 1000)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for r := bufio.NewReader(conn); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if tag, _, found := strings.Cut(line, " "); found {
				select {
				case tags <- tag:
				default:
				}
			}
		}
	}()
	for i, piece := range strings.Split(script, "\x01") {
		if i > 0 {
			select {
			case tag := <-tags:
				piece = tag + piece
			case <-over:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
		if _, err := io.WriteString(conn, piece); err != nil {
			break
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
	<-over
}
