package caddysasl

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/caddyevents"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
	_ "github.com/mholt/caddy-l4/modules/l4subroute"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// object is a piece of JSON.
type object map[string]any

// auth is a route to a handler with the options.
func auth(options object) object {
	h := object{"handler": "dovecot_auth"}
	for name, value := range options {
		h[name] = value
	}
	return object{"handle": []object{h}}
}

// running is Caddy in this process, with one configuration after the other.
type running struct {
	t       *testing.T
	storage string
	backend string
}

func newRunning(t *testing.T) *running {
	t.Helper()
	fake := imaptest.NewFake(t, imaptest.Profile{Clear: true, Before: "IMAP4rev1 AUTH=PLAIN", Login: func(l imaptest.Login) string {
		if l.User == "Bob" && l.Secret == "x" {
			return "OK done."
		}
		return "NO [AUTHENTICATIONFAILED] no."
	}})
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &running{t: t, storage: t.TempDir(), backend: fake.Addr()}
}

// load loads a configuration with listeners, which have routes by address. Without
// any there is no imap app either.
func (r *running) load(listeners map[string][]object) {
	r.t.Helper()
	servers := make(object)
	for addr, routes := range listeners {
		servers[fmt.Sprint("srv", len(servers))] = object{"listen": []string{addr}, "routes": routes}
	}
	apps := object{
		"imap": object{
			"guard":    object{"failure_delay": "1ms"},
			"backends": object{"x": object{"upstreams": []object{{"dial": r.backend}}, "tls_mode": "off"}},
		},
		"layer4": object{"servers": servers},
	}
	if len(listeners) == 0 {
		apps = object{}
	}
	b, err := json.Marshal(object{
		"admin":   object{"disabled": true, "config": object{"persist": false}},
		"storage": object{"module": "file_system", "root": r.storage},
		"logging": object{"logs": object{"default": object{"writer": object{"output": "discard"}}}},
		"apps":    apps,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := caddy.Load(b, true); err != nil {
		r.t.Fatal(err)
	}
}

// mailServer is a connection like Postfix's.
type mailServer struct {
	t  *testing.T
	nc net.Conn
	br *bufio.Reader
	id int
}

func connectTo(t *testing.T, network, addr string) *mailServer {
	t.Helper()
	nc, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	m := &mailServer{t: t, nc: nc, br: bufio.NewReader(nc)}
	if _, err := io.WriteString(nc, "VERSION\t1\t0\nCPID\t1\n"); err != nil {
		t.Fatal(err)
	}
	skipGreeting(t, m.br)
	m.works("bob")
	return m
}

// works says that a password is checked, and whose name is told.
func (m *mailServer) works(user string) {
	m.t.Helper()
	m.id++
	_, err := fmt.Fprintf(m.nc, "AUTH\t%d\tPLAIN\tservice=smtp\tresp=AEJvYgB4\n", m.id)
	if err != nil {
		m.t.Fatal(err)
	}
	if line, err := m.br.ReadString('\n'); err != nil || line != fmt.Sprintf("OK\t%d\tuser=%s\n", m.id, user) {
		m.t.Fatalf("%q, %v", line, err)
	}
}

// reset says that the connection is reset, though nothing was asked.
func (m *mailServer) reset() {
	m.t.Helper()
	rest, err := io.ReadAll(m.br)
	if _, unix := m.nc.(*net.UnixConn); unix && err == nil {
		return // unix sockets know no reset, and Postfix notices their end
	}
	if len(rest) != 0 || !errors.Is(err, syscall.ECONNRESET) {
		m.t.Fatalf("%q, %v; want a reset", rest, err)
	}
}

// freeAddr returns an address below the range from which the system takes ports for
// outgoing connections.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(20000 + rand.IntN(8000))
		if ln, err := net.Listen("tcp", ":"+port); err == nil {
			_ = ln.Close()
			return "127.0.0.1:" + port
		}
	}
	t.Fatal("no free port")
	return ""
}

// TestReload pins what becomes of the connections of mail servers when the
// configuration changes: they are served as the newest says, and are reset only if
// that has nothing for them any more.
func TestReload(t *testing.T) {
	type listeners = map[string][]object
	here, there := freeAddr(t), freeAddr(t)
	_, port, _ := net.SplitHostPort(here)
	nested := func(route object) object {
		return object{"handle": []object{{"handler": "subroute", "routes": []object{route}}}}
	}
	named := object{"identity": "{imap.user.local}@example.org"}
	for _, tc := range []struct {
		name          string
		before, after listeners
		user          string // who is told afterwards; nobody if the connection is reset
	}{
		{"nothing", listeners{here: {auth(nil)}}, listeners{here: {auth(nil)}}, "bob"},
		{"a deadline", listeners{here: {auth(nil)}}, listeners{here: {auth(object{"deadline": "4s"})}}, "bob"},
		{"identity", listeners{here: {auth(nil)}}, listeners{here: {auth(named)}}, "bob@example.org"},
		{"identity, of another listener", listeners{here: {auth(nil)}, there: {auth(nil)}}, listeners{here: {auth(nil)}, there: {auth(named)}}, "bob"},
		{"identity, of this listener", listeners{here: {auth(nil)}, there: {auth(nil)}}, listeners{here: {auth(named)}, there: {auth(nil)}}, "bob@example.org"},
		{"written in another way", listeners{here: {auth(nil)}}, listeners{":" + port: {nested(auth(named))}}, "bob@example.org"},
		{"a mechanism is gone", listeners{here: {auth(nil)}}, listeners{here: {auth(object{"mechanisms": []string{"plain"}})}}, ""},
		{"a mechanism is gone elsewhere", listeners{here: {auth(nil)}, there: {auth(nil)}},
			listeners{here: {auth(nil)}, there: {auth(object{"mechanisms": []string{"plain"}})}}, "bob"},
		{"a mechanism is new", listeners{here: {auth(object{"mechanisms": []string{"plain"}})}}, listeners{here: {auth(nil)}}, "bob"},
		{"not allowed any more", listeners{here: {auth(nil)}}, listeners{here: {auth(object{"allow": []string{"192.0.2.1"}})}}, ""},
		{"the listener is gone", listeners{here: {auth(nil)}}, listeners{there: {auth(nil)}}, ""},
		{"the listener is for others", listeners{here: {auth(nil)}}, listeners{here: {{"handle": []object{{"handler": "dovecot_userdb"}}}}, there: {auth(nil)}}, ""},
		{"nothing is left", listeners{here: {auth(nil)}}, listeners{}, ""},
		{"one of two handlers", listeners{here: {auth(nil)}}, listeners{here: {auth(object{"mechanisms": []string{"plain"}}), auth(nil)}}, "bob"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRunning(t)
			r.load(tc.before)
			m := connectTo(t, "tcp", here)
			r.load(tc.after)
			if tc.user == "" {
				m.reset()
				return
			}
			m.works(tc.user)
			r.load(tc.before)
			m.works("bob")
		})
	}
}

// TestReloadUnix is the same for a unix socket.
func TestReloadUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := newRunning(t)
	r.load(map[string][]object{"unix/" + path + "|0600": {auth(nil)}})
	m := connectTo(t, "unix", path)
	r.load(map[string][]object{"unix/" + path + "|0660": {auth(object{"identity": "{imap.user.local}@example.org"})}})
	m.works("bob@example.org")
	r.load(map[string][]object{"unix/" + path + "x|0660": {auth(nil)}})
	m.reset()
}

// TestReloadFails pins that a configuration that cannot start changes nothing, and
// leaves nothing behind.
func TestReloadFails(t *testing.T) {
	here := freeAddr(t)
	taken, err := net.Listen("tcp4", "127.0.0.2:0")
	if err != nil {
		t.Skip(err)
	}
	defer taken.Close()
	r := newRunning(t)
	r.load(map[string][]object{here: {auth(nil)}})
	m := connectTo(t, "tcp", here)
	b, err := json.Marshal(object{
		"admin":   object{"disabled": true},
		"storage": object{"module": "file_system", "root": r.storage},
		"apps": object{
			"imap":   object{"backends": object{"x": object{"upstreams": []object{{"dial": r.backend}}, "tls_mode": "off"}}},
			"layer4": object{"servers": object{"a": object{"listen": []string{"unix//no/such/directory/s"}, "routes": []object{auth(nil)}}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(b, true); err == nil {
		t.Fatal("the configuration was loaded")
	}
	m.works("bob")
	layouts.mu.Lock()
	defer layouts.mu.Unlock()
	if len(layouts.byApp) != 1 {
		t.Errorf("%d layouts, want 1", len(layouts.byApp))
	}
}

// TestListensAt pins which connections may have come to a listener.
func TestListensAt(t *testing.T) {
	tcp := func(s string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	socket := &net.UnixAddr{Net: "unix", Name: "/run/auth"}
	for _, tc := range []struct {
		listener string
		local    net.Addr
		want     bool
	}{
		{"127.0.0.1:12345", tcp("127.0.0.1:12345"), true},
		{"127.0.0.1:12345", tcp("127.0.0.1:12346"), false},
		{"127.0.0.1:12345", tcp("127.0.0.2:12345"), false},
		{"127.0.0.1:12345-12346", tcp("127.0.0.1:12346"), true},
		{":12345", tcp("127.0.0.1:12345"), true},
		{"0.0.0.0:12345", tcp("127.0.0.1:12345"), true},
		{"[::]:12345", tcp("[::1]:12345"), true},
		{"[::1]:12345", tcp("[::1]:12345"), true},
		{"[::1]:12345", tcp("127.0.0.1:12345"), false},
		{"localhost:12345", tcp("127.0.0.1:12345"), true},
		{"tcp4/127.0.0.1:12345", tcp("127.0.0.1:12345"), true},
		{"unix//run/auth", socket, true},
		{"unix//run/auth|0660", socket, true},
		{"unix//run/other", socket, false},
		{"unix//run/auth", tcp("127.0.0.1:12345"), false},
		{":12345", socket, false},
		{"kept/127.0.0.1:12345", tcp("127.0.0.1:12345"), true},
		{"kept/:12345", tcp("127.0.0.1:12346"), false},
		{"fd/3", tcp("127.0.0.1:12345"), true},
		{"fd/3", socket, true},
	} {
		addr, err := caddy.ParseNetworkAddress(tc.listener)
		if err != nil {
			t.Fatal(err)
		}
		if got := listensAt(addr, tc.local); got != tc.want {
			t.Errorf("%s, %s: %v", tc.listener, tc.local, got)
		}
	}
}
