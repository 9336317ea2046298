// Package imapcmd adds two commands: "caddy imap-proxy", which runs the proxy
// without a configuration file, for a first look with a backend in memory and for a
// quick start in front of a real one, and "caddy imap-check", which finds out what
// keeps users from logging in.
package imapcmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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
		Name: "imap-proxy",
		Usage: "--from <name> --to <upstream> [--auth <addr>] [--tls starttls|implicit|off] [--tls-server-name <name>] [--tls-trust-pool <path>] " +
			"[--auth-command keep|login|plain] [--insecure] [--imap <addr>] [--imaps <addr>] [--internal-certs] [--email <addr>] [--debug] [--print-config[=json]] | --demo",
		Short: "A quick and production-ready IMAP proxy and password checker for Postfix",
		Long:  long,
		CobraFunc: func(cmd *cobra.Command) {
			forManual(cmd)
			o := new(options)
			o.flags(cmd)
			cmd.Args = cobra.NoArgs
			cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return run(o, os.Stdout) })
		},
	})
}

// run starts Caddy and does not return unless that fails, or nothing but the
// configuration is wanted.
func run(o *options, out io.Writer) (int, error) {
	if err := o.check(); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if o.print != "" {
		if err := o.printConfig(out); err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
		return caddy.ExitCodeSuccess, nil
	}
	caddy.TrapSignals()
	if o.demo {
		if err := runDemo(o); err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
		select {}
	}
	if err := start(o); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	fmt.Fprint(out, o.summary())
	select {}
}

// printConfig prints the configuration.
func (o *options) printConfig(out io.Writer) error {
	text, err := o.caddyfile()
	if err == nil && o.print == printJSON {
		var compact []byte
		var indented bytes.Buffer
		if compact, err = o.config(); err == nil {
			err = json.Indent(&indented, compact, "", "\t")
			text = append(indented.Bytes(), '\n')
		}
	}
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

// summary is printed when the proxy runs.
func (o *options) summary() string {
	text := fmt.Sprintf("Proxying IMAP on %s and, with TLS from the first byte, on %s, to %s.\n", o.imap, o.imaps, strings.Join(o.upstreams, ", "))
	if o.auth != "" {
		text += fmt.Sprintf("Mail servers can check passwords on %s.\n", o.auth)
	}
	for _, name := range o.from {
		if o.internalCerts || !certmagic.SubjectQualifiesForPublicCert(name) {
			text += fmt.Sprintf("The certificate of %s is of Caddy's own authority; clients need that, in %s.\n",
				name, filepath.Join(caddy.AppDataDir(), rootCertificate))
			break
		}
	}
	text += "The log speaks of options as a Caddyfile has them: tls_trust_pool is --tls-trust-pool here, and so on.\n"
	return text + "Stop it with Ctrl-C.\n"
}

// rootCertificate is where Caddy's storage has its own authority.
var rootCertificate = filepath.Join("pki", "authorities", "local", "root.crt")

// start runs the configuration, which is what --print-config prints.
func start(o *options) error {
	b, err := o.config()
	if err != nil {
		return err
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
	o.from = []string{"localhost"}
	o.upstreams = []string{backend.Addr().String()}
	o.tlsMode, o.storage = "off", dir
	if err := start(o); err != nil {
		_ = os.RemoveAll(dir)
		return errors.Join(err, backend.Close())
	}
	awaitCertificate(o.from[0])
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
