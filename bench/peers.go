//go:build linux

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// peer is one proxy in one configuration.
type peer struct {
	name    string
	title   string // for people
	ours    string // which of our two it is compared with
	program string // to be found in PATH; "" is no proxy, "caddy" is the product
	version []string
	root    bool // whether it needs to be root

	implicit bool        // TLS from the first byte, where others do STARTTLS
	group    tls.CurveID // X25519 unless set
	sessions int         // that it is spared more than: a process for each
	not      []string    // modes that make no sense
	command  func(*site) ([]string, error)
}

// site is where one instance of a peer lives.
type site struct {
	*world
	dir  string
	addr string // where it listens
	tls  bool   // to the backend
	// extended says that what the backend lacks is answered.
	extended bool
}

// write writes a file of the peer's configuration. In the text, words in angle
// brackets stand for what is known of the site.
func (s *site) write(name, text string) (path string, err error) {
	path = filepath.Join(s.dir, name)
	host, port, _ := strings.Cut(s.addr, ":")
	cert, key := certificateFiles(s.world.dir)
	_, backendPort, _ := strings.Cut(s.plain, ":")
	text = strings.NewReplacer("<dir>", s.dir, "<addr>", s.addr, "<host>", host, "<port>", port,
		"<cert>", cert, "<key>", key, "<both>", bothFile(s.world.dir), "<auth>", s.auth,
		"<backend>", s.plain, "<backend port>", backendPort, "<backend tls>", s.world.implicit,
		"<files>", fmt.Sprint(s.files), "<half files>", fmt.Sprint(s.files/2-100)).Replace(text)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return "", fmt.Errorf("writing %s: %w", name, err)
	}
	return path, nil
}

const (
	us    = "caddy"
	usTLS = "caddy-tls"
	// usExtended is with extensions auto; usBefore is another build of the product.
	usExtended = "caddy-extensions"
	usBefore   = "caddy-before"
)

// allPeers are in the order of the tables. Those that speak TLS to the backend
// are compared with ours that does so, too.
var allPeers = []*peer{
	{name: us, title: "this proxy", ours: us, program: "caddy", version: []string{"version"}, command: runCaddy},
	{name: "nginx", title: "nginx mail", ours: us, program: "nginx", version: []string{"-v"}, command: runNginx},
	{name: "haproxy", title: "HAProxy", ours: us, program: "haproxy", version: []string{"-v"}, implicit: true, command: runHAProxy},
	{name: "dovecot", title: "Dovecot login proxy", ours: us, program: "dovecot", version: []string{"--version"}, root: true, command: runDovecotProxy},
	{name: "imapc", title: "Dovecot with imapc", ours: us, program: "dovecot", version: []string{"--version"}, root: true, sessions: 1000,
		not: []string{"slow"}, command: runImapc},
	{name: "perdition", title: "perdition", ours: us, program: "perdition.imap4", version: []string{"--help"}, root: true, sessions: 1000,
		group: tls.CurveP256, command: runPerdition},
	{name: usTLS, title: "this proxy, TLS to the backend", ours: usTLS, program: "caddy", version: []string{"version"}, command: runCaddy},
	{name: "haproxy-tls", title: "HAProxy, TLS to the backend", ours: usTLS, program: "haproxy", version: []string{"-v"}, implicit: true, command: runHAProxy},
	{name: "dovecot-tls", title: "Dovecot login proxy, TLS to the backend", ours: usTLS, program: "dovecot", version: []string{"--version"}, root: true,
		command: runDovecotProxy},
	{name: usExtended, title: "this proxy, extensions auto", ours: us, program: "caddy", version: []string{"version"}, command: runCaddy},
	{name: usBefore, title: "this proxy, another build", ours: us, program: "caddy", version: []string{"version"}, command: runCaddy},
	{name: "direct", title: "no proxy", ours: us, not: []string{"idle", "wake", "slow"}},
}

// path returns where the program is, or why the peer has to be left out.
func (p *peer) path(caddy, before string) (string, error) {
	if p.name == usBefore {
		if before == "" {
			return "", errors.New("-before does not name it")
		}
		caddy = before
	}
	switch {
	case p.program == "":
		return "", nil
	case p.program == "caddy":
		if _, err := os.Stat(caddy); err != nil {
			return "", fmt.Errorf("%w; make build makes it", err)
		}
		return caddy, nil
	case p.root && os.Getuid() != 0:
		return "", fmt.Errorf("%s has to be started by root", p.program)
	}
	if path, err := exec.LookPath(p.program); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		path := filepath.Join(dir, p.program)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", p.program)
}

var versionNumber = regexp.MustCompile(`\d+(\.\d+)+\S*|\(devel\)`)

// versionOf asks a program, or returns "" if it says nothing that looks like one.
func (p *peer) versionOf(path string) string {
	if path == "" {
		return ""
	}
	out, _ := exec.Command(path, p.version...).CombinedOutput() // some fail, and say it
	return versionNumber.FindString(string(out))
}

func describePeers() string {
	var b strings.Builder
	for _, p := range allPeers {
		fmt.Fprintf(&b, "  %-16s %s\n", p.name, p.title)
	}
	return b.String()
}

// startPeer starts a peer, and waits until a user can log in.
func (w *world) startPeer(p *peer) (t *target, err error) {
	group := p.group
	if group == 0 {
		group = tls.X25519
	}
	t = &target{world: w, endpoint: endpoint{addr: w.plain, implicit: p.implicit, tls: clientTLS(group)}}
	if p.command == nil {
		return t, nil
	}
	s := &site{world: w, dir: filepath.Join(w.dir, p.name), tls: p.ours == usTLS, extended: p.name == usExtended}
	if s.addr, err = freeAddr(); err != nil {
		return nil, err
	}
	t.addr = s.addr
	// What an instance before it has left would make it another one.
	if err := os.RemoveAll(s.dir); err != nil {
		return nil, fmt.Errorf("emptying a directory: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, fmt.Errorf("making a directory: %w", err)
	}
	argv, err := p.command(s)
	if err != nil {
		return nil, err
	}
	if argv[0], err = p.path(w.caddy, w.before); err != nil {
		return nil, err
	}
	if t.process, err = start(s.dir, argv...); err != nil {
		return nil, err
	}
	if err := t.process.awaitReady(t.tryLogin); err != nil {
		t.process.stop()
		return nil, err
	}
	return t, nil
}

// target is a peer that runs.
type target struct {
	*world
	endpoint
	process *process // nil without a proxy
}

func (t *target) stop() {
	if t.process != nil {
		t.process.stop()
	}
}

func (t *target) tryLogin() error {
	c, err := t.login(0)
	if err != nil {
		return err
	}
	return c.logout()
}
