// Package imapcmd adds the command "caddy imap-proxy", which runs the proxy
// without a configuration file: for a first look, with a backend in memory, and
// for a quick start in front of a real one.
package imapcmd

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/caddyserver/certmagic"
	"github.com/spf13/cobra"

	"github.com/caddy-imap/caddy-imap/internal/demo"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "imap-proxy",
		Usage: "--demo | --hostname <name> --to <upstream> [--auth <addr>]",
		Short: "Runs an IMAP proxy, and a password checker for Postfix",
		Long:  long,
		CobraFunc: func(cmd *cobra.Command) {
			var o options
			flags := cmd.Flags()
			flags.BoolVar(&o.demo, "demo", false, "Be a demo on loopback ports, with a backend in memory")
			flags.StringSliceVar(&o.hostnames, "hostname", nil, "Name to have a certificate for; may be repeated")
			flags.StringSliceVar(&o.upstreams, "to", nil, "IMAP server to log users in at; may be repeated")
			flags.StringVar(&o.tlsMode, "tls", "", `TLS to that server: starttls, implicit or off (default "starttls")`)
			flags.StringVar(&o.serverName, "tls-server-name", "", "Name in that server's certificate (default the one in --to)")
			flags.StringVar(&o.trustPool, "tls-trust-pool", "", "PEM file with the authority of that server's certificate")
			flags.StringVar(&o.imap, "imap", "", `Address for IMAP with STARTTLS (default ":143")`)
			flags.StringVar(&o.imaps, "imaps", "", `Address for IMAP with implicit TLS (default ":993")`)
			flags.StringVar(&o.auth, "auth", "", "Address for mail servers that check passwords (default none)")
			flags.BoolVar(&o.debug, "debug", false, "Write a detailed log")
			cmd.Args = cobra.NoArgs
			cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return run(&o) })
		},
	})
}

const long = `
Runs an IMAP proxy with STARTTLS and implicit TLS. Users are logged in at an IMAP
server behind it, such as Exchange, and their sessions relayed. With --auth, Postfix
and other mail servers can check passwords at the same server.

To have a look, with a mailbox in memory (user demo, password demo):

  caddy imap-proxy --demo

In front of a real server:

  caddy imap-proxy --hostname mail.example.org --to ex1.corp.example.org --auth 127.0.0.1:12345

Caddy gets a certificate for the host name, from a public authority, if the name is
public and port 80 or 443 of this machine can be reached from there, and otherwise
from an authority of its own, whose certificate clients have to be given. The
upstream's certificate must be valid for the name in --to; --tls-server-name says
what other name it has, --tls-trust-pool the file of a private authority. The log
calls these by the names that they have in a Caddyfile: tls_server_name, tls_trust_pool.

The demo listens on 127.0.0.1:1143 (--imap), 127.0.0.1:1993 (--imaps) and
127.0.0.1:12345 (--auth), needs no root, and leaves nothing behind.

This command has no admin API, and thus no way to change the backend while it runs.
For that, and for everything else that can be set, write a Caddyfile:
Caddyfile.example in the repository is one to start with.
`

// options are the flags.
type options struct {
	demo              bool
	hostnames         []string
	upstreams         []string
	tlsMode           string
	serverName        string
	trustPool         string
	imap, imaps, auth string
	debug             bool
}

// check refuses what cannot be meant, and fills in what was not given.
func (o *options) check() error {
	if o.demo {
		if len(o.hostnames) > 0 || len(o.upstreams) > 0 || o.tlsMode+o.serverName+o.trustPool != "" {
			return errors.New("--demo brings a host name and a backend; leave out --hostname, --to and --tls*")
		}
		o.setAddresses("127.0.0.1:1143", "127.0.0.1:1993", "127.0.0.1:12345")
		return o.checkAddresses()
	}
	if len(o.hostnames) == 0 {
		return errors.New("--hostname is missing: the name that clients connect to, such as mail.example.org; or try --demo")
	}
	if len(o.upstreams) == 0 {
		return errors.New("--to is missing: the IMAP server to log users in at, such as ex1.corp.example.org; or try --demo")
	}
	if o.tlsMode == "" {
		o.tlsMode = "starttls"
	}
	o.setAddresses(":143", ":993", "")
	return errors.Join(o.checkTrustPool(), o.checkAddresses())
}

// checkTrustPool refuses a file that no certificate could be verified with.
func (o *options) checkTrustPool() error {
	if o.trustPool == "" {
		return nil
	}
	b, err := os.ReadFile(o.trustPool)
	if err != nil {
		return fmt.Errorf("--tls-trust-pool: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(b) {
		return fmt.Errorf("--tls-trust-pool %s: there is no certificate in it, in PEM form", o.trustPool)
	}
	return nil
}

func (o *options) setAddresses(imap, imaps, auth string) {
	for _, a := range []struct {
		field *string
		value string
	}{{&o.imap, imap}, {&o.imaps, imaps}, {&o.auth, auth}} {
		if *a.field == "" {
			*a.field = a.value
		}
	}
}

// checkAddresses refuses addresses that nobody can listen on, and those that
// somebody does. Caddy would share them with another Caddy, and connections would
// come to either.
func (o *options) checkAddresses() error {
	seen := make(map[string]string)
	for _, a := range []struct{ flag, addr string }{{"--imap", o.imap}, {"--imaps", o.imaps}, {"--auth", o.auth}} {
		if a.addr == "" {
			continue
		}
		addr, err := caddy.ParseNetworkAddress(a.addr)
		switch {
		case err != nil:
			return fmt.Errorf("%s %s: %w", a.flag, a.addr, err)
		case addr.IsUnixNetwork() || addr.IsFdNetwork():
			continue
		case addr.PortRangeSize() != 1 || addr.StartPort == 0:
			return fmt.Errorf("%s %s: must have a host and one port, or a port alone, as in 127.0.0.1:1143 or :1143", a.flag, a.addr)
		}
		host := addr.JoinHostPort(0)
		if other, taken := seen[host]; taken {
			return fmt.Errorf("%s %s: that is the address of %s, too", a.flag, a.addr, other)
		}
		seen[host] = a.flag
		ln, err := net.Listen(addr.Network, host)
		if err != nil {
			return fmt.Errorf("%s %s: %w; %s", a.flag, a.addr, err, listenAdvice(err))
		}
		_ = ln.Close()
	}
	return nil
}

// listenAdvice says what to do about an address that cannot be listened on.
func listenAdvice(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "a port below 1024 wants root or the capability CAP_NET_BIND_SERVICE, or choose a higher one"
	case errors.Is(err, syscall.EADDRINUSE):
		return "stop who listens there, or choose another address"
	default:
		return "choose an address of this machine"
	}
}

// run starts Caddy and does not return unless that fails.
func run(o *options) (int, error) {
	caddy.TrapSignals()
	if err := o.check(); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if !o.demo {
		if err := start(o.config()); err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
		fmt.Print(o.summary())
		select {}
	}
	if err := runDemo(o); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	select {}
}

// summary is printed when the proxy runs.
func (o *options) summary() string {
	text := fmt.Sprintf("Proxying IMAP on %s and, with TLS from the first byte, on %s, to %s.\n", o.imap, o.imaps, strings.Join(o.upstreams, ", "))
	if o.auth != "" {
		text += fmt.Sprintf("Mail servers can check passwords on %s.\n", o.auth)
	}
	for _, name := range o.hostnames {
		if !certmagic.SubjectQualifiesForPublicCert(name) {
			text += fmt.Sprintf("The name %s is not public; clients need the authority in %s.\n",
				name, filepath.Join(caddy.AppDataDir(), rootCertificate))
			break
		}
	}
	text += "The log speaks of options as a Caddyfile has them: tls_trust_pool is --tls-trust-pool here, and so on.\n"
	return text + "Stop it with Ctrl-C.\n"
}

// rootCertificate is where Caddy's storage has its own authority.
var rootCertificate = filepath.Join("pki", "authorities", "local", "root.crt")

// start runs the configuration, as JSON, so that what is run is what could have
// been written.
func start(cfg *caddy.Config) error {
	b, err := json.Marshal(cfg)
	if err != nil {
		return fmt.Errorf("making the configuration: %w", err)
	}
	if err := caddy.Load(b, true); err != nil {
		return fmt.Errorf("starting: %w", err)
	}
	return nil
}

// runDemo starts the demo, with everything that Caddy stores in a directory that
// is removed when the process ends.
func runDemo(o *options) error {
	dir, err := os.MkdirTemp("", "caddy-imap-demo-")
	if err != nil {
		return fmt.Errorf("making a directory for certificates: %w", err)
	}
	onExit(func() { _ = os.RemoveAll(dir) })
	backend, err := demo.Listen("127.0.0.1:0")
	if err != nil {
		_ = os.RemoveAll(dir)
		return err
	}
	onExit(func() { _ = backend.Close() })
	o.hostnames = []string{"localhost"}
	o.upstreams = []string{backend.Addr().String()}
	o.tlsMode = "off"
	cfg := o.config()
	cfg.StorageRaw = object(map[string]any{"module": "file_system", "root": dir})
	if err := start(cfg); err != nil {
		_ = os.RemoveAll(dir)
		return errors.Join(err, backend.Close())
	}
	awaitCertificate(o.hostnames[0])
	fmt.Print(box(o, dir))
	return nil
}

// awaitCertificate gives Caddy a moment to make the demo's certificate, which it
// does in the background: whoever is quick should not meet a server without one.
func awaitCertificate(name string) {
	const pause, patience = 10 * time.Millisecond, 5 * time.Second
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(pause) {
		if len(caddytls.AllMatchingCertificates(name)) > 0 {
			return
		}
	}
}
