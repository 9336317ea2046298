package caddyimap

import (
	"math"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/glue"
)

// TestConnectionsBegin pins who counts against which limit, and that nothing is left
// of those who have gone.
func TestConnectionsBegin(t *testing.T) {
	c := clientConnections{sources: make(map[netip.Addr]int)}
	var ends []func()
	for _, step := range []struct {
		addr             string
		limit, perSource int
		want             *tooMany
	}{
		{"192.0.2.1", 0, 2, nil},
		{"::ffff:192.0.2.1", 0, 2, nil},
		{"192.0.2.1", 0, 2, tooManyOfSource},
		{"192.0.2.1", 0, 0, nil}, // as one that is exempt
		{"192.0.2.2", 0, 2, nil},
		{"2001:db8::1", 0, 2, nil},
		{"2001:db8::2:3", 0, 2, nil},
		{"2001:db8::ffff:0:0:1", 0, 2, tooManyOfSource},
		{"2001:db8:0:1::1", 0, 2, nil},
		{"", 0, 1, nil}, // a unix socket
		{"", 0, 1, nil},
		{"192.0.2.3", 9, 2, tooManyConnections},
		{"192.0.2.3", 10, 2, nil},
		{"192.0.2.1", 10, 2, tooManyOfSource},
	} {
		var addr netip.Addr
		if step.addr != "" {
			addr = netip.MustParseAddr(step.addr)
		}
		end, why := c.begin(addr, step.limit, step.perSource)
		if why != step.want {
			t.Errorf("%+v: %v", step, why)
		}
		if why == nil {
			ends = append(ends, end)
		}
	}
	if n := c.count(); n != len(ends) {
		t.Errorf("%d are counted, want %d", n, len(ends))
	}
	for _, end := range ends {
		end()
	}
	if c.count() != 0 || len(c.sources) != 0 {
		t.Errorf("%d are left, and %v", c.count(), c.sources)
	}
}

func TestConnectionsByFiles(t *testing.T) {
	for files, want := range map[uint64]int{
		0: 0, 1: 1, 202: 1, 204: 2, 1024: 412, 20000: 9900, 524288: 262044, math.MaxInt64: 0, math.MaxUint64: 0,
	} {
		if got := connectionsByFiles(files); got != want {
			t.Errorf("with %d files %d connections, want %d", files, got, want)
		}
	}
}

func TestConnectionsByMemory(t *testing.T) {
	for memory, want := range map[uint64]int{0: 0, 1: 1, 256 << 10: 1, 1 << 30: 4096, 2 << 30: 8192, math.MaxUint64: math.MaxInt32} {
		if got := connectionsByMemory(memory); got != want {
			t.Errorf("with %d bytes %d connections, want %d", memory, got, want)
		}
	}
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	debug.SetMemoryLimit(1 << 30)
	if got := memory(); got != 1<<30 {
		t.Errorf("with GOMEMLIMIT there are %d bytes", got)
	}
	debug.SetMemoryLimit(math.MaxInt64)
	if got := memory(); runtime.GOOS == "linux" && (got < 64<<20 || got > 1<<50) {
		t.Errorf("the machine has %d bytes", got)
	}
}

// TestDefaultConnections pins that an app without max_connections has the smaller of
// both limits.
func TestDefaultConnections(t *testing.T) {
	for _, tc := range [][3]int{{0, 0, 0}, {5, 0, 5}, {0, 7, 7}, {5, 7, 5}, {7, 5, 5}} {
		if got := defaultConnections(tc[0], tc[1]); got != tc[2] {
			t.Errorf("of %d and %d it is %d", tc[0], tc[1], got)
		}
	}
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	debug.SetMemoryLimit(64 << 20)
	w := newWorld(t)
	app := w.load(w.app(w.backend("127.0.0.1:1"))).app
	if got := app.maxConnections; got != 256 {
		t.Errorf("with 64 MiB it has %d connections", got)
	}
}

// connecting starts a configuration with limits.
func (w *world) connecting(addr string, limit, perSource int, g *Guard) *config {
	app := w.guarded(g, addr)
	app.MaxConnections, app.MaxConnectionsPerSource = limit, perSource
	return w.running(app)
}

// TestMaxConnections pins that a connection counts from its beginning to the end of
// its session, through changes of the configuration, which may change the limit; and
// what is told to whom.
func TestMaxConnections(t *testing.T) {
	const away = "* BYE [LIMIT] Too many connections, try again later."
	w := newWorld(t)
	fake := w.fake()
	clients.full = glue.Seldom{}
	first := w.connecting(fake.Addr(), 2, 0, strict())
	before := first.metrics()
	session := front{}.greeted(w, first)
	session.logIn()
	silent := serve(t, first.handler(new(Handler)))
	silent.expect(greetingClear)
	for range 3 {
		cl := serve(t, first.handler(new(Handler)))
		cl.expect(away)
		cl.closed()
	}
	// What stands over TLS is told so, and who would need a handshake first is not.
	behind := serve(t, front{behind: true}.handlers(first)...)
	if err := behind.handshake(w.tls("mail.example.org")); err != nil {
		t.Fatal(err)
	}
	behind.expect(away)
	behind.closed()
	serve(t, first.handler(&Handler{ImplicitTLS: true})).closed()
	warned := first.log.one("warn", "clients are turned away, since there are as many connections as max_connections allows; "+
		"see who they are, limit each address with max_connections_per_source, or raise max_connections, if there are memory and open files "+
		"(LimitNOFILE in a systemd unit) for more")
	if warned["max_connections"] != 2.0 || warned["turned_away"] != 1.0 {
		t.Errorf("the operator is told %v", warned)
	}
	if told := first.log.lines("debug", "connection turned away"); len(told) != 5 || !strings.Contains(told[0].text("reason"), "max_connections") {
		t.Errorf("logged %v", told)
	}
	changed := first.metrics().since(before)
	wantSeries(t, "refused", changed.only("caddy_imap_connections"), series{
		"{}": 2, `_refused_total{limit="max_connections"}`: 5,
	})

	second := w.connecting(fake.Addr(), 3, 0, strict())
	first.stop()
	third := front{}.greeted(w, second)
	cl := serve(t, second.handler(new(Handler)))
	cl.expect(away)
	cl.closed()
	session.ask("z LOGOUT", "* BYE", "z OK")
	session.closed()
	next := front{}.greeted(w, second)
	next.logIn()
	for _, cl := range []*client{silent, third, next} {
		_ = cl.conn.Close()
		cl.wait()
	}
	if n := clients.count(); n != 0 {
		t.Errorf("%d connections are counted that are over", n)
	}
}

// TestMaxConnectionsPerSource pins whom the limit of a source does not concern.
func TestMaxConnectionsPerSource(t *testing.T) {
	w := newWorld(t)
	fake := w.fake()
	for name, tc := range map[string]struct {
		guard   *Guard
		handler Handler
		free    bool
	}{
		"anybody": {strict(), Handler{}, false},
		"webmail": {strict(), Handler{TrustedClients: []string{"127.0.0.0/8"}}, true},
		"exempt":  {&Guard{Exempt: []string{"127.0.0.1"}, FailureDelay: caddy.Duration(1)}, Handler{}, true},
		"exempt, and the guard is off": {
			&Guard{Off: true, Exempt: []string{"127.0.0.1"}, FailureDelay: caddy.Duration(1)}, Handler{}, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.connecting(fake.Addr(), 0, 1, tc.guard)
			before := c.metrics()
			one := serve(t, c.handler(&tc.handler))
			one.expect(greetingClear)
			two := serve(t, c.handler(&tc.handler))
			if tc.free {
				two.expect(greetingClear)
				_ = two.conn.Close()
				two.wait()
			} else {
				two.expect("* BYE [LIMIT] Too many connections from your address, try again later.")
				two.closed()
			}
			want := series{"{}": 1}
			if !tc.free {
				want[`_refused_total{limit="max_connections_per_source"}`] = 1
			}
			wantSeries(t, "connections", c.metrics().since(before).only("caddy_imap_connections"), want)
			_ = one.conn.Close()
			one.wait()
			again := serve(t, c.handler(&tc.handler))
			again.expect(greetingClear)
			_ = again.conn.Close()
			again.wait()
			if lines := c.log.lines("warn", "clients are turned away"); len(lines) != 0 {
				t.Errorf("the operator is told %v", lines)
			}
		})
	}
}

// TestMaxConnectionsErrors pins what JSON may say that a Caddyfile cannot.
func TestMaxConnectionsErrors(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		limit, perSource int
		want             string
	}{
		{-1, 0, "max_connections -1: must be more than 0"},
		{0, -2, "max_connections_per_source -2: must be more than 0"},
	} {
		app := w.app(w.backend("127.0.0.1:1"))
		app.MaxConnections, app.MaxConnectionsPerSource = tc.limit, tc.perSource
		if _, err := w.tryLoad(app); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want %q", err, tc.want)
		}
	}
}
