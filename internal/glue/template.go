package glue

import (
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Template reads a template for user names, in which placeholders of Caddy's own,
// such as {env.*}, are replaced. One that is empty is an error: "alice@" is nobody.
//
// To Caddy's Replacer, \{ is a brace that begins no placeholder, and it would take
// the backslash out of CORP\{imap.user.local}.
func Template(repl *caddy.Replacer, text string) (*login.Template, error) {
	return parse(repl, text, login.ParseTemplate)
}

// DelegateTemplate is Template for names with somebody else's mailbox in them.
func DelegateTemplate(repl *caddy.Replacer, text string) (*login.DelegateTemplate, error) {
	return parse(repl, text, login.ParseDelegateTemplate)
}

// CertificateTemplate is Template for names out of certificates.
func CertificateTemplate(repl *caddy.Replacer, text string) (*login.CertificateTemplate, error) {
	return parse(repl, text, login.ParseCertificateTemplate)
}

// parse replaces Caddy's placeholders, and leaves the template's own to read.
func parse[T any](repl *caddy.Replacer, text string, read func(string) (*T, error)) (*T, error) {
	var b strings.Builder
	rest := text
	for {
		before, after, found := strings.Cut(rest, "{")
		name, tail, closed := strings.Cut(after, "}")
		if !found || !closed {
			break
		}
		b.WriteString(before)
		switch value, known := repl.GetString(name); {
		case !known: // one of the template's own, or a mistake for it to tell
			b.WriteString("{" + name + "}")
		case value == "":
			return nil, fmt.Errorf("template %q: placeholder {%s} is empty", text, name)
		default:
			b.WriteString(value)
		}
		rest = tail
	}
	b.WriteString(rest)
	return read(b.String())
}
