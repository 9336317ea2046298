package imapcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// ours are the names of our modules' loggers.
const ours = "imap layer4.handlers.imap layer4.handlers.dovecot_auth"

// block writes a Caddyfile. The first value that a Caddyfile could not hold is its
// error.
type block struct {
	text strings.Builder
	err  error
}

// line adds an option and its values, open one that has a block, and close ends that.
func (b *block) line(option string, values ...string) {
	b.text.WriteString(option)
	for _, value := range values {
		b.text.WriteString(" " + b.quote(value))
	}
	b.text.WriteByte('\n')
}

func (b *block) open(option string, values ...string) {
	b.line(option, values...)
	text := strings.TrimSuffix(b.text.String(), "\n")
	b.text.Reset()
	b.text.WriteString(text + " {\n")
}

func (b *block) close() { b.text.WriteString("}\n") }

// quote makes one token of a value.
func (b *block) quote(value string) string {
	switch {
	case strings.ContainsAny(value, "`\n\r\x00") || strings.Contains(value, "{$"):
		b.err = errors.Join(b.err, fmt.Errorf("%q cannot stand in a Caddyfile; it has a backquote, a line end or {$ in it", value))
	case value == "" || strings.ContainsAny(value, "\"{}# \t\\") || value == "import":
		return "`" + value + "`"
	}
	return value
}

// caddyfile is what the flags stand for.
func (o *options) caddyfile() ([]byte, error) {
	b := new(block)
	b.open("")
	b.text.WriteString("# In place of \"admin off\", write \"admin unix//run/caddy/admin.sock|0600\" to be able\n# to move the backend while this runs. Leave nothing in its place: then every program\n# of this machine could.\n")
	b.line("admin", "off")
	b.line("persist_config", "off")
	// Nobody asked for a new authority that this machine trusts.
	b.line("skip_install_trust")
	if o.storage != "" {
		b.open("storage", "file_system")
		b.line("root", o.storage)
		b.close()
	}
	if o.email != "" {
		// The option email is for web sites alone.
		b.open("cert_issuer", "acme")
		b.line("email", o.email)
		b.close()
	}
	if o.internalCerts {
		b.line("local_certs")
	}
	o.logs(b)
	b.open("imap")
	b.line("hostname", o.from...)
	o.backend(b)
	b.close()
	b.open("layer4")
	o.listener(b, o.imap, "imap")
	o.listener(b, o.imaps, "imap", "implicit_tls")
	if o.auth != "" {
		o.listener(b, o.auth, "dovecot_auth")
	}
	b.close()
	b.close()
	return caddyfile.Format([]byte(b.text.String())), b.err
}

// logs says what is logged. Logins always are: whoever is refused must be seen.
func (o *options) logs(b *block) {
	switch {
	case o.debug:
		b.line("debug")
	case o.demo:
		// What our own modules say is a part of the demo, and nothing else is.
		b.open("log", "default")
		b.line("level", "WARN")
		b.line("exclude", strings.Fields(ours)...)
		b.close()
		b.open("log", "imap")
		b.line("level", "INFO")
		b.line("include", strings.Fields(ours)...)
		b.close()
	}
}

// backend writes the backend.
func (o *options) backend(b *block) {
	b.open("backend", "default")
	b.line("upstream", o.upstreams...)
	if o.tlsMode != "" {
		b.line("tls", o.tlsMode)
	}
	if o.serverName != "" {
		b.line("tls_server_name", o.serverName)
	}
	if o.trustPool != "" {
		b.line("tls_trust_pool", "file", o.trustPool)
	}
	if o.insecure {
		b.line("tls_insecure_skip_verify")
	}
	if o.authCommand != "" {
		b.line("auth_command", o.authCommand)
	}
	b.close()
}

func (o *options) listener(b *block, addr, handler string, handlerOptions ...string) {
	if b.quote(addr) != addr {
		b.err = errors.Join(b.err, fmt.Errorf("%q cannot be listened on; an address has no spaces, quotes and braces", addr))
		return
	}
	b.open(kept(addr))
	b.open("route")
	if len(handlerOptions) == 0 {
		b.line(handler, "default")
	} else {
		b.open(handler, "default")
		for _, option := range handlerOptions {
			b.line(option)
		}
		b.close()
	}
	b.close()
	b.close()
}

// kept has a configuration that is changed later hand the socket on, if the address is
// one of our own choice.
func kept(addr string) string {
	if path := unixPath(addr); strings.Contains(addr, "/") && (path == "" || strings.Contains(path, ":") || strings.HasPrefix(addr, "kept/")) {
		return addr
	}
	return "kept/" + addr
}

// backendOnly is a configuration, as JSON, of the backend alone.
func (o *options) backendOnly() ([]byte, error) {
	b := new(block)
	b.open("")
	b.open("imap")
	o.backend(b)
	b.close()
	b.close()
	if b.err != nil {
		return nil, b.err
	}
	return adapt([]byte(b.text.String()))
}

// config is the Caddyfile as JSON. It is what runs.
func (o *options) config() ([]byte, error) {
	text, err := o.caddyfile()
	if err != nil {
		return nil, err
	}
	return adapt(text)
}

func adapt(text []byte) ([]byte, error) {
	adapter := caddyconfig.GetAdapter("caddyfile")
	if adapter == nil {
		return nil, errors.New("this Caddy was built without the Caddyfile")
	}
	b, warnings, err := adapter.Adapt(text, map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return nil, fmt.Errorf("making the configuration: %w", err)
	}
	for _, w := range warnings {
		caddy.Log().Warn(w.String())
	}
	return b, nil
}

// onExit has the function called when the process ends in an orderly way.
func onExit(f func()) { caddy.OnExit(func(context.Context) { f() }) }
