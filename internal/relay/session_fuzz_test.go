package relay

import (
	"bytes"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzSession lets both sides say anything at the same time, in any pieces. The
// session has to end when it is told to. What the backend gets is what the client has
// said, with nothing added; what the client gets is what the backend has said, with
// nothing added but whole lines of ours between two responses.
func FuzzSession(f *testing.F) {
	for _, s := range [][2]string{
		{"a NOOP\r\nb SELECT {5+}\r\nINBOX\r\n", "a OK\r\n* 1 FETCH (X {3}\r\nabc)\r\nb OK\r\n"},
		{"a IDLE\r\nDONE\r\nb UNAUTHENTICATE\r\n", "+ idling\r\n* 1 EXISTS\r\na OK\r\n"},
		{"a COMPRESS DEFLATE\r\n\x00\x01", "a OK\r\n\x02\x03"},
		{"a APPEND x {5}\r\nhello\r\nb LOGIN x y\r\n", "+ go\r\na OK [APPENDUID 1 2] x\r\n"},
		{"a APPEND x {5+}\r\nhello\r\nb STARTTLS\r\n", "* CAPABILITY UNAUTHENTICATE\r\n+ go\r\na NO\r\n[COPYUID 1 2 3]\r\n"},
		{"a X\rb\r\n", "* BYE x\r\n* 1 FETCH (X {99999}\r\nabc"},
	} {
		f.Add([]byte(s[0]), []byte(s[1]), uint64(1), false)
		f.Add([]byte(s[0]), []byte(s[1]), uint64(2), true)
	}
	f.Fuzz(func(t *testing.T, up, down []byte, seed uint64, strict bool) {
		synctest.Test(t, func(t *testing.T) {
			// The clock of a bubble is behind the real one.
			defer func(before time.Time) { base = before }(base)
			base = time.Now()
			client, front := net.Pipe()
			backend, back := net.Pipe()
			s := New(Leg{Conn: front}, Leg{Conn: back}, Options{Idle: time.Hour, Unauthenticate: strict})
			stats := make(chan Stats, 1)
			go func() { stats <- s.Run() }()
			toClient, toBackend := gather(client), gather(backend)
			for conn, said := range map[net.Conn]string{client: string(up), backend: string(down)} {
				go cut(said, seed, func(piece string) bool {
					_, err := conn.Write([]byte(piece))
					return err == nil
				})
			}
			synctest.Wait()
			start := time.Now()
			s.Kick("Bye.", time.Second)
			ended := <-stats
			if took := time.Since(start); took > faultGrace+2*farewellTimeout {
				t.Errorf("the end took %v", took)
			}
			_, _ = client.Close(), backend.Close()
			if got := <-toBackend; !isPart(got, up) {
				t.Errorf("the backend got %q of %q", got, up)
			}
			got := <-toClient
			theirs := withoutOurs(got)
			if !isPart(theirs, withoutOurs(down)) {
				t.Errorf("the client got %q of %q", got, down)
			}
			// Only that capability is ever left out, and what it makes us hide.
			if knows := strict || bytes.Contains(bytes.ToUpper(down), []byte(unauthenticate)); !knows && len(theirs) == len(got) && !bytes.HasPrefix(down, got) {
				t.Errorf("the client got %q of %q", got, down)
			}
			if ended.FromClient > int64(len(up)) || ended.FromBackend > int64(len(down)) {
				t.Errorf("%d and %d bytes counted of %d and %d", ended.FromClient, ended.FromBackend, len(up), len(down))
			}
		})
	})
}

// gather collects what comes until the end.
func gather(conn net.Conn) <-chan []byte {
	all := make(chan []byte, 1)
	go func() {
		var got bytes.Buffer
		_, _ = got.ReadFrom(conn)
		all <- got.Bytes()
	}()
	return all
}

// ourLine is one that the relay may say.
var ourLine = regexp.MustCompile(`^(?:\* BYE [ -~]*|[^ ]+ (?:` +
	regexp.QuoteMeta(answerTLS.Text) + `|` + regexp.QuoteMeta(answerUnauthenticate.Text) + `|` +
	regexp.QuoteMeta(answerAuthenticated.Text) + `|` + regexp.QuoteMeta(answerCompressRefused.Text) + `))\r\n$`)

// withoutOurs leaves out the lines that are ours, or look like it.
func withoutOurs(said []byte) []byte {
	var out strings.Builder
	for line := range strings.Lines(string(said)) {
		if !ourLine.MatchString(line) {
			out.WriteString(line)
		}
	}
	return []byte(out.String())
}

// isPart reports whether the bytes of part are in whole, in the same order.
func isPart(part, whole []byte) bool {
	for _, b := range part {
		i := bytes.IndexByte(whole, b)
		if i < 0 {
			return false
		}
		whole = whole[i+1:]
	}
	return true
}
