package relay

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-imap/caddy-imap/internal/tlsio"
)

// quick starts a session that is parked after a very short time.
func quick(tb testing.TB, l layer, o Options, after time.Duration) *relayed {
	tb.Helper()
	if o.Idle == 0 {
		o.Idle = time.Minute
	}
	client, front := link(tb, l)
	backend, back := link(tb, l)
	r := &relayed{
		Session: New(Leg{Conn: front}, Leg{Conn: back}, o),
		client:  &peer{tb, "client", client, bufio.NewReader(client)},
		backend: &peer{tb, "backend", backend, bufio.NewReader(backend)},
		stats:   make(chan Stats, 1),
	}
	r.parkTime = after
	deadline := time.Now().Add(patience)
	_, _ = client.SetDeadline(deadline), backend.SetDeadline(deadline)
	go func() { r.stats <- r.Run() }()
	return r
}

// parkedAgain waits until the direction is parked, and was so more than n times. It
// returns how often.
func (d *direction) parkedAgain(tb testing.TB, n int) int {
	tb.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
		d.mu.Lock()
		parked, times := d.parked, d.times
		if parked && d.held == 0 && d.buf != nil {
			tb.Error("a parked direction has a buffer")
		}
		d.mu.Unlock()
		if parked && times > n {
			return times
		}
	}
	tb.Fatal("the direction is not parked")
	return 0
}

// whileParked runs a test over all kinds of connections, with both directions
// parked.
func whileParked(t *testing.T, o Options, test func(*testing.T, *relayed)) {
	for l, name := range [...]string{plain: "tcp", ours: "tls", foreign: "foreign"} {
		t.Run(name, func(t *testing.T) {
			r := quick(t, layer(l), o, time.Millisecond)
			r.client.send("a IDLE\r\n")
			r.backend.expect("a IDLE\r\n")
			r.backend.send("+ idling\r\n")
			r.client.expect("+ idling\r\n")
			r.up.parkedAgain(t, 0)
			r.down.parkedAgain(t, 0)
			test(t, r)
		})
	}
}

func TestParked(t *testing.T) {
	whileParked(t, Options{}, func(t *testing.T, r *relayed) {
		if s := r.State(); !s.Idle || s.Commands != 1 || s.FromBackend != 10 {
			t.Errorf("state %+v", s)
		}
		r.backend.send("* 1 EXISTS\r\n")
		r.client.expect("* 1 EXISTS\r\n")
		r.client.send("DONE\r\nb STARTTLS\r\n")
		r.backend.expect("DONE\r\n")
		r.client.expect("b" + badTLS)
		r.down.parkedAgain(t, 0)
		// One half may end while the other is parked.
		r.client.closeWrite()
		r.backend.end()
		r.backend.send("a OK\r\n")
		r.client.expect("a OK\r\n")
		r.backend.closeWrite()
		r.client.end()
		r.finish(t, nil)
	})
}

func TestParkedKick(t *testing.T) {
	whileParked(t, Options{}, func(t *testing.T, r *relayed) {
		r.Kick("Bye.", patience)
		r.client.expect("* BYE Bye.\r\n")
		r.client.end()
		_ = r.client.Close()
		r.finish(t, ErrKicked)
	})
}

// TestAlarmBehindKick pins that a direction which was about to be parked when the
// session was kicked does not put off the end of grace. The other direction may be
// parked for good by then, in the middle of a line, and this one wait for an answer.
func TestAlarmBehindKick(t *testing.T) {
	_, front := tcpPair(t)
	_, back := tcpPair(t)
	defer front.Close()
	defer back.Close()
	s := New(Leg{Conn: front}, Leg{Conn: back}, Options{Idle: time.Hour})
	s.mu.Lock()
	set := make(chan error, 1)
	go func() { set <- s.setAlarm() }()
	awaitBlocked(t, "relay.(*Session).setAlarm")
	s.leave.Store(int64(time.Since(base) + 50*time.Millisecond))
	s.wake()
	seen := s.changes.Load()
	s.mu.Unlock()
	if err := <-set; err != nil {
		return // it is over already, and the direction sees that itself
	}
	for end := time.Now().Add(patience); s.changes.Load() == seen; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("nobody was woken at the end of grace")
		}
	}
}

// awaitBlocked waits until a goroutine waits for a lock in the function.
func awaitBlocked(tb testing.TB, function string) {
	tb.Helper()
	all := make([]byte, 1<<20)
	for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
		for g := range strings.SplitSeq(string(all[:runtime.Stack(all, true)]), "\n\n") {
			if strings.Contains(g, function) && strings.Contains(g, "[sync.Mutex.Lock") {
				return
			}
		}
	}
	tb.Fatalf("%s waits for no lock", function)
}

func TestParkedIdle(t *testing.T) {
	whileParked(t, Options{Idle: 300 * time.Millisecond}, func(t *testing.T, r *relayed) {
		time.Sleep(200 * time.Millisecond)
		r.backend.send("* 1 EXISTS\r\n")
		before := time.Now()
		r.client.expect("* 1 EXISTS\r\n")
		r.client.end()
		if d := time.Since(before); d < 250*time.Millisecond {
			t.Errorf("idle for no more than %s", d)
		}
		_ = r.client.Close()
		r.finish(t, ErrIdle)
	})
}

func TestParkedReset(t *testing.T) {
	whileParked(t, Options{}, func(t *testing.T, r *relayed) {
		_ = socketUnder(r.client.Conn).SetLinger(0)
		_ = socketUnder(r.client.Conn).Close()
		if s := <-r.stats; s.Err == nil || errors.Is(s.Err, ErrIdle) {
			t.Errorf("ended with %v", s.Err)
		}
		if rest, _ := io.ReadAll(r.backend.br); len(rest) > 0 {
			t.Errorf("the backend got %q", rest)
		}
	})
}

func socketUnder(c net.Conn) *net.TCPConn {
	for {
		if tcp, ok := c.(*net.TCPConn); ok {
			return tcp
		}
		c = c.(interface{ NetConn() net.Conn }).NetConn()
	}
}

// halting stops in the middle of each write, until the direction is parked once more.
type halting struct {
	net.Conn
	tb testing.TB
	d  *direction
}

func (h *halting) Write(p []byte) (int, error) {
	if h.d == nil {
		return h.Conn.Write(p)
	}
	// Where a header, and where a record ends somewhere in the middle.
	for i, at := range []int{0, 3, 5, len(p) / 2, len(p)} {
		if i == 0 {
			continue
		}
		n := h.d.parkedAgain(h.tb, 0)
		if _, err := h.Conn.Write(p[[]int{0, 3, 5, len(p) / 2}[i-1]:at]); err != nil {
			return 0, err
		}
		if at < len(p) {
			h.d.parkedAgain(h.tb, n)
		}
	}
	return len(p), nil
}

// TestParkedInRecord pins that a part of a record is no obstacle, nor lost, and that
// what stands behind a record in one segment is not left behind.
func TestParkedInRecord(t *testing.T) {
	for l, name := range [...]string{ours: "tls", foreign: "foreign"} {
		if name == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if authority == nil {
				link(t, ours)
			}
			far, near := tcpPair(t)
			h := &halting{Conn: far, tb: t}
			client := tls.Client(h, authority.ClientTLS("localhost"))
			var front net.Conn = tlsio.Server(near, serverTLS)
			if layer(l) == foreign {
				front = tls.Server(near, serverTLS)
			}
			backend, back := link(t, plain)
			s := New(Leg{Conn: front}, Leg{Conn: back}, Options{Idle: time.Minute})
			s.parkTime = time.Millisecond
			shaken := make(chan error, 1)
			go func() { shaken <- front.(interface{ Handshake() error }).Handshake() }()
			if err := errors.Join(client.Handshake(), <-shaken); err != nil {
				t.Fatal(err)
			}
			stats := make(chan Stats, 1)
			go func() { stats <- s.Run() }()
			_ = backend.SetDeadline(time.Now().Add(patience))
			h.d = &s.up
			for i := range 3 {
				line := fmt.Sprintf("a%d NOOP\r\n", i)
				if _, err := io.WriteString(client, line); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(line))
				if _, err := io.ReadFull(backend, got); string(got) != line {
					t.Fatalf("got %q, %v", got, err)
				}
			}
			h.d = nil
			_, _ = client.Close(), backend.Close()
			<-stats
		})
	}
}

// TestMillionWakes pins that no wake is lost: sessions are parked at every moment
// that there is, while both sides talk, the relay answers for itself, and somebody
// wakes everything for nothing. It takes no longer than a while, and then as many
// wakes have to do as there were.
func TestMillionWakes(t *testing.T) {
	const sessions = 64
	wakes, end := 1_000_000, time.Now().Add(20*time.Second)
	if testing.Short() || raceDetector {
		wakes = 20_000
	}
	var wg sync.WaitGroup
	rs := make([]*relayed, sessions)
	for i := range rs {
		after := []time.Duration{20, 50, 200, 1000}[i%4] * time.Microsecond
		rs[i] = quick(t, [...]layer{plain, ours, foreign}[i%3], Options{}, after)
	}
	parked := func() (n int) {
		for _, r := range rs {
			for _, d := range []*direction{&r.up, &r.down} {
				d.mu.Lock()
				n += d.times
				d.mu.Unlock()
			}
		}
		return n
	}
	for _, r := range rs {
		wg.Go(func() { r.talk(func() bool { return parked() >= wakes || time.Now().After(end) }) })
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		wg.Wait()
	}()
	nothing := time.NewTicker(time.Millisecond)
	defer nothing.Stop()
	for n := 0; ; n++ {
		select {
		case <-over:
			for _, r := range rs {
				_, _ = r.client.Close(), r.backend.Close()
				<-r.stats
			}
			t.Logf("%d wakes", parked())
			if n := parked(); n < 1000 {
				t.Errorf("directions were parked %d times, which tells nothing", n)
			}
			return
		case <-nothing.C:
			rs[n%sessions].wake()
		}
	}
}

// talk goes on until it is enough.
func (r *relayed) talk(enough func() bool) {
	for round := 0; ; round++ {
		if round%64 == 0 {
			if enough() {
				return
			}
			// A wake that is lost shows here.
			deadline := time.Now().Add(patience)
			_, _ = r.client.SetDeadline(deadline), r.backend.SetDeadline(deadline)
		}
		switch round % 8 {
		case 0:
			r.client.send("s STARTTLS\r\n")
			r.client.expect("s" + badTLS)
		case 1:
			r.backend.send("* 1 FETCH (X {3}\r\nabc)\r\n" + strings.Repeat("x", 300) + "\r\n")
			r.client.expect("* 1 FETCH (X {3}\r\nabc)\r\n" + strings.Repeat("x", 300) + "\r\n")
		default:
			r.client.send("a NOOP\r\n")
			r.backend.expect("a NOOP\r\n")
			r.backend.send("a OK\r\n")
			r.client.expect("a OK\r\n")
		}
	}
}

// armed is a connection that knows which write deadline it has.
type armed struct {
	*net.TCPConn
	mu sync.Mutex
	by time.Time
}

func (a *armed) NetConn() net.Conn { return a.TCPConn }

func (a *armed) SetWriteDeadline(by time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.by = by
	return a.TCPConn.SetWriteDeadline(by)
}

func (a *armed) writeBy() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.by
}

// TestNoDeadlineWhileParked pins that a session which is silent for long has no write
// deadline that is over: TLS answers a KeyUpdate by itself, and would find the
// connection broken.
func TestNoDeadlineWhileParked(t *testing.T) {
	client, front := tcpPair(t)
	back, backend := tcpPair(t)
	noting := &armed{TCPConn: front}
	s := New(Leg{Conn: noting}, Leg{Conn: back}, Options{Idle: time.Minute})
	s.parkTime = time.Millisecond
	stats := make(chan Stats, 1)
	go func() { stats <- s.Run() }()
	_, _ = client.SetDeadline(time.Now().Add(patience)), backend.SetDeadline(time.Now().Add(patience))
	for _, line := range []string{"* 1 EXISTS\r\n", "* 2 EXISTS\r\n"} {
		if _, err := io.WriteString(backend, line); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, make([]byte, len(line))); err != nil {
			t.Fatal(err)
		}
		s.down.parkedAgain(t, 0)
		if by := noting.writeBy(); !by.IsZero() {
			t.Errorf("parked with a deadline in %v", time.Until(by))
		}
	}
	_, _ = client.Close(), backend.Close()
	<-stats
}

// TestDeadlineBehindBytes pins that bytes which come with a deadline that is over are
// no end of the session: crypto/tls has looked for an alert behind them, and has found
// a part of one.
func TestDeadlineBehindBytes(t *testing.T) {
	client, front := tcpPair(t)
	back, backend := tcpPair(t)
	s := New(Leg{Conn: &late{Conn: front}}, Leg{Conn: back}, Options{Idle: time.Minute})
	stats := make(chan Stats, 1)
	go func() { stats <- s.Run() }()
	_, _ = client.SetDeadline(time.Now().Add(patience)), backend.SetDeadline(time.Now().Add(patience))
	for _, line := range []string{"a NOOP\r\n", "b NOOP\r\n"} {
		if _, err := io.WriteString(client, line); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(line))
		if _, err := io.ReadFull(backend, got); err != nil || string(got) != line {
			t.Fatalf("backend got %q, %v", got, err)
		}
	}
	_, _ = client.Close(), backend.Close()
	<-stats
}

// broken panics for whoever waits for it.
type broken struct{ syscall.RawConn }

func (broken) Read(func(uintptr) bool) error { panic(errors.New("hunter2")) }

// TestPanicInLot pins that a panic which is no session's own ends nothing, and is
// logged without its words.
func TestPanicInLot(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	s, err := newSet(zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	defer s.file.Close()
	if err := s.wake(broken{}); err != nil {
		t.Errorf("the set is given up: %v", err)
	}
	lines := logs.All()
	if len(lines) != 1 || lines[0].Level != zap.ErrorLevel || lines[0].ContextMap()["panic"] != "*errors.errorString" {
		t.Fatalf("logged %v", lines)
	}
	if stack := fmt.Sprint(lines[0].ContextMap()); !strings.Contains(stack, "broken.Read") || strings.Contains(stack, "hunter2") {
		t.Errorf("logged %s", stack)
	}
}

// late says with all bytes that a deadline is over.
type late struct{ net.Conn }

func (l *late) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n > 0 {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}
