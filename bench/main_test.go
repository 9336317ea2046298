//go:build linux

package main

import (
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"-caddy", "bin/caddy", "-peers", "nginx,caddy", "-modes", "noop", "-reps", "2"})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.peers) != 2 || o.peers[0].name != us || len(o.modes) != 1 || o.reps != 2 || !strings.HasPrefix(o.out, "bin/bench-") {
		t.Errorf("options are %+v", o)
	}
	for _, bad := range []struct{ args, want string }{
		{"-peers apache", `no peer "apache"; there are caddy, nginx`},
		{"-modes sleep", `no mode "sleep"; there are login, fetch`},
		{"-reps 0", "counts and repetitions are 1 or more"},
		{"login", `unknown word "login"`},
	} {
		if _, err := parseOptions(strings.Fields(bad.args)); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("bench %s: %v, want %q", bad.args, err, bad.want)
		}
	}
}

// Each measurement is made once by each peer in a repetition, one mode after the
// other, and none that makes no sense.
func TestPlan(t *testing.T) {
	modes := allModes[:2]
	peers := []*peer{{name: "a"}, {name: "b", not: []string{modes[1].name}}, {name: "c"}}
	o := &options{reps: 3, memoryReps: 1, modes: append(slices.Clip(modes), &mode{name: "idle", memory: true})}
	plan := makePlan(o, peers[:1])
	if n := len(plan); n != 3*2+1 || plan[2].mode.name != "idle" {
		t.Errorf("with a mode of memory there are %d steps, want it once of 7", n)
	}
	o.modes = modes
	plan = makePlan(o, peers)
	var got []string
	for _, s := range plan {
		got = append(got, s.mode.name+" "+s.peer.name)
	}
	if len(plan) != 3*5 {
		t.Fatalf("the plan is %q", got)
	}
	for rep := range 3 {
		first, second := got[rep*5:rep*5+3], got[rep*5+3:rep*5+5]
		slices.Sort(first)
		slices.Sort(second)
		if !slices.Equal(first, []string{"login a", "login b", "login c"}) || !slices.Equal(second, []string{"fetch a", "fetch c"}) {
			t.Errorf("repetition %d is %q, %q", rep+1, first, second)
		}
	}
}

func TestTimeLeft(t *testing.T) {
	c := newClock()
	login, fetch := allModes[0], allModes[1]
	a, b := &peer{name: "a"}, &peer{name: "b"}
	c.add(pair{login, a}, 2*time.Second)
	rest := []step{{1, pair{login, a}}, {1, pair{login, b}}, {1, pair{fetch, a}}}
	if got := c.left(rest); got != 6*time.Second {
		t.Errorf("with one known, left is %v", got)
	}
	c.add(pair{fetch, b}, 4*time.Second)
	if got := c.left(rest); got != 8*time.Second {
		t.Errorf("with two known, left is %v", got)
	}
	if got := c.left(nil); got != 0 {
		t.Errorf("with nothing to do, left is %v", got)
	}
}

func TestLiteral(t *testing.T) {
	for _, tc := range []struct {
		line string
		size int64
		plus bool
		ok   bool
	}{
		{"* 1 FETCH (BODY[] {10485760}\r\n", 10485760, false, true},
		{"a LOGIN {3+}\r\n", 3, true, true},
		{"a NOOP\r\n", 0, false, false},
		{"a X {-1}\r\n", 0, false, false},
		{"a X 1}\r\n", 0, false, false},
	} {
		if size, plus, ok := literal([]byte(tc.line)); ok != tc.ok || ok && (size != tc.size || plus != tc.plus) {
			t.Errorf("literal(%q) = %d, %v, %v", tc.line, size, plus, ok)
		}
	}
}

func TestArguments(t *testing.T) {
	got, err := arguments(`INBOX  "a \"b\\" "" (x y)`)
	if want := []string{"INBOX", `a "b\`, "", "(x", "y)"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("arguments = %q, %v, want %q", got, err, want)
	}
	if _, err := arguments(`"a`); err == nil {
		t.Error("a quoted string without an end has no error")
	}
}

// newTestBackend serves connections over TLS, and returns where.
func newTestBackend(t *testing.T) (*backend, *endpoint) {
	t.Helper()
	dir := t.TempDir()
	if err := writeCertificate(dir); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(certificateFiles(dir))
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{tls: &tls.Config{Certificates: []tls.Certificate{cert}}, idlers: make(map[*session]struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go b.serve(conn)
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return b, &endpoint{addr: ln.Addr().String(), tls: clientTLS(tls.X25519)}
}

// The load generator and the backend understand each other.
func TestDialogue(t *testing.T) {
	b, e := newTestBackend(t)
	c, err := e.login(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"CAPABILITY", "NOOP", "SELECT INBOX", "STATUS INBOX (MESSAGES)", `LIST "" "*"`, "NAMESPACE", "ID NIL", "UID FETCH 1:* (FLAGS)"} {
		if err := c.do(command); err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
	if err := c.do("NONSENSE"); err == nil {
		t.Error("NONSENSE has no error")
	}
	if err := c.append(smallMessage + 1); err != nil {
		t.Errorf("APPEND: %v", err)
	}
	tag, err := c.send("FETCH 2 BODY.PEEK[]")
	if err != nil {
		t.Fatal(err)
	}
	if read, err := c.await(tag); err != nil || read < smallMessage || read > smallMessage+200 {
		t.Errorf("FETCH of %d bytes read %d, %v", smallMessage, read, err)
	}
	if err := c.idle(); err != nil {
		t.Fatal(err)
	}
	control, backendSide := net.Pipe()
	go b.serveControl(backendSide)
	if _, err := io.WriteString(control, "wake\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.awaitLine(func(line []byte) bool { return string(line) == "* 5 EXISTS\r\n" }); err != nil {
		t.Errorf("in IDLE: %v", err)
	}
	_ = control.Close()
	if err := c.done(); err != nil {
		t.Errorf("DONE: %v", err)
	}
	if err := c.logout(); err != nil {
		t.Errorf("LOGOUT: %v", err)
	}
}

func TestWrongPassword(t *testing.T) {
	_, e := newTestBackend(t)
	c, err := e.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, command := range []string{"LOGIN u wrong", "AUTHENTICATE PLAIN AHUAd3Jvbmc="} {
		if err := c.do(command); err == nil || !strings.Contains(err.Error(), "AUTHENTICATIONFAILED") {
			t.Errorf("%s: %v", command, err)
		}
	}
	if err := c.do("AUTHENTICATE PLAIN AHUAc2VjcmV0"); err != nil {
		t.Errorf("with the right one: %v", err)
	}
	if err := c.do("LOGOUT"); err != nil {
		t.Error(err)
	}
}
