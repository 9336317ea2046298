package caddysasl

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
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
	if err := r.tryLoad(listeners, nil); err != nil {
		r.t.Fatal(err)
	}
}

// loadFails does so, and wants an error.
func (r *running) loadFails(listeners map[string][]object) {
	r.t.Helper()
	if err := r.tryLoad(listeners, nil); err == nil {
		r.t.Fatal("the configuration was loaded")
	}
}

// tryLoad loads a configuration, with more apps.
func (r *running) tryLoad(listeners map[string][]object, more object) error {
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
	maps.Copy(apps, more)
	b, err := json.Marshal(object{
		"admin":   object{"disabled": true, "config": object{"persist": false}},
		"storage": object{"module": "file_system", "root": r.storage},
		"logging": object{"logs": object{"default": object{"writer": object{"output": "discard"}}}},
		"apps":    apps,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return caddy.Load(b, true)
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
	m := newMailServer(t, network, addr)
	m.works("bob")
	return m
}

// newMailServer has asked for nothing yet.
func newMailServer(t *testing.T, network, addr string) *mailServer {
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
	return m
}

// works says that a password is checked, and whose name is told.
func (m *mailServer) works(user string) {
	m.t.Helper()
	if got := m.ask(); got != user {
		m.t.Fatalf("user %q, want %q", got, user)
	}
}

// ask has a password checked, and returns whose name is told.
func (m *mailServer) ask() (user string) {
	m.t.Helper()
	m.id++
	_, err := fmt.Fprintf(m.nc, "AUTH\t%d\tPLAIN\tservice=smtp\tresp=AEJvYgB4\n", m.id)
	if err != nil {
		m.t.Fatal(err)
	}
	line, err := m.br.ReadString('\n')
	user, ok := strings.CutPrefix(line, fmt.Sprintf("OK\t%d\tuser=", m.id))
	if err != nil || !ok {
		m.t.Fatalf("%q, %v", line, err)
	}
	return strings.TrimSuffix(user, "\n")
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
	named, quick := object{"identity": "{imap.user.local}@example.org"}, object{"deadline": "4s"}
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
		{"one handler twice", listeners{here: {auth(nil)}}, listeners{here: {auth(named), auth(named)}}, "bob@example.org"},
		// Which of several it is, something else has decided.
		{"another of several changes", listeners{here: {auth(nil), auth(quick)}}, listeners{here: {auth(nil), auth(named)}}, "bob"},
		{"this of several changes", listeners{here: {auth(nil), auth(quick)}}, listeners{here: {auth(named), auth(quick)}}, ""},
		{"this of several is gone", listeners{here: {auth(nil), auth(quick)}}, listeners{here: {auth(quick)}}, ""},
		{"several take its place", listeners{here: {auth(nil)}}, listeners{here: {auth(named), auth(quick)}}, ""},
		{"listeners overlap", listeners{here: {auth(nil)}, ":" + port: {auth(quick)}}, listeners{here: {auth(named)}, ":" + port: {auth(quick)}}, ""},
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
	for _, network := range []string{"unix/", "kept/unix/"} {
		t.Run(network, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			r := newRunning(t)
			r.load(map[string][]object{network + path + "|0600": {auth(nil)}})
			m := connectTo(t, "unix", path)
			r.load(map[string][]object{network + path + "|0660": {auth(object{"identity": "{imap.user.local}@example.org"})}})
			m.works("bob@example.org")
			r.load(map[string][]object{network + path + "x|0660": {auth(nil)}})
			m.reset()
		})
	}
}

// TestReloadUnixAfterFailure pins that a unix socket survives configurations that
// cannot start. It would not without kept.
func TestReloadUnixAfterFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	here := "kept/unix/" + path + "|0600"
	r := newRunning(t)
	r.load(map[string][]object{here: {auth(nil)}})
	m := connectTo(t, "unix", path)
	for range 6 { // layer4 opens listeners in no fixed order
		r.loadFails(map[string][]object{here: {auth(object{"deadline": "4s"})}, "unix//no/such/directory/s": {auth(nil)}})
	}
	for range 2 {
		m.works("bob")
		connectTo(t, "unix", path)
		r.load(map[string][]object{here: {auth(nil)}})
	}
}

// TestReloadFails pins that a configuration that cannot start changes nothing, and
// leaves nothing behind.
func TestReloadFails(t *testing.T) {
	here := freeAddr(t)
	r := newRunning(t)
	r.load(map[string][]object{here: {auth(nil)}})
	m := connectTo(t, "tcp", here)
	r.loadFails(map[string][]object{"unix//no/such/directory/s": {auth(nil)}})
	m.works("bob")
	layouts.mu.Lock()
	defer layouts.mu.Unlock()
	if len(layouts.byApp) != 1 {
		t.Errorf("%d layouts, want 1", len(layouts.byApp))
	}
}

// failing is an app that cannot start.
type failing struct{}

// beforeFailing is what it does before it says so.
var beforeFailing func()

var errFailing = errors.New("failing as told")

func init() { caddy.RegisterModule(new(failing)) }

func (*failing) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "failing", New: func() caddy.Module { return new(failing) }}
}

func (*failing) Start() error {
	beforeFailing()
	return errFailing
}

func (*failing) Stop() error { return nil }

// TestReloadFailsLate pins what becomes of a mail server that was served with a
// configuration before that failed: it is served as the one says that runs, or not at
// all.
func TestReloadFailsLate(t *testing.T) {
	here, there := freeAddr(t), freeAddr(t)
	_, port, _ := net.SplitHostPort(here)
	named := auth(object{"identity": "{imap.user.local}@never"})
	for _, tc := range []struct{ name, addr string }{
		{"on a listener of its own", there},
		{"on the more specific one of two", here},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRunning(t)
			r.load(map[string][]object{":" + port: {auth(nil)}})
			var m *mailServer
			never := false
			beforeFailing = func() {
				if nc, err := net.Dial("tcp", tc.addr); err == nil {
					_ = nc.Close()
					m = newMailServer(t, "tcp", tc.addr)
					never = m.ask() == "bob@never"
				}
			}
			// Caddy starts apps in no fixed order.
			for tries := 0; !never; tries++ {
				if tries == 100 {
					t.Fatal("the configuration never served anybody")
				}
				if err := r.tryLoad(map[string][]object{tc.addr: {named}}, object{"failing": object{}}); err == nil || !strings.Contains(err.Error(), errFailing.Error()) {
					t.Fatal(err)
				}
			}
			if tc.addr == there {
				m.reset()
			} else {
				m.works("bob")
			}
		})
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
		{"kept/unix//run/auth|0660", socket, true},
		{"kept/unix//run/other|0660", socket, false},
		{"kept/unix//run/auth|0660", tcp("127.0.0.1:12345"), false},
		{"kept/unix//run/auth|0", socket, false},
		{"kept/:12345", socket, false},
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
