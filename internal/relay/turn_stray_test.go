package relay

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestStray has a backend complete commands of ours more than once.
func TestStray(t *testing.T) {
	strays := 0
	o := Options{Extension: sorting(), LiteralPlus: true, Stray: func() { strays++ }}
	r := relay(t, o, false)
	r.client.send("a SORT x\r\n")
	tag := r.backend.ownTag("SEARCH x\r\n")
	// At once, within the next turn, and between commands of the client.
	r.backend.send(tag + " NO found\r\n" + tag + " OK {3}\r\n* 3 EXISTS\r\n")
	r.client.expect("a NO found\r\n* 3 EXISTS\r\n")
	r.client.send("b SORT y\r\n")
	second := r.backend.ownTag("SEARCH y\r\n")
	if second[:prefixLength] != tag[:prefixLength] || second == tag {
		t.Errorf("tags %s and %s", tag, second)
	}
	r.backend.send(tag + " NO\r\n" + second + " NO done\r\n")
	r.client.expect("b NO done\r\n")
	r.client.send("c NOOP\r\n")
	r.backend.expect("c NOOP\r\n")
	for _, b := range tag + " OK\r\n* 4 EXISTS\r\n" + tag[:3] + " is no tag of ours\r\n" + tag[:1] + "\r\nc OK\r\n" {
		r.backend.send(string(b))
	}
	r.client.expect("* 4 EXISTS\r\n" + tag[:3] + " is no tag of ours\r\n" + tag[:1] + "\r\nc OK\r\n")
	// The beginning of a tag is no boundary, at which another turn could begin.
	r.backend.send(tag[:2])
	r.client.send("d SORT z\r\n")
	r.backend.send(tag[2:] + " OK\r\n")
	r.backend.send(r.backend.ownTag("SEARCH z\r\n") + " NO done\r\n")
	r.client.expect("d NO done\r\n")
	r.client.closeWrite()
	r.backend.closeWrite()
	r.finish(t, nil)
	if strays != 1 {
		t.Errorf("told of %d, want one", strays)
	}
}

// streaming passes on what FETCH gives.
func streaming() *extension {
	return carrying(Whole, func(t *Turn, _ string) error {
		status, err := t.Stream(func(line []byte) bool { return line[2] != '9' }, func(r []byte) error {
			return t.Tellf("* heard %d", len(r))
		}, "FETCH")
		if err != nil {
			return err
		}
		return t.Tellf("x %s", status)
	})
}

// TestStream has more pass in a response than is held.
func TestStream(t *testing.T) {
	overBoth(t, Options{Extension: streaming(), LiteralPlus: true}, func(t *testing.T, r *relayed) {
		r.client.send("x X\r\n")
		tag := r.backend.ownTag("FETCH\r\n")
		mail := strings.Repeat("x OK 345\r\n", (maxResponse+100)/10)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			r.backend.send("* 1 FETCH (A {2}\r\nab B {" + strconv.Itoa(len(mail)) + "}\r\n" + mail + " C {0}\r\n)\r\n* 9 FETCH (A {1}\r\nx)\r\n* 2 EXISTS\r\n" + tag + " OK done\r\n")
		}()
		r.client.expect("* 1 FETCH (A {2}\r\nab B {" + strconv.Itoa(len(mail)) + "}\r\n")
		if n, err := io.CopyN(io.Discard, r.client.br, int64(len(mail))); err != nil {
			t.Fatalf("the client got %d bytes, %v", n, err)
		}
		r.client.expect(" C {0}\r\n)\r\n* heard 22\r\n* heard 12\r\nx OK done\r\n")
		<-sent
		r.client.closeWrite()
		r.backend.closeWrite()
		r.finish(t, nil)
	})
}

// TestStreamKicked ends a session in the middle of a response that is passed on: the client
// gets the rest of it before the BYE.
func TestStreamKicked(t *testing.T) {
	for name, pieces := range map[string][2]string{
		"in a literal": {"* 1 FETCH (A {10}\r\nabc", "defghij)\r\n"},
		"in a line":    {"* 1 FETCH (A {3}\r\nabc B ", "x)\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, Options{Extension: streaming(), LiteralPlus: true}, func(t *testing.T, r *relayed) {
				r.client.send("x X\r\n")
				tag := r.backend.ownTag("FETCH\r\n")
				r.backend.send(pieces[0])
				for r.State().FromBackend < int64(len(pieces[0])) {
					time.Sleep(time.Millisecond)
				}
				r.Kick("enough", time.Minute)
				r.client.expect(pieces[0])
				r.backend.send(pieces[1] + tag + " OK done\r\n")
				r.client.expect(pieces[1] + "* BYE enough\r\n")
				r.client.closeWrite()
				r.finish(t, ErrKicked)
			})
		})
	}
}
