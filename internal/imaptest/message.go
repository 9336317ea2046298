package imaptest

import (
	"io"
	"strings"
	"sync"
)

// MessageSize is that of a message that takes a while.
const MessageSize = 10 << 20

// Fetched is the whole answer of a Mailbox to "a FETCH 1 BODY[]". There is no
// boundary in the message, whatever it looks like.
var Fetched = sync.OnceValue(func() string {
	message := "Dear all,\r\n" + strings.Repeat("* BYE not at a boundary\r\n", MessageSize/25)
	return "* 1 FETCH (BODY[] {10485760}\r\n" + message[:MessageSize] + ")\r\na OK\r\n"
})

// Mailbox plays a session of a client with time: it begins to IDLE, takes an
// upload, and has a message. The command "FETCH 2 BODY[]" comes to a halt in the
// middle of it. Anything else is OK.
func Mailbox(c *Conn, _ Login) {
	for {
		line, ok := c.ReadLine()
		if !ok {
			return
		}
		tag, name, args := SplitCommand(line)
		switch {
		case name == "IDLE":
			c.Sendf("+ idling")
		case name == "APPEND":
			c.Sendf("+ go on")
			c.Rest()
			return
		case args == "2 BODY[]":
			c.Send(Fetched()[:MessageSize/2])
		case name == "FETCH":
			c.Send(Fetched())
		default:
			c.Sendf("%s OK", tag)
		}
	}
}

// ReadFetched reads until the end, and returns how much of what is Fetched has come,
// and what came behind that.
func ReadFetched(r io.Reader) (n int, rest string, err error) {
	buf, fetched := make([]byte, 64<<10), Fetched()
	for {
		m, err := r.Read(buf)
		p := buf[:m]
		for rest == "" && len(p) > 0 && n < len(fetched) {
			same := min(len(p), len(fetched)-n)
			if string(p[:same]) != fetched[n:n+same] {
				for same = 0; p[same] == fetched[n+same]; same++ {
				}
				n, rest, p = n+same, string(p[same:]), nil
				break
			}
			n, p = n+same, p[same:]
		}
		if rest += string(p); err != nil || len(rest) > 1000 {
			return n, rest, err
		}
	}
}
