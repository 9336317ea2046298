package relay

import (
	"net"
	"testing"
	"time"
)

func TestParkedBeforeTurn(t *testing.T) {
	for _, l := range []layer{plain, ours, foreign} {
		r := quick(t, l, Options{Extension: listening()}, time.Millisecond)
		r.up.parkedAgain(t, 0)
		r.down.parkedAgain(t, 0)
		r.client.send("x X\r\n")
		r.client.expect("+ go on\r\n")
		r.client.send("DONE\r\n")
		r.client.expect("x OK \"DONE\\r\\n\"\r\n")
		r.down.parkedAgain(t, 1)
		r.backend.send("* 1 EXISTS\r\n")
		r.client.expect("* 1 EXISTS\r\n")
		r.client.send("y NOOP\r\n")
		r.backend.expect("y NOOP\r\n")
		_, _ = r.client.Close(), r.backend.Close()
		<-r.stats
	}
}

func TestWrap(t *testing.T) {
	e := carrying(Whole, func(t *Turn, _ string) error {
		_ = t.Tellf("x OK")
		return t.Wrap(func(c net.Conn) net.Conn { return shifted{c} })
	})
	for _, l := range []layer{plain, ours, foreign} {
		r := quick(t, l, Options{Extension: e}, time.Millisecond)
		r.client.send("x X\r\n" + string(shift([]byte("y NOOP\r\n"))))
		r.client.expect("x OK\r\n")
		r.backend.expect("y NOOP\r\n")
		r.backend.send("y OK\r\n")
		r.client.expect(string(shift([]byte("y OK\r\n"))))
		// It is parked like others.
		r.up.parkedAgain(t, 0)
		r.down.parkedAgain(t, 0)
		r.client.send(string(shift([]byte("z NOOP\r\n"))))
		r.backend.expect("z NOOP\r\n")
		r.backend.send("z OK\r\n")
		r.client.expect(string(shift([]byte("z OK\r\n"))))
		r.Kick("enough", time.Minute)
		r.client.expect(string(shift([]byte("* BYE enough\r\n"))))
		r.client.end()
		_ = r.client.Close()
		r.finish(t, ErrKicked)
	}
}
