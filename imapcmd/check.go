package imapcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-imap/caddy-imap/internal/doctor"
)

// What imap-check exits with.
const (
	exitWell  = 0
	exitFault = 1
	exitUsage = 2
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "imap-check",
		Usage: "[--config <path> [--adapter <name>] [--backend <name>] [--envfile <path>] | --to <upstream> [--tls starttls|implicit|off] [--tls-server-name <name>] [--tls-trust-pool <path>]] [--user <name>] [--password-stdin] [--json]",
		Short: "Finds out what keeps users from logging in",
		Long:  checkLong,
		CobraFunc: func(cmd *cobra.Command) {
			forManual(cmd)
			o := new(checkOptions)
			o.flags(cmd)
			usage := func(err error) error {
				return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return misused(os.Stderr, err) })(cmd, nil)
			}
			cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				if err := cobra.NoArgs(cmd, args); err != nil {
					return usage(err)
				}
				return nil
			}
			cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
				return o.run(cmd.Context(), console{in: os.Stdin, out: os.Stdout, err: os.Stderr})
			})
		},
	})
}

const checkLong = `
Asks a backend, step by step, what a login asks it: its name, port, greeting,
capabilities and certificate. With --user somebody logs in, and out again. Then the
listeners of the configuration are asked, as IMAP clients and Postfix do. Each line
says what is well, or what is wrong and what to do. At the end come the lines for
Postfix's main.cf.

Before there is a configuration, look at a server:

    caddy imap-check --to ex1.corp.example.org

With one, as the user that Caddy runs as, which may read its files:

    caddy imap-check --config /etc/caddy/Caddyfile --user alice@example.org

The configuration is loaded as Caddy loads it, modules and placeholders included, and
not started. Without --config and --to it is the Caddyfile of the current directory.
All its backends are asked, unless --backend names one. Its adapter's warnings are shown.
If --envfile is specified, an environment file with environment variables in the
KEY=VALUE format will be loaded first, as caddy run does it.

The password is asked for, and not shown; with --password-stdin it is the first line of
the standard input. It is sent to the backend that --user logs in at, and to the
listeners for mail servers if that has let the user in. A password that was refused
is not sent again, unless you say so: each try counts at the directory, which may
lock the account.

In the listing, ✓ is well, ! is to be looked at, ✗ is wrong, and - was left out. With
--json it is JSON, whose fields and words docs/check.md explains.

The exit status is 0 if nothing is wrong, 1 if something is, and 2 if the command was
not understood. Warnings do not count, and no refusal does if you then had another
spelling of the name tried, and that was let in.
`

// checkOptions are the flags of imap-check.
type checkOptions struct {
	config, adapter string
	envFiles        []string
	// target is what --to and the flags about TLS make.
	target        options
	backend       string
	user          string
	passwordStdin bool
	json          bool
	timeout       time.Duration
}

func (o *checkOptions) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&o.config, "config", "c", "", "Configuration file")
	flags.StringVarP(&o.adapter, "adapter", "a", "", "Name of config adapter")
	flags.StringSliceVar(&o.envFiles, "envfile", nil, "Environment file(s) to load")
	flags.StringSliceVarP(&o.target.upstreams, "to", "t", nil, "IMAP server to look at, instead of a configuration; may be repeated")
	o.target.backendFlags(cmd)
	flags.StringVarP(&o.backend, "backend", "b", "", "Look at this backend of the configuration only")
	flags.StringVarP(&o.user, "user", "u", "", "Name to log in with, as the user types it")
	flags.BoolVar(&o.passwordStdin, "password-stdin", false, "Read the password from the standard input")
	flags.BoolVar(&o.json, "json", false, "Write JSON")
	flags.DurationVar(&o.timeout, "timeout", 8*time.Second, "How long a step may take")
}

// check refuses what cannot be meant.
func (o *checkOptions) check(c console) error {
	to := len(o.target.upstreams) > 0
	switch {
	case to && (o.config+o.adapter+o.backend != "" || len(o.envFiles) > 0):
		return errors.New("--to looks at a server without a configuration; leave out --config, --adapter, --backend and --envfile, or --to")
	case !to && o.target.setsBackend():
		return errors.New("--tls, --tls-server-name, --tls-trust-pool, --auth-command and --insecure are for --to; a configuration has options of these names")
	case o.adapter != "" && o.config == "":
		return errors.New("--adapter says what the file of --config is written in; name that file")
	case o.passwordStdin && o.user == "":
		return errors.New("--password-stdin is of no use without --user")
	case o.passwordStdin && o.config == "-":
		return errors.New("the standard input cannot be both the configuration and the password; put one into a file or ask for the other")
	case o.timeout < 10*time.Millisecond:
		return fmt.Errorf("--timeout %s: must be more than that", o.timeout)
	case o.user != "" && !o.passwordStdin && !c.isTerminal():
		return errors.New("there is no terminal to ask for the password on; use --password-stdin")
	}
	if err := o.target.checkVerification(); err != nil {
		return err
	}
	return o.target.checkTrustPool()
}

// report is the JSON of --json.
type report struct {
	OK     bool           `json:"ok"`
	Checks []doctor.Check `json:"checks"`
	MainCF []mainCF       `json:"main_cf,omitempty"`
}

// mainCF are the lines for one listener.
type mainCF struct {
	Address string   `json:"address"`
	Lines   []string `json:"lines"`
}

// errFault is the error of a check that has found something; what it is has been told.
var errFault = errors.New("something is wrong")

func (o *checkOptions) run(ctx context.Context, c console) (int, error) {
	if err := o.check(c); err != nil {
		return misused(c.err, err)
	}
	if err := loadEnvFiles(o.envFiles); err != nil {
		return misused(c.err, err)
	}
	if err := silence(); err != nil {
		return misused(c.err, err)
	}
	r := report{Checks: []doctor.Check{}}
	text := doctor.Text{W: c.out}
	d := &doctor.Doctor{Timeout: o.timeout, Tell: func(check doctor.Check) {
		r.Checks = append(r.Checks, check)
		if !o.json {
			text.Tell(check)
		}
	}}
	found, err := o.load(c.in)
	var usage *usageError
	if errors.As(err, &usage) {
		return misused(c.err, err)
	}
	if len(o.target.upstreams) == 0 {
		d.Config(found.file, err, found.warnings...)
		if err == nil && !found.canConnect() {
			d.NoListener(found.file, len(found.fronts)+len(found.auths) > 0)
		}
	}
	if err == nil {
		if err := o.whoLogsIn(d, found, c); err != nil {
			return misused(c.err, err)
		}
		r.MainCF = found.examine(ctx, d)
	}
	r.OK = !slices.ContainsFunc(r.Checks, func(check doctor.Check) bool { return check.Status == doctor.Failed })
	if err := r.end(c.out, o.json); err != nil {
		return exitFault, err
	}
	if !r.OK {
		return exitFault, errFault
	}
	return exitWell, nil
}

// end writes what comes behind the checks, or all as JSON.
func (r *report) end(w io.Writer, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(r)
	}
	for _, m := range r.MainCF {
		fmt.Fprintf(w, "\nIn Postfix's main.cf, for %s:\n", m.Address)
		for _, line := range m.Lines {
			fmt.Fprintln(w, "  "+line)
		}
	}
	wrong, marked := 0, 0
	for _, check := range r.Checks {
		switch check.Status {
		case doctor.Failed:
			wrong++
		case doctor.Warning:
			marked++
		}
	}
	end := "Nothing is wrong."
	switch {
	case wrong == 0 && marked == 1:
		end = "Nothing is wrong, but look at the line marked !."
	case wrong == 0 && marked > 1:
		end = fmt.Sprintf("Nothing is wrong, but look at the %d lines marked !.", marked)
	case wrong == 1:
		end = "1 thing is wrong."
	case wrong > 1:
		end = fmt.Sprintf("%d things are wrong.", wrong)
	}
	_, err := fmt.Fprintln(w, "\n"+end)
	return err
}

// whoLogsIn asks for the password, if somebody is to log in.
func (o *checkOptions) whoLogsIn(d *doctor.Doctor, found *found, c console) error {
	if o.user == "" {
		return nil
	}
	if len(found.backends) > 1 {
		return fmt.Errorf("say with --backend which of them %s logs in at, so that the others do not get the password: %s", o.user, found.names())
	}
	secret, err := c.password(o.user, o.passwordStdin)
	if err != nil {
		return err
	}
	d.Login = &doctor.Login{User: o.user, Secret: secret, Domains: found.domains, Domain: found.domain}
	if !o.passwordStdin && !o.json {
		d.Again = func(user string) bool {
			return c.confirm("Try the same password as " + user + "? It counts as another try. [y/N] ")
		}
	}
	return nil
}

// misused tells how the command was misused, always in the same form: Caddy would log
// it, where that is not silenced yet.
func misused(w io.Writer, err error) (int, error) {
	_ = silence()
	fmt.Fprintln(w, "Error:", err)
	return exitUsage, err
}

// silence has Caddy log nothing, before it says how it loads a configuration.
func silence() error {
	if _, err := caddy.ProvisionContext(&caddy.Config{Logging: noLog()}); err != nil {
		return fmt.Errorf("silencing the log: %w", err)
	}
	return nil
}

// noLog has no more in it than a process says when it dies. It has the writer that
// Caddy begins with, or Caddy would say that it changes it.
func noLog() *caddy.Logging {
	return &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "FATAL"}}}}
}
