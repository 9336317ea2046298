package imapcmd

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/spf13/cobra"

	"github.com/caddy-imap/caddy-imap/caddyimap"
)

// flags adds the flags, which have the names and letters of Caddy's reverse-proxy and
// file-server where they mean the same.
func (o *options) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVarP(&o.from, "from", "f", nil, "Name that clients connect to, with a certificate; may be repeated")
	flags.StringSliceVarP(&o.upstreams, "to", "t", nil, "IMAP server to log users in at; may be repeated")
	o.backendFlags(cmd)
	flags.StringVar(&o.imap, "imap", "", `Address for IMAP with STARTTLS (default ":143")`)
	flags.StringVar(&o.imaps, "imaps", "", `Address for IMAP with implicit TLS (default ":993")`)
	flags.StringVar(&o.auth, "auth", "", "Address for mail servers that check passwords; a unix socket has the mode 0660 if it names none (default none)")
	flags.BoolVarP(&o.internalCerts, "internal-certs", "i", false, "Use internal CA for issuing certs")
	flags.StringVar(&o.email, "email", "", "Email address for the account at the public authority")
	flags.BoolVarP(&o.debug, "debug", "v", false, "Enable verbose debug logs")
	flags.StringVar(&o.print, "print-config", "", "Print the configuration as a Caddyfile, or as JSON, and do not run")
	flags.Lookup("print-config").NoOptDefVal = printCaddyfile
	flags.BoolVar(&o.demo, "demo", false, "Be a demo on loopback ports, with a backend in memory")
	// What it was called before.
	flags.StringSliceVar(&o.from, "hostname", nil, "The same as --from")
	_ = flags.MarkHidden("hostname")
}

// backendFlags adds those about the upstreams, which are called as the options of a
// Caddyfile are.
func (o *options) backendFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.tlsMode, "tls", "", `TLS with that server: starttls, implicit or off (default "starttls")`)
	flags.StringVar(&o.serverName, "tls-server-name", "", "Name in that server's certificate (default the one in --to)")
	flags.StringVar(&o.trustPool, "tls-trust-pool", "", "PEM file with the authority of that server's certificate")
	flags.StringVar(&o.authCommand, "auth-command", "", `Command to send passwords with: keep, login or plain (default as clients do, and "plain" for mail servers)`)
	flags.BoolVar(&o.insecure, "insecure", false, "Do not verify that server (WARNING: ANYBODY ON THE WAY CAN COLLECT PASSWORDS!)")
}

// setsBackend says whether one of these was given.
func (o *options) setsBackend() bool {
	return o.tlsMode+o.serverName+o.trustPool+o.authCommand != "" || o.insecure
}

// The values of --print-config.
const (
	printCaddyfile = "caddyfile"
	printJSON      = "json"
)

const long = `
A simple but production-ready IMAP proxy, for quick deployments, demos, and to learn.

Clients connect to the name given with --from, on port 143 with STARTTLS and on port
993 with TLS from the first byte. They are logged in at the server given with --to,
such as Exchange, and their sessions relayed. More than one --to are servers with the
same mailboxes; the first that is up is used.

In front of a real server:

    caddy imap-proxy --from mail.example.org --to ex1.corp.example.org

With --auth, Postfix and other mail servers can check passwords at the same server.
They need an address that only this machine can reach:

    caddy imap-proxy --from mail.example.org --to ex1.corp.example.org --auth 127.0.0.1:12345

In Postfix's main.cf:

    smtpd_sasl_type = dovecot
    smtpd_sasl_path = inet:127.0.0.1:12345

For clients:

    Caddy gets a certificate for the name from a public authority, if the name is public
      and port 80 or 443 of this machine can be reached from there. Otherwise, and with
      --internal-certs, it is from an authority of its own, which clients have to be given.
    --imap and --imaps move the listeners, as to 127.0.0.1:1143 and 127.0.0.1:1993,
      which need no root.

For the server behind:

    --tls implicit is for a server with TLS from the first byte, as on port 993.
    --tls-trust-pool is the file of a private authority, --tls-server-name the name in its
      certificate, if that is not the one in --to. The log calls these as a Caddyfile
      does: tls_trust_pool, tls_server_name.
    --insecure disables verification. WARNING: ANYBODY ON THE WAY CAN COLLECT PASSWORDS.

If something does not work, caddy imap-check --to ex1.corp.example.org says what and why.

To have a look, with a mailbox in memory (user demo, password demo), without root, and
with nothing left behind:

    caddy imap-proxy --demo

There is no admin API, and thus no way to change the backend while it runs. For that,
and for everything else that can be set, keep the configuration and go on from there:

    caddy imap-proxy --from mail.example.org --to ex1.corp.example.org --print-config > Caddyfile
    caddy run

--print-config=json prints the same as JSON.
`

// options are the flags.
type options struct {
	demo              bool
	from              []string
	upstreams         []string
	tlsMode           string
	serverName        string
	trustPool         string
	insecure          bool
	authCommand       string
	imap, imaps, auth string
	internalCerts     bool
	email             string
	debug             bool
	print             string

	// storage is the demo's directory.
	storage string
}

// check refuses what cannot be meant, and fills in what was not given.
func (o *options) check() error {
	if o.demo {
		if len(o.from) > 0 || len(o.upstreams) > 0 || o.setsBackend() || o.internalCerts || o.email != "" {
			return errors.New("--demo brings a host name, a certificate and a backend; leave out --from, --to, --tls*, --auth-command, --insecure, --internal-certs and --email")
		}
		if o.print != "" {
			return errors.New("--print-config: the backend of --demo is in memory, and in no configuration; use it with --from and --to")
		}
		o.setAddresses("127.0.0.1:1143", "127.0.0.1:1993", "127.0.0.1:12345")
		return o.checkAddresses()
	}
	if o.internalCerts && o.email != "" {
		return errors.New("--email is for a public authority, and --internal-certs asks none; leave one out")
	}
	if len(o.from) == 0 {
		return errors.New("--from is missing: the name that clients connect to, such as mail.example.org; or try --demo")
	}
	if len(o.upstreams) == 0 {
		return errors.New("--to is missing: the IMAP server to log users in at, such as ex1.corp.example.org; or try --demo")
	}
	for _, name := range o.from {
		if _, port, err := net.SplitHostPort(name); err == nil {
			return fmt.Errorf("--from %s: it is a name alone; the port goes into --imap :%s or --imaps :%s", name, port, port)
		}
	}
	if err := o.checkNames(); err != nil {
		return err
	}
	o.setAddresses(":143", ":993", "")
	switch o.print {
	case "":
		return errors.Join(o.checkTrustPool(), o.checkAddresses())
	case printCaddyfile, printJSON:
		return nil
	default:
		return fmt.Errorf("--print-config=%s: must be %s or %s", o.print, printCaddyfile, printJSON)
	}
}

// checkNames refuses names and servers that Caddy would refuse, so that no configuration
// is printed that it does not take, and flags that contradict each other.
func (o *options) checkNames() error {
	for _, name := range o.from {
		if !hasPlaceholder(name) && !caddyimap.IsHostname(strings.ToLower(name)) {
			return fmt.Errorf("--from %s: that is no host name; letters beyond ASCII are written in their xn-- form", name)
		}
	}
	switch o.tlsMode {
	case "", "starttls", "implicit", "off":
	default:
		return fmt.Errorf("--tls %s: must be starttls, implicit or off", o.tlsMode)
	}
	for _, to := range o.upstreams {
		b := caddyimap.Backend{TLSMode: o.tlsMode, TLS: &reverseproxy.TLSConfig{ServerName: o.serverName}}
		if err := b.CheckUpstream(to); err != nil && !hasPlaceholder(to) {
			return fmt.Errorf("--to %s: %w", to, err)
		}
	}
	return o.checkVerification()
}

// hasPlaceholder says whether a value can be known only when Caddy runs.
func hasPlaceholder(value string) bool {
	_, behind, found := strings.Cut(value, "{")
	return found && strings.Contains(behind, "}")
}

// checkVerification refuses flags about a certificate that would not be looked at.
func (o *options) checkVerification() error {
	switch {
	case o.insecure && o.trustPool != "":
		return errors.New("--insecure verifies nothing, and --tls-trust-pool says how to verify; leave one out")
	case o.tlsMode == "off" && (o.insecure || o.trustPool+o.serverName != ""):
		return errors.New("--tls off: without TLS, --tls-server-name, --tls-trust-pool and --insecure have no meaning; leave them out")
	}
	return nil
}

// checkTrustPool refuses a file that no certificate could be verified with.
func (o *options) checkTrustPool() error {
	if o.trustPool == "" {
		return nil
	}
	info, err := os.Stat(o.trustPool)
	if err != nil {
		return fmt.Errorf("--tls-trust-pool: %w", err)
	}
	if !info.Mode().IsRegular() { // a pipe might never end
		return fmt.Errorf("--tls-trust-pool %s: it is no ordinary file", o.trustPool)
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
